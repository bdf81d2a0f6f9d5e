"""Promises about jobs that outlive who started them, and are found again."""

import asyncio
import json
import os
import re
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    can_make_cgroups,
    is_running,
    parent_of,
    read_all,
    run_job_script,
    until,
)

from jobby_core import (
    Job,
    JobArgs,
    OutputTruncatedError,
    Reason,
    RecordError,
    State,
    UnreachableJobError,
    _cgroup,
    _reaper,
    _record,
)
from jobby_core._launched import LaunchedProcess

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
    import subprocess
    import sys

    from core_support import _JOB_SCRIPT

    done = subprocess.run(
        [
            *(sys.executable, "-c", _JOB_SCRIPT + START_AND_DIE),
            *(str(spool.folder), cgroup, script, *args),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return spool.folder / "record", int(done.stdout)


# What a start does before its launcher, and `launch`, which runs that and waits for its end.
LATE_LAUNCHER = """
from contextlib import ExitStack
from datetime import UTC, datetime
from jobby_core import NotStartedError, _launcher, _record
directory = sys.argv[2]
close = ExitStack()
files = None

def prepare(*command):
    global record, files
    args = JobArgs(command[0], command[1:], stdout_path=f"{directory}/out",
                   stderr_path=f"{directory}/err", directory=directory)
    record = _record.Record(args, "mark", None, datetime.now(UTC))
    files = _record.create(record, close)

def launch(*, listen=True):
    report, told = os.pipe()
    if not listen:
        os.close(report)
    outputs = [os.open(f"{directory}/{n}", os.O_WRONLY | os.O_CREAT) for n in ("out", "err")]
    inherited = (told, files.record, files.folder, files.outcome, files.folder, -1)
    child = _launcher._spawn(_launcher.path(), record, outputs, inherited, close)
    if listen:
        step, error, pid = _launcher._read_report(report)
        print(step.name, *[os.strerror(error)] * bool(error))
    os.waitpid(child, 0)
"""


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


def test_a_job_outlives_who_started_it(spool: Spool) -> None:
    """Killed by SIGKILL in the middle: whoever attaches follows live, and knows the outcome."""
    gate = spool.gate()
    record, pid = start_and_die(spool, 'echo one; read _ < "$1"; echo two; exit 6', gate.path)
    job = Job.attach(record)
    assert (job.pid, job.status().state, job.args.label) == (pid, State.RUNNING, "whose it is")
    with job.stdout() as reader:
        assert reader.readline() == b"one\n"
        gate.open()
        assert reader.read() == b"two\n"
    status = job.wait(DEADLINE_SECONDS)
    assert (status.exit_code, status.reason) == (6, Reason.EXITED)
    assert status.ended_at is not None
    assert status.ended_at > status.started_at


def test_a_job_that_ended_meanwhile_shows_its_true_outcome(spool: Spool) -> None:
    """The exit code is on disk, for everybody, as often as asked."""
    record, pid = start_and_die(spool, "echo bye; exit 7")
    until((record / "outcome").exists, "it ended")
    for _ in range(2):
        job = Job.attach(record)
        assert (job.wait(DEADLINE_SECONDS).exit_code, job.pid) == (7, pid)
        assert read_all(job.stdout()) == b"bye\n"


def test_an_attached_job_can_be_stopped_whole(spool: Spool) -> None:
    """Its descendants too, wherever they went."""
    record, pid = start_and_die(spool, "setsid sleep 1000 & echo $!; sleep 1000")
    job = Job.attach(record)
    with job.stdout() as reader:
        stray = int(reader.readline())
    job.stop()
    assert (job.status().state, job.status().reason) == (State.STOPPED, Reason.STOPPED)
    assert not is_running(pid)
    assert not is_running(stray)


def test_many_may_attach_and_all_learn_the_end(spool: Spool) -> None:
    """Also beside the one that started it, which goes on as before."""
    gate = spool.gate()
    args = record_args(spool, 'read _ < "$1"; exit 3', gate.path)
    first = Job.start(args)
    others = [Job.attach(str(args.directory)) for _ in range(5)]
    gate.open()
    statuses = [job.wait(DEADLINE_SECONDS) for job in (first, *others)]
    assert {status.exit_code for status in statuses} == {3}
    # The record has microseconds, and so have they.
    assert len({(status.started_at, status.ended_at) for status in statuses}) == 1


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
    until(lambda: Path(f"/proc/{stray}/environ").read_bytes() == b"", "it has no environment")
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


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "gone", "folder"])
def test_a_damaged_outcome_is_lost_and_never_made_up(spool: Spool, damage: str) -> None:
    """The output is whole, and the exit code is not claimed to be known."""
    args = record_args(spool, "echo out; exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    content = outcome.read_bytes()
    outcome.unlink()
    match damage:
        case "cut":
            outcome.write_bytes(content[:40])
        case "garbage":
            outcome.write_bytes(os.urandom(512))
        case "empty":
            outcome.write_bytes(b"")
        case "folder":
            outcome.mkdir()
    job = Job.attach(str(args.directory))
    assert (job.status().reason, job.status().exit_code) == (Reason.LOST, None)
    assert read_all(job.stdout()) == b"out\n"


@pytest.mark.parametrize("number", ["1e999", "NaN", "-1", str(10**30), "true", "1.5", '"1"'])
@pytest.mark.parametrize(
    "field", ["code", "signal", "elapsed_us", "user_us", "system_us", "max_rss_kib", "stdout_bytes"]
)
def test_a_number_that_cannot_be_is_damage_too(spool: Spool, field: str, number: str) -> None:
    """JSON has numbers that no launcher writes, and that nothing after it can hold."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    damaged, count = re.subn(rf'("{field}"): *\d+', rf"\1:{number}", outcome.read_text())
    assert count == 1
    outcome.write_text(damaged)
    status = Job.attach(str(args.directory)).status()
    assert (status.reason, status.exit_code) == (Reason.LOST, None)


def test_an_outcome_that_was_written_counts_whatever_its_name(spool: Spool) -> None:
    """Also where its launcher was killed before it could rename it."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    outcome.rename(outcome.with_name("outcome.new"))
    assert Job.attach(str(args.directory)).status().exit_code == 3


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
        time.sleep(0.002)
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


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"version": 2}', ""])
def test_a_damaged_record_is_an_error_that_names_the_folder(spool: Spool, damage: str) -> None:
    """What was started cannot be told any more."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    Path(str(args.directory), "job").write_text(damage)
    with pytest.raises(RecordError, match="its record is damaged") as caught:
        Job.attach(str(args.directory))
    assert str(args.directory) in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "NaN", str(10**30)])
def test_a_start_at_no_time_is_damage_too(spool: Spool, number: str) -> None:
    """JSON has numbers that no clock shows."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    record = Path(str(args.directory), "job")
    damaged, count = re.subn(r'("started_us"): *\d+', rf"\1:{number}", record.read_text())
    assert count == 1
    record.write_text(damaged)
    with pytest.raises(RecordError, match="its record is damaged"):
        Job.attach(str(args.directory))


