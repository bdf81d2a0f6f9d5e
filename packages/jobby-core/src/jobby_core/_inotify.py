"""Owns the one inotify descriptor of this process, on watchdog's wrappers.

Why not watchdog's Observer: each costs an inotify instance and two threads,
and `fs.inotify.max_user_instances` is often 128, so one a reader cannot hold a
thousand readers. The thin wrappers used here have been stable since
watchdog 2.3; a test pins them.
"""

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Iterator

from watchdog.observers.inotify_c import (
    InotifyConstants,
    WatchDescriptor,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

from jobby_core._hub import Hubs, Key, Waiter
from jobby_core._limits import limit_error
from jobby_core._poller import poller
from jobby_core.errors import JobbyError, LimitError

# One-shot: a watch that stayed would make every tiny write of the job cost an event.
_MASK = int(InotifyConstants.IN_MODIFY) | int(InotifyConstants.IN_ONESHOT)
_EVENT = struct.Struct("iIII")  # inotify(7): wd, mask, cookie, length of the name that follows
_READ_BYTES = 65_536
_ACTION = "wait for more output"


class Notifier:
    """One inotify descriptor, shared by everybody who follows a file at the moment.

    Whoever has a loop drains the descriptor from it; for the others the
    poller's thread does. Each drain serves all waiters, whoever they belong
    to, so a loop that is blocked holds nobody up but itself.

    Made and closed by `Shared`.
    """

    def __init__(self) -> None:
        # Held over inotify_add_watch, inotify_rm_watch and a non-blocking read: an event
        # must not be looked up between the kernel's adding of a watch and our noting it.
        # Reentrant: the garbage collector may close an abandoned reader, and with it call
        # `close`, at any moment of this very thread.
        self._lock = threading.RLock()
        self._fd = _open()  # guarded by _lock; -1 once closed
        self._hubs = Hubs()  # guarded by _lock
        self._polled = False  # only ever set; poller.add may be repeated
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}  # each entry only in its loop

    def arm(self, file_fd: int, key: Key, waiter: Waiter) -> None:
        """Wakes `waiter` at the next change of the file; it has to look at the file after this.

        Args:
            file_fd: an open descriptor of the file.
            key: the file's device and inode.
            waiter: woken once, unless `disarm` comes first.

        Raises:
            LimitError: `fs.inotify.max_user_watches` is reached, or no memory is left.
        """
        with self._lock:
            if not self._hubs.join(key, waiter):
                self._hubs.arm(key, self._add_watch(file_fd), waiter)

    def disarm(self, key: Key, waiter: Waiter) -> None:
        """Forgets `waiter`, whether it was woken or not."""
        with self._lock:
            self._remove_watch(self._hubs.leave(key, waiter))

    def wake(self, key: Key) -> None:
        """Wakes all who wait for this file."""
        with self._lock:
            waiters, wd = self._hubs.release(key)
            self._remove_watch(wd)
        for waiter in waiters:
            waiter.wake()

    def drain(self) -> None:
        """Reads what the kernel has to tell and wakes whom it concerns; never blocks.

        One buffer full at most: whoever watches the descriptor calls again while there is more.
        """
        with self._lock:
            if self._fd < 0:  # closed since the poller saw it readable
                return
            try:
                events = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:  # another thread was quicker
                return
            woken, stray = self._hubs.dispatch(_parse(events))
            for wd in stray:
                self._remove_watch(wd)
        for waiter in woken:
            waiter.wake()

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Has the descriptor drained: by `loop`, in whose thread this runs, or by the poller."""
        if loop is not None:
            users = self._loops.get(loop, 0)
            if users == 0:
                loop.add_reader(self._fd, self.drain)
            self._loops[loop] = users + 1
        elif not self._polled:
            poller.add(self._fd, self.drain)
            self._polled = True

    def detach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Ends one `attach` of `loop`, in the loop's thread; the poller goes on until `close`."""
        if loop is not None:
            self._loops[loop] -= 1
            if self._loops[loop] == 0:
                del self._loops[loop]
                if not loop.is_closed():
                    loop.remove_reader(self._fd)

    def close(self) -> None:
        """Closes the descriptor, which nobody uses any more."""
        if self._polled:
            poller.remove(self._fd)
        with self._lock:
            fd, self._fd = self._fd, -1
        # Outside the lock: with a watch left it takes the kernel over half a millisecond.
        os.close(fd)

    def close_in_child(self) -> None:
        """Closes a forked child's copy of the descriptor; the locks may be held for ever there."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _add_watch(self, file_fd: int) -> int:
        # By descriptor, so that a file that was renamed or deleted is followed to its end.
        wd: int = inotify_add_watch(self._fd, b"/proc/self/fd/%d" % file_fd, _MASK)
        if wd < 0:
            raise _watch_error(ctypes.get_errno())
        return wd

    def _remove_watch(self, wd: int | None) -> None:
        if wd is not None:
            # Fails with EINVAL when the watch has just fired and so removed itself.
            inotify_rm_watch(self._fd, WatchDescriptor(wd))


class Shared:
    """The one notifier of this process: made by the first `join`, closed by the last `leave`."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # reentrant for the reason given in Notifier
        self._notifier: Notifier | None = None  # guarded by _lock
        self._users = 0  # guarded by _lock

    def join(self, loop: asyncio.AbstractEventLoop | None) -> Notifier:
        """Returns the notifier, for a follower that runs in `loop` or, if None, in a thread.

        Raises:
            LimitError: no inotify instance, descriptor, thread or memory is left.
        """
        with self._lock:
            if self._notifier is None:
                self._notifier = Notifier()
            notifier = self._notifier
            self._users += 1
        try:
            notifier.attach(loop)
        except OSError as error:
            self._release(notifier)
            raise _error(error.errno or 0) from error
        return notifier

    def leave(self, notifier: Notifier, loop: asyncio.AbstractEventLoop | None) -> None:
        """Ends one `join`, in the loop's thread if there is a loop."""
        notifier.detach(loop)
        self._release(notifier)

    def wake(self, key: Key) -> None:
        """Wakes all who wait for this file, if anybody does."""
        with self._lock:
            notifier = self._notifier
        if notifier is not None:
            notifier.wake(key)

    def _release(self, notifier: Notifier) -> None:
        with self._lock:
            if notifier is not self._notifier:
                return  # this is a forked child, and its parent's reader was never counted here
            self._users -= 1
            if self._users:
                return
            self._notifier = None
        notifier.close()

    def forget_after_fork(self) -> None:
        """Starts anew in a forked child, where reading would steal the parent's events."""
        if self._notifier is not None:
            self._notifier.close_in_child()
        self._reset()


