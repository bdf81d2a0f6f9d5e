"""Owns OutputReader: a raw binary stream over a job's output, for threads."""

import io
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from jobby_core import _inotify
from jobby_core._cursor import Cursor, Step
from jobby_core._output import OutputFile, busy_error, closed_error, truncated_error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOOK_AHEAD_BYTES = 8_192
_BULK_BYTES = 262_144


class _ThreadWaiter:
    """Wakes a thread."""

    __slots__ = ("_asleep",)

    def __init__(self) -> None:
        # No Event: that has a lock of its own, which the thread may hold in the very moment in
        # which its signal handler closes the reader.
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wake(self) -> None:
        with suppress(RuntimeError):  # woken already
            self._asleep.release()

    def wait(self) -> None:
        self._asleep.acquire()


class OutputReader(io.RawIOBase):
    """One output of a job from a given byte on, live while the job runs.

    A real raw stream: `io.BufferedReader`, `shutil.copyfileobj` and `for line
    in …` work. A read blocks until there is something, and returns `b""` only
    after the job has ended and its last byte was read.

    For one thread at a time, but `close` may come from any, and from a signal
    handler: a blocked read then raises `ReaderClosedError` at once. Close this reader, not an
    `io.BufferedReader` around it, whose own lock the blocked read holds.

    Made by `Job.stdout` and `Job.stderr`.
    """

    def __init__(self, output: OutputFile, offset: int) -> None:
        super().__init__()
        self._output = output
        self._cursor = Cursor(offset)
        self._seen_size = 0  # the file's, at the last look; the reading thread's alone
        self._notifier: _inotify.Notifier | None = None
        self._lock = threading.RLock()  # reentrant: `close` may come in a signal handler
        self._turn = threading.Lock()  # held by who reads, at last by who releases
        self._closing = True  # guarded by _lock; nothing to release yet
        self._waiter: _ThreadWaiter | None = None  # guarded by _lock
        self._fd = output.acquire()
        self._closing = False

    def readable(self) -> bool:
        """Always True, also when closed."""
        return True

    def tell(self) -> int:
        """Returns the position of the next byte, counted from the output's first."""
        return self._cursor.offset

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Reads what there is, at most as much as fits into `buffer`; see `read`."""
        size = memoryview(buffer).nbytes
        self._begin()
        try:
            while size and (end := self._wait_for_data(size)):
                count = os.preadv(self._fd, [buffer], self._cursor.offset)
                if count:
                    self._cursor.advance(count, size=end, clock=time.monotonic)
                    return count
                self._seen_size = 0
            return 0
        finally:
            self._end()

    def read(self, size: int = -1, /) -> bytes:
        """Reads what there is, at most `size` bytes; all until the end if `size` is negative.

        Raises:
            ReaderClosedError: closed, perhaps by another thread during the wait.
            ReaderBusyError: another thread is reading.
            OutputTruncatedError: bytes that were not read yet may be lost.
            LimitError: the system's inotify limits are exhausted.
        """
        if size < 0:
            return self.readall()
        self._begin()
        try:
            while size and (end := self._wait_for_data(size)):
                wanted = min(size, end - self._cursor.offset)
                chunk = os.pread(self._fd, wanted, self._cursor.offset)
                if chunk:
                    self._cursor.advance(len(chunk), size=end, clock=time.monotonic)
                    return chunk
                self._seen_size = 0
            return b""
        finally:
            self._end()

    def readall(self) -> bytes:
        """Reads until the end of the output, so it blocks until the job has ended."""
        return b"".join(iter(lambda: self.read(_BULK_BYTES), b""))

    def peek(self, _size: int = 0, /) -> bytes:
        """Returns bytes from here on without moving; blocks until there are some, or the end.

        `readline` and `for line in reader` look for the line's end in them;
        without it they would read byte by byte.
        """
        self._begin()
        try:
            while self._wait_for_data(_LOOK_AHEAD_BYTES):
                chunk = os.pread(self._fd, _LOOK_AHEAD_BYTES, self._cursor.offset)
                if chunk:
                    return chunk
                self._seen_size = 0
            return b""
        finally:
            self._end()

    def close(self) -> None:
        """Closes the reader, from any thread; a read under way raises `ReaderClosedError`."""
        if sys.is_finalizing():
            # The garbage collector at the program's end: daemon threads, ours too, are frozen
            # in whatever they held, so no lock may be waited for. All is freed in a moment.
            super().close()
            return
        with self._lock:
            closing, self._closing = self._closing, True
            waiter = self._waiter
        super().close()
        if waiter is not None:
            waiter.wake()
        if not closing:
            self._release_unless_read()

    # These two are around every read, and no context manager: as one they take as long as
    # the system call between them.
    def _begin(self) -> None:
        if not self._turn.acquire(blocking=False):
            self._check_open()
            raise busy_error(self._output)
        if self._closing:
            self._end()
            raise closed_error(self._output)

    def _end(self) -> None:
        self._turn.release()
        if self._closing:
            # Closed meanwhile: the descriptor could not go under a read that uses it.
            self._release_unless_read()

    def _release_unless_read(self) -> None:
        # Whoever gets the last turn keeps it, so the descriptor goes once.
        if self._turn.acquire(blocking=False):
            self._release()

    def _check_open(self) -> None:
        if self._closing:
            raise closed_error(self._output)

    def _release(self) -> None:
        if self._notifier is not None:
            _inotify.shared.leave(self._notifier, None)
        self._output.release()

    def _wait_for_data(self, wanted: int) -> int:
        """Waits until there is something to read; returns the file's size, 0 at the end."""
        if self._cursor.offset + wanted < self._seen_size:
            # All of it was there at the last look. Should it have been truncated since then,
            # the read finds nothing, forgets this size, and comes back.
            return self._seen_size
        waiter: _ThreadWaiter | None = None
        try:
            while True:
                self._check_open()
                finished, size = self._output.look(self._cursor.offset)
                step = self._cursor.next_step(finished=finished, size=size)
                if step is Step.END:
                    return 0
                if step is Step.TRUNCATED:
                    raise truncated_error(self._output, size, self._cursor.offset)
                if step is Step.READ:
                    pause = 0.0 if finished else self._cursor.pause_seconds(time.monotonic())
                    if not pause:
                        self._seen_size = size
                        return size
                    time.sleep(pause)  # at most 2 ms, so that a chatty job is read in batches
                elif waiter is None:
                    # Watch first, then look again: what came between would otherwise be missed.
                    waiter = self._arm()
                else:
                    waiter.wait()
                    self._disarm(waiter)
                    waiter = None
        finally:
            if waiter is not None:
                self._disarm(waiter)

    def _arm(self) -> _ThreadWaiter:
        if self._notifier is None:
            self._notifier = _inotify.shared.join(None)
        waiter = _ThreadWaiter()
        self._notifier.arm(self._fd, self._output.key, waiter)
        with self._lock:
            self._waiter = waiter
        return waiter

    def _disarm(self, waiter: _ThreadWaiter) -> None:
        assert self._notifier is not None, "armed with it"
        with self._lock:
            self._waiter = None
        self._notifier.disarm(self._output.key, waiter)
