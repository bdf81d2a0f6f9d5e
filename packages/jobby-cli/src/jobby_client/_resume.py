"""Owns the decision whether a broken stream is opened again, and when. Does no I/O."""

import random
import time
from collections.abc import Callable

from jobby_client._backoff import MOST_SECONDS, Backoff


class Resume:
    """One stream's attempts to go on.

    Every sign of life from the server grants `seconds` more. What makes the
    waits short again is bytes, or a connection that lasted: a server that
    takes each call and breaks it at once is asked ever less often.

    Args:
        seconds: how long to try after the last sign of life; 0 never tries.
        clock: the monotonic clock.
        draw: returns a number between its two arguments.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._backoff = Backoff(draw)
        self._opened_at = clock()
        self._until: float | None = None

    def opened(self) -> None:
        """Notes that an attempt begins."""
        self._opened_at = self._clock()

    def broke(self, *, heard: bool, progress: bool) -> None:
        """Notes that an attempt has failed.

        Args:
            heard: whether the server had answered it.
            progress: whether bytes had come.
        """
        now = self._clock()
        if heard:
            self._until = now + self.seconds
            if progress or now - self._opened_at > MOST_SECONDS:
                self._backoff.reset()

    @property
    def known(self) -> bool:
        """Whether the server has ever answered."""
        return self._until is not None

    def next_seconds(self) -> float | None:
        """Returns how long to wait for the next attempt; None if there is to be none."""
        left = 0.0 if self._until is None else self._until - self._clock()
        if left <= 0:
            return None
        return min(left, self._backoff.next_seconds())
