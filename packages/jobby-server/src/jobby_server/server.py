"""Owns one running server: its parts put together, its address, and its orderly end."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from jobby_core import State, launcher_available
from jobby_server import tls, wire
from jobby_server.address import Address
from jobby_server.certificates import Material
from jobby_server.errors import ConfigError
from jobby_server.identity import Authorities
from jobby_server.interceptor import Gate
from jobby_server.journal import Journal, JournalError
from jobby_server.lifetime import Lifetimes, restarting, shutting_down
from jobby_server.limits import Keep, Limits, channel_arguments
from jobby_server.recovery import Recovery
from jobby_server.retention import Retention
from jobby_server.servicer import JobbyServicer
from jobby_server.starter import Starter
from jobby_server.state_dir import StateDir
from jobby_server.store import Store

_log = logging.getLogger(__name__)


class JobbyServer:
    """Serves jobs until it is drained. To be made and used on one event loop.

    Args:
        material: its certificates.
        state: where the jobs' state is kept; the caller closes it.
        limits: how much it bears.
        keep: how long it keeps ended jobs.
        stop_jobs: whether running jobs end with it even if its state is durable.

    Attributes:
        store: its jobs.
        lifetimes: its streaming calls.
    """

    def __init__(
        self,
        material: Material,
        state: StateDir,
        limits: Limits | None = None,
        *,
        keep: Keep | None = None,
        stop_jobs: bool = False,
    ) -> None:
        self._limits = limits or Limits()
        self._material = material
        self._state = state
        self._stop_jobs = stop_jobs or not state.durable
        self._journal = Journal(state.database)
        self.store = Store(self._journal, state, resume_seconds=self._limits.resume_seconds)
        first_seconds = self._limits.resume_seconds if state.durable else 0
        self._retention = Retention(
            keep or Keep(), self.store, self._journal, first_seconds=first_seconds
        )
        self.store.on_change = self._retention.consider
        farewell = shutting_down if self._stop_jobs else restarting
        self.lifetimes = Lifetimes(farewell=farewell)
        self._starter = Starter(self.store, state, farewell)
        self._servicer = JobbyServicer(self.store, self._starter, self._limits)
        self._health = health.aio.HealthServicer()
        gate = Gate(Authorities(material.ca_pem), self.lifetimes)
        self._grpc = grpc.aio.server(interceptors=[gate], options=channel_arguments(self._limits))
        handlers = self._servicer.handlers()
        self._grpc.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, handlers) for name in wire.SERVICE_NAMES]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        # Only the name that the contract's descriptor knows can be described.
        reflection.enable_server_reflection(
            (wire.SERVICE_NAMES[0], health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc
        )

    async def start(self, address: Address) -> Address:
        """Takes up the jobs of the server before, then serves.

        gRPC's own error does not say why it cannot bind: `Address.try_out` does, before this.

        Returns:
            the address, with a free port in place of port 0.

        Raises:
            ConfigError: the address cannot be listened on, or the state not be kept.
            StartupError: a job that runs cannot be taken up again.
        """
        try:
            await self._open()
            return await self._serve(address)
        except BaseException:
            await self._close()
            raise

    async def _open(self) -> None:
        if self._state.durable and not launcher_available():
            raise ConfigError(
                "cannot keep jobs that outlive the server: jobby-core has no launcher for this "
                "platform; leave --state-dir out"
            )
        await self._journal.open()
        try:
            if self._state.durable:
                await Recovery(self.store, self._journal, self._state).run()
            await self.store.load()
        except JournalError as error:
            raise ConfigError(
                f"cannot use {self._state.database}: {error}; free space on its disk, and check "
                "that this user may write there"
            ) from error
        self._retention.consider()

    async def _close(self) -> None:
        await self._retention.close()
        await self.store.close()
        await self._journal.close()

    async def _serve(self, address: Address) -> Address:
        try:
            port = self._grpc.add_secure_port(str(address), tls.credentials(self._material))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {address}: gRPC cannot bind it ({error}); "
                "choose another --listen"
            ) from error
        await self._grpc.start()
        for name in wire.SERVICE_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return Address(address.host, port)

    async def drain(self, hurry: asyncio.Event | None = None) -> bool:
        """Ends everything: new calls, streams, calls under way, and jobs unless they outlive it.

        Args:
            hurry: once set, calls under way are not waited for any more.

        Returns:
            whether everything has ended; False when something takes longer
            than `Limits.stop_seconds`.
        """
        # A watcher that doesn't read would otherwise hold up the end.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._health.enter_graceful_shutdown()
        # Streams before jobs: a stream that ended with its job would look complete.
        self.lifetimes.end_all()
        stopping = asyncio.create_task(self._grpc.stop(self._limits.drain_seconds))
        hurrying = asyncio.create_task((hurry or asyncio.Event()).wait())
        await asyncio.wait([stopping, hurrying], return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        await self._grpc.stop(None)
        await stopping
        ended = await self._within(self._starter.close())
        if self._stop_jobs:
            ended = await self._stop_all() and ended
        # Without what hangs, everything else is kept all the same.
        ended = await self._within(self._close()) and ended
        return await self._within(self._journal.close()) and ended

    def running_jobs(self) -> int:
        """Returns how many jobs run: after a drain, how many outlive this server."""
        return sum(record.job.status().state is State.RUNNING for _, record in self.store)

    async def _within(self, work: Coroutine[Any, Any, None]) -> bool:
        try:
            async with asyncio.timeout(self._limits.stop_seconds):
                await work
        except TimeoutError:
            return False  # a thread hangs in the kernel, perhaps on a network file system
        return True

    async def _stop_all(self) -> bool:
        stops = {
            self.store.stops.begin(job_id, record, "server"): job_id
            for job_id, record in self.store
            if record.job.status().state is State.RUNNING
        }
        if not stops:
            return True
        _log.info("killing %d running jobs", len(stops))
        done, pending = await asyncio.wait(stops, timeout=self._limits.stop_seconds)
        for stop in done:
            if error := stop.exception():
                _log.error("job %s: %s", stops[stop], error)
        return not pending
