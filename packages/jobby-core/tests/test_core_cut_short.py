"""Promises about starts that fail, are interrupted, or are killed on the way."""

import os
from pathlib import Path

import pytest
from core_records import record_args
from core_support import DEADLINE_SECONDS, Spool, run_job_script

from jobby_core import Job, JobArgs, RecordError, _reaper

# What a start does before its launcher, `attach`, by another process, since this one's locks are
# none for it, and `launch`, which runs the launcher and waits for its end.
LATE_LAUNCHER = """
from contextlib import ExitStack
from datetime import UTC, datetime
from jobby_core import NotStartedError, _launcher, _platform, _record
directory = sys.argv[2]
close = ExitStack()
files = None

def prepare(*command, cgroup=None):
    global record, files
    args = JobArgs(command[0], command[1:], stdout_path=f"{directory}/out",
                   stderr_path=f"{directory}/err", directory=directory)
    record = _record.Record(args, "mark", cgroup, datetime.now(UTC))
    files = _record.create(record, close)

def attach():
    subprocess.run([sys.executable, "-c",
        "import sys, jobby_core\\ntry: jobby_core.Job.attach(sys.argv[1])\\n"
        "except jobby_core.NotStartedError as e: print('never')", directory], check=True)

def launch(*, listen=True):
    report, told = os.pipe()
    if not listen:
        os.close(report)
    outputs = [os.open(f"{directory}/{n}", os.O_WRONLY | os.O_CREAT) for n in ("out", "err")]
    inherited = (told, files.record, files.folder, files.outcome, files.folder, -1)
    child = _launcher._spawn(_platform.path(), record, outputs, inherited, close)
    if listen:
        step, error, pid = _launcher._read_report(report)
        print(step.name, *[os.strerror(error)] * bool(error))
    os.waitpid(child, 0)
"""


def test_a_second_job_in_the_same_folder_is_refused(spool: Spool) -> None:
    """The first one's record stays as it is, and nothing of the second is left."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    before = {p: p.read_bytes() for p in Path(str(args.directory)).iterdir()}
    again = JobArgs(
        "true",
        stdout_path=spool.path(".out"),
        stderr_path=spool.path(".err"),
        directory=args.directory,
    )
    with pytest.raises(RecordError, match="it holds a job already"):
        Job.start(again)
    assert {p: p.read_bytes() for p in Path(str(args.directory)).iterdir()} == before
    assert not os.path.exists(again.stdout_path)


def test_a_start_that_fails_leaves_no_record(spool: Spool) -> None:
    """The folder is as empty as before, and can be used again."""
    args = record_args(spool, "exit 3")
    missing = JobArgs(
        "/nowhere/command",
        stdout_path=args.stdout_path,
        stderr_path=args.stderr_path,
        directory=args.directory,
    )
    with pytest.raises(Exception, match="there is no such file"):
        Job.start(missing)
    assert list(Path(str(args.directory)).iterdir()) == []
    assert Job.start(args).wait(DEADLINE_SECONDS).exit_code == 3


def test_a_record_that_somebody_else_has_locked_is_said_by_name(spool: Spool) -> None:
    """As whoever attaches does for a moment: that is no exhausted limit, and nothing is left."""
    folder = spool.path(".record")
    folder.mkdir()
    script = """
from jobby_core import RecordError, _launcher
spawn, directory = _launcher._spawn, sys.argv[2]
lock = (
    "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.lockf(file, fcntl.LOCK_EX);"
    "print(flush=True); input()"
)

