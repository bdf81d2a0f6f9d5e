"""Owns the jobs table: the statements that read and write it, each for the journal's thread."""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from jobby_core import State, Status
from jobby_server.identity import Owner
from jobby_server.row import COLUMNS, END_COLUMNS, Row, decode, encode, encode_end, now_us, to_us


@dataclass(frozen=True, slots=True)
class Taken:
    """The job that a request id stands for already."""

    id: uuid.UUID
    command: str
    args: tuple[str, ...]
    running: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What retention has to know of an ended job.

    Attributes:
        number: the order in which jobs were asked for.
        id: the job's id.
        closed_us: when a server saw it end; if none did, when it ended, or when that was noticed
            if nothing else is known.
        bytes: the size of its outputs together.
    """

    number: int
    id: uuid.UUID
    closed_us: int
    bytes: int


_COLUMNS: Final = ", ".join(COLUMNS)
_MARKS: Final = ", ".join("?" * (len(COLUMNS) + 3))
_END: Final = ", ".join(f"{name} = ?" for name in END_COLUMNS)
_OWNER = "owner_name = ? AND owner_authority = ?"


def insert(
    connection: sqlite3.Connection, row: Row, command: str, args: Sequence[str]
) -> Taken | None:
    """Adds a row, ended or not; returns the job that has its request id already, if there is one.

    A row whose id is taken is not added either.
    """
    closed_us = None if row.status.state is State.RUNNING else _closed_us(row.status)
    added = connection.execute(
        f"INSERT INTO jobs ({_COLUMNS}, closed_us, command, args) "
        f"VALUES ({_MARKS}) ON CONFLICT DO NOTHING",
        (*encode(row), closed_us, command, json.dumps(list(args))),
    ).rowcount
    return None if added else taken(connection, row.owner, row.request_id)


def taken(connection: sqlite3.Connection, owner: Owner, request_id: bytes | None) -> Taken | None:
    """Returns the job that a request id of this owner stands for."""
    found = connection.execute(
        f"SELECT id, command, args, state FROM jobs WHERE {_OWNER} AND request_id = ?",
        (owner.name, owner.authority, request_id),
    ).fetchone()
    if found is None:
        return None
    job_id, command, args, state = found
    running = State(state) is State.RUNNING
    return Taken(uuid.UUID(bytes=job_id), command, tuple(json.loads(args)), running)


def find(connection: sqlite3.Connection, job_id: uuid.UUID, owner: Owner) -> Row | None:
    """Returns a job of `owner`. One of somebody else takes the same steps as none at all."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE id = ? AND {_OWNER}",
        (job_id.bytes, owner.name, owner.authority),
    ).fetchone()
    return None if found is None else decode(found)


def running(connection: sqlite3.Connection) -> list[Row]:
    """Returns the jobs whose end is not recorded, in the order of their starts."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running' ORDER BY number"
    )
    return [decode(each) for each in found]


def unknown(connection: sqlite3.Connection, job_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Returns those of `job_ids` that have no row."""
    query = "SELECT 1 FROM jobs WHERE id = ?"
    return [i for i in job_ids if connection.execute(query, (i.bytes,)).fetchone() is None]


def note_stop(connection: sqlite3.Connection, job_id: uuid.UUID, who: str) -> None:
    """Notes who asks a running job to stop; the first one counts."""
    connection.execute(
        "UPDATE jobs SET stopped_by = ? WHERE id = ? AND state = 'running' AND stopped_by = ''",
        (who, job_id.bytes),
    )


def end(
    connection: sqlite3.Connection,
    job_id: uuid.UUID,
    status: Status,
    stopped_by: str,
    stdout_bytes: int,
    stderr_bytes: int,
    *,
    seen: bool = False,
) -> bool:
    """Records the end of a running job; returns whether there is one.

    Retention counts from now if this server saw it end. When that was may be told by the clock of
    its start, which may have been set since: it would be gone before anybody had read it.
    """
    found = connection.execute(
        f"UPDATE jobs SET {_END}, closed_us = ? WHERE id = ? AND state = 'running'",
        (
            *encode_end(status, stopped_by, stdout_bytes, stderr_bytes),
            now_us() if seen else _closed_us(status),
            job_id.bytes,
        ),
    )
    return found.rowcount > 0


def delete(connection: sqlite3.Connection, job_ids: Iterable[uuid.UUID]) -> tuple[int, int]:
    """Forgets jobs; an unknown id is no error.

    Returns:
        how many of them had ended, and how many bytes their outputs have.
    """
    count = size = 0
    for each in job_ids:
        found = connection.execute(
            "SELECT stdout_bytes + stderr_bytes FROM jobs WHERE id = ? AND state <> 'running'",
            (each.bytes,),
        ).fetchone()
        if found is not None:
            count, size = count + 1, size + found[0]
        connection.execute("DELETE FROM jobs WHERE id = ?", (each.bytes,))
    return count, size


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Returns how many jobs have ended, and how many bytes their outputs have."""
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(stdout_bytes + stderr_bytes), 0) FROM jobs "
        "WHERE state <> 'running'"
    ).fetchone()
    return count, size


def oldest(connection: sqlite3.Connection, after: tuple[int, int], most: int) -> list[Ended]:
    """Returns ended jobs, those first whose end was noticed first.

    Args:
        connection: where.
        after: `closed_us` and `number` of the job before them; (0, 0) for the first.
        most: how many at most.
    """
    found = connection.execute(
        "SELECT number, id, closed_us, stdout_bytes + stderr_bytes FROM jobs "
        "WHERE state <> 'running' AND (closed_us, number) > (?, ?) "
        "ORDER BY closed_us, number LIMIT ?",
        (*after, most),
    )
    return [Ended(number, uuid.UUID(bytes=i), at, size) for number, i, at, size in found]


def _closed_us(status: Status) -> int:
    return now_us() if status.ended_at is None else to_us(status.ended_at)
