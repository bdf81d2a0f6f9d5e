"""Promises about noticing the end of processes, whatever else the program around does."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
from core_support import DEADLINE_SECONDS, Spool, is_running, read_all, run_job_script, until

from jobby_core import Job, LimitError, State, _direct
from jobby_core._direct import DirectProcess

both_ways = pytest.mark.usefixtures("both_ways")


@both_ways
def test_no_later_popen_steals_an_exit_code(spool: Spool) -> None:
    """subprocess looks after abandoned children at each start; the library's aren't among them."""
    for number in range(20):
        job = spool.shell(f"exit {number}")
        spool.jobs.clear()
        subprocess.run(["true"], check=True)
        assert job.wait(DEADLINE_SECONDS).exit_code == number
    assert subprocess.run(["sh", "-c", "exit 5"], check=False).returncode == 5


@pytest.mark.usefixtures("direct")
def test_a_program_that_waits_for_every_child_gets_no_exit_code_but_an_end(tmp_path: Path) -> None:
    """Somebody else took the exit status: the job still ends, and what it left behind is killed."""
    script = """
job = shell("sleep 1000 & echo $!; exec sleep 1000")
left_behind = int(read_line(job))
with Hold():
    os.kill(job.pid, signal.SIGINT)
    assert os.waitpid(-1, 0) == (job.pid, signal.SIGINT)
    assert job.status().state is State.RUNNING
status = job.wait(30)
assert (status.state, status.exit_code, status.signal) == (State.COMPLETED, None, None), status
assert not is_running(left_behind)
with job.stdout() as reader:
    assert reader.read() == b"%d\\n" % left_behind
print("ended")
"""
    assert run_job_script(script, tmp_path) == "ended\n"


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("error", [None, errno.EMFILE])
def test_a_command_that_somebody_else_reaped_at_its_start_has_run(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """A short command may be waited for before its start is over; it ran, and its output stays.

    Should there be no descriptor to see that with, the error names that, and nothing is left.
    """
    pidfd_open = os.pidfd_open

    def late(pid: int) -> int:
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)  # the real one, from now on
        os.waitpid(pid, 0)
        if error is not None:
            raise OSError(error, os.strerror(error))
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", late)  # between the start and this call, at will
    if error is not None:
        args = spool.args("true")
        with pytest.raises(LimitError):
            Job.start(args)
        assert not os.path.exists(args.stdout_path)
        return
    job = spool.start("sh", "-c", "sleep 1000 & echo $!")
    status = job.wait(DEADLINE_SECONDS)
    assert (status.state, status.exit_code, status.signal) == (State.COMPLETED, None, None)
    assert not is_running(int(read_all(job.stdout())))
    job.stop()


@pytest.mark.usefixtures("direct")
def test_a_start_that_fails_late_leaves_alone_what_somebody_else_reaped(spool: Spool) -> None:
    """Its id may be a stranger's by then; and a start that failed says why, and nothing else."""
    args = spool.args("true")
    with open(args.stdout_path, "wb") as out, open(args.stderr_path, "wb") as err:
        process = DirectProcess.start(args, out.fileno(), err.fileno())
    os.waitpid(process.pid, 0)
    process.abandon()
    assert process not in _direct._live


@pytest.mark.usefixtures("direct")
def test_without_a_launcher_jobs_end_with_the_program(tmp_path: Path) -> None:
    """At its exit all of their groups are killed; the exit of a forked child concerns nobody."""
    script = """
jobs = [shell("sleep 1000 & echo $!; exec sleep 1000") for _ in range(2)]
print(*(job.pid for job in jobs), *map(read_line, jobs), flush=True)
warnings.simplefilter("ignore", DeprecationWarning)  # of fork(2) in a program with threads
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0) == (child, 0)
assert all(is_running(job.pid) for job in jobs)
shell("exit 0").wait(30)
"""
    pids = [int(pid) for pid in run_job_script(script, tmp_path).split()]
    assert len(pids) == 4
    until(lambda: not any(map(is_running, pids)), "all are killed")


def test_a_program_that_waits_for_every_child_takes_no_outcome(tmp_path: Path) -> None:
    """With a launcher, what can be taken is the launcher's exit status, which says nothing."""
    script = """
job = shell("sleep 1000 & echo $!; exec sleep 1000")
left_behind = int(read_line(job))
with Hold():
    os.kill(job.pid, signal.SIGINT)
    assert os.waitpid(-1, 0)[1] == 0
status = job.wait(30)
assert (status.state, status.exit_code, status.signal) == (State.COMPLETED, 130, 2), status
assert not is_running(left_behind)
print("ended")
"""
    assert run_job_script(script, tmp_path) == "ended\n"


