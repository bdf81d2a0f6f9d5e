"""The file that the journal is in: its version, its shape, its damage, and its place."""

import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from server_rows import ALICE, DONE, job, journal
from server_waiting import run

from jobby_server import jobs_table, schema
from jobby_server.errors import EXIT_CONFIG, ConfigError
from jobby_server.journal import Journal


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
