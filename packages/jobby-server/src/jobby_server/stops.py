"""Owns the ending of jobs on somebody's behalf: noted on the disk, and once a job."""

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Final

from jobby_core import Job, State
from jobby_server import jobs_table
from jobby_server.journal import Journal, JournalError
from jobby_server.record import Record
from jobby_server.tasks import Tasks, retrieve

_log = logging.getLogger(__name__)

_NOTE_SECONDS: Final = 5.0


class Stops:
    """The stops that are under way. All of it happens on the event loop's thread.

    Args:
        journal: what notes who asked.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tasks = Tasks()
        self._by_job: dict[uuid.UUID, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def stop(self, job_id: uuid.UUID, record: Record, who: str) -> None:
        """Kills a job and returns when it has ended; who asked is on the disk before it happens.

        It happens also if the caller goes away. Should the server be killed in
        between, the next one finishes it.

        Raises:
            StopError: the kernel doesn't allow it.
        """
        await asyncio.shield(self.begin(job_id, record, who))

    def begin(self, job_id: uuid.UUID, record: Record, who: str) -> "asyncio.Task[None]":
        """Does what `stop` does, without waiting for it; once, however many ask meanwhile."""
        stopping = self._by_job.get(job_id)
        if stopping is None:
            stopping = self._by_job[job_id] = self._tasks.spawn(self._stop(job_id, record, who))
            stopping.add_done_callback(lambda _: self._by_job.pop(job_id))
            stopping.add_done_callback(retrieve)
        return stopping

    async def _stop(self, job_id: uuid.UUID, record: Record, who: str) -> None:
        if record.job.status().state is State.RUNNING:
            record.stopped_by = record.stopped_by or who
            try:
                async with asyncio.timeout(_NOTE_SECONDS):
                    await self._journal.write(jobs_table.note_stop, job_id, who)
            except (JournalError, TimeoutError) as error:
                # Not a reason to let it run: a disk that hangs may do so for ever.
                _log.error("job %s: cannot note that %s stops it: %s", job_id, who, error)
        await self.kill(record.job)

    async def kill(self, job: Job) -> None:
        """Kills a job that nobody is to hear of, and returns when it has ended.

        Raises:
            StopError: the kernel doesn't allow it.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def on_end(job: Job) -> None:
            del job
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(ended.set)

        # Without a thread: jobs that cannot be killed would hold theirs, and others' kills up.
        job.kill()
        job.add_done_callback(on_end)
        await ended.wait()

    async def close(self) -> None:
        """Returns when all of them are through; there must be no others after this."""
        await self._tasks.drain()