shared = Shared()
"""The one of this process."""

os.register_at_fork(after_in_child=shared.forget_after_fork)


def _open() -> int:
    fd: int = inotify_init()
    if fd < 0:
        raise _instance_error(ctypes.get_errno())
    # watchdog's wrapper sets neither: a job must not inherit it, and a drain must not block.
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)
    return fd


def _parse(events: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while position < len(events):
        wd, mask, _cookie, name_length = _EVENT.unpack_from(events, position)
        position += _EVENT.size + name_length
        yield wd, mask


def _instance_error(number: int) -> JobbyError:
    if number == errno.EMFILE:
        # inotify_init(2) gives EMFILE two meanings; a descriptor of another kind tells them apart.
        try:
            os.close(os.eventfd(0))
        except OSError:
            return _error(number)
        return LimitError(
            _ACTION,
            "the user's inotify instances are used up by other processes",
            "raise fs.inotify.max_user_instances with sysctl",
            limit="fs.inotify.max_user_instances",
        )
    return _error(number)


def _watch_error(number: int) -> JobbyError:
    if number == errno.ENOSPC:  # inotify_add_watch(2): not the disk
        return LimitError(
            _ACTION,
            "the user's inotify watches are used up",
            "raise fs.inotify.max_user_watches with sysctl",
            limit="fs.inotify.max_user_watches",
        )
    return _error(number)


def _error(number: int) -> JobbyError:
    error = OSError(number, os.strerror(number))
    return limit_error(error, _ACTION) or JobbyError(
        _ACTION, os.strerror(number), "see inotify(7); /proc must be mounted"
    )
