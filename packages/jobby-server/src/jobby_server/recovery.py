"""Owns what a server does with the jobs of the one before it: nothing of them is lost."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from jobby_core import (
    Job,
    JobbyError,
    NotStartedError,
    Reason,
    RecordError,
    State,
    Status,
    UnreachableJobError,
)
from jobby_server import jobs_table
from jobby_server.boot import boot_id
from jobby_server.errors import StartupError
from jobby_server.journal import Journal
from jobby_server.record import Record
from jobby_server.row import Row, from_label
from jobby_server.state_dir import StateDir
from jobby_server.store import Store

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

# At a time: threads do it, and each takes some descriptors while it does.
_CHUNK = 256


class Recovery:
    """Goes through what is on the disk, once, before anything is served.

    Args:
        store: watches over the jobs that run.
        journal: what is known of all of them.
        state: where their folders lie.
    """

    def __init__(self, store: Store, journal: Journal, state: StateDir) -> None:
        self._store = store
        self._journal = journal
        self._state = state
        self._boot_id = boot_id()
        self._count: Counter[str] = Counter()

    async def run(self) -> None:
        """Takes up the jobs that run, and records how the others ended.

        Raises:
            StartupError: a job that runs cannot be watched over.
            JournalError: the journal fails.
        """
        await self._each(await self._journal.read(jobs_table.running), self._take_up)
        folders = await asyncio.to_thread(self._folders)
        for chunk in _chunks(folders):
            unknown = await self._journal.read(jobs_table.unknown, chunk)
            await self._each(unknown, self._rebuild)
        if self._count:
            found = ", ".join(f"{count} {what}" for what, count in sorted(self._count.items()))
            _log.info("jobs of the server before: %s", found)

    async def _each(self, items: Sequence[_T], work: Callable[[_T], Awaitable[None]]) -> None:
        for chunk in _chunks(items):
            await asyncio.gather(*map(work, chunk))

    async def _take_up(self, row: Row) -> None:
        """Finds out what became of a job whose end is not in the journal."""
        try:
            job = await self._attach(row.id)
        except NotStartedError:
            await self._never_ran(row)
        except RecordError as error:
            if self._has_folder(row.id) and not self._has_record(row.id):
                await self._never_ran(row)
            else:
                _log.error("job %s is lost: %s", row.id, error)
                await self._lost(row)
        else:
            record = Record(job, row.owner, row.stopped_by)
            self._store.add(row.id, record)  # records its end, if it has ended
            self._note(row.id, record)

    async def _never_ran(self, row: Row) -> None:
        if row.boot_id != self._boot_id:
            # The machine went down, and the folder may be older than what happened.
            _log.error("job %s is lost: the machine went down before its record was kept", row.id)
            await self._lost(row)
            return
        # So that a retry with its request id really starts it.
        await self._store.remove(row.id)
        self._count["never started"] += 1

    async def _lost(self, row: Row) -> None:
        started_at = row.status.started_at
        status = Status(State.COMPLETED, None, None, started_at, None, reason=Reason.LOST)
        sizes = self._state.sizes(row.id)
        await self._journal.write(jobs_table.end, row.id, status, "", *sizes)
        self._count["lost"] += 1

    async def _rebuild(self, job_id: uuid.UUID) -> None:
        """Makes the row that a job's folder should have had."""
        try:
            job = await self._attach(job_id)
            row = from_label(job_id, job.args.label, job.status())
        except NotStartedError:
            await asyncio.to_thread(self._state.discard, job_id)
            return
        except (RecordError, ValueError) as error:
            if await asyncio.to_thread(self._state.holds_no_job, job_id):
                await asyncio.to_thread(self._state.discard, job_id)
            else:
                _log.error("nobody knows whose job %s is, so it is left alone: %s", job_id, error)
            return
        record = Record(job, row.owner)
        if job.status().state is not State.RUNNING:
            at = self._store.standing(job_id, record)
            row = replace(row, stdout_bytes=at.stdout_bytes, stderr_bytes=at.stderr_bytes)
        insert = jobs_table.insert
        if await self._journal.write(insert, row, job.args.command, job.args.args):
            # Its request id stands for another job by now.
            row = replace(row, request_id=None)
            await self._journal.write(insert, row, job.args.command, job.args.args)
        self._count["found in their folders"] += 1
        if row.status.state is State.RUNNING:
            self._store.add(job_id, record)
            self._note(job_id, record)

    def _note(self, job_id: uuid.UUID, record: Record) -> None:
        status = record.job.status()
        if status.state is not State.RUNNING:
            self._count["lost" if status.reason is Reason.LOST else "ended meanwhile"] += 1
            return
        self._count["running"] += 1
        if record.stopped_by:
            _log.info("job %s: %s asked for its stop before", job_id, record.stopped_by)
            _ = self._store.stops.begin(job_id, record, record.stopped_by)

    async def _attach(self, job_id: uuid.UUID) -> Job:
        try:
            return await asyncio.to_thread(Job.attach, self._state.folder(job_id))
        except JobbyError as error:
            if isinstance(error, RecordError) and not isinstance(error, UnreachableJobError):
                raise  # it does not run
            raise StartupError(f"cannot watch over job {job_id} again: {error}") from error

    def _has_folder(self, job_id: uuid.UUID) -> bool:
        return self._state.folder(job_id).is_dir()

    def _has_record(self, job_id: uuid.UUID) -> bool:
        return (self._state.folder(job_id) / "job").exists()

    def _folders(self) -> list[uuid.UUID]:
        found = []
        for entry in self._state.jobs.iterdir():
            try:
                job_id = uuid.UUID(entry.name)
            except ValueError:
                continue
            if str(job_id) == entry.name:
                found.append(job_id)
        return found


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
