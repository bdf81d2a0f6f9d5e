"""Owns a server for a while, on a state that others had before and will have after it."""

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server_authority import Authority
from server_client import Client
from server_running import Running, serving

from jobby_proto.v1 import jobby_pb2 as pb


@dataclass(frozen=True)
class Once:
    """A server for a while, and two clients of it."""

    running: Running
    alice: Client
    bob: Client

    async def status(self, job: bytes) -> pb.GetStatusResponse:
        """Returns what alice is told."""
        answer: pb.GetStatusResponse = await self.alice.status(pb.GetStatusRequest(job_id=job))
        return answer


@asynccontextmanager
async def once(ca: Authority, state_dir: Path, **options: Any) -> AsyncIterator[Once]:
    """Runs a server on a state that others had before and will have after it."""
    async with (
        serving(ca, state_dir=state_dir, **options) as running,
        running.client("alice") as alice,
        running.client("bob") as bob,
    ):
        yield Once(running, alice, bob)


def folder(state_dir: Path, job: bytes) -> Path:
    """Returns where a job's files lie."""
    return state_dir / "jobs" / str(uuid.UUID(bytes=job))


def edit(state_dir: Path, statement: str, *values: object) -> None:
    """Changes the journal, while no server uses it."""
    connection = sqlite3.connect(state_dir / "jobs.sqlite")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def request(script: str, request_id: bytes = b"") -> pb.StartJobRequest:
    """Returns the request for a shell's script."""
    return pb.StartJobRequest(command="sh", args=["-c", script], request_id=request_id)
