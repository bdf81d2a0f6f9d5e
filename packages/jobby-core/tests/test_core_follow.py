"""Promises about OutputFollower, a job's output for asyncio."""

import asyncio
import concurrent.futures
import errno
import io
import os
import threading
import time
from collections.abc import Callable

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    background,
    descriptors,
    digest,
    follow_all,
    forget_pages,
    until,
    until_waiting,
    waiting,
)

from jobby_core import (
    Job,
    OutputFollower,
    OutputReader,
    OutputTruncatedError,
    ReaderBusyError,
    Stream,
)


async def until_waiting_here(count: int) -> None:
    """Waits until `count` followers wait, and leaves the loop to them meanwhile."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while waiting() != count:  # noqa: ASYNC110 - it is the library's own state, without event
            await asyncio.sleep(0)  # a turn for the followers


@pytest.mark.parametrize("stream", Stream)
def test_it_is_live_and_ends_with_the_job(spool: Spool, stream: Stream) -> None:
    """A chunk comes when the job writes it; the iteration ends after its end, and stays ended."""
    feed = spool.feed(stream)

    async def main() -> None:
        async with feed.job.follow(stream) as follower, asyncio.timeout(DEADLINE_SECONDS):
            offset = 0
            for piece in (b"one", b"\0\xff", b"three" * 100):
                chunk = asyncio.create_task(anext(follower))
                await until_waiting_here(1)
                feed.write(piece)
                assert await chunk == piece
                offset += len(piece)
                assert follower.offset == offset
            rest = asyncio.create_task(anext(follower, b"the end"))
            await until_waiting_here(1)
            feed.close()
            assert await rest == b"the end"
            assert await anext(follower, b"the end") == b"the end"

    asyncio.run(main())


@pytest.mark.parametrize("max_chunk_bytes", [1, 7, 4096, 262_144])
def test_chunks_are_never_empty_nor_too_large(spool: Spool, max_chunk_bytes: int) -> None:
    """Every chunk has 1 to max_chunk_bytes bytes; behind the end, they are full."""
    data = os.urandom(5_000)
    job = spool.start("cat", spool.file(data))
    job.wait(DEADLINE_SECONDS)

    async def main() -> list[bytes]:
        async with job.follow(Stream.STDOUT, max_chunk_bytes=max_chunk_bytes) as follower:
            return [chunk async for chunk in follower]

    chunks = asyncio.run(main())
    assert b"".join(chunks) == data
    assert {len(chunk) for chunk in chunks[:-1]} <= {max_chunk_bytes}
    assert 1 <= len(chunks[-1]) <= max_chunk_bytes


def test_arguments_out_of_range_are_refused_at_once(spool: Spool) -> None:
    """A negative offset and an empty chunk are the caller's mistakes, not the first chunk's."""
    job = spool.start("true")
    with pytest.raises(ValueError, match="offset must be 0 or more, not -1"):
        job.follow(Stream.STDOUT, offset=-1)
    with pytest.raises(ValueError, match="max_chunk_bytes must be 1 or more, not 0"):
        job.follow(Stream.STDOUT, max_chunk_bytes=0)


def test_an_offset_starts_further_on(spool: Spool) -> None:
    """`offset` skips bytes without reading them; beyond what was written is an error."""
    job = spool.shell("printf 0123456789")
    job.wait(DEADLINE_SECONDS)
    for offset in range(11):
        assert asyncio.run(follow_all(job, Stream.STDOUT, offset)) == b"0123456789"[offset:]
    with pytest.raises(OutputTruncatedError):
        asyncio.run(follow_all(job, Stream.STDOUT, 11))


def test_it_opens_nothing_before_the_first_chunk(spool: Spool) -> None:
    """Making a follower needs no loop, costs nothing, and needs no closing."""
    job = spool.start("true")
    job.wait(DEADLINE_SECONDS)
    before = descriptors()
    follower = job.follow(Stream.STDOUT)
    assert descriptors().items() <= before.items()  # others' threads may close something
    assert follower.offset == 0
    del follower  # and warns of nothing


def test_one_task_at_a_time(spool: Spool) -> None:
    """A second task gets an error at once, and takes nothing from the first."""
    feed = spool.feed()

    async def main() -> None:
        async with feed.job.follow(Stream.STDOUT) as follower:
            first = asyncio.create_task(anext(follower))
            await until_waiting_here(1)
            with pytest.raises(ReaderBusyError, match="give each thread or task a reader"):
                await anext(follower)
            feed.write(b"x")
            assert await first == b"x"

    asyncio.run(main())


def test_a_chatty_job_is_read_in_batches(spool: Spool) -> None:
    """Many tiny writes become far fewer chunks, and every byte arrives."""
    writes = 20_000
    job = spool.python(f"import os\nfor n in range({writes}): os.write(1, b'%07d\\n' % n)")

    async def main() -> list[bytes]:
        async with job.follow(Stream.STDOUT) as follower:
            return [chunk async for chunk in follower]

    chunks = asyncio.run(main())
    assert b"".join(chunks) == b"".join(b"%07d\n" % n for n in range(writes))
    assert len(chunks) < writes / 10


def test_who_reached_the_end_lets_the_file_grow_for_a_moment(spool: Spool) -> None:
    """However fast the job writes, who follows at its heels reads every 2 ms, not more often."""
    job = spool.feed().job

    async def main(file: io.FileIO) -> None:
        async with job.follow(Stream.STDOUT) as follower:
            for _ in range(20):
                before = time.monotonic()
                file.write(b"one")
                assert await anext(follower) == b"one"
                file.write(b"two")
                assert await anext(follower) == b"two"
                assert time.monotonic() - before >= 0.002

    with open(job.args.stdout_path, "ab", buffering=0) as file:
        asyncio.run(main(file))


def test_a_long_output_leaves_the_loop_to_others(spool: Spool) -> None:
    """However fast a follower is fed, the loop's other tasks get their turn at each chunk."""
    job = spool.start("cat", spool.file(os.urandom(1 << 20)))
    job.wait(DEADLINE_SECONDS)

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)  # a turn of the loop, which is what is counted

        task = asyncio.create_task(other())
        chunks = 0
        async with job.follow(Stream.STDOUT, max_chunk_bytes=1024) as follower:
            async for _ in follower:
                chunks += 1
        task.cancel()
        assert chunks == 1024
        assert turns >= chunks

    asyncio.run(main())


