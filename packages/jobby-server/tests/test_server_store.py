"""Who may do what, and what the store tells them."""

import asyncio
import errno
import gc
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_waiting import Fifo, run, until

from jobby_core import Job, JobArgs, Reason, RecordError, State, Status
from jobby_server import jobs_table
from jobby_server.access import Action, allowed
from jobby_server.identity import Owner, Principal
from jobby_server.journal import Journal
from jobby_server.record import Record
from jobby_server.row import Row
from jobby_server.state_dir import StateDir
from jobby_server.store import Store

ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
NAMES = st.sampled_from(["CN=alice", "CN=Alice", "CN=bob"])
CAS = st.sampled_from(["ca1", "ca2"])
OWNERS = st.builds(Owner, NAMES, CAS)
GROUPS = st.frozensets(st.sampled_from(["admins", "team"]))
PRINCIPALS = st.builds(Principal, OWNERS, GROUPS, *map(st.just, ALWAYS))
ALICE, BOB = (Principal(Owner(name, "ca"), frozenset(), *ALWAYS) for name in ("CN=alice", "CN=bob"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING = Status(State.RUNNING, None, None, NOW, None)
DONE = Status(State.COMPLETED, 7, None, NOW, NOW, reason=Reason.EXITED)


@given(PRINCIPALS, st.sampled_from(Action), OWNERS)
def test_only_the_owner_may_do_anything(principal: Principal, action: Action, owner: Owner) -> None:
    """For every action there is: the same name under the same CA, and nothing else, decides."""
    assert allowed(principal, action, owner) == (
        (principal.owner.name, principal.owner.authority) == (owner.name, owner.authority)
    )


def new_row(owner: Owner, status: Status, request_id: bytes | None) -> Row:
    """Returns what the journal is to keep of a job."""
    return Row(
        id=uuid.uuid4(),
        owner=owner,
        groups=frozenset(),
        request_id=request_id,
        boot_id="",
        created_us=0,
        status=status,
    )


class Kit:
    """A store on a durable state."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.journal = Journal(state.database)
        self.store = Store(self.journal, state, resume_seconds=0)

    async def keep(
        self, owner: Owner = ALICE.owner, status: Status = RUNNING, request_id: bytes | None = None
    ) -> uuid.UUID:
        """Puts a row into the journal."""
        row = new_row(owner, status, request_id)
        assert await self.store.claim(row, "true", []) is None
        return row.id

    async def start(self, *command: str, owner: Owner = ALICE.owner) -> uuid.UUID:
        """Starts a job, as the server does."""
        job_id = await self.keep(owner)
        folder = self.state.folder(job_id)
        if not self.state.durable:
            self.state.make_folder(job_id)
        job = Job.start(
            JobArgs(
                command[0],
                command[1:],
                stdout_path=folder / "stdout",
                stderr_path=folder / "stderr",
                directory=folder if self.state.durable else None,
            )
        )
        self.store.add(job_id, Record(job, owner))
        return job_id

    async def status(self, job_id: uuid.UUID) -> Status:
        """Returns what alice is told of her job."""
        found = await self.store.find(ALICE, Action.STATUS, job_id)
        assert found is not None
        return self.store.standing(job_id, found).status


def unsaved(store: Store, count: int) -> bool:
    """Whether the journal could not be told of so many ends."""
    return len(store._unsaved) == count


def forgotten(store: Store) -> bool:
    """Whether no job is in memory: neither in the store, nor held by anybody it gave it to."""
    gc.collect()
    return not len(store) and not len(store._attachments)


@asynccontextmanager
async def kit(state: StateDir) -> AsyncIterator[Kit]:
    """Opens a store; its jobs end with it."""
    opened = Kit(state)
    await opened.journal.open()
    try:
        yield opened
    finally:
        for _, record in opened.store:
            await asyncio.to_thread(record.job.stop)
        await opened.store.close()
        await opened.journal.close()
        state.close()


@pytest.fixture(params=["durable", "not durable"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateDir:
    """Either kind of state."""
    if request.param == "durable":
        return StateDir.named(tmp_path / "state")
    return StateDir.temporary(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    kept=st.lists(st.tuples(OWNERS, st.booleans()), max_size=6),
    principal=PRINCIPALS,
    action=st.sampled_from(Action),
)
def test_the_store_gives_out_ones_own_and_nothing_else(
    tmp_path: Path, kept: list[tuple[Owner, bool]], principal: Principal, action: Action
) -> None:
    """A job of somebody else and no job are both None, whether they run or have ended."""

    async def scenario() -> None:
        async with kit(StateDir.temporary(tmp_path)) as it:
            folder = it.state.make_folder(uuid.uuid4())
            job = Job.start(JobArgs("true", stdout_path=folder / "o", stderr_path=folder / "e"))
            for owner, live in kept:
                job_id = await it.keep(owner, RUNNING if live else DONE)
                if live:
                    it.store.add(job_id, Record(job, owner))
                found = await it.store.find(principal, action, job_id)
                assert (found is not None) == (owner == principal.owner)
            assert await it.store.find(principal, action, uuid.uuid4()) is None

    run(scenario())


def test_not_yours_and_not_there_are_asked_for_alike(state: StateDir) -> None:
    """The same statements for a job that runs, one that ended and none: timing tells nothing."""
    asked: list[str] = []

    async def scenario() -> None:
        async with kit(state) as it:
            ended, running = await it.keep(status=DONE), await it.start("sleep", "1000")
            await it.journal.read(lambda connection: connection.set_trace_callback(asked.append))
            seen = []
            for job_id in (running, ended, uuid.uuid4()):
                asked.clear()
                assert await it.store.find(BOB, Action.STATUS, job_id) is None
                seen.append([each.replace(job_id.hex, "ID") for each in asked])
            assert seen[0] == seen[1] == seen[2]
            assert len(seen[0]) == 1
            assert "ID" in seen[0][0]

    run(scenario())


def test_an_id_is_never_given_twice(state: StateDir) -> None:
    """A taken id is an error: the second job would take the first one's place."""

    async def scenario() -> None:
        async with kit(state) as it:
            job_id = await it.start("sleep", "1000")
            ((_, record),) = it.store
            with pytest.raises(KeyError):
                it.store.add(job_id, record)
            await it.store.remove(uuid.uuid4())  # an unknown one is no error
            assert len(it.store) == 1

    run(scenario())


def test_an_ended_job_leaves_the_memory_and_is_told_as_before(tmp_path: Path) -> None:
    """What is in memory is what runs; the status, the sizes and the output stay."""

    async def scenario() -> None:
        async with kit(StateDir.named(tmp_path / "state")) as it:
            ids = [await it.start("sh", "-c", "echo out; echo error >&2; exit 3") for _ in range(9)]
            await until(lambda: not len(it.store))
            for job_id in ids:
                found = await it.store.find(ALICE, Action.OUTPUT, job_id)
                assert isinstance(found, Row)
                standing = it.store.standing(job_id, found)
                assert (standing.stdout_bytes, standing.stderr_bytes) == (4, 6)
                assert standing.status.exit_code == 3
                assert standing.status.reason is Reason.EXITED
                job = await it.store.job(found)
                assert job.status() == standing.status
                assert job.stdout().read(100) == b"out\n"
            assert it.store.ended_count == len(ids)
            assert it.store.ended_bytes == 10 * len(ids)
            del job
            await until(lambda: forgotten(it.store))

    run(scenario())


def test_readers_of_an_ended_job_share_what_they_read_with(tmp_path: Path) -> None:
    """A thousand readers of one old job don't take a thousand times its descriptors."""

    async def scenario() -> None:
        async with kit(StateDir.named(tmp_path / "state")) as it:
            job_id = await it.start("true")
            await until(lambda: not len(it.store))
            found = await it.store.find(ALICE, Action.OUTPUT, job_id)
            assert found is not None
            jobs = await asyncio.gather(*(it.store.job(found) for _ in range(100)))
            assert len({id(job) for job in jobs}) == 1
            assert await it.store.job(found) is jobs[0]

    run(scenario())


def test_an_output_whose_record_is_damaged_is_an_error(tmp_path: Path) -> None:
    """Not an empty output; the status is told all the same, it lies elsewhere."""

    async def scenario() -> None:
        async with kit(StateDir.named(tmp_path / "state")) as it:
            job_id = await it.start("true")
            await until(lambda: not len(it.store))
            await until(lambda: forgotten(it.store))
            (it.state.folder(job_id) / "job").write_text("{")
            found = await it.store.find(ALICE, Action.OUTPUT, job_id)
            assert found is not None
            with pytest.raises(RecordError):
                await it.store.job(found)
            assert (await it.status(job_id)).exit_code == 0

    run(scenario())


def test_who_stopped_a_job_is_kept_before_it_happens(state: StateDir) -> None:
    """On the disk first; the first one counts; told while it dies and ever after."""

    async def scenario() -> None:
        async with kit(state) as it:
            job_id = await it.start("sleep", "1000")
            found = await it.store.find(ALICE, Action.STOP, job_id)
            assert isinstance(found, Record)
            await asyncio.gather(
                it.store.stops.stop(job_id, found, "CN=alice"),
                it.store.stops.stop(job_id, found, "server"),
            )
            row = await it.journal.read(jobs_table.find, job_id, ALICE.owner)
            assert row is not None
            assert row.stopped_by == "CN=alice"
            await until(lambda: it.store.ended_count)
            found = await it.store.find(ALICE, Action.STATUS, job_id)
            assert found is not None
            standing = it.store.standing(job_id, found)
            assert (standing.status.state, standing.stopped_by) == (State.STOPPED, "CN=alice")

    run(scenario())


def test_a_stop_that_came_too_late_was_nobodys(state: StateDir, fifo: Fifo) -> None:
    """A job that ended by itself before the kill reached it was stopped by nobody."""

    async def scenario() -> None:
        async with kit(state) as it:
            job_id = await it.start("sh", "-c", f"read x < {fifo}")
            ((_, record),) = it.store
            record.stopped_by = "CN=alice"  # asked for, and not done yet
            fifo.release()
            await until(lambda: it.store.ended_count)
            found = await it.store.find(ALICE, Action.STATUS, job_id)
            assert found is not None
            standing = it.store.standing(job_id, found)
            assert (standing.status.exit_code, standing.stopped_by) == (0, "")

    run(scenario())


def test_an_end_that_cannot_be_written_is_kept_in_memory_and_written_later(
    tmp_path: Path, fifo: Fifo, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs nothing: the status is right meanwhile, and the journal catches up.

    Each is tried once, and again when something else could be written.
    """

    async def scenario() -> None:
        async with kit(StateDir.named(tmp_path / "state")) as it:
            failing = True

            def full(*_: object) -> int:
                return 1 if failing else 0

            command = f"read x < {fifo}; exit 5"
            ids = [await it.start("sh", "-c", command) for _ in range(6)]
            # SQLITE_DENY is 1: whatever is asked for, it fails.
            await it.journal.read(lambda connection: connection.set_authorizer(full))
            for count in range(1, 6):
                fifo.release()
                await until(partial(unsaved, it.store, count))
            assert [(await it.status(each)).exit_code for each in it.store._unsaved] == [5] * 5
            failing = False
            fifo.release()
            await until(lambda: not len(it.store))
            assert [(await it.status(each)).exit_code for each in ids] == [5] * 6
            assert caplog.text.count("cannot record its end yet") == 5
            assert it.store.ended_count == 6

    run(scenario())


def test_a_start_that_failed_and_stayed_does_not_hold_its_request_id(state: StateDir) -> None:
    """A row that could not be deleted is found by nobody, and gives way to the next start."""

    async def scenario() -> None:
        async with kit(state) as it:
            stuck = await it.keep(request_id=b"r")
            assert await it.store.find(ALICE, Action.STATUS, stuck) is None
            again = await it.keep(request_id=b"r")
            assert await it.journal.read(jobs_table.unknown, [stuck, again]) == [stuck]
            assert not it.state.folder(stuck).exists()

    run(scenario())


def test_who_asks_again_is_answered_where_there_is_no_room_for_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that a request id stands for needs no second folder."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    async def scenario() -> None:
        async with kit(StateDir.named(tmp_path / "state")) as it:
            job_id = await it.keep(status=DONE, request_id=b"r")
            monkeypatch.setattr(StateDir, "make_folder", full)  # and the journal has room
            taken = await it.store.claim(new_row(ALICE.owner, RUNNING, b"r"), "true", ())
            assert taken is not None
            assert taken.id == job_id

    run(scenario())
