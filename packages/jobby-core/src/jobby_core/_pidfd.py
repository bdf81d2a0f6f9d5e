"""Owns what a pidfd tells: whether its process has ended (pidfd_open(2))."""

import select


def has_ended(pidfd: int) -> bool:
    """Returns whether the process has ended; that it may still be a zombie doesn't matter."""
    return bool(_poll(pidfd).poll(0))


def wait_for(pidfd: int, seconds: float | None = None) -> None:
    """Waits until the process has ended, so long at most."""
    _poll(pidfd).poll(None if seconds is None else seconds * 1000)


def _poll(pidfd: int) -> select.poll:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return poll
