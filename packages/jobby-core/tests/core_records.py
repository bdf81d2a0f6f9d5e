"""Owns the starting of jobs that have a record, for the tests."""

import signal
import subprocess
import sys
from pathlib import Path

from core_support import DEADLINE_SECONDS, JOB_SCRIPT, Spool

from jobby_core import JobArgs

# Starts a job in folder/record, prints its pid, and is killed without a chance to clean up.
START_AND_DIE = """
from pathlib import Path
from jobby_core import _cgroup
if sys.argv.pop(2) == "without a cgroup":
    _cgroup.path_for = lambda mark: None
Path(f"{folder}/record").mkdir()
job = Job.start(JobArgs("sh", ["-c", sys.argv[2], "sh", *sys.argv[3:]],
    stdout_path=f"{folder}/out", stderr_path=f"{folder}/err", directory=f"{folder}/record",
    label="whose it is"))
print(job.pid, flush=True)
if os.fork() == 0:
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)
signal.pause()
"""


def start_and_die(
    spool: Spool, script: str, *args: str, cgroup: str = "as ever"
) -> tuple[Path, int]:
    """Starts a job from a process that is killed at once; returns the record and the pid."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", JOB_SCRIPT + START_AND_DIE),
            *(str(spool.folder), cgroup, script, *args),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return spool.folder / "record", int(done.stdout)


def record_args(spool: Spool, script: str, *args: str) -> JobArgs:
    """Returns a shell job with a record, whose folder is made."""
    folder = spool.path(".record")
    folder.mkdir()
    return JobArgs(
        "sh",
        ["-c", script, "sh", *args],
        stdout_path=folder / "stdout",
        stderr_path=folder / "stderr",
        directory=folder,
    )
