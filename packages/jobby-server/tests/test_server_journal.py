"""What is known of the jobs is on the disk before anybody is told, and survives what befalls it."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_rows import ALICE, BOB, DONE, END, job, journal
from server_waiting import run

from jobby_server import jobs_table, row
from jobby_server import journal as journal_module
from jobby_server.identity import Owner
from jobby_server.journal import Journal, JournalError


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


def test_the_time_to_stay_begins_when_the_end_is_seen(place: Path | None) -> None:
    """A job whose start's clock was years behind would otherwise be gone at its end.

    Of one that nobody saw end, the recorded end counts.
    """

    async def scenario() -> None:
        async with journal(place) as j:
            kept, before = job(), row.now_us()
            await j.write(jobs_table.insert, kept, "true", [])
            await j.write(jobs_table.end, kept.id, DONE, "", 0, 0, seen=True)
            unseen = job()
            await j.write(jobs_table.insert, unseen, "true", [])
            await j.write(jobs_table.end, unseen.id, DONE, "", 0, 0)
            old, young = await j.read(jobs_table.oldest, (0, 0), 2)
            assert (old.id, old.closed_us) == (unseen.id, row.to_us(END))
            assert before <= young.closed_us <= row.now_us()
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


def test_what_nobody_foresaw_fails_its_own_and_no_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without memory amid a transaction: who asked is told, and the thread goes on."""

    def no_memory(connection: sqlite3.Connection, batch: object) -> None:
        connection.execute("BEGIN IMMEDIATE")
        raise MemoryError

    async def scenario() -> None:
        async with journal(tmp_path / "jobs.sqlite") as j:
            with monkeypatch.context() as patch:
                patch.setattr(journal_module, "_commit", no_memory)  # no test can have it happen
                with pytest.raises(JournalError, match="MemoryError"):
                    await j.write(jobs_table.insert, job(), "true", [])
            kept = job()
            await j.write(jobs_table.insert, kept, "true", [])
            assert await j.read(jobs_table.running) == [kept]

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
from jobby_server import jobs_table
from jobby_server.journal import Journal
from server_rows import job
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


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # noqa: DTZ001 - UTC comes next
def test_a_moment_is_kept_to_the_microsecond(moment: datetime) -> None:
    """No float comes between."""
    moment = moment.replace(tzinfo=UTC)
    assert row.from_us(row.to_us(moment)) == moment