@pytest.mark.usefixtures("direct")
def test_a_stop_whose_outcome_somebody_else_took_is_a_stop_all_the_same(tmp_path: Path) -> None:
    """Stop returns, and the job is STOPPED if it was alive when it was killed."""
    script = """
job = shell("echo ready; exec sleep 1000")
read_line(job)
with Hold():
    stopping = threading.Thread(target=job.stop)
    stopping.start()
    assert os.waitpid(job.pid, 0)[0] == job.pid
    again = threading.Thread(target=job.stop, kwargs={"grace_seconds": 1000})
    again.start()  # finds it reaped, by somebody else
stopping.join(30)
again.join(30)
assert not stopping.is_alive() and not again.is_alive()
status = job.status()
assert (status.state, status.exit_code, status.signal) == (State.STOPPED, None, None), status
print("stopped")
"""
    assert run_job_script(script, tmp_path) == "stopped\n"


def test_ignoring_sigchld_loses_nothing(tmp_path: Path) -> None:
    """The launcher is the one that waits, whatever this process does about its children."""
    script = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
assert shell("exit 7").wait(30).exit_code == 7
"""
    assert run_job_script(script, tmp_path) == ""


@pytest.mark.usefixtures("direct")
def test_ignoring_sigchld_is_refused_before_anything_exists(tmp_path: Path) -> None:
    """The kernel would reap the jobs itself and lose their exit codes (wait(2))."""
    script = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    shell("exit 0")
except StartError as error:
    print(error)
assert os.listdir(folder) == []
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
job = shell("exec sleep 1000")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
job.stop()
assert job.status().state is State.STOPPED
"""
    assert run_job_script(script, tmp_path) == (
        "cannot start 'sh': this process ignores SIGCHLD, so exit codes are lost; "
        "restore it with signal.signal(SIGCHLD, SIG_DFL)\n"
    )


@both_ways
def test_a_forked_child_disturbs_neither_its_parent_nor_itself(tmp_path: Path) -> None:
    """A child can run jobs of its own, and whatever it closes or drops is still its parent's."""
    script = """
os.mkfifo(f"{folder}/gate")
gate = os.open(f"{folder}/gate", os.O_RDWR)
job = shell(f"exec 3< {folder}/gate; read _ <&3; echo one; read _ <&3; echo two; exit 6")
reader, waiting = job.stdout(), job.stdout()
lines = []
reading = threading.Thread(target=lambda: lines.extend(reader))
reading.start()
os.write(gate, b"\\n")
assert waiting.readline() == b"one\\n"

warnings.simplefilter("ignore", DeprecationWarning)  # of fork(2) in a program with threads
child = os.fork()
if child == 0:
    code = 1
    try:
        waiting.close()
        del waiting
        try:
            job.stop()
        except StopError as error:
            assert "it belongs to the process that this one was forked from" in str(error)
            for _ in range(3):
                own = shell("exec sleep 1000")
                readers = [own.stdout(), own.stdout()]
                threads = [threading.Thread(target=each.read) for each in readers]
                for each in threads:
                    each.start()
                own.stop()
                for each in threads:
                    each.join(30)
                    assert not each.is_alive()
                for each in readers:
                    each.close()
                assert own.status().state is State.STOPPED
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
assert os.waitpid(child, 0) == (child, 0)

assert is_running(job.pid)
os.write(gate, b"\\n")
assert job.wait(30).exit_code == 6
reading.join(30)
assert lines == [b"one\\n", b"two\\n"], lines
assert waiting.read() == b"two\\n"
print("undisturbed")
"""
    assert run_job_script(script, tmp_path) == "undisturbed\n"


@both_ways
def test_a_containers_init_keeps_no_zombies(tmp_path: Path) -> None:
    """What a job leaves behind becomes the child of init or of a subreaper; it is reaped there."""
    script = """
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
for _ in range(10):
    job = shell("sleep 1000 & (sleep 1000 & sleep 1000 & wait) & (exit 0) & echo $!; exit 0")
    job.wait(30)
    try:
        print("a child is left:", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        pass
print("none left")
"""
    assert run_job_script(script, tmp_path) == "none left\n"


