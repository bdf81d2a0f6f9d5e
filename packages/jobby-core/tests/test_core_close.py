"""Promises about closing: at any moment, from anywhere, and nothing is left."""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Feed,
    Holdings,
    Spool,
    background,
    digest,
    follow_all,
    kernel_watches,
    run_job_script,
    run_script,
    until,
    until_waiting,
    waiting,
)

from jobby_core import OutputFollower, OutputReader, ReaderClosedError, Stream, _inotify
from jobby_core.follow import _LoopWaiter


async def turns(count: int) -> None:
    """Lets the loop's other tasks run `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)  # a turn


async def until_here(condition: Callable[[], object]) -> None:
    """Waits until `condition` holds, and leaves the loop to others meanwhile."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the library's own state, which has no event
            await asyncio.sleep(0)  # a turn for the others


@pytest.mark.parametrize("method", ["read", "readline", "peek", "readall"])
def test_close_from_another_thread_ends_a_blocked_read_at_once(spool: Spool, method: str) -> None:
    """The read raises ReaderClosedError, though the job writes nothing and runs on."""
    feed = spool.feed()
    reader = feed.job.stdout()
    blocked = background(getattr(reader, method))
    until_waiting(1)
    reader.close()
    with pytest.raises(ReaderClosedError):
        blocked.result(DEADLINE_SECONDS)
    assert waiting() == 0
    assert feed.job.status().ended_at is None
    assert feed.end().exit_code == 0


def test_a_signal_handler_may_close_readers_at_any_moment(tmp_path: Path) -> None:
    """Between any two lines of a read, also in its own thread; the read ends at once."""
    script = """
from jobby_core import ReaderClosedError
os.mkfifo(f"{folder}/gate")
job = shell(f"read _ <> {folder}/gate")
readers, lines, signals, asleep = [], [], [], []

def close(*signal):
    signals.extend(signal)
    for reader in readers:
        reader.close()

def use(before_line):
    lines.clear()
    signals.clear()
    def trace(frame, event, _):
        if event == "line":
            lines.append(frame.f_code.co_qualname)
            if len(lines) == before_line:
                signal.raise_signal(signal.SIGUSR1)
        return trace
    readers[:] = [job.stdout()]
    sys.settrace(trace)
    try:
        readers.append(job.stdout())
        if signals:  # it came before there was a second reader
            close()
        readers[-1].read(10)
    except ReaderClosedError:
        return
    finally:
        sys.settrace(None)
        close()
    raise AssertionError(before_line)

def close_when_asleep():
    while not (lines and lines[-1].endswith(".wait")):
        pass
    asleep.append(len(lines))
    close()

signal.signal(signal.SIGUSR1, close)
closing = threading.Thread(target=close_when_asleep)
closing.start()
use(-1)
closing.join()
for before_line in range(1, asleep[0] + 1):
    use(before_line)
job.stop()
print(asleep[0])
"""
    assert int(run_job_script(script, tmp_path)) > 40


def test_close_wakes_only_its_own_reader(spool: Spool) -> None:
    """The others that wait for the same file go on waiting, and get what is written next."""
    feed = spool.feed()
    readers = [feed.job.stdout() for _ in range(5)]
    blocked = [background(reader.read, 10) for reader in readers]
    until_waiting(5)
    readers[2].close()
    with pytest.raises(ReaderClosedError):
        blocked[2].result(DEADLINE_SECONDS)
    until_waiting(4)
    feed.write(b"x")
    for number in (0, 1, 3, 4):
        assert blocked[number].result(DEADLINE_SECONDS) == b"x"
        readers[number].close()


