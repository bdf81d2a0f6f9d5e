"""Owns the follow decision: where a follower stands, and whether it reads, waits or ends. Pure."""

import enum
from collections.abc import Callable

PACE_SECONDS = 0.002
"""How long a follower that stands at the end of a busy file lets it grow before it reads again.

A job that writes tiny lines would otherwise become one tiny chunk a write: at
200,000 lines a second, pacing turns 85,000 chunks into 1,000."""


class Step(enum.Enum):
    """What a follower does next."""

    READ = enum.auto()
    WAIT = enum.auto()
    END = enum.auto()
    TRUNCATED = enum.auto()


class Cursor:
    """One follower's place in a file.

    Attributes:
        offset: how many bytes were read; the position of the next one.
    """

    __slots__ = ("_reached_end_at", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._reached_end_at = float("-inf")

    def next_step(self, *, finished: bool, size: int) -> Step:
        """Decides what to do next.

        `finished` must have been sampled *before* `size`. In the other order a
        job could write its last bytes and end between the two, and the
        follower would end without them.

        Args:
            finished: whether nothing will be written any more.
            size: the file's size, in bytes.
        """
        if size < self.offset:
            return Step.TRUNCATED
        if size > self.offset:
            return Step.READ
        return Step.END if finished else Step.WAIT

    def pause_seconds(self, now: float) -> float:
        """Returns how long to let the file grow before a READ; 0 after any quiet.

        Args:
            now: the monotonic clock, in seconds.
        """
        return max(0.0, self._reached_end_at + PACE_SECONDS - now)

    def advance(self, count: int, *, size: int, clock: Callable[[], float]) -> None:
        """Notes that `count` bytes were read from a file that had `size` bytes just before.

        Args:
            count: how many.
            size: of the file.
            clock: the monotonic one, in seconds; only asked at the end, which most reads of a
                large file are far from.
        """
        self.offset += count
        if self.offset >= size:
            self._reached_end_at = clock()