@both_ways
def test_without_a_descriptor_to_spare_a_job_still_ends(tmp_path: Path) -> None:
    """The end needs none: exit code and output are there, and what was left behind is killed."""
    script = """
import resource
job = shell("sleep 1000 & echo $!; exec sleep 1000")
left_behind = int(read_line(job))
reader = job.stdout()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
fds = []
try:
    while True:
        fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
os.kill(job.pid, signal.SIGINT)
status = job.wait(30)
assert status.exit_code == 128 + signal.SIGINT, status
assert reader.read() == b"%d\\n" % left_behind
for fd in fds:
    os.close(fd)
assert not is_running(left_behind)
print("ended")
"""
    assert run_job_script(script, tmp_path) == "ended\n"


@pytest.mark.usefixtures("direct")
def test_what_runs_under_another_user_keeps_nobody_waiting(two_users: Path) -> None:
    """Not ours to kill, so not to wait for: the job ends, and `stop` says what it cannot do."""
    script = """
gate = f"{folder}/gate"
os.mkfifo(gate)
as_nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c"
mixed = shell(f"sleep 1000 & echo $!; {as_nobody} 'echo ready; read _; exit 3' <> {gate}")
with mixed.stdout() as reader:
    roots = int(reader.readline())
    assert reader.readline() == b"ready\\n"
other = shell("exec sleep 1000")
fd = os.open(gate, os.O_WRONLY)
os.setresuid(65534, 65534, 65534)

os.write(fd, b"\\n")
assert mixed.wait(30).exit_code == 3, "ended, though root's process runs on"
assert is_running(roots)
for grace in (0, 1000):
    try:
        other.stop(grace_seconds=grace)
    except StopError as error:
        print(str(error).replace(str(other.pid), "PID"))
assert other.status().state is State.RUNNING
print(roots, other.pid)
"""
    *errors, pids = run_job_script(script, two_users).splitlines()
    for pid in map(int, pids.split()):
        os.kill(pid, signal.SIGKILL)
    error = "it runs under another user; stop it as that user or as root"
    assert errors == [f"cannot signal process group PID: {error}"] * 2


@both_ways
def test_a_traced_process_is_reaped_when_its_tracer_lets_go(tmp_path: Path) -> None:
    """Until a tracer has waited for the zombie, its parent cannot; other jobs end meanwhile."""
    script = """
TRACER = '''
import ctypes, os, sys
PTRACE_CONT, PTRACE_SEIZE, WALL = 7, 0x4206, 0x40000000
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
if libc.ptrace(PTRACE_SEIZE, pid, None, None):
    sys.exit(print(os.strerror(ctypes.get_errno()), flush=True))
print("traced", flush=True)
ended = os.CLD_EXITED, os.CLD_KILLED
while os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT).si_code not in ended:
    signum = os.WSTOPSIG(os.waitpid(pid, WALL)[1])  # it stops before the signal reaches it
    libc.ptrace(PTRACE_CONT, pid, None, signum)
sys.stdin.readline()
os.waitpid(pid, WALL)
'''
def parent_of(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])

job = shell("exec sleep 1000")
child = next(pid for pid in (job.pid, parent_of(job.pid)) if parent_of(pid) == os.getpid())
tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(child)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
answer = tracer.stdout.readline().strip()
if answer == "traced":
    os.kill(job.pid, signal.SIGINT)
    while is_running(child):
        pass
    assert shell("exit 4").wait(30).exit_code == 4, "noticed after it"
    assert job.status().state is State.RUNNING
    while poller._callbacks:  # who watched a zombie that it cannot reap would spin
        pass
    tracer.communicate("\\n")
    status = job.wait(30)
    assert (status.state, status.signal) == (State.COMPLETED, signal.SIGINT), status
job.stop()
tracer.communicate()
print(answer)
"""
    answer = run_job_script(script, tmp_path).strip()
    if answer != "traced":
        pytest.skip(f"no process may be traced here: {answer}")


@both_ways
def test_an_exit_is_noticed_without_a_thread_or_a_wait_for_each_job(spool: Spool) -> None:
    """Jobs that end in another order than they started each get their own exit code."""
    gates = [spool.gate() for _ in range(20)]
    jobs = [
        spool.shell('read _ < "$1"; exit "$2"', gate.path, str(number))
        for number, gate in enumerate(gates)
    ]
    for number in reversed(range(20)):
        gates[number].open()
        assert jobs[number].wait(DEADLINE_SECONDS).exit_code == number
        assert read_all(jobs[number].stdout()) == b""
