"""Owns the objects that ended jobs are read with: one a job, for as long as somebody reads."""

import asyncio
import uuid
from weakref import WeakValueDictionary

from jobby_core import Job
from jobby_server.state_dir import StateDir


class Attachments:
    """Ended jobs that are being read. All of it happens on the event loop's thread.

    Args:
        state: where the jobs' folders lie.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._jobs: WeakValueDictionary[uuid.UUID, Job] = WeakValueDictionary()
        self._under_way: dict[uuid.UUID, asyncio.Task[Job]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def keep(self, job_id: uuid.UUID, job: Job) -> None:
        """Takes note of a job that has ended and may have readers."""
        self._jobs[job_id] = job

    async def job(self, job_id: uuid.UUID) -> Job:
        """Returns an ended job; all that read it get the same, and share its descriptors.

        Raises:
            RecordError: what its folder held is missing or damaged.
            LimitError: no descriptor is left.
        """
        job = self._jobs.get(job_id)
        if job is None:
            attaching = self._under_way.get(job_id)
            if attaching is None:
                folder = self._state.folder(job_id)
                attaching = asyncio.create_task(asyncio.to_thread(Job.attach, folder))
                self._under_way[job_id] = attaching
                attaching.add_done_callback(lambda task: self._done(job_id, task))
            # Shielded: whoever asked first may go while others wait for it.
            job = self._jobs[job_id] = await asyncio.shield(attaching)
        return job

    def _done(self, job_id: uuid.UUID, task: "asyncio.Task[Job]") -> None:
        del self._under_way[job_id]
        if not task.cancelled():
            task.exception()  # noted, should all that waited for it have gone