def late(*arguments):
    # By another process: this one's own locks would be let go of when it closes the file.
    locker = subprocess.Popen([sys.executable, "-c", lock, f"{directory}/job"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    locker.stdout.readline()
    lockers.append(locker)
    return spawn(*arguments)

_launcher._spawn, lockers = late, []  # the lock is to be had just there
try:
    Job.start(JobArgs("true", stdout_path=f"{directory}/out", stderr_path=f"{directory}/err",
                      directory=directory))
except RecordError as error:
    print(error)
lockers[0].communicate(b"\\n")
print(os.listdir(directory))
"""
    assert run_job_script(script, spool.folder, str(folder)) == (
        "cannot start 'true': another process holds the lock of its record; "
        "attach to a job only when its start has returned\n[]\n"
    )


def test_a_start_that_is_interrupted_leaves_nothing(spool: Spool) -> None:
    """A ctrl-c while the command is executed: no process, no record, no output, no descriptor."""
    script = """
from jobby_core import _launcher
directory, gate = sys.argv[2:]
arguments = JobArgs("sh", ["-c", 'echo $$ > "$1"; exec sleep 1000', "sh", gate],
                    stdout_path=f"{directory}/out", stderr_path=f"{directory}/err",
                    directory=directory)

def interrupted(report):
    global main
    with open(gate) as file:
        main = int(file.readline())
    raise KeyboardInterrupt

_launcher._read_report = interrupted  # a real one seldom comes just there
before = os.listdir("/proc/self/fd")
try:
    Job.start(arguments)
except KeyboardInterrupt:
    print(is_running(main), os.listdir(directory), os.listdir("/proc/self/fd") == before)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    folder, gate = spool.path(".record"), spool.gate()
    folder.mkdir()
    assert run_job_script(script, spool.folder, str(folder), gate.path) == (
        "False [] True\nno child\n"
    )


@pytest.mark.parametrize("launcher", [True, False])
def test_a_start_that_is_interrupted_at_its_very_end_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, launcher: bool
) -> None:
    """The reaper has the job by then: it alone waits for it, and everything of it goes."""
    if not launcher:
        monkeypatch.setenv("JOBBY_LAUNCHER", "none")
    watch = _reaper.watch

    def interrupted(process: _reaper.Process, on_end: _reaper.OnEnd) -> None:
        watch(process, on_end)
        raise KeyboardInterrupt

    monkeypatch.setattr(_reaper, "watch", interrupted)  # a real one seldom comes just there
    for _ in range(30):
        folder = spool.path(".record")
        folder.mkdir()
        args = JobArgs(
            "sleep",
            ["1000"],
            stdout_path=folder / "out",
            stderr_path=folder / "err",
            directory=folder if launcher else None,
        )
        with pytest.raises(KeyboardInterrupt):
            Job.start(args)
        assert list(folder.iterdir()) == []


def test_a_start_that_was_cut_short_never_happens(spool: Spool) -> None:
    """Who finds the record of a job that no launcher took makes sure that none ever will."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
prepare("touch", f"{folder}/it-ran")
attach()
launch()  # too late
print(os.path.exists(f"{folder}/it-ran"))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == (
        "never\nRECORD_LOCK Stale file handle\nFalse\n"
    )


def test_the_cgroup_of_a_start_that_was_cut_short_goes(spool: Spool) -> None:
    """A launcher that is killed just when it has made it has not said so yet."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
made = f"{folder}/cgroup"  # a folder to be removed, as one is
prepare("true", cgroup=made)
os.mkdir(made)
attach()
print(os.path.exists(made))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == "never\nFalse\n"


def test_a_job_that_ran_between_the_look_and_the_lock_is_found(spool: Spool) -> None:
    """Nobody is told that it never ran, though no launcher held the record before nor after."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
prepare("sh", "-c", "exit 3")
fence = _record.fence
def late(*arguments):
    _record.fence = fence
    launch()
    return fence(*arguments)
_record.fence = late  # all of the job, between the look and the lock
print(Job.attach(directory).status().exit_code)
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == "STARTED\n3\n"


@pytest.mark.parametrize(
    ("listen", "told"), [("True", "EXEC No such file or directory\n"), ("False", "")]
)
def test_a_command_that_cannot_be_executed_never_ran_whoever_died_first(
    spool: Spool, listen: str, told: str
) -> None:
    """Also where its starter was killed before it could take the record away, or be told."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
prepare("/nowhere/command")
launch(listen=sys.argv[3] == "True")
print(os.path.exists(f"{directory}/outcome"))
try:
    Job.attach(directory)
except NotStartedError:
    print("never")
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory), listen) == (
        f"{told}False\nnever\n"
    )


def test_a_start_that_is_killed_while_it_writes_its_record_leaves_none(spool: Spool) -> None:
    """There is never half a record, which would look like a job that may have run."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
if os.fork() == 0:
    write = os.write
    def write_half(fd, content):
        write(fd, content[:len(content) // 2])
        if content.startswith(b"{"):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, content[len(content) // 2:]) + len(content) // 2
    os.write = write_half  # the other half is never written
    prepare("true")
print(os.WTERMSIG(os.wait()[1]))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == "9\n"
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(str(args.directory))
