"""Owns the starting of jobs: one for a request id, and all of it or nothing."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from jobby_core import Job, JobArgs, JobbyError, State, Status, launcher_available
from jobby_server.boot import boot_id
from jobby_server.environment import JOB_ENVIRONMENT
from jobby_server.identity import Owner, Principal
from jobby_server.journal import JournalError
from jobby_server.record import Record
from jobby_server.refusal import RefusedError
from jobby_server.row import Row, label, to_us
from jobby_server.state_dir import StateDir
from jobby_server.store import Store
from jobby_server.tasks import Tasks, retrieve

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be started.

    Attributes:
        command: the program.
        args: its arguments.
        request_id: what makes the start idempotent for its owner; None if nothing does.
        max_output_bytes: when to stop it for what it wrote; None is never.
        timeout_seconds: when to stop it for how long it ran; None is never.
    """

    command: str
    args: tuple[str, ...] = ()
    request_id: bytes | None = None
    max_output_bytes: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _UnderWay:
    order: Order
    launch: "asyncio.Task[uuid.UUID]"


class Starter:
    """Starts jobs. All of it happens on one event loop; what can block runs in threads.

    The order of what reaches the disk: the job's empty folder, its row, its
    record in the folder, and only then the process. A row of an earlier life
    of the machine whose record is missing may have run; in this life it never
    did. So when a start is answered, what is on the disk is enough, and
    nothing has to be written after the process runs.

    Args:
        store: the jobs.
        state: where their folders go.
        closing: what refuses a start once it is closed.
    """

    def __init__(self, store: Store, state: StateDir, closing: Callable[[], RefusedError]) -> None:
        self._store = store
        self._state = state
        self._closing = closing
        self._boot_id = boot_id()
        self._under_way: dict[tuple[Owner, bytes], _UnderWay] = {}
        self._tasks = Tasks()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def start(self, principal: Principal, order: Order) -> uuid.UUID:
        """Starts a job, or returns the one that its request id stands for.

        Without a request id, a call that is cancelled before it was answered
        leaves no job: nobody would ever learn its id. With one, it goes on,
        as whoever sent it may ask again.

        Raises:
            RefusedError: the server is closing, or the request id stands for another command.
            JournalError: the job cannot be recorded, so it was not started.
            JobbyError: it cannot be started; nothing is left behind.
        """
        if self._closed:
            raise self._closing()
        if order.request_id is None:
            # A task of its own: the thread that starts the job cannot be interrupted.
            launch = self._tasks.spawn(self._launch(principal, order))
            try:
                return await asyncio.shield(launch)
            except asyncio.CancelledError:
                _ = self._tasks.spawn(self._abandon(launch))
                raise
        key = (principal.owner, order.request_id)
        under_way = self._under_way.get(key)
        if under_way is None:
            launch = self._tasks.spawn(self._launch(principal, order))
            under_way = self._under_way[key] = _UnderWay(order, launch)
            launch.add_done_callback(lambda _: self._under_way.pop(key))
            launch.add_done_callback(retrieve)
        elif (under_way.order.command, under_way.order.args) != (order.command, order.args):
            raise _already_exists()
        return await asyncio.shield(under_way.launch)

    async def close(self) -> None:
        """Refuses further starts; returns when those under way are in the store or undone."""
        self._closed = True
        await self._tasks.drain()

    async def _launch(self, principal: Principal, order: Order) -> uuid.UUID:
        now = datetime.now(UTC)
        row = Row(
            id=uuid.uuid4(),
            owner=principal.owner,
            groups=principal.groups,
            request_id=order.request_id,
            boot_id=self._boot_id,
            created_us=to_us(now),
            status=Status(State.RUNNING, None, None, started_at=now, ended_at=None),
        )
        _check_limits(order)
        args = self._args(row, order)  # refuses what it can before anything is made
        taken = await self._store.claim(row, order.command, order.args)
        if taken is not None:
            if (taken.command, taken.args) != (order.command, order.args):
                raise _already_exists()
            return taken.id
        job = await self._start(row, args)
        self._store.add(row.id, Record(job, principal.owner))
        # Not the arguments: they may hold a password.
        _log.info(
            *("job %s: %s started %.200s, pid %d", row.id),
            *(principal.owner.name, order.command, job.pid),
        )
        return row.id

    async def _start(self, row: Row, args: JobArgs) -> Job:
        try:
            return await asyncio.to_thread(self._begin, row.id, args)
        except BaseException:
            try:
                await self._store.remove(row.id)
            except JournalError as error:
                # Nobody finds it, the next start with its request id deletes it, and so does
                # the next server, which tells by the folder that it never ran.
                _log.error("job %s: it was not started, but is in the journal: %s", row.id, error)
            raise

    def _begin(self, job_id: uuid.UUID, args: JobArgs) -> Job:
        if not self._state.durable:
            self._state.make_folder(job_id)
        return Job.start(args)

    def _args(self, row: Row, order: Order) -> JobArgs:
        folder = str(self._state.folder(row.id))
        return JobArgs(
            order.command,
            order.args,
            stdout_path=f"{folder}/stdout",
            stderr_path=f"{folder}/stderr",
            env=JOB_ENVIRONMENT,
            directory=folder if self._state.durable else None,
            label=label(row) if self._state.durable else "",
            max_output_bytes=order.max_output_bytes,
            timeout_seconds=order.timeout_seconds,
        )

    async def _abandon(self, launch: "asyncio.Task[uuid.UUID]") -> None:
        """Undoes a start whose caller has gone."""
        await asyncio.wait([launch])
        if launch.exception() is not None:
            return  # nothing was started
        job_id = launch.result()
        record = self._store.live(job_id)
        try:
            if record is not None:
                await self._store.stops.kill(record.job)
            await self._store.remove(job_id)
        except (JobbyError, JournalError) as error:
            _log.error("job %s: %s", job_id, error)
            return  # what runs stays in the store, so the drain tries again
        _log.info("job %s: stopped, because its start was cancelled before it was answered", job_id)


def _check_limits(order: Order) -> None:
    given = {"timeout_ms": order.timeout_seconds, "max_output_bytes": order.max_output_bytes}
    for name, limit in given.items():
        if limit is not None and not launcher_available():
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{name}: this server has no launcher, which keeps the limits; leave it out",
            )


def _already_exists() -> RefusedError:
    return RefusedError(
        grpc.StatusCode.ALREADY_EXISTS,
        "request_id: it was used for another command before; give each start an id of its own",
    )
