"""Owns how long to wait before the next attempt: twice as long each time, and random."""

import random
from collections.abc import Callable

FIRST_SECONDS = 0.1
MOST_SECONDS = 5.0


class Backoff:
    """Grows the waits of one series of attempts.

    The wait is anything between nothing and the bound ("full jitter"): a
    thousand clients of a server that was restarted come back spread out, not
    all at once.

    Args:
        draw: returns a number between its two arguments.
    """

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._bound = FIRST_SECONDS

    def next_seconds(self) -> float:
        """Returns the next wait."""
        bound, self._bound = self._bound, min(MOST_SECONDS, self._bound * 2)
        return self._draw(0, bound)

    def reset(self) -> None:
        """Begins anew."""
        self._bound = FIRST_SECONDS
