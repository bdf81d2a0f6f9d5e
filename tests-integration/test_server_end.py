"""The server's end: nothing survives it, and no client takes a broken stream for a whole one."""

import os
import select
import signal
import socket
from pathlib import Path

import grpc
import pytest

from support import calls, procfs
from support.calls import Client, Connect
from support.data import Data
from support.server import Begin
from support.waiting import DEADLINE_SECONDS

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


def test_a_second_signal_hurries(begin: Begin, connect: Connect) -> None:
    """Of two servers held up by a reader that takes nothing, the one that is told twice ends
    first; both stop their jobs and exit with 0."""
    servers = [begin(), begin()]
    readers = []
    for server in servers:
        caller = connect(server.address)
        job = caller.start("head", "-c", "100000000", "/dev/zero")
        caller.ended(job)
        readers.append(caller.output(job))
        next(readers[-1])
        caller.start("sleep", "1000")
    patient, hurried = servers
    jobs = frozenset().union(*(server.jobs() for server in servers))
    ends = {os.pidfd_open(server.pid): server for server in servers}
    try:
        # First, or the other one's five seconds are over by then on a busy machine.
        hurried.terminate()
        hurried.program.stderr.until("shutting down")
        patient.terminate()
        patient.program.stderr.until("shutting down")
        hurried.terminate()
        ready, _, _ = select.select(list(ends), [], [], DEADLINE_SECONDS)
        assert [ends[fd] for fd in ready] == [hurried]
        readers[0].cancel()
        assert [server.program.wait() for server in (hurried, patient)] == [0, 0]
    finally:
        for fd in ends:
            os.close(fd)
    assert [pid for pid in jobs if procfs.alive(pid)] == []


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
