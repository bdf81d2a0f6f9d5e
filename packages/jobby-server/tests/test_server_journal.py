"""What is known of the jobs is on the disk before anybody is told, and survives what befalls it."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_waiting import run

from jobby_core import Reason, State, Status, Usage
from jobby_server import jobs_table, row, schema
from jobby_server.errors import EXIT_CONFIG, ConfigError
from jobby_server.identity import Owner
from jobby_server.journal import Journal, JournalError
from jobby_server.row import Row

ALICE, BOB = Owner("CN=alice", "ca"), Owner("CN=bob", "ca")
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
END = datetime(2026, 1, 2, 3, 4, 6, 7, tzinfo=UTC)
RUNNING = Status(State.RUNNING, None, None, started_at=START, ended_at=None)
DONE = Status(
    State.COMPLETED, 7, None, START, END, reason=Reason.EXITED, usage=Usage(1.25, 0.5, 4096)
)


def job(owner: Owner = ALICE, request_id: bytes | None = None, status: Status = RUNNING) -> Row:
    """Returns the row of a new job."""
    return Row(
        id=uuid.uuid4(),
        owner=owner,
        groups=frozenset({"team"}),
        request_id=request_id,
        boot_id="boot",
        created_us=row.to_us(START),
        status=status,
    )


@asynccontextmanager
async def journal(path: Path | None) -> AsyncIterator[Journal]:
    """Opens a journal that is sound."""
    opened = Journal(path)
    assert not await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(params=["on disk", "in memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where a journal can be."""
    return tmp_path / "jobs.sqlite" if request.param == "on disk" else None


def test_a_job_is_told_as_it_was_kept(place: Path | None) -> None:
    """Running, then ended: every field comes back as it was, to the microsecond."""
    kept = job(request_id=b"\x00\xff")

    async def scenario() -> None:
        async with journal(place) as j:
            assert await j.write(jobs_table.insert, kept, "sh", ["-c", "é\n"]) is None
            assert await j.read(jobs_table.find, kept.id, ALICE) == kept
            assert await j.read(jobs_table.running) == [kept]
            await j.write(jobs_table.end, kept.id, DONE, "CN=alice", 3, 4)
            ended = replace(
                kept, status=DONE, stopped_by="CN=alice", stdout_bytes=3, stderr_bytes=4
            )
            assert await j.read(jobs_table.find, kept.id, ALICE) == ended
            assert await j.read(jobs_table.running) == []
            assert await j.read(jobs_table.totals) == (1, 7)
            await j.write(jobs_table.delete, [kept.id, uuid.uuid4()])
            assert await j.read(jobs_table.find, kept.id, ALICE) is None

    run(scenario())


def test_a_job_is_told_to_its_owner_alone(place: Path | None) -> None:
    """The question names the owner, so no other answer ever leaves the database."""

    async def scenario() -> None:
        async with journal(place) as j:
            kept = job()
            await j.write(jobs_table.insert, kept, "true", [])
            for stranger in (BOB, Owner("CN=alice", "another ca")):
                assert await j.read(jobs_table.find, kept.id, stranger) is None

    run(scenario())


def test_a_request_id_stands_for_one_job_of_its_owner(place: Path | None) -> None:
    """The second start learns of the first; another owner's ids are others; none is no id."""

    async def scenario() -> None:
        async with journal(place) as j:
            first = job(request_id=b"r")
            assert await j.write(jobs_table.insert, first, "echo", ["a"]) is None
            again = await j.write(jobs_table.insert, job(request_id=b"r"), "echo", ["b"])
            assert again == jobs_table.Taken(first.id, "echo", ("a",), running=True)
            for other in (job(BOB, b"r"), job(request_id=b"s"), job(), job()):
                assert await j.write(jobs_table.insert, other, "true", []) is None
            assert len(await j.read(jobs_table.running)) == 5

    run(scenario())