def test_close_while_reading_never_touches_a_descriptor_that_is_gone(spool: Spool) -> None:
    """Closed amid a stream of reads, a read returns true bytes or ReaderClosedError; no EBADF."""
    data = bytes(range(256)) * 2000
    job = spool.start("cat", spool.file(data))
    job.wait(DEADLINE_SECONDS)

    def read_until_closed(number: int) -> None:
        reader = job.stdout()
        begun = threading.Event()

        def read() -> None:
            position = 0
            while chunk := reader.read(100):
                assert chunk == data[position : position + 100]
                position += 100
                if position >= number * 100:
                    begun.set()

        reading = background(read)
        assert begun.wait(DEADLINE_SECONDS)
        reader.close()
        with contextlib.suppress(ReaderClosedError):
            reading.result(DEADLINE_SECONDS)

    for number in range(1, 60):
        read_until_closed(number)


def test_many_threads_may_close_the_same_reader(spool: Spool) -> None:
    """Only one of them frees it, whoever comes first."""
    feed = spool.feed()

    def close(reader: OutputReader, barrier: threading.Barrier) -> None:
        barrier.wait(DEADLINE_SECONDS)
        reader.close()

    for _ in range(30):
        reader = feed.job.stdout()
        blocked = background(reader.read)
        barrier = threading.Barrier(4)
        for closing in [background(close, reader, barrier) for _ in range(4)]:
            closing.result(DEADLINE_SECONDS)
        with pytest.raises(ReaderClosedError):
            blocked.result(DEADLINE_SECONDS)


def test_aclose_from_another_task_ends_a_wait_at_once(spool: Spool) -> None:
    """The task that waits for the next chunk gets ReaderClosedError; the job runs on."""
    feed = spool.feed()

    async def main() -> None:
        follower = feed.job.follow(Stream.STDOUT)
        chunk = asyncio.create_task(anext(follower))
        await until_here(lambda: waiting() == 1)
        await follower.aclose()
        with pytest.raises(ReaderClosedError):
            await chunk
        with pytest.raises(ReaderClosedError):
            await anext(follower)
        await follower.aclose()

    asyncio.run(main())
    assert feed.job.status().ended_at is None


async def cancel(follower: OutputFollower, task: "asyncio.Task[bytes]") -> None:
    """Cancels the wait for a chunk, and leaves the follower to be used again."""
    task.cancel()
    await asyncio.wait([task])


async def close(follower: OutputFollower, task: "asyncio.Task[bytes]") -> None:
    """Closes the follower under the wait for a chunk."""
    await follower.aclose()
    await asyncio.wait([task])


async def cancel_and_close(follower: OutputFollower, task: "asyncio.Task[bytes]") -> None:
    """Does what leaving `async with` in a cancelled task does."""
    task.cancel()
    await follower.aclose()
    await asyncio.wait([task])


