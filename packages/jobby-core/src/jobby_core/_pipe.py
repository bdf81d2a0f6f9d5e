"""Owns the pipes between launchers and this process, of which a forked child must keep no end."""

import os

_ends: set[int] = set()  # open now; each change is one step of the interpreter's


def open_pipe() -> tuple[int, int]:
    """Returns a pipe's reading and writing end; `close` closes either.

    Raises:
        OSError: no descriptor is left.
    """
    ends = os.pipe2(os.O_CLOEXEC)
    _ends.update(ends)
    return ends


def close(end: int) -> None:
    """Closes an end of a pipe."""
    # Forgotten first: a child that is forked in between keeps it, but never closes another
    # file that got its number meanwhile.
    _ends.discard(end)
    os.close(end)


def _forget_after_fork() -> None:
    """Closes a forked child's copies.

    A job without a record lives for as long as somebody has the reading end of its pipe; who
    has the writing end keeps a reader waiting.
    """
    while _ends:
        os.close(_ends.pop())


os.register_at_fork(after_in_child=_forget_after_fork)
