"""Owns who reads a job's output or may come again: nothing of theirs is tidied away."""

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable


class Readers:
    """Counts each job's readers. For the event loop's thread.

    Args:
        on_gone: called when a job has lost its last reader.
        resume_seconds: how long one whose stream broke may take to come again.
    """

    def __init__(self, on_gone: Callable[[], None], resume_seconds: float) -> None:
        self._on_gone = on_gone
        self._resume_seconds = resume_seconds
        self._counts: Counter[uuid.UUID] = Counter()
        # Who may come again, until when; the first is the next. One timer serves all: each has a
        # copy of its call's context, and a busy server would hold tens of thousands of them.
        self._expected: deque[tuple[float, uuid.UUID]] = deque()

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._counts

    def begin(self, job_id: uuid.UUID) -> None:
        """Keeps a job's output from being forgotten until `end`.

        A pair of calls, as a generator's frame for each of thousands of followers is memory.
        """
        self._counts[job_id] += 1

    def end(self, job_id: uuid.UUID, *, comes_again: bool = False) -> None:
        """Ends one `begin`: at once, or when the reader has had time to come again."""
        if comes_again and self._resume_seconds:
            loop = asyncio.get_running_loop()
            self._expected.append((loop.time() + self._resume_seconds, job_id))
            if len(self._expected) == 1:
                loop.call_later(self._resume_seconds, self._give_up)
            return
        self._counts[job_id] -= 1
        if not self._counts[job_id]:
            del self._counts[job_id]
            self._on_gone()

    def _give_up(self) -> None:
        """Ends those whose time is over, and waits for the next."""
        loop = asyncio.get_running_loop()
        while self._expected and self._expected[0][0] <= loop.time():
            _, job_id = self._expected.popleft()
            self.end(job_id)
        if self._expected:
            loop.call_at(self._expected[0][0], self._give_up)