def test_a_thousand_followers_in_one_loop_all_get_every_byte(spool: Spool) -> None:
    """Followers cost no thread and no descriptor each, and one write wakes all of them."""
    feed = spool.feed()
    pieces = [os.urandom(50_000) for _ in range(4)]

    async def main() -> None:
        before = threading.active_count()
        follows = [asyncio.create_task(follow_all(feed.job, Stream.STDOUT)) for _ in range(1000)]
        await until_waiting_here(1000)
        # The pool's threads opened the file for those that came first.
        assert threading.active_count() <= before + (os.cpu_count() or 1) + 4
        for piece in pieces:
            await asyncio.to_thread(feed.write, piece)
        feed.close()
        digests = {digest(data) for data in await asyncio.gather(*follows)}
        assert digests == {digest(b"".join(pieces))}

    asyncio.run(main())


class CountingPool(concurrent.futures.ThreadPoolExecutor):
    """Counts what it was given to do."""

    calls = 0

    def submit(  # type: ignore[override] # typed as the caller uses it
        self, call: Callable[..., object], /, *args: object, **kwargs: object
    ) -> "concurrent.futures.Future[object]":
        """Does what the pool does."""
        self.calls += 1
        return super().submit(call, *args, **kwargs)


def test_what_is_not_in_memory_is_read_by_a_thread(disk_spool: Spool) -> None:
    """Cold pages come from the disk in a thread, never in the loop, and arrive all the same."""
    data = os.urandom(1 << 20)
    job = disk_spool.start("cat", disk_spool.file(data))
    job.wait(DEADLINE_SECONDS)

    async def calls() -> int:
        """Returns how often a thread was asked while the whole output was followed."""
        with CountingPool(1) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            assert digest(await follow_all(job, Stream.STDOUT)) == digest(data)
            return pool.calls

    def cold() -> bool:
        forget_pages(job.args.stdout_path)
        # Without RWF_NOWAIT the kernel cannot tell, and all is read at once; see below.
        return asyncio.run(calls()) > 1 or not job._outputs[Stream.STDOUT]._no_wait

    assert asyncio.run(calls()) == 1, "warm, a thread only opens the file"
    until(cold, "the kernel forgot the file's pages, and a thread read them")


def test_a_read_by_position_is_whole_whatever_is_in_memory(disk_spool: Spool) -> None:
    """Of what is only begun in memory, the kernel gives the beginning (preadv2(2), RWF_NOWAIT)."""
    data = os.urandom(1 << 20)
    job = disk_spool.start("cat", disk_spool.file(data))
    job.wait(DEADLINE_SECONDS)
    path = job.args.stdout_path

    forget_pages(path)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        file.read(1)

    async def read() -> bytes:
        async with job.follow(Stream.STDOUT) as follower:
            return await follower.read_at(len(data), 0)

    assert digest(asyncio.run(read())) == digest(data)


def test_a_file_system_without_rwf_nowait_is_read_all_the_same(memory_spool: Spool) -> None:
    """Where the kernel does not know the flag, as on some tmpfs, the follower reads without it."""
    data = os.urandom(1 << 20)
    job = memory_spool.start("cat", memory_spool.file(data))
    assert digest(asyncio.run(follow_all(job, Stream.STDOUT))) == digest(data)
    with open(job.args.stdout_path, "rb") as file:
        known = True
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            known = error.errno != errno.EOPNOTSUPP
    assert job._outputs[Stream.STDOUT]._no_wait is known


