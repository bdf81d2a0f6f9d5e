"""A server at a limit of its machine says so to who asks, keeps what it has, and recovers."""

import resource

import grpc

from support import calls, procfs
from support.calls import Connect
from support.server import Begin, Server
from support.waiting import eventually


def allow(server: Server, more: int) -> None:
    """Let the server have that many descriptors more than it has now."""
    limit = procfs.lowest_free_descriptor(server.pid) + more
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, hard))


def test_no_descriptor_is_left(begin: Begin, connect: Connect) -> None:
    """Without descriptors a start fails in words and leaves nothing; a job that runs goes on, and
    with descriptors again all is as before."""
    server = begin()
    caller = connect(server.address)
    running = caller.start("sh", "-c", "echo first; exec sleep 1000")
    stream = caller.output(running)
    assert next(stream).data == b"first\n"
    # What it waits for more with takes descriptors of its own, the first time.
    eventually(lambda: procfs.holdings(server.pid).watches == 1, what="it waits for more")
    folders = set(server.spool.iterdir())

    allow(server, 0)
    for _ in range(3):
        failed = calls.failure(caller.start, "true")
        assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "RLIMIT_NOFILE" in failed.text
    assert set(server.spool.iterdir()) == folders
    assert caller.status(running) == ("STATUS_RUNNING", None)

    allow(server, 100)
    assert caller.ended(caller.start("true")) == ("STATUS_COMPLETE", 0)
    caller.stop(running)
    assert calls.joined(stream) == b""
