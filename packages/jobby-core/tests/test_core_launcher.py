"""Promises that the launcher keeps: no orphan, limits that hold, and an end that is known."""

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    background,
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
    LauncherError,
    Reason,
    State,
    _cgroup,
    _platform,
    launcher_available,
)

# Prints its own id and those of descendants that left by every way there is: the session, the
# parent (twice), the output; each ignores what can be ignored.
RUNAWAYS = """
trap '' TERM HUP INT
echo $$
setsid sh -c 'trap "" TERM HUP; echo $$; sleep 1000 & echo $!; wait' &
(setsid sh -c 'echo $$; exec sleep 1000' &)
(exec >/dev/null 2>&1; sleep 1000) & echo $!
(setsid sh -c '(sh -c "echo \\$\\$; exec sleep 1000" &)' &)
"""
COUNT = 6


def pids(job: Job, count: int) -> list[int]:
    """Returns the process ids that a job prints, a line each."""
    with job.stdout() as reader:
        return [int(reader.readline()) for _ in range(count)]


def check_gone(found: list[int]) -> None:
    """Fails if one of the processes runs."""
    assert [pid for pid in found if is_running(pid)] == []


def test_a_stop_leaves_no_descendant(spool: Spool) -> None:
    """Whatever left the group, the session or its parent, and ignores signals: all are dead."""
    job = spool.shell(RUNAWAYS + "wait; sleep 1000")
    found = pids(job, COUNT)
    assert all(map(is_running, found))
    job.stop()
    check_gone(found)
    assert job.status().state is State.STOPPED


def test_the_end_of_the_main_process_leaves_no_descendant(spool: Spool) -> None:
    """The same when nobody stops it: when the job has ended, nothing of it runs."""
    gate = spool.gate()
    job = spool.shell(RUNAWAYS + 'read _ < "$1"; exit 4', gate.path)
    found = pids(job, COUNT)
    assert all(map(is_running, found))
    gate.open()
    assert job.wait(DEADLINE_SECONDS).exit_code == 4
    check_gone(found)


def test_a_grandchild_that_writes_on_is_cut_off_before_the_end_of_output(spool: Spool) -> None:
    """What a reader gets at the end is the whole file, to which nothing is added any more."""
    gate = spool.gate()
    writes = "echo $$; while :; do echo y; done"
    job = spool.shell('setsid sh -c "$2" & read _ < "$1"; exit 0', gate.path, writes)
    with job.stdout() as reader:
        writer = int(reader.readline())
        assert reader.readline() == b"y\n"
        gate.open()
        content = b"%d\ny\n" % writer + reader.read()
    check_gone([writer])
    assert job.wait(DEADLINE_SECONDS).exit_code == 0
    assert Path(job.args.stdout_path).stat().st_size == len(content)
    assert set(content.splitlines()[1:]) <= {b"y", b""}  # the last one may be cut in the middle


def test_a_family_that_never_stops_forking_is_ended(spool: Spool) -> None:
    """Each forks the next and dies: whoever is killed has an heir, until there is none."""
    job = spool.python(
        "import os\n"
        "def run():\n"
        "    while True:\n"
        "        if os.fork():\n"
        "            os._exit(0)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        run()\n"
        "print('running', flush=True)\n"
        "import signal\n"
        "signal.pause()\n"
    )
    with job.stdout() as reader:
        assert reader.readline() == b"running\n"
    job.stop()
    assert job.status().state is State.STOPPED
    mark = f"JOBBY_JOB={mark_of(job)}".encode()
    assert [p for p in Path("/proc").glob("[0-9]*/environ") if mark in _read(p)] == []


def mark_of(job: Job) -> str:
    """Returns what the job's processes are known by."""
    process = job._process
    assert process is not None
    record = getattr(process, "_record")  # noqa: B009 - private, and of one of two kinds
    return str(record.mark)


