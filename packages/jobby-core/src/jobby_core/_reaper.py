"""Owns the waiting for processes: notices each end once, and tells it once.

Nobody else in the library waits for a process: two waiters would take each
other's exit codes.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from jobby_core._poller import poller
from jobby_core._stragglers import bury
from jobby_core.state import Ending

OnEnd = Callable[[Ending], None]


class Process(Protocol):
    """What is waited for: a job's process, or the launcher before it."""

    @property
    def pidfd(self) -> int:
        """Readable once it has ended."""

    def reap(self) -> Ending | None:
        """Returns how the job ended; None if that cannot be told yet."""

    def stragglers(self) -> list[int]:
        """Kills what is left of an ended job; returns a pidfd for each that may not be gone."""

    def close(self) -> None:
        """Frees all that is still held."""


def watch(process: Process, on_end: OnEnd) -> None:
    """Calls `on_end` once, when `process` and all that it left are gone.

    Args:
        process: runs; whoever started it closes it if this fails, the reaper otherwise.
        on_end: gets how the job ended; runs in the poller's thread and must not block.

    Raises:
        OSError: no descriptor, thread or memory is left to wait with.
    """
    poller.add(process.pidfd, partial(_on_ended, process, on_end))


def _on_ended(process: Process, on_end: OnEnd) -> None:
    poller.remove(process.pidfd)
    ending = process.reap()
    if ending is not None:
        _clear(process, ending, on_end)
        return
    # Somebody traces it (strace -p): the pidfd is readable, but until the tracer has waited for
    # the zombie, its parent is told of none (ptrace(2)). The poller must neither wait for that
    # nor spin, so for once a thread does.
    threading.Thread(
        target=_watch_when_untraced, args=(process, on_end), name="jobby-traced", daemon=True
    ).start()


def _watch_when_untraced(process: Process, on_end: OnEnd) -> None:
    with suppress(ChildProcessError):  # somebody else in this program was quicker
        os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    watch(process, on_end)


def _clear(process: Process, ending: Ending, on_end: OnEnd) -> None:
    left = process.stragglers()
    if not left:
        process.close()
        on_end(ending)
        return
    remaining = set(left)

    def on_gone(pidfd: int) -> None:
        poller.remove(pidfd)
        remaining.discard(pidfd)
        if not remaining:
            # All at once: a process has a new parent only when the old one is gone.
            bury(left)
            _clear(process, ending, on_end)  # they may have forked before they died

    # Killed processes may still be finishing a write; only when they are gone is the
    # output complete, and only a complete output may be called finished.
    for pidfd in left:
        poller.add(pidfd, partial(on_gone, pidfd))
