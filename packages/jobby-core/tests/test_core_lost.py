"""Promises about jobs whose launcher was killed, and about ends without a descriptor to spare."""

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from core_records import record_args, start_and_die
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    can_make_cgroups,
    is_running,
    parent_of,
    run_job_script,
    until,
)

from jobby_core import Job, Reason, State, _cgroup, _record
from jobby_core._launched import LaunchedProcess


def test_a_job_whose_launcher_was_killed_is_lost_to_whoever_comes_later(spool: Spool) -> None:
    """Its strays are found by their mark and killed; it stays lost for the next one."""
    record, pid = start_and_die(spool, "setsid sleep 1000 & echo $!; sleep 1000")
    with Job.attach(record).stdout() as reader:
        stray = int(reader.readline())
    launcher = parent_of(pid)
    os.kill(launcher, signal.SIGKILL)
    until(lambda: not is_running(launcher), "the launcher is gone")
    for _ in range(2):
        status = Job.attach(record).wait(DEADLINE_SECONDS)
        assert (status.state, status.reason, status.exit_code) == (
            State.COMPLETED,
            Reason.LOST,
            None,
        )
        assert not is_running(stray)


def test_what_a_killed_launcher_leaves_in_its_session_is_found_without_a_mark(
    spool: Spool,
) -> None:
    """Also by who attached, and where there is no cgroup: its environment does not matter."""
    # The starter's end has the launcher reaped by somebody else.
    script = "env -i sleep 1000 & echo $!; exec sleep 1000"
    record, pid = start_and_die(spool, script, cgroup="without a cgroup")
    job = Job.attach(record)
    with job.stdout() as reader:
        stray = int(reader.readline())
    # Not as soon as it has no environment, which a process lacks amid any execve, too.
    program = Path(f"/proc/{stray}/exe")
    until(lambda: program.readlink().name.endswith("sleep"), "it has become the last program")
    assert Path(f"/proc/{stray}/environ").read_bytes() == b""
    launcher = parent_of(pid)
    os.kill(launcher, signal.SIGKILL)
    assert job.wait(DEADLINE_SECONDS).reason is Reason.LOST
    assert not is_running(pid)
    assert not is_running(stray)


def test_a_session_that_may_be_a_strangers_is_left_alone(spool: Spool) -> None:
    """A launcher that is reaped, and whose id another process has: its session is not the job's."""
    ended, stranger = os.posix_spawnp("true", ["true"], {}), spool.start("sleep", "1000")
    pidfd = os.pidfd_open(ended)
    record = _record.Record(stranger.args, "mark", None, datetime.now(UTC))
    process = LaunchedProcess(record, 0, pidfd, launcher=stranger.pid)
    assert process._session() is not None, "while it is a zombie the id is its own"
    os.waitpid(ended, 0)
    assert process._session() is None
    process.release()


def test_who_kills_a_cgroup_waits_until_nothing_of_it_runs(spool: Spool) -> None:
    """Who is dying can't be found by its environment any more, and may be writing still."""
    if not can_make_cgroups():
        pytest.skip("this user can make no cgroup here")
    args = record_args(spool, "for i in $(seq 60); do (while :; do :; done) & done; echo all; wait")
    job = Job.start(args)
    spool.jobs.append(job)
    with job.stdout() as reader:
        assert reader.readline() == b"all\n"
    cgroup = json.loads(Path(str(args.directory), "job").read_text())["cgroup"]
    launcher = parent_of(job.pid)
    os.kill(launcher, signal.SIGSTOP)  # it would remove the cgroup before it was looked at
    try:
        _cgroup.kill(cgroup)
        assert "populated 0" in Path(cgroup, "cgroup.events").read_text()
    finally:
        os.kill(launcher, signal.SIGCONT)
    job.stop()
    assert not os.path.exists(cgroup)


NO_DESCRIPTORS = """
import resource
from jobby_core import LimitError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
spare = []

def take_all():
    try:
        while True:
            spare.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
"""


def test_without_a_descriptor_a_job_that_ends_has_its_true_outcome(spool: Spool) -> None:
    """Also for who attached to it: what the end needs is held from then on."""
    gate = spool.gate()
    record, _ = start_and_die(spool, 'read _ < "$1"; exit 6', gate.path)
    script = (
        NO_DESCRIPTORS
        + """
job = Job.attach(sys.argv[2])
gate = os.open(sys.argv[3], os.O_WRONLY)
take_all()
os.write(gate, b"\\n")
print(job.wait(30).exit_code)
"""
    )
    assert run_job_script(script, spool.folder, str(record), gate.path) == "6\n"


@pytest.mark.parametrize("by", ["who started it", "who attached"])
def test_without_a_descriptor_all_that_a_killed_launcher_leaves_is_found(
    spool: Spool, by: str
) -> None:
    """Without a cgroup, one process after the other: by the one descriptor that the job held."""
    command = """
for _ in 1 2 3; do setsid sleep 1000 & echo $!; done
for _ in 1 2 3; do env -i sleep 1000 & echo $!; done
exec sleep 1000
"""
    script = (
        NO_DESCRIPTORS
        + """
from jobby_core import _cgroup
_cgroup.path_for = lambda mark: None
job = Job.attach(sys.argv[2]) if sys.argv[2] else shell(sys.argv[3])
with job.stdout() as reader:
    strays = [int(reader.readline()) for _ in range(6)]
deadline = time.monotonic() + 30
for pid in (job.pid, *strays):
    while not os.readlink(f"/proc/{pid}/exe").endswith("sleep"):
        assert time.monotonic() < deadline
        time.sleep(0.002)  # nothing tells that another process has executed a program
with open(f"/proc/{job.pid}/stat") as file:
    launcher = int(file.read().rpartition(")")[2].split()[1])
take_all()
os.kill(launcher, signal.SIGKILL)
status = job.wait(30)
for fd in spare:
    os.close(fd)
print(status.reason.name, [pid for pid in strays if is_running(pid)])
"""
    )
    record = ""
    if by == "who attached":
        record = str(start_and_die(spool, command, cgroup="without a cgroup")[0])
    assert run_job_script(script, spool.folder, record, command) == "LOST []\n"


def test_at_whatever_descriptor_it_runs_out_nobody_takes_a_job_for_lost(spool: Spool) -> None:
    """With none, one, two … to spare: LimitError, until the true outcome and the output come."""
    args = record_args(spool, "echo out; exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    script = (
        NO_DESCRIPTORS
        + """
take_all()
failed = 0
while True:
    try:
        job = Job.attach(sys.argv[2])
        break
    except LimitError:
        failed += 1
        os.close(spare.pop())
print(failed > 1, job.status().exit_code, read_line(job))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == "True 3 out\n"
