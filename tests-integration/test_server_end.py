"""The server's end: nothing survives it, and no client takes a broken stream for a whole one."""

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client, Connect
from support.certificates import Authority
from support.data import Data
from support.server import Begin, Server
from support.waiting import DEADLINE_SECONDS, eventually

PTRACE_SEIZE, WALL = 0x4206, 0x40000000

# Says who it is and whom it has started, and ignores what can be ignored.
STUBBORN = "trap '' HUP INT TERM; sleep 1000 & echo $$ $!; wait; wait"


def pids_of(caller: Client, job: bytes) -> list[int]:
    """The processes of a STUBBORN job."""
    return [int(pid) for pid in next(caller.output(job)).data.split()]


def left_in(folder: Path) -> list[str]:
    """What a server has left in its temporary folder."""
    return sorted(path.name for path in (folder / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_orderly_end(
    begin: Begin, connect: Connect, number: signal.Signals, two_files: tuple[Data, Data]
) -> None:
    """On a signal the streams break, all processes of the jobs end, the port and the folder go."""
    server = begin()
    caller = connect(server.address)
    running = caller.start("sh", "-c", STUBBORN)
    pids = pids_of(caller, running)
    done = caller.start("cat", str(two_files[0].path))
    caller.ended(done)
    live, unread = caller.output(running), caller.output(done)
    next(live), next(unread)

    server.program.send(number)
    for stream in (live, unread):
        assert calls.failure(list, stream).code is grpc.StatusCode.UNAVAILABLE
    assert server.program.wait() == 0
    assert [pid for pid in pids if procfs.alive(pid)] == []
    assert left_in(server.folder) == []
    host, _, port = server.address.rpartition(":")
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((host, int(port)))
    assert "Traceback" not in server.log()


def test_fifty_jobs_end_with_it(begin: Begin, connect: Connect) -> None:
    """Fifty running jobs and their followers end with the server, which exits with 0."""
    server = begin()
    caller = connect(server.address)
    jobs = [caller.start("sh", "-c", STUBBORN) for _ in range(50)]
    pids = [pid for job in jobs for pid in pids_of(caller, job)]
    assert len(pids) == 100
    assert all(map(procfs.alive, pids))
    server.terminate()
    assert server.program.wait() == 0
    assert [pid for pid in pids if procfs.alive(pid)] == []
    assert left_in(server.folder) == []


def test_what_is_started_meanwhile_ends_too(begin: Begin, connect: Connect, tmp_path: Path) -> None:
    """Starts that cross the server's end are refused, or their jobs end with it."""
    server = begin()
    caller = connect(server.address)
    # Holds up the end: this reader takes nothing.
    job = caller.start("head", "-c", "100000000", "/dev/zero")
    caller.ended(job)
    held = caller.output(job)
    next(held)
    pids = tmp_path / "pids"
    pids.touch()
    codes = []
    server.terminate()
    for _ in range(50):
        try:
            caller.start("sh", "-c", 'echo $$ >> "$1"; exec sleep 1000', "sh", str(pids))
        except grpc.RpcError as error:
            codes.append(error.code())
    held.cancel()
    assert server.program.wait() == 0
    # gRPC itself says CANCELLED to a call that is on its way when the server begins to end.
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert codes[-1] is grpc.StatusCode.UNAVAILABLE
    assert [pid for pid in pids.read_text().split() if procfs.alive(int(pid))] == []


# The server, but for how long it waits for calls under way: nobody would wait so long.
PATIENT = """
import sys
from jobby_server import limits
limits.Limits.__init__.__kwdefaults__["drain_seconds"] = 1_000_000
from jobby_server.entry import main
sys.exit(main())
"""


@contextmanager
def undying(pid: int) -> Iterator[None]:
    """Traces a job's main process: killed, it is a zombie until the end of the context (ptrace(2)),
    so that stopping the job takes as long."""
    libc = ctypes.CDLL(None)
    seized, let_go = threading.Event(), threading.Event()
    answers: list[int] = []

    def trace() -> None:
        answers.append(libc.ptrace(PTRACE_SEIZE, pid, None, None))
        seized.set()
        if answers == [0]:
            let_go.wait(DEADLINE_SECONDS)
            os.waitpid(pid, WALL)

    tracer = threading.Thread(target=trace)
    tracer.start()
    seized.wait()
    if answers != [0]:
        pytest.skip("no process may be traced here")
    try:
        yield
    finally:
        let_go.set()
        tracer.join()


def test_a_second_signal_hurries(
    installed: Installed, authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    """A call that is under way holds up the end; not after the second signal. The job is stopped
    all the same, and it exits with 0."""
    program = tmp_path / "patient.py"
    program.write_text(PATIENT)
    python = installed.server.python
    with Server(python, authority.server(), tmp_path / "server", str(program)) as server:
        caller = connect(server.address)
        job = caller.start("sh", "-c", "echo $$; exec sleep 1000")
        pid = int(next(caller.output(job)).data)
        with undying(pid):
            stopping = caller.stub.StopJob.future(caller.contract.StopJobRequest(job_id=job))
            eventually(lambda: not procfs.alive(pid), what="it is being stopped")
            server.terminate()
            server.program.stderr.until("shutting down")
            server.terminate()
            server.program.stderr.until("killing 1 running jobs")
        assert server.program.wait() == 0
    assert stopping.code() is not grpc.StatusCode.OK


def test_named_outputs_are_kept(begin: Begin, connect: Connect, tmp_path: Path) -> None:
    """What was written into --output-dir is there after the end; an empty server leaves nothing."""
    kept = tmp_path / "kept"
    kept.mkdir()
    server = begin("--output-dir", str(kept))
    caller = connect(server.address)
    job = caller.start("echo", "hello")
    caller.ended(job)
    idle = begin("--output-dir", str(kept))
    for each in (server, idle):
        each.terminate()
        assert each.program.wait() == 0
        assert left_in(each.folder) == []
    assert list(kept.iterdir()) == [server.spool]
    assert (server.spool / calls.as_text(job) / "stdout").read_text() == "hello\n"