def test_an_end_is_recorded_once_and_the_first_stop_counts(place: Path | None) -> None:
    """Whatever comes later changes nothing of what was said."""

    async def scenario() -> None:
        async with journal(place) as j:
            kept = job()
            await j.write(jobs_table.insert, kept, "true", [])
            await j.write(jobs_table.note_stop, kept.id, "CN=alice")
            await j.write(jobs_table.note_stop, kept.id, "server")
            found = await j.read(jobs_table.find, kept.id, ALICE)
            assert found is not None
            assert found.stopped_by == "CN=alice"
            await j.write(jobs_table.end, kept.id, DONE, "", 1, 1)
            await j.write(jobs_table.end, kept.id, replace(DONE, exit_code=9), "", 2, 2)
            await j.write(jobs_table.note_stop, kept.id, "server")
            found = await j.read(jobs_table.find, kept.id, ALICE)
            assert found is not None
            assert (found.status.exit_code, found.stdout_bytes, found.stopped_by) == (7, 1, "")

    run(scenario())


def test_the_oldest_ends_come_first_in_pages(place: Path | None) -> None:
    """Retention walks from the oldest end on; running jobs are not in its way."""

    async def scenario() -> None:
        async with journal(place) as j:
            ends = [END.replace(second=second) for second in (40, 20, 20, 30)]
            rows = [job(status=replace(DONE, ended_at=end)) for end in ends]
            for each in [*rows, job()]:
                await j.write(jobs_table.insert, each, "true", [])
            found, after = [], (0, 0)
            while page := await j.read(jobs_table.oldest, after, 3):
                found += page
                after = (page[-1].closed_us, page[-1].number)
            assert [each.id for each in found] == [rows[i].id for i in (1, 2, 3, 0)]

    run(scenario())


def test_the_time_to_stay_begins_when_the_end_is_recorded(place: Path | None) -> None:
    """A job whose start's clock was years behind would otherwise be gone at its end."""

    async def scenario() -> None:
        async with journal(place) as j:
            kept, before = job(), row.now_us()
            await j.write(jobs_table.insert, kept, "true", [])
            await j.write(jobs_table.end, kept.id, DONE, "", 0, 0)
            (oldest,) = await j.read(jobs_table.oldest, (0, 0), 1)
            assert before <= oldest.closed_us <= row.now_us()
            found = await j.read(jobs_table.find, kept.id, ALICE)
            assert found is not None
            assert found.status.ended_at == END

    run(scenario())


def test_operations_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    """A thousand starts at once cost a few writes to the disk, not a thousand."""
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    async def scenario() -> None:
        async with journal(tmp_path / "jobs.sqlite") as j:
            await j.write(lambda connection: connection.set_trace_callback(count))
            starts = [j.write(jobs_table.insert, job(), "true", []) for _ in range(1000)]
            assert await asyncio.gather(*starts) == [None] * 1000
            assert len(await j.read(jobs_table.running)) == 1000
        # The thread is fast: it takes some before all are there.
        assert commits < 200

    run(scenario())


def test_an_operation_that_fails_takes_no_other_with_it(place: Path | None) -> None:
    """Its neighbours in the same transaction are kept; of itself nothing is, not even half."""

    def half(connection: sqlite3.Connection, row_id: uuid.UUID) -> None:
        jobs_table.delete(connection, [row_id])
        connection.execute("INSERT INTO nowhere VALUES (1)")

    def wrong(connection: sqlite3.Connection) -> None:
        raise LookupError(connection)

    async def scenario() -> None:
        async with journal(place) as j:
            first, second = job(), job()
            answers = await asyncio.gather(
                j.write(jobs_table.insert, first, "true", []),
                j.write(half, first.id),
                j.write(wrong),
                j.write(jobs_table.insert, second, "true", []),
                return_exceptions=True,
            )
            assert [type(answer) for answer in answers] == [
                *(type(None), JournalError, LookupError, type(None))
            ]
            assert await j.read(jobs_table.running) == [first, second]

    run(scenario())


def test_a_full_disk_fails_what_it_cannot_keep_and_heals(tmp_path: Path) -> None:
    """The error says that the disk is full; with room again the same journal goes on."""

    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    async def scenario() -> None:
        async with journal(tmp_path / "jobs.sqlite") as j:
            kept = job()
            await j.write(jobs_table.insert, kept, "true", [])
            await j.read(limit, 1)  # SQLite keeps the pages there are
            big = ["x" * 1_000_000]
            with pytest.raises(JournalError, match="full") as caught:
                await j.write(jobs_table.insert, job(), "true", big)
            assert caught.value.full
            await j.read(limit, 1 << 30)
            other = job()
            await j.write(jobs_table.insert, other, "true", big)
            assert await j.read(jobs_table.running) == [kept, other]

    run(scenario())


