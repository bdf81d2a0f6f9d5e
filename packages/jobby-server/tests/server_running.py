"""Owns a server in this process, and the folder of its state."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from server_authority import Authority, Leaf
from server_client import Client

from jobby_core import Job, RecordError
from jobby_server.address import Address
from jobby_server.certificates import Material
from jobby_server.limits import Keep, Limits
from jobby_server.server import JobbyServer
from jobby_server.state_dir import StateDir


@dataclass(frozen=True)
class Running:
    """A server in this process."""

    server: JobbyServer
    spool: StateDir
    ca: Authority
    address: Address

    @asynccontextmanager
    async def client(
        self,
        leaf: Leaf | str,
        service: str = "jobby.v1.Jobby",
        options: Sequence[tuple[str, Any]] = (),
    ) -> AsyncIterator[Client]:
        """Connects as whom `leaf` names; a string stands for a new certificate of the CA."""
        if isinstance(leaf, str):
            leaf = self.ca.issue(leaf)
        credentials = grpc.ssl_channel_credentials(self.ca.pem, leaf.key_pem, leaf.cert_pem)
        # Each client a connection of its own, as clients in processes of their own have.
        own = [("grpc.use_local_subchannel_pool", 1), *options]
        async with grpc.aio.secure_channel(str(self.address), credentials, own) as channel:
            yield Client(channel, service)


@asynccontextmanager
async def serving(
    ca: Authority,
    *,
    limits: Limits | None = None,
    material: Material | None = None,
    state_dir: Path | None = None,
    keep: Keep | None = None,
    stop_jobs: bool = False,
) -> AsyncIterator[Running]:
    """Runs a server on a free port of loopback; drains it at the end.

    Unless other limits are given, it keeps no job for readers whose stream broke.
    """
    with tempfile.TemporaryDirectory() as parent:
        if state_dir is None:
            spool = StateDir.temporary(Path(parent))
        else:
            spool = StateDir.named(state_dir)
        material = material or ca.material()
        limits = limits or Limits(resume_seconds=0)
        server = JobbyServer(material, spool, limits, keep=keep, stop_jobs=stop_jobs)
        address = await server.start(Address("127.0.0.1", 0))
        try:
            yield Running(server, spool, ca, address)
        finally:
            hurry = asyncio.Event()
            hurry.set()
            assert await server.drain(hurry)
            spool.close()


@contextmanager
def state_folder(path: Path) -> Iterator[Path]:
    """A folder for a durable state; the jobs that run in it at the end are killed."""
    try:
        yield path
    finally:
        for folder in path.glob("jobs/*"):
            with suppress(RecordError):
                Job.attach(folder).stop()
