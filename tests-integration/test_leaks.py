"""What calls take they give back: descriptors, threads, processes and watches of the server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client, Contract
from support.certificates import Authority
from support.data import Data
from support.server import Server
from support.waiting import eventually

ROUNDS = 15
AT_ONCE = 8
MOST_TIMES = 5

# The server, but for its pools of threads: they are full from the start. How far they have grown
# depends on what was asked for at once, so that their growth would hide a leak of threads.
FILLED = """
import sys
from concurrent import futures
from threading import Barrier

class Filled(futures.ThreadPoolExecutor):
    def __init__(self, threads, **kwargs):
        super().__init__(threads, **kwargs)
        together = Barrier(threads)
        for waiting in [self.submit(together.wait) for _ in range(threads)]:
            waiting.result()

futures.ThreadPoolExecutor = Filled
from jobby_server.entry import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(
    installed: Installed, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server whose pools are full."""
    folder = tmp_path_factory.mktemp("server")
    program = folder / "filled.py"
    program.write_text(FILLED)
    with Server(installed.server.python, authority.server(), folder, str(program)) as running:
        yield running


def refused_start(caller: Client, file: Data) -> None:
    """A start that fails."""
    calls.failure(caller.start, str(file.path))


def whole_output(caller: Client, file: Data) -> None:
    """A job, both its outputs, its status."""
    job = caller.start("sh", "-c", "echo out; echo err >&2")
    assert caller.read(job) == b"out\n"
    assert caller.read(job, "STDERR") == b"err\n"
    assert caller.status(job) == ("STATUS_COMPLETE", 0)


def stopped(caller: Client, file: Data) -> None:
    """A job with a follower on each stream, stopped; both followers see the end."""
    job = caller.start("sh", "-c", "echo first; sleep 1000 & exec sleep 1000")
    streams = [caller.output(job), caller.output(job, "STDERR")]
    next(streams[0])
    caller.stop(job)
    assert [calls.joined(stream) for stream in streams] == [b"", b""]


def aborted_live(caller: Client, file: Data) -> None:
    """Followers of a silent job that go away; then the job is stopped."""
    job = caller.start("sleep", "1000")
    streams = [caller.output(job) for _ in range(3)]
    for stream in streams:
        stream.initial_metadata()
        stream.cancel()
    caller.stop(job)


def aborted_unread(caller: Client, file: Data) -> None:
    """A reader that goes away while megabytes are on their way to it."""
    job = caller.start("cat", str(file.path))
    stream = caller.output(job)
    next(stream)
    stream.cancel()
    caller.stop(job)


def aborted_start(caller: Client, file: Data) -> None:
    """A start whose caller doesn't wait for the answer."""
    # It ends by itself: the answer may have been on its way already, and then the job stays.
    request = caller.contract.StartJobRequest(command="true")
    caller.stub.StartJob.future(request).cancel()


def not_found(caller: Client, file: Data) -> None:
    """Calls for a job that isn't there."""
    for attempt in (caller.status, caller.stop, caller.read):
        calls.failure(attempt, bytes(16))


MIX: tuple[Callable[[Client, Data], None], ...] = (
    *(refused_start, whole_output, stopped, aborted_live, aborted_unread, aborted_start),
    not_found,
)


def mixed_calls(server: Server, rfd: Contract, authority: Authority, file: Data) -> None:
    """Some 100 calls of all kinds, several at once, over connections that are closed afterwards."""
    alice = authority.client("alice")

    def one(number: int) -> None:
        with calls.client(rfd, server.address, alice) as caller:
            MIX[number % len(MIX)](caller, file)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(ROUNDS * len(MIX))))


def test_all_is_given_back(
    server: Server, rfd: Contract, authority: Authority, two_files: tuple[Data, Data]
) -> None:
    """After 100 mixed calls, aborted ones among them, the server holds what it held before."""
    fresh = procfs.holdings(server.pid)
    threads = [fresh.threads]
    # gRPC itself may add a thread when much is asked for at once; a leak does with each round.
    while len(threads) == 1 or threads[-1] != threads[-2]:
        assert len(threads) <= MOST_TIMES, threads
        mixed_calls(server, rfd, authority, two_files[0])
        # What a call held may go a moment after it was answered.
        with suppress(TimeoutError):
            eventually(lambda: settled(server, fresh), what="as it was")
        after = procfs.holdings(server.pid)
        assert replace(after, threads=fresh.threads) == fresh
        threads.append(after.threads)
    files = [path.name for path in server.spool.rglob("*") if path.is_file()]
    assert set(files) == {"stdout", "stderr"}


def settled(server: Server, fresh: procfs.Holdings) -> bool:
    """Whether the server holds, apart from threads, what it held before."""
    return replace(procfs.holdings(server.pid), threads=fresh.threads) == fresh
