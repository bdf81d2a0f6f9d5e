"""Owns how the database is opened: sound, in the right mode, and of a schema that is known."""

import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from jobby_server import schema
from jobby_server.errors import ConfigError

_log = logging.getLogger(__name__)

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _CorruptError(Exception):
    """The file is no database that can be trusted."""


def kind(error: sqlite3.Error) -> int:
    """Returns an error's primary code (sqlite.org/rescode.html), 0 if it has none."""
    # Errors that Python's module raises by itself have none; above the lower byte are details.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def open_or_replace(path: Path | None) -> tuple[sqlite3.Connection, bool]:
    """Opens or creates a database; a corrupt one is moved aside, for a new one.

    Args:
        path: the file; None is memory alone.

    Returns:
        the connection, and whether a file was moved aside for it.

    Raises:
        ConfigError: it cannot be used; the text says why.
    """
    if path is None:
        return _connect(None), False
    try:
        return _connect(path), False
    except _CorruptError as error:
        aside = path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        try:
            # All three belong together: an old log would be replayed into the new file.
            for suffix in ("-shm", "-wal", ""):
                part = Path(f"{path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
        except OSError as failed:
            raise ConfigError(
                f"cannot move the corrupt {path} aside: {failed.strerror}; do it by hand"
            ) from failed
        _log.error(
            "%s IS CORRUPT (%s); it was moved to %s, and what the jobs' folders hold is read anew",
            *(path, error, aside),
        )
        return _connect(path), True


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = None
    try:
        connection = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        version = schema.version(connection, path)  # before anything is changed
        if path is not None:
            _check(connection)
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ConfigError(
                    f"cannot use {path}: the file system there lacks what SQLite's write-ahead "
                    "log needs; name a --state-dir on a local disk"
                )
        # In WAL mode only FULL has every commit on the disk before it is answered.
        connection.execute(f"PRAGMA synchronous = {'OFF' if path is None else 'FULL'}")
        schema.bring_up(connection, version)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if not isinstance(error, sqlite3.Error):
            raise
        if kind(error) in _CORRUPT:
            raise _CorruptError(str(error)) from error
        raise ConfigError(
            f"cannot use {path}: {error}; check the folder's permissions and the disk, "
            "or name another --state-dir"
        ) from error
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _CorruptError(verdict.splitlines()[-1])
