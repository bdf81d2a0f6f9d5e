"""Owns the database's schema: its version, and how an older one becomes the current one."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from jobby_server.errors import ConfigError

VERSION: Final = 2

# The columns that may be large come last: what stands behind them costs a walk to read.
_CURRENT: Final = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        owner_name TEXT NOT NULL,
        owner_authority TEXT NOT NULL,
        owner_groups TEXT NOT NULL,  -- a JSON array
        request_id BLOB,
        boot_id TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        state TEXT NOT NULL,  -- jobby_core.State and Reason, by value
        reason TEXT,
        exit_code INTEGER,
        signal INTEGER,
        started_us INTEGER NOT NULL,
        ended_us INTEGER,
        closed_us INTEGER,  -- from when retention counts; NULL while it runs
        stopped_by TEXT NOT NULL DEFAULT '',
        user_us INTEGER,
        system_us INTEGER,
        max_rss_bytes INTEGER,
        stdout_bytes INTEGER NOT NULL,
        stderr_bytes INTEGER NOT NULL,
        command TEXT NOT NULL,
        args TEXT NOT NULL  -- a JSON array
    )
    """,
    """
    CREATE UNIQUE INDEX jobs_by_request ON jobs (owner_name, owner_authority, request_id)
    WHERE request_id IS NOT NULL
    """,
    "CREATE INDEX jobs_running ON jobs (number) WHERE state = 'running'",
    "CREATE INDEX jobs_by_end ON jobs (closed_us, number) WHERE state <> 'running'",
)


def _from_1(connection: sqlite3.Connection) -> None:
    """Version 1 knew neither who stopped a job nor what it used."""
    for column in (
        "stopped_by TEXT NOT NULL DEFAULT ''",
        "user_us INTEGER",
        "system_us INTEGER",
        "max_rss_bytes INTEGER",
    ):
        connection.execute(f"ALTER TABLE jobs ADD COLUMN {column}")


_MIGRATIONS: Final[Mapping[int, Callable[[sqlite3.Connection], None]]] = {1: _from_1}
"""From each older version to the one after it."""


def version(connection: sqlite3.Connection, path: Path | None) -> int:
    """Returns the database's version, 0 for an empty one.

    Raises:
        ConfigError: it is newer than this server, which would misread it.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise ConfigError(
            f"cannot use {path}: a newer jobby-server wrote it (its schema has version {found}, "
            f"this server knows {VERSION}); install that one again, or name another --state-dir"
        )
    return found


def bring_up(connection: sqlite3.Connection, found: int) -> None:
    """Creates the schema in an empty database, or brings an older one up to date: all or nothing.

    Args:
        connection: the database.
        found: its version.
    """
    if found == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if found == 0:
            for statement in _CURRENT:
                connection.execute(statement)
        else:
            for step in range(found, VERSION):
                _MIGRATIONS[step](connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:  # whatever it is, half a migration is never kept
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