def cgroups_of(mark: str) -> list[str]:
    """Returns the folders of a job's cgroup."""
    # Not a glob: that fails when another test's folder vanishes under it.
    folders = (folder for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return [folder for folder in folders if folder.endswith(f"/jobby-{mark}")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_killing_the_launcher_kills_the_job_and_says_that_the_end_is_lost(spool: Spool) -> None:
    """Nothing survives, the descendants that left everything included; no exit code is made up."""
    job = spool.shell(RUNAWAYS + "wait; sleep 1000")
    found = pids(job, COUNT)
    os.kill(parent_of(job.pid), signal.SIGKILL)
    status = job.wait(DEADLINE_SECONDS)
    check_gone(found)
    assert (status.state, status.exit_code, status.reason) == (State.COMPLETED, None, Reason.LOST)
    assert read_all(job.stdout()) == b"".join(b"%d\n" % pid for pid in found)


def test_who_holds_a_killed_launchers_pipe_open_keeps_nobody_waiting(spool: Spool) -> None:
    """As a child does that another thread forked during the start: every job's end is noticed."""
    job = spool.start("sleep", "1000")
    launcher = parent_of(job.pid)
    ends = [fd for fd in Path(f"/proc/{launcher}/fd").iterdir() if os.readlink(fd)[:5] == "pipe:"]
    assert len(ends) == 1
    held = os.open(ends[0], os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.kill(launcher, signal.SIGKILL)
        assert job.wait(DEADLINE_SECONDS).reason is Reason.LOST
        assert spool.shell("exit 3").wait(DEADLINE_SECONDS).exit_code == 3
    finally:
        os.close(held)


def test_a_job_that_nobody_can_reach_any_more_is_ended(tmp_path: Path) -> None:
    """Without a record it dies with who started it, however that dies; so does all of it."""
    script = """
child = os.fork()
if child == 0:
    job = shell("setsid sleep 1000 & echo $! $$ $JOBBY_JOB; sleep 1000")
    print(read_line(job), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
"""
    stray, main, mark = run_job_script(script, tmp_path).split()
    until(lambda: not is_running(int(main)) and not is_running(int(stray)), "both are gone")
    until(lambda: cgroups_of(mark) == [], "its cgroup is gone, too")


@pytest.mark.parametrize("signals", ["as ever", "none may be queued"])
def test_a_forked_child_keeps_no_job_that_its_parent_alone_could_reach(
    tmp_path: Path, signals: str
) -> None:
    """It shares what was open, and can do nothing with the job: that ends with who started it.

    Also where the kernel tells the launcher by a plain SIGIO, because the user's queue of
    signals is full (RLIMIT_SIGPENDING).
    """
    script = """
import resource, socket
warnings.simplefilter("ignore", DeprecationWarning)  # of fork(2) in a program with threads
ours, its = socket.socketpair()
starter = os.fork()
if starter == 0:
    if sys.argv[2] == "none may be queued":
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
    job = Job.start(args("sleep", "1000"))
    if os.fork() == 0:
        ours.close()
        its.sendall(b"%d" % job.pid)
        its.recv(1)
        its.sendall(b"still there")
        os._exit(0)
    signal.pause()
main = int(ours.recv(10))
os.kill(starter, signal.SIGKILL)
os.waitpid(starter, 0)
deadline = time.monotonic() + 30
while is_running(main):
    assert time.monotonic() < deadline, "the job runs on"
    time.sleep(0.002)  # it is nobody's child here: nothing tells of its end
ours.sendall(b"x")
print(ours.recv(20))
for end in (ours, its):
    end.close()
"""
    assert run_job_script(script, tmp_path, signals) == "b'still there'\n"


def test_signals_meant_for_the_job_do_not_end_its_launcher(spool: Spool) -> None:
    """Neither a closed terminal nor a polite kill of everything loses an outcome."""
    gate = spool.gate()
    job = spool.shell('read _ < "$1"; exit 5', gate.path)
    launcher = parent_of(job.pid)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1):
        os.kill(launcher, signum)
    gate.open()
    assert job.wait(DEADLINE_SECONDS).exit_code == 5


def test_signals_that_the_starting_thread_blocks_reach_the_job(spool: Spool) -> None:
    """A program that waits for SIGTERM with sigwait(3) blocks it; its jobs still hear of a stop."""

    def start() -> Job:  # in a thread of its own, since each has its own mask
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        return spool.start("sleep", "1000")

    job = background(start).result(DEADLINE_SECONDS)
    background(job.stop, grace_seconds=1000).result(DEADLINE_SECONDS)
    status = job.status()
    assert (status.state, status.signal) == (State.STOPPED, signal.SIGTERM)


def test_an_output_beyond_its_limit_ends_the_job(spool: Spool) -> None:
    """Both outputs count together; the reason is its own; what was written stays."""
    args = spool.args("sh", "-c", "yes >&2 & exec yes")
    job = Job.start(_with(args, max_output_bytes=1_000_000))
    spool.jobs.append(job)
    status = job.wait(DEADLINE_SECONDS)
    assert (status.state, status.reason, status.exit_code) == (
        State.STOPPED,
        Reason.OUTPUT_LIMIT,
        None,
    )
    written = sum(os.stat(path).st_size for path in (args.stdout_path, args.stderr_path))
    assert written > 1_000_000
    assert len(read_all(job.stdout())) + len(read_all(job.stderr())) == written


def sleeps(pid: int) -> int:
    """How often a process has gone to sleep (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_an_output_of_just_its_limit_is_no_reason_to_end(spool: Spool) -> None:
    """The limit is what may be written, not one byte less."""
    gate = spool.gate()
    script = 'read _ < "$1"; printf 1234567890; read _ < "$1"'
    args = spool.args("sh", "-c", script, "sh", gate.path)
    job = Job.start(_with(args, max_output_bytes=10))
    spool.jobs.append(job)
    launcher = parent_of(job.pid)
    before = sleeps(launcher)
    gate.open()
    # It sleeps once more if it didn't yet; then it has looked. Nothing else tells.
    until(lambda: sleeps(launcher) >= before + 2, "the launcher has looked")
    assert os.stat(args.stdout_path).st_size == 10
    gate.open()
    assert job.wait(DEADLINE_SECONDS).reason is Reason.EXITED


def test_a_slow_drip_beyond_the_limit_is_noticed_too(spool: Spool) -> None:
    """The last byte counts, however long after the others it comes."""
    gate = spool.gate()
    script = 'printf 123456789; read _ < "$1"; printf 0; read _ < "$1"; printf 1; sleep 1000'
    args = spool.args("sh", "-c", script, "sh", gate.path)
    job = Job.start(_with(args, max_output_bytes=10))
    spool.jobs.append(job)
    gate.open()
    until(lambda: os.stat(args.stdout_path).st_size == 10, "it wrote ten")
    gate.open()
    assert job.wait(DEADLINE_SECONDS).reason is Reason.OUTPUT_LIMIT


def test_a_job_that_suspends_its_launcher_can_be_stopped(spool: Spool) -> None:
    """The launcher is the job's parent, and the user is the same: it may, and gains nothing."""
    gate = spool.gate()
    script = 'read _ < "$1"; kill -STOP $PPID; echo suspended; exec sleep 1000'
    job = spool.shell(script, gate.path)
    gate.open()
    with job.stdout() as reader:
        assert reader.readline() == b"suspended\n"
    launcher = parent_of(job.pid)
    try:
        background(job.stop).result(DEADLINE_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.kill(launcher, signal.SIGCONT)
    assert job.status().state is State.STOPPED
    assert not is_running(job.pid)


def test_a_job_that_takes_too_long_is_ended(spool: Spool) -> None:
    """By elapsed time, with a reason of its own."""
    job = Job.start(_with(spool.args("sleep", "1000"), timeout_seconds=0.05))
    spool.jobs.append(job)
    status = job.wait(DEADLINE_SECONDS)
    assert (status.state, status.reason, status.signal) == (State.STOPPED, Reason.TIMED_OUT, 9)
    assert status.ended_at is not None
    assert (status.ended_at - status.started_at).total_seconds() >= 0.05


def test_what_a_job_used_is_told(spool: Spool) -> None:
    """CPU time and memory, of its descendants too."""
    status = spool.python("sum(range(2_000_000))").wait(DEADLINE_SECONDS)
    assert status.usage is not None
    assert status.usage.user_seconds > 0.001
    assert status.usage.max_rss_bytes > 1 << 20


DISK_FULL = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
from pathlib import Path
Path(f"{folder}/record").mkdir()
job = Job.start(JobArgs("sh", ["-c", command], stdout_path=f"{folder}/record/out",
                        stderr_path=f"{folder}/record/err", directory=f"{folder}/record"))
status = job.wait(60)
print(status.state.name, status.reason.name, status.exit_code)
print(Job.attach(f"{folder}/record").status() == status)
with job.stdout() as reader:
    content = reader.read()
print(len(content) > 16384, set(content) == set(b"y\\n"))
"""


def test_a_full_disk_ends_the_job_and_loses_no_outcome(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """ENOSPC on a 64 KiB tmpfs: the job is stopped, for a reason that is said by name."""
    script = 'command = "while :; do echo y; done 2>/dev/null"\n' + DISK_FULL
    assert run_job_script(script, tmp_path, before=own_mounts) == (
        "STOPPED DISK_FULL None\nTrue\nTrue True\n"
    )


def test_a_full_disk_that_a_job_ignores_is_told_all_the_same(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """It ended by itself, with 0; but bytes of it are missing, and the reason says so."""
    script = """command = "yes | head -c 1000000 2>/dev/null; exit 0"\n""" + DISK_FULL
    state, reason, _ = run_job_script(script, tmp_path, before=own_mounts).split(maxsplit=2)
    # Which of the two comes first is the job's luck; that bytes are missing is said in both.
    assert (state in ("COMPLETED", "STOPPED"), reason) == (True, "DISK_FULL")


def test_an_output_that_is_empty_on_a_full_disk_is_told_whatever_the_other_one_holds(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """A warning has found its block, and then nothing of the output did: 0 alone would lie."""
    script = (
        'command = f"echo warning >&2; cat /dev/zero 2>/dev/null >{folder}/filler;"\n'
        'command += "echo lost 2>/dev/null; exit 0"\n'
    ) + DISK_FULL
    found = run_job_script(script, tmp_path, before=own_mounts).splitlines()
    assert found[:2] == ["COMPLETED DISK_FULL 0", "True"]


def test_a_disk_that_somebody_else_fills_costs_no_job_that_has_room(
    own_mounts: list[str], tmp_path: Path
) -> None:
    """What a job writes fits into the block it has begun: it goes on, and ends as it would."""
    script = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
os.mkdir(f"{folder}/record")
os.mkfifo(f"{folder}/go")
go = os.open(f"{folder}/go", os.O_RDWR)  # both ends: then nobody waits for the other to open it
command = "echo a; read x < $1; echo b; read x < $1; echo c; read x < $1; exit 5"
job = Job.start(JobArgs("sh", ["-c", command, "sh", f"{folder}/go"],
                        stdout_path=f"{folder}/record/out",
                        stderr_path=f"{folder}/record/err", directory=f"{folder}/record"))

def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def sleeps(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(file.read().partition("\\nvoluntary_ctxt_switches:")[2].split()[0])

launcher = parent(job.pid)
with job.stdout() as reader:
    assert reader.read(2) == b"a\\n"
    try:
        with open(f"{folder}/filler", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError as error:
        print(error.strerror)
    # Nothing tells that the launcher has looked, but that it woke and sleeps again. For the first
    # time it may do so to ask for a signal; what wakes it for the second is a write, at the latest.
    for line in (b"b\\n", b"c\\n"):
        before = sleeps(launcher)
        os.write(go, b"\\n")
        print(reader.read(2) == line)
        deadline = time.monotonic() + 30
        while sleeps(launcher) == before:
            assert time.monotonic() < deadline, "the launcher never looked"
            time.sleep(0.002)  # see above: nothing else tells
    os.write(go, b"\\n")
status = job.wait(60)
print(status.state.name, status.reason.name, status.exit_code)
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == (
        "No space left on device\nTrue\nTrue\nCOMPLETED EXITED 5\n"
    )


def test_what_may_not_be_killed_keeps_nobody_waiting(two_users: Path) -> None:
    """A descendant that became root's: the job ends without it, and `stop` says what it cannot."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="jobby-test-") as folder:
        os.chmod(folder, 0o755)
        _check_that_roots_processes_keep_nobody_waiting(two_users, Path(folder))


def _check_that_roots_processes_keep_nobody_waiting(outputs: Path, programs: Path) -> None:
    setpriv, launcher = programs / "setpriv", programs / "launcher"
    # A file of its own with root's s bit, as sudo has; and what every user may execute.
    subprocess.run(["install", "-m", "4755", "/usr/bin/setpriv", setpriv], check=True)
    subprocess.run(["install", "-m", "755", str(_platform.path()), launcher], check=True)
    script = f"""
os.environ["JOBBY_LAUNCHER"] = "{launcher}"
os.setresuid(65534, 65534, 65534)
as_root = "{setpriv} --reuid=0 --clear-groups sleep 1000"
is_roots = "grep -q '^Uid:.0' /proc/$root/status"
job = shell(
    f"{{as_root}} & root=$!; echo $root; (sleep 1000 & echo $!);"
    f"until {{is_roots}}; do :; done; exit 3"
)
status = job.wait(30)
with job.stdout() as reader:
    roots, own = [int(line) for line in reader]
assert status.exit_code == 3
assert is_running(roots) and not is_running(own)
whole = shell(f"exec {{as_root}}")
while subprocess.run(["sh", "-c", is_roots.replace("$root", str(whole.pid))]).returncode:
    pass
try:
    whole.stop()
except StopError as error:
    print(str(error).replace(str(whole.pid), "PID"))
print(roots, whole.pid)
"""
    error, found = run_job_script(script, outputs).splitlines()
    for pid in map(int, found.split()):
        os.kill(pid, signal.SIGKILL)
    assert error == (
        "cannot signal the job of process PID: it runs under another user; "
        "stop it as that user or as root"
    )


def test_a_launcher_that_cannot_run_is_said_by_name(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is not what is missing then, and nothing is left."""
    monkeypatch.setenv("JOBBY_LAUNCHER", "/nowhere/launcher")
    with pytest.raises(LauncherError, match="its launcher /nowhere/launcher cannot be started"):
        spool.start("true")
    assert list(spool.folder.iterdir()) == []


@pytest.mark.usefixtures("direct")
def test_without_a_launcher_what_needs_it_is_refused(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anything exists; and what is lost for the other jobs is said, once."""
    assert not launcher_available()
    for limit in ({"max_output_bytes": 1}, {"timeout_seconds": 1}, {"directory": spool.folder}):
        with pytest.raises(LauncherError, match="that needs the launcher"):
            Job.start(_with(spool.args("true"), **limit))
    assert list(spool.folder.iterdir()) == []
    _platform._say_what_is_lost.cache_clear()  # another test may have had it said
    for _ in range(2):
        assert spool.shell("exit 3").wait(DEADLINE_SECONDS).exit_code == 3
    assert len([r for r in caplog.records if "without a launcher" in r.message]) == 1


def test_a_cgroup_is_used_where_one_can_be_made_and_removed_again(spool: Spool) -> None:
    """The kernel then kills all at once; nothing of it is left."""
    job = spool.shell("cat /proc/self/cgroup; sleep 1000")
    with job.stdout() as reader:
        lines = [reader.readline()]
        while not lines[-1].startswith(b"0::"):
            lines.append(reader.readline())
    groups = cgroups_of(mark_of(job))
    used = lines[-1].rstrip().endswith(f"jobby-{mark_of(job)}".encode())
    assert used is bool(groups) is can_make_cgroups()
    job.stop()
    assert [group for group in groups if os.path.exists(group)] == []


@pytest.mark.parametrize("end", ["stopped", "lost"])
def test_the_cgroups_that_a_job_makes_in_its_own_go_with_it(spool: Spool, end: str) -> None:
    """With what runs in them: by the launcher, and by who finds that it was killed."""
    if not can_make_cgroups():
        pytest.skip("this user can make no cgroup here")
    own = _cgroup.path_for("$JOBBY_JOB")
    script = f'mkdir -p "{own}/a/b" "{own}/c"; sleep 1000 & echo $! >"{own}/a/b/cgroup.procs"'
    job = spool.shell(f"{script}; echo $!; wait")
    with job.stdout() as reader:
        inside = int(reader.readline())
    groups = cgroups_of(mark_of(job))
    assert len(groups) == 1
    assert f"jobby-{mark_of(job)}/a/b" in Path(f"/proc/{inside}/cgroup").read_text()
    if end == "stopped":
        job.stop()
    else:
        os.kill(parent_of(job.pid), signal.SIGKILL)
        assert job.wait(DEADLINE_SECONDS).reason is Reason.LOST
    check_gone([inside])
    assert [group for group in groups if os.path.exists(group)] == []


def _with(args: JobArgs, **changes: object) -> JobArgs:
    fields = {
        name: getattr(args, name) for name in ("command", "args", "stdout_path", "stderr_path")
    }
    return JobArgs(**{**fields, **changes})
