"""Owns one running server: its parts put together, its address, and its orderly end."""

import asyncio
import contextlib
import logging

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from jobby_core import Job, JobbyError, State
from jobby_server import tls, wire
from jobby_server.address import Address
from jobby_server.certificates import Material
from jobby_server.errors import ConfigError
from jobby_server.identity import Authorities
from jobby_server.interceptor import Gate
from jobby_server.lifetime import Lifetimes
from jobby_server.limits import Limits, channel_arguments
from jobby_server.servicer import JobbyServicer
from jobby_server.state_dir import StateDir
from jobby_server.store import Store

_log = logging.getLogger(__name__)


class JobbyServer:
    """Serves jobs until it is drained. To be made and used on one event loop.

    Args:
        material: its certificates.
        state: where the jobs' output goes; the caller closes it.
        limits: how much it bears.

    Attributes:
        store: its jobs.
        lifetimes: its streaming calls.
    """

    def __init__(self, material: Material, state: StateDir, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._material = material
        self.store = Store()
        self.lifetimes = Lifetimes()
        self._servicer = JobbyServicer(self.store, state, self._limits)
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
        """Starts serving; returns the address, with a free port in place of port 0.

        Raises:
            AddressInUseError: somebody else listens there.
            ConfigError: the address cannot be listened on.
        """
        # gRPC's own error does not say why it cannot bind.
        await asyncio.to_thread(address.try_out)
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
        """Ends everything: new calls, streams, calls under way, jobs.

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
        settled = await self._settle_starts()
        return await self._stop_jobs() and settled

    async def _settle_starts(self) -> bool:
        try:
            async with asyncio.timeout(self._limits.stop_seconds):
                await self._servicer.close()
        except TimeoutError:
            return False  # a thread hangs in the kernel, perhaps on a network file system
        return True

    async def _stop_jobs(self) -> bool:
        jobs = [r.job for _, r in self.store if r.job.status().state is State.RUNNING]
        if not jobs:
            return True
        _log.info("killing %d running jobs", len(jobs))
        stops = [asyncio.create_task(asyncio.to_thread(_stop, job)) for job in jobs]
        _, pending = await asyncio.wait(stops, timeout=self._limits.stop_seconds)
        return not pending


def _stop(job: Job) -> None:
    try:
        job.stop()
    except JobbyError as error:
        _log.error("%s", error)