def until_told(readers: list[OutputReader], offset: int) -> None:
    """Waits until all readers have read up to `offset`."""
    until(lambda: all(reader.tell() == offset for reader in readers), f"all read {offset} bytes")


def test_a_blocked_loop_holds_up_nobody_else(spool: Spool) -> None:
    """Several loops and threads follow at once; one of the loops stands still, the others don't."""
    feed = spool.feed()
    blocked, go_on = threading.Event(), threading.Event()

    async def blocks(job: Job) -> bytes:
        follow = asyncio.create_task(follow_all(job, Stream.STDOUT))
        await until_waiting_here(1)
        blocked.set()
        go_on.wait(DEADLINE_SECONDS)
        return await follow

    async def two(job: Job) -> list[bytes]:
        return await asyncio.gather(*(follow_all(job, Stream.STDOUT) for _ in range(2)))

    stuck = background(asyncio.run, blocks(feed.job))
    assert blocked.wait(DEADLINE_SECONDS)
    loops = [background(asyncio.run, two(feed.job)) for _ in range(3)]
    readers = [feed.job.stdout() for _ in range(3)]
    reads = [background(reader.readall) for reader in readers]
    data = os.urandom(10_000)
    until_waiting(1 + 2 * len(loops) + len(reads))
    for position in range(0, len(data), 1000):
        feed.write(data[position : position + 1000])
        # Every thread has read it, and waits again, while one loop stands still.
        until_told(readers, position + 1000)
    assert feed.end().exit_code == 0
    for loop in loops:
        assert loop.result(DEADLINE_SECONDS) == [data, data]
    for read, reader in zip(reads, readers, strict=True):
        assert read.result(DEADLINE_SECONDS) == data
        reader.close()
    assert not stuck.done()
    go_on.set()
    assert stuck.result(DEADLINE_SECONDS) == data


def test_it_is_an_async_iterator_and_a_context_manager(spool: Spool) -> None:
    """It can be used wherever asyncio takes one, such as `contextlib.aclosing`."""
    job = spool.shell("printf done")
    job.wait(DEADLINE_SECONDS)

    async def main() -> None:
        follower = job.follow(Stream.STDOUT)
        assert isinstance(follower, OutputFollower)
        assert aiter(follower) is follower
        async with follower as same:
            assert same is follower
            assert await anext(follower) == b"done"
        await follower.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("offset", [0, 3, 8])
def test_without_waiting_it_ends_where_the_output_stands(spool: Spool, offset: int) -> None:
    """`wait=False` gives what was written by its first look, though the job goes on writing."""
    feed = spool.feed()
    feed.write(b"one two ")
    with feed.job.stdout() as reader:
        assert reader.read(8) == b"one two "

    async def main() -> bytes:
        options = {"offset": offset, "max_chunk_bytes": 2}
        async with feed.job.follow(Stream.STDOUT, wait=False, **options) as follower:
            found = await anext(follower, b"")
            feed.write(b"three")
            with feed.job.stdout(offset=8) as reader:
                await asyncio.to_thread(reader.read, 5)
            return found + b"".join([chunk async for chunk in follower])

    assert asyncio.run(main()) == b"one two "[offset:]
    feed.close()


def test_without_waiting_a_shorter_output_is_no_end(spool: Spool) -> None:
    """What was there at the first look and is gone is an error, though the rest was read."""
    job = spool.shell("printf 0123456789")
    job.wait(DEADLINE_SECONDS)

    async def main() -> None:
        follower = job.follow(Stream.STDOUT, max_chunk_bytes=4, wait=False)
        async with follower:
            assert await anext(follower) == b"0123"
            os.truncate(job.args.stdout_path, 4)
            with pytest.raises(OutputTruncatedError):
                await anext(follower)

    asyncio.run(main())


def test_it_looks_anywhere_and_goes_on_from_where_it_is_told(spool: Spool) -> None:
    """Size and reads by position neither wait nor move it; `seek` moves it."""
    feed = spool.feed()
    feed.write(b"0123456789")
    with feed.job.stdout() as reader:
        assert reader.read(10) == b"0123456789"

    async def main() -> None:
        async with feed.job.follow(Stream.STDOUT) as follower:
            assert await follower.size() == 10
            assert await follower.read_at(4, 2) == b"2345"
            assert await follower.read_at(4, 8) == b"89"
            assert await follower.read_at(4, 100) == b""
            assert follower.offset == 0
            follower.seek(7)
            assert await anext(follower) == b"789"
            follower.seek(2)
            assert (await anext(follower), follower.offset) == (b"23456789", 10)
            waits = asyncio.create_task(anext(follower, b""))
            await until_waiting_here(1)
            with pytest.raises(ReaderBusyError):
                await follower.size()
            feed.close()
            assert await waits == b""

    asyncio.run(main())
