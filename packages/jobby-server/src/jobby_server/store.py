"""Owns the jobs by id: those alive as objects, those that ended in the journal."""

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from jobby_core import Job, State
from jobby_server import jobs_table
from jobby_server.access import Action, allowed
from jobby_server.attachments import Attachments
from jobby_server.identity import Owner, Principal
from jobby_server.jobs_table import Ended, Taken
from jobby_server.journal import Journal, JournalError
from jobby_server.readers import Readers
from jobby_server.record import Record, Standing, stopped_by
from jobby_server.row import Row
from jobby_server.state_dir import StateDir
from jobby_server.stops import Stops
from jobby_server.tasks import Tasks

_log = logging.getLogger(__name__)


_NOBODY = Owner(name="", authority="")
"""Owns nothing: a certificate without a subject is never accepted."""


class Store:
    """The jobs by id. All of it happens on the event loop's thread, so it needs no lock.

    With a durable state, an ended job leaves the memory once its end is on the
    disk. Without one the jobs stay, as their folders hold no record.

    Args:
        journal: what is known of all of them; opened and closed by somebody else.
        state: where their folders lie.
        resume_seconds: how long a job is kept for a reader whose stream broke.
    """

    def __init__(self, journal: Journal, state: StateDir, *, resume_seconds: float) -> None:
        self._journal = journal
        self._state = state
        self._live: dict[uuid.UUID, Record] = {}
        self._unsaved: set[uuid.UUID] = set()  # ended, but the journal could not be told
        self._leaving: set[uuid.UUID] = set()  # are being forgotten, so nobody finds them
        self._attachments = Attachments(state)
        self._tasks = Tasks()
        self._closed = False
        self.readers = Readers(self._changed, resume_seconds)
        """Who reads a job, which is not forgotten meanwhile."""
        self.stops = Stops(journal)
        """What ends jobs."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a job has ended, or its last reader has gone."""
        self.ended_count, self.ended_bytes = 0, 0
        """How many ended jobs the journal has, and how much output they have."""

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[tuple[uuid.UUID, Record]]:
        return iter(list(self._live.items()))

    async def load(self) -> None:
        """Counts what the journal has, before anything changes it.

        Raises:
            JournalError: it cannot be read.
        """
        self.ended_count, self.ended_bytes = await self._journal.read(jobs_table.totals)

    async def claim(self, row: Row, command: str, args: Sequence[str]) -> Taken | None:
        """Keeps a job that is about to be started; it is on the disk when this returns.

        With a durable state its folder is made first: a row whose folder isn't
        there tells of a job that was tampered with.

        Returns:
            the job that has its request id already, if there is one; then this one isn't kept.

        Raises:
            JournalError: it cannot be kept.
            LimitError: the disk is full, or a quota.
            OSError: its folder cannot be made.
        """
        while True:
            try:
                taken = await self._journal.write(self._insert, row, command, args)
            except JournalError:
                if self._state.durable:
                    await asyncio.to_thread(self._state.discard, row.id)
                raise
            self._catch_up()
            if taken is None or not taken.running or taken.id in self._live:
                return taken
            # It could not be started, and then not be deleted.
            await self._journal.write(jobs_table.delete, [taken.id])
            await asyncio.to_thread(self._state.discard, taken.id)

    def _insert(
        self, connection: sqlite3.Connection, row: Row, command: str, args: Sequence[str]
    ) -> Taken | None:
        """Adds a row, in the journal's thread, and makes the folder that it promises before it."""
        if not self._state.durable:
            return jobs_table.insert(connection, row, command, args)
        # First: who asks again is answered also where there is no room for another job.
        if taken := jobs_table.taken(connection, row.owner, row.request_id):
            return taken
        self._state.make_folder(row.id)
        return jobs_table.insert(connection, row, command, args)

    def add(self, job_id: uuid.UUID, record: Record) -> None:
        """Watches over a job whose row is kept, until its end is kept, too.

        Raises:
            KeyError: the id is taken.
        """
        if job_id in self._live:
            raise KeyError(job_id)
        self._live[job_id] = record
        record.seen = record.job.status().state is State.RUNNING
        loop = asyncio.get_running_loop()

        def on_end(job: Job) -> None:
            del job
            try:
                loop.call_soon_threadsafe(self._on_end, job_id)
            except RuntimeError:
                return  # the loop has ended; the next server finds the outcome in the folder

        record.job.add_done_callback(on_end)

    def live(self, job_id: uuid.UUID) -> Record | None:
        """Returns a job that is in memory, whoever it belongs to: for the server's own use."""
        return self._live.get(job_id)

    async def remove(self, job_id: uuid.UUID) -> None:
        """Forgets a job that is not to have been; an unknown id is no error."""
        self._live.pop(job_id, None)
        self._unsaved.discard(job_id)
        await self._forget([job_id])

    async def forget(self, jobs: Sequence[Ended]) -> list[Ended]:
        """Forgets ended jobs with their output, but none that is being read.

        Returns:
            those that were forgotten.

        Raises:
            JournalError: none was.
        """
        going = [job for job in jobs if job.id not in self.readers and job.id not in self._leaving]
        await self._forget([job.id for job in going])
        for job in going:
            self._live.pop(job.id, None)
        return going

    async def find(
        self, principal: Principal, action: Action, job_id: uuid.UUID
    ) -> Record | Row | None:
        """Returns the job if `principal` may do `action` to it.

        None stands for "no such job" and for "not yours". Both take the same
        steps, so that neither the answer nor its timing tells them apart.

        Raises:
            JournalError: the journal cannot be read.
        """
        record = None if job_id in self._leaving else self._live.get(job_id)
        if allowed(principal, action, _NOBODY if record is None else record.owner):
            return record
        row = await self._journal.read(jobs_table.find, job_id, principal.owner)
        if not allowed(principal, action, _NOBODY if row is None else row.owner) or row is None:
            return None
        if job_id in self._leaving:
            return None
        if row.status.state is State.RUNNING:
            # It is being started or adopted; or it could not be started, and not be deleted.
            return self._live.get(job_id)
        return row

    async def job(self, found: Record | Row) -> Job:
        """Returns what the output of a found job is read with; its readers share it.

        Raises:
            RecordError: what its folder held is missing or damaged.
            LimitError: no descriptor is left.
        """
        if isinstance(found, Record):
            return found.job
        return await self._attachments.job(found.id)

    def standing(self, job_id: uuid.UUID, found: Record | Row) -> Standing:
        """Returns how a found job stands."""
        if isinstance(found, Row):
            return Standing(found.status, found.stopped_by, found.stdout_bytes, found.stderr_bytes)
        status = found.job.status()  # before the sizes: of an ended job they are final
        return Standing(status, stopped_by(found, status), *self._state.sizes(job_id))

    async def close(self) -> None:
        """Keeps what there is to be kept; the end of a job after this is for the next server."""
        self._closed = True
        await self.stops.close()
        await self._tasks.drain()

    def _changed(self) -> None:
        self.on_change()  # as it is then

    # --- the end of a job ------------------------------------------------------

    def _on_end(self, job_id: uuid.UUID) -> None:
        if not self._closed and job_id in self._live:
            self._save_end(job_id, self._live[job_id])

    def _catch_up(self) -> None:
        """Tries again, as something could be written: one, and after that the next.

        All of them at the end of each would be a million attempts of a thousand jobs.
        """
        if self._unsaved and not self._closed:
            job_id = self._unsaved.pop()
            self._save_end(job_id, self._live[job_id])

    def _save_end(self, job_id: uuid.UUID, record: Record) -> None:
        at = self.standing(job_id, record)
        ended = (at.status, at.stopped_by, at.stdout_bytes, at.stderr_bytes)
        saving = self._journal.write(jobs_table.end, job_id, *ended, seen=record.seen)
        self._tasks.hold(saving)
        saving.add_done_callback(partial(self._on_saved, job_id, record, at))

    def _on_saved(
        self, job_id: uuid.UUID, record: Record, at: Standing, saving: "asyncio.Future[bool]"
    ) -> None:
        try:
            saved = saving.result()
        except JournalError as error:
            # It stays here, and in its folder: nothing is lost by it.
            _log.error("job %s: cannot record its end yet: %s", job_id, error)
            if job_id in self._live:
                self._unsaved.add(job_id)
            return
        if self._state.durable and self._live.pop(job_id, None) is not None:
            self._attachments.keep(job_id, record.job)
        if saved:  # it wasn't forgotten meanwhile
            self.ended_count += 1
            self.ended_bytes += at.stdout_bytes + at.stderr_bytes
        self._catch_up()
        self.on_change()

    async def _forget(self, job_ids: Sequence[uuid.UUID]) -> None:
        self._leaving.update(job_ids)
        try:
            # The row first: of a folder without one, the next server makes the row anew, while
            # a row without its folder would be of a job that was tampered with.
            count, size = await self._journal.write(jobs_table.delete, job_ids)
            self.ended_count -= count
            self.ended_bytes -= size
            await asyncio.to_thread(self._discard, job_ids)
        finally:
            self._leaving.difference_update(job_ids)

    def _discard(self, job_ids: Sequence[uuid.UUID]) -> None:
        for job_id in job_ids:
            self._state.discard(job_id)
