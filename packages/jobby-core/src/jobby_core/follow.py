"""Owns OutputFollower: a job's output as an async iterator of chunks, for asyncio."""

import asyncio
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Self

from jobby_core import _inotify
from jobby_core._cursor import Cursor, Step
from jobby_core._output import OutputFile, busy_error, closed_error, truncated_error


class _LoopWaiter:
    """Wakes a task, from its own loop's thread or from another."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        # A loop that was closed under its tasks refuses the call, perhaps since just now.
        # Nobody waits there any more, and the caller has others to wake.
        with suppress(RuntimeError):
            if _running_loop() is self._loop:
                self._set()
            else:
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        return self._future


class OutputFollower(AsyncIterator[bytes]):
    """One output of a job from a given byte on, live while the job runs.

    `async for` yields chunks as they come, never empty ones, and ends only
    after the job has ended and its last byte was yielded; one that doesn't
    wait ends with what had been written when it first looked. What the page
    cache holds is read at once; only what comes from the disk takes a thread.

    For one task at a time, in one loop. Close it: with `async with`, or with
    `aclose`, which may come from another task of the loop: a wait under way
    then raises `ReaderClosedError`.

    Made by `Job.follow`.

    Attributes:
        max_chunk_bytes: how many bytes the next chunk has at most; may be set anew.
    """

    # A server has thousands of them.
    __slots__ = (
        "__weakref__",
        "_closed",
        "_cursor",
        "_fd",
        "_loop",
        "_notifier",
        "_output",
        "_reading",
        "_until",
        "_wait",
        "_waiter",
        "max_chunk_bytes",
    )

    def __init__(
        self, output: OutputFile, offset: int, max_chunk_bytes: int, wait: bool = True
    ) -> None:
        self._output = output
        self._cursor = Cursor(offset)
        self.max_chunk_bytes: int = max_chunk_bytes
        self._wait = wait
        self._until: int | None = None  # where it ends, if it doesn't wait; found at the first look
        self._fd = -1
        self._notifier: _inotify.Notifier | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: _LoopWaiter | None = None
        self._reading = False
        self._closed = False

    @property
    def offset(self) -> int:
        """The position of the next byte, counted from the output's first."""
        return self._cursor.offset

    async def __anext__(self) -> bytes:
        """Returns the next chunk.

        Raises:
            StopAsyncIteration: the job has ended and all its output was yielded.
            OutputMissingError: the file was removed or replaced before the first chunk.
            OutputTruncatedError: bytes that were not read yet may be lost.
            ReaderClosedError: closed, perhaps during the wait.
            ReaderBusyError: another task is waiting for the next chunk.
            LimitError: descriptors or the system's inotify limits are exhausted.
        """
        self._begin()
        try:
            await self._ensure_open()
            while end := await self._wait_for_data():
                size = min(self.max_chunk_bytes, end - self._cursor.offset)
                chunk = await self._read(size, self._cursor.offset)
                if chunk:
                    self._cursor.advance(len(chunk), size=end, clock=time.monotonic)
                    return chunk
        finally:
            self._end()
        raise StopAsyncIteration

    async def size(self) -> int:
        """Returns how many bytes have been written by now; raises as `__anext__` does."""
        self._begin()
        try:
            await self._ensure_open()
            return self._output.look(self._cursor.offset)[1]
        finally:
            self._end()

    async def read_at(self, size: int, offset: int) -> bytes:
        """Reads from anywhere, without waiting and without moving; raises as `__anext__` does.

        Returns:
            `size` bytes, fewer if that many have not been written.
        """
        self._begin()
        try:
            await self._ensure_open()
            found = await self._read(size, offset)
            # What is in memory may be only the first part of it (preadv2(2), RWF_NOWAIT).
            while found and len(found) < size:
                more = await self._read(size - len(found), offset + len(found))
                if not more:
                    break
                found += more
            return found
        finally:
            self._end()

    def seek(self, offset: int) -> None:
        """Goes on from another byte; not while a task waits for the next chunk."""
        self._cursor = Cursor(offset)

    async def aclose(self) -> None:
        """Closes the follower and frees all it holds; again is no error."""
        if self._closed:
            return
        self._closed = True
        if self._waiter is not None:
            self._waiter.wake()
        if not self._reading:
            self._release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._fd < 0 or sys.is_finalizing():  # for the reason given in OutputReader.close
            return
        if self._notifier is not None and self._loop is not None and self._loop.is_running():
            # The garbage collector may run in any thread; the loop's books are the loop's. One
            # that was closed, or only stopped, might never get to it: then nobody uses them.
            with suppress(RuntimeError):
                leave = _inotify.shared.leave
                self._loop.call_soon_threadsafe(leave, self._notifier, self._loop)
                self._notifier = None
        self._release()
        # Last, because it raises where warnings are errors.
        warnings.warn(f"unclosed follower of {self._output.path}", ResourceWarning, 2, self)

    # Not a context manager: its generator would be 0.4 KiB for each of the thousands that wait.
    def _begin(self) -> None:
        self._check_open()
        if self._reading:
            raise busy_error(self._output)
        self._reading = True

    def _end(self) -> None:
        self._reading = False
        if self._closed:
            self._release()

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self._output)

    async def _ensure_open(self) -> None:
        if self._fd >= 0:
            return
        self._loop = loop = asyncio.get_running_loop()
        fd = self._output.acquire_if_open()
        if fd is None:
            opening = loop.run_in_executor(None, self._output.acquire)
            try:
                fd = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # The thread goes on and will hold a descriptor that nobody asked back.
                opening.add_done_callback(self._release_unwanted)
                raise
        self._fd = fd

    def _release_unwanted(self, opening: "asyncio.Future[int]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._output.release()

    def _release(self) -> None:
        if self._notifier is not None:
            _inotify.shared.leave(self._notifier, self._loop)
            self._notifier = None
        if self._fd >= 0:
            self._fd = -1
            self._output.release()

    async def _wait_for_data(self) -> int:
        """Waits until there is something to read; returns the file's size, 0 at the end."""
        waiter: _LoopWaiter | None = None
        paused = False
        try:
            while True:
                self._check_open()
                finished, size = self._output.look(self._cursor.offset)
                if not self._wait:
                    finished, size = True, self._bounded(size)
                step = self._cursor.next_step(finished=finished, size=size)
                if step is Step.END:
                    return 0
                if step is Step.TRUNCATED:
                    raise truncated_error(self._output, size, self._cursor.offset)
                if step is Step.READ:
                    pause = 0.0 if finished else self._cursor.pause_seconds(time.monotonic())
                    if paused and not pause:
                        return size
                    # Even 0 gives the loop's other tasks a turn, however fast this one is fed.
                    await asyncio.sleep(pause)
                    paused = True
                elif waiter is None:
                    # Watch first, then look again: what came between would otherwise be missed.
                    waiter = self._arm()
                else:
                    await waiter.wait()
                    paused = True
                    self._disarm(waiter)
                    waiter = None
        finally:
            if waiter is not None:
                self._disarm(waiter)

    def _bounded(self, size: int) -> int:
        # Not to the end that the file has by then: a job may write as fast as somebody reads.
        if self._until is None:
            self._until = size
        elif size < self._until:
            raise truncated_error(self._output, size, self._cursor.offset)
        return self._until

    def _arm(self) -> _LoopWaiter:
        assert self._loop is not None, "opened in it"
        if self._notifier is None:
            self._notifier = _inotify.shared.join(self._loop)
        waiter = _LoopWaiter(self._loop)
        self._notifier.arm(self._fd, self._output.key, waiter)
        self._waiter = waiter
        return waiter

    def _disarm(self, waiter: _LoopWaiter) -> None:
        self._waiter = None
        if self._notifier is not None:  # else the garbage collector was here before the task's end
            self._notifier.disarm(self._output.key, waiter)

    async def _read(self, size: int, offset: int) -> bytes:
        try:
            return self._output.read_cached(size, offset)
        except BlockingIOError:
            return await asyncio.to_thread(self._output.read, size, offset)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
