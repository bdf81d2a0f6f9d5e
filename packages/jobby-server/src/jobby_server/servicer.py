"""Owns the calls of the contract: read, decide, act, answer. Policy is elsewhere."""

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from jobby_core import Job, JobArgs, JobbyError
from jobby_proto.v1 import jobby_pb2
from jobby_server import wire
from jobby_server.access import Action
from jobby_server.environment import JOB_ENVIRONMENT
from jobby_server.identity import Principal
from jobby_server.interceptor import caller
from jobby_server.lifetime import shutting_down
from jobby_server.limits import Limits
from jobby_server.state_dir import StateDir
from jobby_server.store import Record, Store
from jobby_server.stream import FollowerSlots, send

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
# In quotes: grpc's classes are generic to the type checker only.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class JobbyServicer:
    """Serves the four calls. All of it runs on one event loop; what can block runs in threads.

    Args:
        store: the jobs.
        state: where their output goes.
        limits: how much one owner may have.
    """

    def __init__(self, store: Store, state: StateDir, limits: Limits) -> None:
        self._store = store
        self._state = state
        self._limits = limits
        self._slots = FollowerSlots(limits.followers_per_owner)
        self._starting: set[asyncio.Task[Any]] = set()
        self._closed = False

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
        """Returns the handler of each method of the contract, by the method's name."""
        pb2 = jobby_pb2
        return {
            "StartJob": grpc.unary_unary_rpc_method_handler(
                self.start_job,
                pb2.StartJobRequest.FromString,
                pb2.StartJobResponse.SerializeToString,
            ),
            "StopJob": grpc.unary_unary_rpc_method_handler(
                self.stop_job,
                pb2.StopJobRequest.FromString,
                pb2.StopJobResponse.SerializeToString,
            ),
            "GetStatus": grpc.unary_unary_rpc_method_handler(
                self.get_status,
                pb2.GetStatusRequest.FromString,
                pb2.GetStatusResponse.SerializeToString,
            ),
            "GetJobOutput": grpc.unary_stream_rpc_method_handler(
                self.get_job_output, pb2.GetJobOutputRequest.FromString, wire.encode_chunk
            ),
        }

    async def start_job(
        self, request: jobby_pb2.StartJobRequest, context: _Context
    ) -> jobby_pb2.StartJobResponse:
        """Starts a job for the caller.

        A call that is cancelled before it was answered leaves no job: nobody
        would ever learn its id.
        """
        del context
        if not request.command:
            raise wire.invalid("command", "it is empty; name the program to run")
        if self._closed:
            raise shutting_down()
        job_id = uuid.uuid4()
        # A task of its own: the thread that starts the job cannot be interrupted.
        launch = self._track(self._launch(job_id, caller(), request.command, tuple(request.args)))
        try:
            await asyncio.shield(launch)
        except asyncio.CancelledError:
            _ = self._track(self._abandon(job_id, launch))
            raise
        return jobby_pb2.StartJobResponse(job_id=job_id.bytes)

    async def stop_job(
        self, request: jobby_pb2.StopJobRequest, context: _Context
    ) -> jobby_pb2.StopJobResponse:
        """Kills a job of the caller and answers when it has ended."""
        del context
        job = self._find(Action.STOP, request.job_id)
        await asyncio.to_thread(job.stop)
        return jobby_pb2.StopJobResponse()

    async def get_status(
        self, request: jobby_pb2.GetStatusRequest, context: _Context
    ) -> jobby_pb2.GetStatusResponse:
        """Tells how a job of the caller stands."""
        del context
        return wire.status_response(self._find(Action.STATUS, request.job_id).status())

    async def get_job_output(
        self, request: jobby_pb2.GetJobOutputRequest, context: _Context
    ) -> None:
        """Streams an output of a job of the caller, from its first byte to its last."""
        wanted = wire.stream(request.type)
        job = self._find(Action.OUTPUT, request.job_id)
        give_back = self._slots.take(caller().owner)
        # Not when this method ends: gRPC holds the last chunk until the client has taken it.
        context.add_done_callback(lambda _: give_back())  # type: ignore[arg-type]  # any callable
        # At once, though the job may be silent for hours: the client knows that it is heard.
        await context.send_initial_metadata(())
        await send(job.follow(wanted), context.write, stall_seconds=self._limits.stall_seconds)

    async def close(self) -> None:
        """Refuses further starts; returns when those under way are in the store or undone."""
        self._closed = True
        while self._starting:
            await asyncio.wait(self._starting)

    def _find(self, action: Action, raw_id: bytes) -> Job:
        job = self._store.find(caller(), action, wire.job_id(raw_id))
        if job is None:
            raise wire.not_found()
        return job

    def _track(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        # The loop itself holds its tasks weakly (asyncio.create_task).
        task = asyncio.create_task(work)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    async def _launch(
        self, job_id: uuid.UUID, principal: Principal, command: str, args: tuple[str, ...]
    ) -> Job:
        job = await asyncio.to_thread(self._start, job_id, command, args)
        self._store.add(job_id, Record(job, principal.owner, principal.groups))
        # Not the arguments: they may hold a password.
        _log.info(
            "job %s: %s started %.200s, pid %d", job_id, principal.owner.name, command, job.pid
        )
        return job

    def _start(self, job_id: uuid.UUID, command: str, args: tuple[str, ...]) -> Job:
        """Starts a job, in a thread; leaves nothing behind when it fails."""
        folder = self._state.make_folder(job_id)
        try:
            return Job.start(
                JobArgs(
                    command,
                    args,
                    stdout_path=folder / "stdout",
                    stderr_path=folder / "stderr",
                    env=JOB_ENVIRONMENT,
                )
            )
        except BaseException:
            self._state.discard(job_id)
            raise

    async def _abandon(self, job_id: uuid.UUID, launch: "asyncio.Task[Job]") -> None:
        """Undoes a start whose caller has gone."""
        await asyncio.wait([launch])
        if launch.exception() is not None:
            return  # nothing was started
        try:
            await asyncio.to_thread(launch.result().stop)
        except JobbyError as error:
            _log.error("job %s: %s", job_id, error)
            return  # it stays in the store, so the drain tries again
        self._store.remove(job_id)
        await asyncio.to_thread(self._state.discard, job_id)
        _log.info("job %s: stopped, because its start was cancelled before it was answered", job_id)