Leave = Callable[[OutputFollower, "asyncio.Task[bytes]"], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("leave", [cancel, close, cancel_and_close])
def test_a_follower_may_be_left_at_every_await(spool: Spool, leave: Leave) -> None:
    """Cancelled or closed at whichever point it waits, it loses no byte and leaves nothing open."""
    data = bytes(range(256)) * 40
    job = spool.start("cat", spool.file(data))
    job.wait(DEADLINE_SECONDS)

    async def main() -> None:
        for after in range(25):
            follower = job.follow(Stream.STDOUT, max_chunk_bytes=1000)
            task = asyncio.create_task(anext(follower))
            await turns(after)
            await leave(follower, task)
            read = b"" if task.cancelled() or task.exception() else task.result()
            if leave is cancel:
                async with follower:
                    read += b"".join([chunk async for chunk in follower])
                assert digest(read) == digest(data)
            else:
                await follower.aclose()
                assert data.startswith(read)

    asyncio.run(main())


@pytest.mark.parametrize("leave", [cancel, close, cancel_and_close])
def test_a_follower_may_be_left_while_it_waits_for_the_job(spool: Spool, leave: Leave) -> None:
    """The watch goes with the last that waited; after a cancel the follower can go on."""
    feed = spool.feed()

    async def main() -> None:
        follower = feed.job.follow(Stream.STDOUT)
        task = asyncio.create_task(anext(follower))
        await until_here(lambda: waiting() == 1)
        assert kernel_watches() == 1
        await leave(follower, task)
        assert waiting() == 0
        assert kernel_watches() == 0
        if leave is cancel:
            feed.write(b"x")
            assert await anext(follower) == b"x"
            await follower.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("leave", [cancel, close, cancel_and_close])
def test_a_follower_may_be_left_while_a_thread_opens_its_file(spool: Spool, leave: Leave) -> None:
    """The thread that is late opens the file for nobody, and closes it again."""
    job = spool.shell("printf done")
    job.wait(DEADLINE_SECONDS)

    async def main() -> None:
        busy = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            pool.submit(busy.wait, DEADLINE_SECONDS)
            follower = job.follow(Stream.STDOUT)
            task = asyncio.create_task(anext(follower))
            await turns(5)
            leaving = asyncio.create_task(leave(follower, task))
            await turns(5)
            busy.set()
            await leaving
            assert task.done()
            await until_here(lambda: job._outputs[Stream.STDOUT]._readers == 0)
            if leave is cancel:
                assert [chunk async for chunk in follower] == [b"done"]
                await follower.aclose()

    asyncio.run(main())


def test_a_leak_is_told_from_what_others_close_meanwhile() -> None:
    """The check after each test takes gRPC's late descriptors for no leak, and nothing else."""
    late = os.eventfd(0)
    before = Holdings()
    assert before.descriptors_given_back()
    os.close(late)
    assert before.descriptors_given_back()
    with open(os.devnull, "rb"):
        assert not before.descriptors_given_back()
        taken = Holdings()
    assert not taken.descriptors_given_back()


def test_an_abandoned_reader_is_freed_with_its_last_reference(spool: Spool) -> None:
    """Nothing stays open for a reader that somebody forgot to close."""
    feed = spool.feed()
    feed.write(b"x")
    assert feed.job.stdout().read(1) == b"x"
    assert feed.job._outputs[Stream.STDOUT]._readers == 0


@pytest.mark.parametrize("collector", ["same thread", "another thread", "after the loop's end"])
def test_an_abandoned_follower_is_freed_with_a_warning(spool: Spool, collector: str) -> None:
    """ResourceWarning names the file; descriptors and watch are given back, whoever collects."""
    feed = spool.feed()
    followers: list[OutputFollower] = []

    async def main() -> None:
        followers.append(feed.job.follow(Stream.STDOUT))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(followers[0])
        task = asyncio.create_task(anext(followers[0]))
        await until_here(lambda: waiting() == 1)
        await cancel(followers[0], task)
        del task
        if collector == "same thread":
            followers.clear()
        elif collector == "another thread":
            await asyncio.to_thread(followers.clear)

    def run_and_collect() -> None:
        asyncio.run(main())
        followers.clear()

    with pytest.warns(ResourceWarning, match=f"unclosed follower of {feed.job.args.stdout_path}"):
        run_and_collect()
    assert feed.job._outputs[Stream.STDOUT]._readers == 0


def test_an_abandoned_follower_is_freed_where_warnings_are_errors() -> None:
    """The warning comes last, so that raising it keeps nothing open."""
    script = """
import asyncio, os, sys, tempfile, warnings
from jobby_core import Job, JobArgs, Stream
seen = []
sys.unraisablehook = lambda info: seen.append(info.exc_type)
with tempfile.TemporaryDirectory() as folder:
    out = f"{folder}/o"
    job = Job.start(JobArgs("echo", ["x"], stdout_path=out, stderr_path=f"{folder}/e"))
    job.wait()
    async def main():
        follower = job.follow(Stream.STDOUT)
        assert await anext(follower) == b"x\\n"
    asyncio.run(main())
    assert seen == [ResourceWarning], seen
    fds = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    assert out not in [os.readlink(fd) for fd in fds if os.path.exists(fd)]
print("freed")
"""
    assert run_script(script) == "freed\n"


def test_an_abandoned_follower_is_freed_though_its_loop_was_only_stopped(spool: Spool) -> None:
    """A loop that nobody runs or closes again is asked for nothing."""
    feed = spool.feed()
    loop = asyncio.new_event_loop()

    async def use() -> None:
        follower = feed.job.follow(Stream.STDOUT)
        task = asyncio.create_task(anext(follower))
        await until_here(lambda: waiting() == 1)
        await cancel(follower, task)
        followers.append(follower)

    followers: list[OutputFollower] = []
    loop.run_until_complete(use())
    assert _inotify.shared._users == 1
    with pytest.warns(ResourceWarning, match="unclosed follower"):
        followers.clear()
    assert _inotify.shared._users == 0
    loop.close()


def wait_in_a_loop_that_is_closed(feed: Feed) -> "asyncio.Task[bytes]":
    """Has a task wait for a chunk, and closes the loop under it; returns the task."""
    loop = asyncio.new_event_loop()
    before = waiting()

    async def begin() -> "asyncio.Task[bytes]":
        task = asyncio.create_task(anext(feed.job.follow(Stream.STDOUT)))
        await until_here(lambda: waiting() == before + 1)
        return task

    task = loop.run_until_complete(begin())
    loop.close()
    return task


def collect(tasks: "list[asyncio.Task[bytes]]") -> None:
    """Has the garbage collector end tasks whose loop is closed."""
    tasks.clear()
    gc.collect()


def test_a_loop_closed_under_its_followers_costs_no_other_its_wake(spool: Spool) -> None:
    """Whoever else waits for the same file is woken, though the dead loop refuses to be."""
    feed = spool.feed()
    dead = [wait_in_a_loop_that_is_closed(feed) for _ in range(5)]

    async def main() -> None:
        follows = [asyncio.create_task(follow_all(feed.job, Stream.STDOUT)) for _ in range(20)]
        await until_here(lambda: waiting() == 25)
        feed.write(b"x")
        await until_here(lambda: waiting() == 20)
        feed.close()
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert set(await asyncio.gather(*follows)) == {b"x"}

    asyncio.run(main())
    with pytest.warns(ResourceWarning):
        collect(dead)


def test_a_loop_may_close_while_it_is_told(spool: Spool) -> None:
    """Whoever wakes a follower from another thread is not stopped by the end of that loop."""

    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(  # type: ignore[override] # typed as it is used
            self, *args: Any, **kwargs: Any
        ) -> asyncio.Handle:
            self.close()
            return super().call_soon_threadsafe(*args, **kwargs)

    background(_LoopWaiter(Closing()).wake).result(DEADLINE_SECONDS)


def test_a_task_that_died_with_its_loop_is_collected_quietly(spool: Spool) -> None:
    """The collector may finalize a follower before the task that waits in it: no stray error."""
    feed = spool.feed()
    dead = [wait_in_a_loop_that_is_closed(feed)]
    feed.end()
    until(lambda: waiting() == 0, "the job's end forgets all waiters")
    with pytest.warns(ResourceWarning):
        collect(dead)


def test_a_program_ends_though_it_left_readers_open(tmp_path: Path) -> None:
    """At its end, daemon threads are frozen in whatever they held; nobody waits for that."""
    script = """
from jobby_core._inotify import shared
os.mkfifo(f"{folder}/gate")
job = shell(f"read _ < {folder}/gate; echo line; sleep 1000")
reader = job.stdout()
waiting = threading.Thread(target=reader.readline)
waiting.start()
while reader._waiter is None:
    pass
with open(f"{folder}/gate", "w") as gate:
    gate.write("\\n")
waiting.join(30)
# A function of another namespace: else its frame would keep this one, and the reader in it.
other = {"locks": (shared._lock, reader._notifier._lock, reader._output._lock)}
exec('''
import threading
held = threading.Event()
def hold():
    with locks[0], locks[1], locks[2]:
        held.set()
        threading.Event().wait()
''', other)
threading.Thread(target=other["hold"], daemon=True).start()
assert other["held"].wait(30)
os.kill(job.pid, signal.SIGKILL)
print("ended")
"""
    assert run_job_script(script, tmp_path) == "ended\n"