def test_a_caller_that_has_gone_does_not_undo_what_it_asked_for(place: Path | None) -> None:
    """An answer that nobody waits for any more changes nothing of the operation."""

    async def scenario() -> None:
        async with journal(place) as j:
            kept = job()
            j.write(jobs_table.insert, kept, "true", []).cancel()
            assert await j.read(jobs_table.find, uuid.uuid4(), ALICE) is None
            await j.write(jobs_table.delete, [])
            assert await j.read(jobs_table.running) == [kept]

    run(scenario())


def test_closing_finishes_what_was_asked_for(tmp_path: Path) -> None:
    """Then it answers with an error instead of never; closing again is no error."""
    path = tmp_path / "jobs.sqlite"

    async def scenario() -> None:
        j = Journal(path)
        await j.open()
        answers = [j.write(jobs_table.insert, job(), "true", []) for _ in range(10)]
        await j.close()
        await j.close()
        assert await asyncio.gather(*answers) == [None] * 10
        with pytest.raises(JournalError, match="closed"):
            await j.read(jobs_table.running)
        async with journal(path) as again:
            assert len(await again.read(jobs_table.running)) == 10

    run(scenario())


KILLED = """
import asyncio, os, pathlib, signal, sys
sys.path.append(sys.argv[2])
from test_server_journal import Journal, job, jobs_table
async def main():
    journal = Journal(pathlib.Path(sys.argv[1]))
    await journal.open()
    while True:
        kept = job()
        await journal.write(jobs_table.insert, kept, "true", [])
        print(kept.id, flush=True)
asyncio.run(main())
"""


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """Killed in the middle of writing, every row that was answered is there, and none is torn."""
    path = tmp_path / "jobs.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stdout is not None
        answered = [next(popen.stdout) for _ in range(20)]
        popen.send_signal(signal.SIGKILL)
        answered += [line for line in popen.stdout if line.endswith("\n")]

    async def scenario() -> None:
        async with journal(path) as j:
            ids = [uuid.UUID(line.strip()) for line in answered]
            assert await j.read(jobs_table.unknown, ids) == []

    run(scenario())


def synchronous(path: Path | None) -> int:
    """Returns how the journal has SQLite write."""

    async def scenario() -> int:
        async with journal(path) as j:
            query = "PRAGMA synchronous"
            (answer,) = await j.read(lambda connection: connection.execute(query).fetchone())
            return int(answer)

    return run(scenario())


# Version 1 as it was, with what was in it.
VERSION_1 = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,
    owner_name TEXT NOT NULL, owner_authority TEXT NOT NULL, owner_groups TEXT NOT NULL,
    request_id BLOB, boot_id TEXT NOT NULL, created_us INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, exit_code INTEGER, signal INTEGER,
    started_us INTEGER NOT NULL, ended_us INTEGER, closed_us INTEGER,
    stdout_bytes INTEGER NOT NULL, stderr_bytes INTEGER NOT NULL,
    command TEXT NOT NULL, args TEXT NOT NULL
);
CREATE UNIQUE INDEX jobs_by_request ON jobs (owner_name, owner_authority, request_id)
    WHERE request_id IS NOT NULL;
CREATE INDEX jobs_running ON jobs (number) WHERE state = 'running';
CREATE INDEX jobs_by_end ON jobs (closed_us, number) WHERE state <> 'running';
INSERT INTO jobs VALUES (1, X'0123456789ABCDEF0123456789ABCDEF', 'CN=alice', 'ca', '["team"]',
    X'0102', 'boot', 1767323045678901, 'completed', 'exited', 3, NULL, 1767323045678901,
    1767323046000007, 1767323046000007, 5, 6, 'sh', '["-c", "exit 3"]');
INSERT INTO jobs VALUES (2, X'FEDCBA9876543210FEDCBA9876543210', 'CN=alice', 'ca', '["team"]',
    NULL, 'boot', 1767323045678901, 'running', NULL, NULL, NULL, 1767323045678901,
    NULL, NULL, 0, 0, 'sleep', '["1000"]');