def test_a_job_that_runs_under_a_damaged_record_is_told_as_one_that_runs(spool: Spool) -> None:
    """With the process to end, and the record can be restored."""
    args = record_args(spool, "exec sleep 1000")
    job = Job.start(args)
    spool.jobs.append(job)
    record = Path(str(args.directory), "job")
    content = record.read_text()
    launcher = parent_of(job.pid)
    record.write_text("{")
    with pytest.raises(UnreachableJobError, match=f"it runs, its launcher is process {launcher};"):
        Job.attach(str(args.directory))
    record.write_text(content)
    assert Job.attach(str(args.directory)).pid == job.pid


def test_a_record_that_may_not_be_read_tells_of_no_end(two_users: Path) -> None:
    """Its job may run: that is another error than one of a record that is damaged."""
    script = """
from jobby_core import UnreachableJobError
with open(f"{folder}/job", "w", opener=lambda name, flags: os.open(name, flags, 0o600)):
    pass
os.setresuid(65534, 65534, 65534)
try:
    Job.attach(folder)
except UnreachableJobError as error:
    print(error.cause)
"""
    assert run_job_script(script, two_users) == "Permission denied\n"


def test_a_folder_without_a_job_is_an_error(spool: Spool) -> None:
    """Both of a folder that is not there and of an empty one."""
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder)
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder / "nowhere")


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

_launcher._spawn, lockers = late, []
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

_launcher._read_report = interrupted
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

    monkeypatch.setattr(_reaper, "watch", interrupted)
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


def test_a_copy_of_a_folder_is_no_job_of_its_own(spool: Spool) -> None:
    """A backup that is looked at beside the original: it is lost, and the original runs on."""
    args = record_args(spool, "echo out; exec sleep 1000")
    job = Job.start(args)
    spool.jobs.append(job)
    with job.stdout() as reader:
        assert reader.readline() == b"out\n"
    copy = spool.path(".copy")
    shutil.copytree(str(args.directory), copy)
    found = Job.attach(copy)
    assert found.status().reason is Reason.LOST
    assert is_running(job.pid)
    assert job.status().state is State.RUNNING


