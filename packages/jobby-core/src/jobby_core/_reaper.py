"""Owns the waiting for processes: notices each end once, and tells it once.

Nobody else in the library waits for a process: two waiters would take each
other's exit codes.
"""

from collections.abc import Callable
from functools import partial

from jobby_core._poller import poller
from jobby_core._process import Process, bury
from jobby_core.state import Exit

OnExit = Callable[[Exit, frozenset[int]], None]


def watch(process: Process, on_exit: OnExit) -> None:
    """Calls `on_exit` once, when `process` and all it left in its group are gone.

    Args:
        process: just started.
        on_exit: gets how the process ended and the signals that `Process.send_signal`
            sent it while alive; runs in the poller's thread and must not block.

    Raises:
        OSError: no descriptor, thread or memory is left to wait with.
    """
    poller.add(process.pidfd, partial(_on_leader_ended, process, on_exit))


def _on_leader_ended(process: Process, on_exit: OnExit) -> None:
    poller.remove(process.pidfd)
    reaped = process.reap()
    assert reaped is not None, "a pidfd is readable once its process has ended"
    exit_, stop_signals, left_behind = reaped
    remaining = set(left_behind)

    def on_gone(pidfd: int) -> None:
        poller.remove(pidfd)
        remaining.discard(pidfd)
        if not remaining:
            # All at once: a process has a new parent only when the old one is gone.
            bury(left_behind)
            on_exit(exit_, stop_signals)

    # Killed processes may still be finishing a write; only when they are gone is the output
    # complete, and only a complete output may be called finished.
    for pidfd in left_behind:
        poller.add(pidfd, partial(on_gone, pidfd))
    if not left_behind:
        on_exit(exit_, stop_signals)