PRAGMA user_version = 1;
"""


def write(path: Path, script: str) -> None:
    """Makes a database with SQL of its own."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def test_a_database_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    """What it held is told as it was; what it could not hold is told as unknown, and works."""
    path = tmp_path / "jobs.sqlite"
    write(path, VERSION_1)
    ended, running = uuid.UUID("0123456789abcdef" * 2), uuid.UUID("fedcba9876543210" * 2)

    async def scenario() -> None:
        async with journal(path) as j:
            found = await j.read(jobs_table.find, ended, ALICE)
            assert found == replace(
                job(request_id=b"\1\2", status=replace(DONE, exit_code=3, usage=None)),
                id=ended,
                stdout_bytes=5,
                stderr_bytes=6,
            )
            await j.write(jobs_table.note_stop, running, "CN=alice")
            await j.write(jobs_table.end, running, DONE, "CN=alice", 0, 0)
            found = await j.read(jobs_table.find, running, ALICE)
            assert found is not None
            assert (found.status, found.stopped_by) == (DONE, "CN=alice")
        async with journal(path) as j:  # not twice
            assert await j.read(jobs_table.totals) == (2, 11)

    run(scenario())


def shape(path: Path) -> tuple[set[tuple[object, ...]], set[str]]:
    """Returns the table's columns, whatever their order, and the indices."""
    connection = sqlite3.connect(path)
    columns = {tuple(each[1:]) for each in connection.execute("PRAGMA table_info(jobs)")}
    indices = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
    names = {str(each[0]) for each in indices}
    connection.close()
    return columns, names


def test_an_old_database_becomes_what_a_new_one_is(tmp_path: Path) -> None:
    """However it came to be, the current version has one shape."""
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    write(old, VERSION_1)

    async def scenario() -> None:
        async with journal(old), journal(new):
            pass

    run(scenario())
    assert shape(old) == shape(new)


def test_a_newer_database_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    """A server that would misread it does not touch it; the message says what to install."""
    path = tmp_path / "jobs.sqlite"
    write(path, f"CREATE TABLE jobs (x); PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"jobs\.sqlite: a newer jobby-server wrote it") as caught:
        run(Journal(path).open())
    assert caught.value.exit_code == EXIT_CONFIG
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*corrupt*")) == []


@pytest.mark.parametrize("damage", ["no database", "a page overwritten", "cut short"])
def test_a_corrupt_database_is_moved_aside(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept for whoever wants to look, the log says so, and an empty one takes its place."""
    path = tmp_path / "jobs.sqlite"

    async def fill() -> None:
        async with journal(path) as j:
            for _ in range(100):
                await j.write(jobs_table.insert, job(), "true", ["x" * 1000])

    run(fill())
    content = path.read_bytes()
    assert len(content) > 50_000
    match damage:
        case "no database":
            content = b"\xff" * len(content)
        case "a page overwritten":
            content = content[:4096] + b"\xff" * 4096 + content[8192:]
        case "cut short":
            content = content[:20_000]
    path.write_bytes(content)

    async def scenario() -> None:
        opened = Journal(path)
        assert await opened.open()
        assert await opened.read(jobs_table.running) == []
        assert await opened.write(jobs_table.insert, job(), "true", []) is None
        await opened.close()

    run(scenario())
    (aside,) = tmp_path.glob("jobs.sqlite.corrupt-*")
    assert aside.read_bytes() == content
    assert "IS CORRUPT" in caplog.text
    assert str(aside) in caplog.text


def test_a_folder_that_cannot_be_used_is_an_error_by_name(tmp_path: Path) -> None:
    """The system's reason, and the way out; no thread is left that waits for nothing."""
    path = tmp_path / "missing" / "jobs.sqlite"
    with pytest.raises(ConfigError, match=r"missing/jobs\.sqlite: unable to open .*--state-dir"):
        run(Journal(path).open())


def test_a_durable_journal_waits_for_the_disk_and_one_in_memory_does_not(tmp_path: Path) -> None:
    """2 is FULL, 0 is OFF (sqlite.org/pragma.html)."""
    assert synchronous(tmp_path / "jobs.sqlite") == 2
    assert synchronous(None) == 0


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # noqa: DTZ001 - UTC comes next
def test_a_moment_is_kept_to_the_microsecond(moment: datetime) -> None:
    """No float comes between."""
    moment = moment.replace(tzinfo=UTC)
    assert row.from_us(row.to_us(moment)) == moment