def test_a_folder_may_be_moved_with_its_outputs(spool: Spool) -> None:
    """To a larger disk, say: what lies in it is found in it, and nothing of where it was."""
    args, moved = record_args(spool, "echo out; echo err >&2; exit 3"), spool.path(".moved")
    Job.start(args).wait(DEADLINE_SECONDS)
    Path(str(args.directory)).rename(moved)
    job = Job.attach(moved)
    assert (job.status().exit_code, job.args.stdout_path) == (3, str(moved / "stdout"))
    assert (read_all(job.stdout()), read_all(job.stderr())) == (b"out\n", b"err\n")


def test_a_start_that_was_cut_short_never_happens(spool: Spool) -> None:
    """Who finds the record of a job that no launcher took makes sure that none ever will."""
    args = record_args(spool, "exit 3")
    script = (
        LATE_LAUNCHER
        + """
prepare("touch", f"{folder}/it-ran")
# By another process: this one's locks are none for it.
attaching = subprocess.run([sys.executable, "-c",
    "import sys, jobby_core\\ntry: jobby_core.Job.attach(sys.argv[1])\\n"
    "except jobby_core.NotStartedError as e: print('never')", directory],
    capture_output=True, text=True, check=True)
print(attaching.stdout.strip())
launch()  # too late
print(os.path.exists(f"{folder}/it-ran"))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == (
        "never\nRECORD_LOCK Stale file handle\nFalse\n"
    )


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
_record.fence = late
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
    os.write = write_half
    prepare("true")
print(os.WTERMSIG(os.wait()[1]))
"""
    )
    assert run_job_script(script, spool.folder, str(args.directory)) == "9\n"
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(str(args.directory))


def test_an_output_that_was_removed_is_told_when_it_is_read(spool: Spool) -> None:
    """The status is known all the same."""
    args = record_args(spool, "echo out; exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    os.unlink(args.stdout_path)
    job = Job.attach(str(args.directory))
    assert job.status().exit_code == 3
    with pytest.raises(Exception, match="it was removed after the job was started"):
        job.stdout()
    assert read_all(job.stderr()) == b""


@pytest.mark.parametrize("known", [True, False])
def test_an_output_that_was_cut_before_anybody_read_it_is_an_error(
    spool: Spool, known: bool
) -> None:
    """The outcome tells how long it was; one of an older launcher does not: it is read as it is."""
    args = record_args(spool, "printf 12345; printf 123 >&2")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    if not known:
        fields = json.loads(outcome.read_bytes())
        assert (fields.pop("stdout_bytes"), fields.pop("stderr_bytes")) == (5, 3)
        outcome.write_text(json.dumps(fields))
    os.truncate(args.stdout_path, 2)
    job = Job.attach(str(args.directory))
    assert job.status().exit_code == 0
    assert read_all(job.stderr()) == b"123"
    if known:
        with pytest.raises(OutputTruncatedError, match="it had 5 bytes when the job ended"):
            read_all(job.stdout())
    else:
        assert read_all(job.stdout()) == b"12"


def test_the_record_keeps_no_secret_of_the_environment(spool: Spool) -> None:
    """The arguments are in it, for its user's eyes alone; the environment is not."""
    args = record_args(spool, "exit 0")
    job = Job.start(
        JobArgs(
            args.command,
            args.args,
            stdout_path=args.stdout_path,
            stderr_path=args.stderr_path,
            directory=args.directory,
            env={"PATH": os.environ["PATH"], "SECRET": "hunter2"},
        )
    )
    job.wait(DEADLINE_SECONDS)
    for path in Path(str(args.directory)).iterdir():
        assert b"hunter2" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(Path(str(args.directory), "job").read_bytes())["command"] == "sh"


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
def test_callbacks_come_once_and_one_that_fails_keeps_none_from_it(
    spool: Spool, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """Whether they were added before the end or after it; and other jobs still end."""
    gate = spool.gate()
    job = spool.shell('read _ < "$1"; exit 2', gate.path)
    called: list[tuple[str, int | None]] = []

    def fail(_: Job) -> None:
        raise error("of the callback")

    job.add_done_callback(fail)
    job.add_done_callback(lambda j: called.append(("before", j.status().exit_code)))
    gate.open()
    job.wait(DEADLINE_SECONDS)
    until(lambda: called == [("before", 2)], "it was called")
    job.add_done_callback(lambda j: called.append(("after", j.status().exit_code)))
    assert called == [("before", 2), ("after", 2)]
    assert "of the callback" in caplog.text
    assert spool.shell("exit 3").wait(DEADLINE_SECONDS).exit_code == 3


def test_an_exit_in_a_callback_at_once_is_the_callers_own(spool: Spool) -> None:
    """A job that has ended calls back in the caller's thread, whose exit or ctrl-c is not lost."""
    job = spool.shell("exit 0")
    job.wait(DEADLINE_SECONDS)

    def leave(_: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.add_done_callback(leave)
