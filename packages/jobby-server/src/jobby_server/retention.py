"""Owns how long ended jobs are kept: by age, by count and by the size of their output."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from jobby_server import jobs_table
from jobby_server.jobs_table import Ended
from jobby_server.journal import Journal, JournalError
from jobby_server.limits import Keep
from jobby_server.row import now_us
from jobby_server.store import Store

_log = logging.getLogger(__name__)

_DAY_US = 86_400_000_000
_PAGE = 256


@dataclass(slots=True)
class Excess:
    """How much more there is than is to be kept. Pure.

    Attributes:
        keep: what is to be kept.
        count: how many ended jobs there are.
        bytes: how much output they have.
    """

    keep: Keep
    count: int
    bytes: int

    def too_old(self, job: Ended, now: int) -> bool:
        """Returns whether a job is older than is to be kept."""
        return self.keep.days is not None and job.closed_us <= now - self.keep.days * _DAY_US

    def too_much(self) -> bool:
        """Returns whether some job has to go, whatever its age."""
        return (self.keep.jobs is not None and self.count > self.keep.jobs) or (
            self.keep.bytes is not None and self.bytes > self.keep.bytes
        )

    def less(self, job: Ended) -> None:
        """Takes note that a job goes."""
        self.count -= 1
        self.bytes -= job.bytes

    def choose(self, jobs: list[Ended], now: int) -> list[Ended]:
        """Returns those of `jobs`, the oldest first, that have to go; none after the first stays.

        They count as gone.
        """
        going = []
        for job in jobs:
            if not self.too_old(job, now) and not self.too_much():
                break
            self.less(job)
            going.append(job)
        return going

    def seconds_left(self, job: Ended, now: int) -> float | None:
        """Returns how long a job may stay for its age; None if that is for ever."""
        if self.keep.days is None:
            return None
        return max(0.0, (job.closed_us - now) / 1e6 + self.keep.days * 86_400)


class Retention:
    """Forgets ended jobs. All of it happens on the event loop's thread.

    It looks when a job has ended, when a reader has gone, and when the oldest
    job's time is up; nothing polls.

    Args:
        keep: what is to be kept.
        store: forgets them.
        journal: knows them.
        first_seconds: how long everything stays at first, as readers that the
            server before has lost are on their way.
    """

    def __init__(
        self, keep: Keep, store: Store, journal: Journal, *, first_seconds: float = 0
    ) -> None:
        self._keep = keep
        self._first_seconds = first_seconds
        self._store = store
        self._journal = journal
        self._timer: asyncio.TimerHandle | None = None
        self._run: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False

    def consider(self) -> None:
        """Looks, soon, whether some job has to go."""
        if self._closed or self._keep == Keep():
            return
        if self._first_seconds:
            if self._timer is None:
                self._set_timer(self._first_seconds, self._begin)
            return
        self._again = True
        if self._run is None:
            self._run = asyncio.create_task(self._work())

    def _begin(self) -> None:
        self._first_seconds = 0
        self.consider()

    async def close(self) -> None:
        """Stops looking; returns when it has."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._run is not None:
            await asyncio.wait([self._run])

    async def _work(self) -> None:
        try:
            while self._again and not self._closed:
                self._again = False
                await self._tidy()
        except JournalError as error:
            _log.error("cannot forget old jobs: %s", error)
        finally:
            self._run = None

    async def _tidy(self) -> None:
        excess = Excess(self._keep, self._store.ended_count, self._store.ended_bytes)
        after = (0, 0)
        while page := await self._journal.read(jobs_table.oldest, after, _PAGE):
            after = (page[-1].closed_us, page[-1].number)
            # Those with readers stay, and the younger ones don't have to go for them.
            going = excess.choose(page, now_us())
            gone = await self._store.forget(going)
            if gone:
                _log.info("forgot %d ended jobs, as there are limits on what is kept", len(gone))
            if len(going) < len(page):
                self._set_timer(excess.seconds_left(page[len(going)], now_us()))
                return
        self._set_timer(None)

    def _set_timer(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and not self._closed:
            # A millisecond more: it must not fire on the last moment.
            self._timer = asyncio.get_running_loop().call_later(
                seconds + 0.001, then or self.consider
            )
