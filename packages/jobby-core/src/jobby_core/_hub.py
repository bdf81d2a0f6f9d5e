"""Owns who waits on which file: the bookkeeping of one inotify descriptor. Sans-I/O."""

from collections.abc import Iterable
from typing import Protocol

from watchdog.observers.inotify_c import InotifyConstants

_IN_Q_OVERFLOW = int(InotifyConstants.IN_Q_OVERFLOW)

Key = tuple[int, int]
"""A file's identity: device and inode. inotify watches inodes, not names."""


class Waiter(Protocol):
    """Somebody who waits for one file to change."""

    def wake(self) -> None:
        """Ends the wait; called at most once, from any thread, and must not block."""


class _Hub:
    __slots__ = ("waiters", "wd")

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.waiters: set[Waiter] = set()


class Hubs:
    """The files that somebody waits on, each with its one-shot watch.

    A hub lives from the first waiter's arming until the watch fires or the
    last waiter leaves. Spurious wakes are harmless (a woken follower looks at
    the file and arms again); a lost one would hang it, so every doubt wakes.
    Not thread-safe: the owner guards it.
    """

    def __init__(self) -> None:
        self._by_key: dict[Key, _Hub] = {}
        self._by_wd: dict[int, Key] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def join(self, key: Key, waiter: Waiter) -> bool:
        """Adds `waiter` to an armed watch; False if none is armed, so `arm` has to follow."""
        hub = self._by_key.get(key)
        if hub is None:
            return False
        hub.waiters.add(waiter)
        return True

    def arm(self, key: Key, wd: int, waiter: Waiter) -> None:
        """Notes that watch descriptor `wd` now watches `key`, with `waiter` as the first."""
        hub = self._by_key[key] = _Hub(wd)
        hub.waiters.add(waiter)
        self._by_wd[wd] = key

    def leave(self, key: Key, waiter: Waiter) -> int | None:
        """Removes `waiter`; returns the watch descriptor to remove when nobody else waits."""
        hub = self._by_key.get(key)
        if hub is None or waiter not in hub.waiters:
            return None
        hub.waiters.discard(waiter)
        if hub.waiters:
            return None
        self._drop(key, hub)
        return hub.wd

    def release(self, key: Key) -> tuple[set[Waiter], int | None]:
        """Takes all waiters of `key` to wake them, with the watch descriptor to remove."""
        hub = self._by_key.get(key)
        if hub is None:
            return set(), None
        self._drop(key, hub)
        return hub.waiters, hub.wd

    def dispatch(self, events: Iterable[tuple[int, int]]) -> tuple[list[Waiter], list[int]]:
        """Takes the waiters that `events`, pairs of watch descriptor and mask, wake.

        Returns:
            the waiters, and watch descriptors to remove that may still be armed.
        """
        woken: list[Waiter] = []
        stray: list[int] = []
        for wd, mask in events:
            if mask & _IN_Q_OVERFLOW:
                # The kernel dropped events and does not say whose: everybody looks again.
                for hub in self._by_key.values():
                    woken.extend(hub.waiters)
                stray.extend(self._by_wd)
                self._by_key.clear()
                self._by_wd.clear()
                continue
            # IN_MODIFY and IN_IGNORED alike. Once IN_MODIFY is queued the one-shot mark is
            # dying but still found: re-adding in that moment returns the same descriptor,
            # which the kernel then kills. IN_IGNORED is the only sign of it.
            key = self._by_wd.get(wd)
            if key is not None:
                hub = self._by_key[key]
                self._drop(key, hub)
                woken.extend(hub.waiters)
        return woken, stray

    def _drop(self, key: Key, hub: _Hub) -> None:
        del self._by_key[key]
        del self._by_wd[hub.wd]
