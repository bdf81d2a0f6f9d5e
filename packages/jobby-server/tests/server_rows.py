"""Owns rows of jobs, as a test keeps them, and a journal to keep them in."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from jobby_core import Reason, State, Status, Usage
from jobby_server import row
from jobby_server.identity import Owner
from jobby_server.journal import Journal
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
