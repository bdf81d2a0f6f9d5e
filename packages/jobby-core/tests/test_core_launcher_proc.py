"""Promises about the launcher and /proc, which it needs when a job has left something behind."""

import os
import resource
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    is_running,
    parent_of,
    read_all,
    run_job_script,
)

from jobby_core import _cgroup


def test_without_proc_no_job_is_started(own_mounts: list[str], tmp_path: Path) -> None:
    """Nobody could find what it leaves behind; that is said before anything is made."""
    script = """
subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
try:
    shell("true")
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(folder))
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == (
        "LauncherError cannot start a job: there is no /proc/thread-self/children, by which its "
        "launcher finds what it leaves behind; mount /proc (proc(5)), under a kernel that has "
        "CONFIG_PROC_CHILDREN\n[]\n"
    )


def test_proc_that_went_between_two_jobs_is_said(own_mounts: list[str], tmp_path: Path) -> None:
    """The library has looked once; its launcher looks each time."""
    script = """
shell("true").wait(60)
subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
left = sorted(os.listdir(folder))
try:
    shell("true")
except Exception as error:
    print(type(error).__name__, error)
print(sorted(os.listdir(folder)) == left)
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == (
        "LauncherError cannot start 'sh': its launcher failed at proc: No such file or directory; "
        "see launcher.c for what it needs of the system, or set JOBBY_LAUNCHER=none\nTrue\n"
    )


def test_by_the_proc_of_another_namespace_no_job_is_started(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """Its ids are others' here: what is killed by them would be a stranger."""
    script = """
try:
    shell("true")
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(folder))
"""
    before = [*own_mounts, "unshare", "--pid", "--fork"]
    assert run_job_script(script, tmp_path, before=before) == (
        "LauncherError cannot start a job: /proc is that of another PID namespace, so its launcher "
        "would take strangers for what it leaves behind; mount this one's (unshare --mount-proc)\n"
        "[]\n"
    )
    mounted = [*before, "--mount-proc"]
    assert run_job_script(
        'print(shell("exit 3").wait(60).exit_code)', tmp_path, before=mounted
    ) == ("3\n")


def test_a_job_that_takes_proc_away_leaves_no_descendant(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """The launcher holds the folder from the start."""
    script = """
# Where the kernel ends all of a job by its cgroup, nobody looks into /proc.
subprocess.run(["mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"], check=True)
job = shell("setsid sleep 1000 & echo $!; mount -t tmpfs none /proc; exit 3")
left = int(read_line(job))
print(job.wait(60).exit_code)
try:
    os.kill(left, 0)
except ProcessLookupError:
    print("gone")
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == "3\ngone\n"


def test_a_launcher_without_a_descriptor_to_spare_leaves_no_descendant(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up one that it does not need any more to look for what is left."""
    monkeypatch.setattr(_cgroup, "path_for", lambda mark: None)  # with one, nobody would look
    gate = spool.gate()
    job = spool.shell('setsid sleep 1000 & echo $!; read _ < "$1"; exit 4', gate.path)
    with job.stdout() as reader:
        left = int(reader.readline())
    launcher = parent_of(job.pid)
    count = len(os.listdir(f"/proc/{launcher}/fd"))
    assert sorted(map(int, os.listdir(f"/proc/{launcher}/fd"))) == list(range(count))
    resource.prlimit(launcher, resource.RLIMIT_NOFILE, (count, count))
    gate.open()
    assert job.wait(DEADLINE_SECONDS).exit_code == 4
    assert not is_running(left)


def test_a_job_that_is_started_by_a_job_has_a_mark_of_its_own(spool: Spool) -> None:
    """In place of the one it would inherit: of two, nobody could tell which counts."""
    job = spool.start("env", "-0", env={"PATH": os.environ["PATH"], "JOBBY_JOB": "older", "A": "b"})
    variables = read_all(job.stdout()).split(b"\0")
    assert b"A=b" in variables
    assert len([each for each in variables if each.startswith(b"JOBBY_JOB=")]) == 1
    assert b"JOBBY_JOB=older" not in variables
