"""Owns the library's one background thread: it waits on descriptors and calls back."""

import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

_LINGER_SECONDS = 0.25
"""How long the thread stays without a descriptor: jobs run one after another share it."""

_log = logging.getLogger(__name__)


class Poller:
    """Calls back when a descriptor becomes readable, from one daemon thread.

    The thread and its two descriptors are made on first use, and gone shortly
    after the last descriptor was removed.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Reentrant: the garbage collector may close an abandoned reader, and with it call
        # `remove`, at any moment of this very thread.
        self._lock = threading.RLock()
        self._callbacks: dict[int, Callable[[], None]] = {}  # guarded by _lock
        self._removed: set[int] = set()  # since the last poll; guarded by _lock
        self._epoll: select.epoll | None = None  # guarded by _lock
        self._wake_fd = -1  # guarded by _lock
        self._is_calling = False  # the thread alone: it looks anew before it waits again
        self._thread_id: int | None = None  # written in the thread, which alone finds its own there

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Calls `callback` in the poller's thread whenever `fd` is readable, until removed.

        Adding a descriptor that is there already is no error.

        Args:
            fd: stays the caller's; remove it here before closing it.
            callback: must not block, and must not raise.

        Raises:
            OSError: no descriptor, thread or memory is left for it.
        """
        with self._lock:
            epoll = self._epoll or self._start()
            # With a callback present the thread cannot end, so epoll stays open after the lock.
            self._callbacks[fd] = callback
        try:
            with suppress(FileExistsError):
                epoll.register(fd, select.EPOLLIN)
        except OSError:
            with self._lock:
                del self._callbacks[fd]
            self._nudge()
            raise

    def remove(self, fd: int) -> None:
        """Stops calling back for `fd`; a call under way in the thread may still finish."""
        with self._lock:
            epoll = self._epoll
        assert epoll is not None, "a registered descriptor keeps the epoll open"
        epoll.unregister(fd)
        with self._lock:
            del self._callbacks[fd]
            self._removed.add(fd)
            last = not self._callbacks
        if last and not (self._is_calling and self.is_current()):
            self._nudge()

    def is_current(self) -> bool:
        """Tells whether this is the poller's thread."""
        return threading.get_ident() == self._thread_id

    def wait_for(self, event: threading.Event, seconds: float | None) -> bool:
        """Waits for what this thread brings about; tells whether it came in time.

        Raises:
            RuntimeError: this is that very thread, and would wait for ever.
        """
        if self.is_current() and (seconds is None or seconds > 0) and not event.is_set():
            raise RuntimeError(
                "cannot wait for a job's end in the library's own thread, which notices it; "
                "wait in a thread of your own, or add a done callback"
            )
        # As long as threading can wait: it raises OverflowError at more, such as math.inf.
        return event.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def _start(self) -> select.epoll:
        # Under the lock: nobody may count on a thread that then could not be started.
        epoll, self._wake_fd = _open_epoll()
        self._epoll = epoll
        try:
            threading.Thread(target=self._run, name="jobby-poller", daemon=True).start()
        except RuntimeError:  # all that threading says when clone(2) fails
            self._close()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        return epoll

    def _nudge(self) -> None:
        """Makes the thread look again whether anybody still needs it."""
        # Held over the write, which never blocks (EFD_NONBLOCK): the thread closes the descriptor
        # under the lock when it ends, and its number may then be another file's.
        with self._lock:
            if self._epoll is not None:
                os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        self._thread_id = threading.get_ident()
        while True:
            with self._lock:
                epoll, wake_fd, idle = self._epoll, self._wake_fd, not self._callbacks
                self._removed.clear()
            assert epoll is not None, "only this thread closes it"
            ready = epoll.poll(_LINGER_SECONDS if idle else None)
            if not ready:
                with self._lock:
                    if not self._callbacks:
                        self._close()
                        return
            for fd, _ in ready:
                if fd == wake_fd:
                    os.eventfd_read(wake_fd)
                else:
                    self._call(fd)

    def _call(self, fd: int) -> None:
        with self._lock:
            # What was removed since epoll reported it may be another file by now, under the
            # same number. If that one is readable, epoll says so at the next poll.
            callback = None if fd in self._removed else self._callbacks.get(fd)
        if callback is None:
            return
        self._is_calling = True
        try:
            callback()
        except BaseException:  # noqa: BLE001 - this thread serves every job, whatever one does
            # SystemExit, too: the thread would end without a word, and no job ever again.
            _log.exception("the callback for descriptor %d failed", fd)
        finally:
            self._is_calling = False

    def _close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            os.close(self._wake_fd)
            self._epoll = self._thread_id = None

    def forget_after_fork(self) -> None:
        """Starts anew in a forked child, which has the descriptors but not the thread."""
        self._close()
        self._reset()


def _open_epoll() -> tuple[select.epoll, int]:
    epoll = select.epoll()
    try:
        wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError:
        epoll.close()
        raise
    epoll.register(wake_fd, select.EPOLLIN)
    return epoll, wake_fd


poller = Poller()
"""The one of this process."""

os.register_at_fork(after_in_child=poller.forget_after_fork)
