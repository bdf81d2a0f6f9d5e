"""Owns the calls of the contract: read, decide, act, answer. Policy is elsewhere."""

import logging
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from jobby_core import Job, RecordError
from jobby_proto.v1 import jobby_pb2
from jobby_server import wire
from jobby_server.access import Action
from jobby_server.interceptor import caller
from jobby_server.limits import Limits
from jobby_server.record import Record
from jobby_server.refusal import RefusedError
from jobby_server.row import Row
from jobby_server.starter import Order, Starter
from jobby_server.store import Store
from jobby_server.stream import FollowerSlots, send

_log = logging.getLogger(__name__)

_MAX_REQUEST_ID: Final = 64
_MAX_OUTPUT_BYTES: Final = 2**63 - 1
_MAX_TIMEOUT_SECONDS: Final = 1e12
# In quotes: grpc's classes are generic to the type checker only.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class JobbyServicer:
    """Serves the four calls. All of it runs on one event loop; what can block runs in threads.

    Args:
        store: the jobs.
        starter: starts them.
        limits: how much one owner may have.
    """

    def __init__(self, store: Store, starter: Starter, limits: Limits) -> None:
        self._store = store
        self._starter = starter
        self._limits = limits
        self._slots = FollowerSlots(limits.followers_per_owner)

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
                self.get_job_output,
                pb2.GetJobOutputRequest.FromString,
                None,  # it writes bytes, see wire.encode_chunk
            ),
        }

    async def start_job(
        self, request: jobby_pb2.StartJobRequest, context: _Context
    ) -> jobby_pb2.StartJobResponse:
        """Starts a job for the caller; see `Starter.start`."""
        del context
        if not request.command:
            raise wire.invalid("command", "it is empty; name the program to run")
        if len(request.request_id) > _MAX_REQUEST_ID:
            raise wire.invalid(
                "request_id",
                f"it has {len(request.request_id)} bytes; give 1 to {_MAX_REQUEST_ID}, best random",
            )
        order = Order(
            command=request.command,
            args=tuple(request.args),
            request_id=request.request_id or None,
            # What is beyond these limits is beyond what there can be.
            max_output_bytes=min(request.max_output_bytes, _MAX_OUTPUT_BYTES) or None,
            timeout_seconds=min(request.timeout_ms / 1000, _MAX_TIMEOUT_SECONDS) or None,
        )
        job_id = await self._starter.start(caller(), order)
        return jobby_pb2.StartJobResponse(job_id=job_id.bytes)

    async def stop_job(
        self, request: jobby_pb2.StopJobRequest, context: _Context
    ) -> jobby_pb2.StopJobResponse:
        """Kills a job of the caller and answers when it has ended."""
        del context
        found = await self._find(Action.STOP, request.job_id)
        if isinstance(found, Record):
            await self._store.stops.stop(wire.job_id(request.job_id), found, caller().owner.name)
        return jobby_pb2.StopJobResponse()

    async def get_status(
        self, request: jobby_pb2.GetStatusRequest, context: _Context
    ) -> jobby_pb2.GetStatusResponse:
        """Tells how a job of the caller stands."""
        del context
        found = await self._find(Action.STATUS, request.job_id)
        at = self._store.standing(wire.job_id(request.job_id), found)
        return wire.status_response(
            at.status,
            stopped_by=at.stopped_by,
            stdout_bytes=at.stdout_bytes,
            stderr_bytes=at.stderr_bytes,
        )

    async def get_job_output(
        self, request: jobby_pb2.GetJobOutputRequest, context: _Context
    ) -> None:
        """Streams an output of a job of the caller, or a part of it, and then its end."""
        wanted, raw_id = wire.output_wanted(request), request.job_id
        del request  # a stream may last for days, and there may be thousands
        job_id = wire.job_id(raw_id)
        # Around all of it: nothing may be tidied away between finding the job and its end, nor
        # while a reader whose stream broke comes again. It may break when all has been sent.
        self._store.readers.begin(job_id)
        comes_again = False
        try:
            found = await self._find(Action.OUTPUT, raw_id)
            job = await self._job(found)
            # Of a job that had ended, what the journal says, as for its status: the outcome in
            # its folder may have been damaged since.
            known = found if isinstance(found, Row) else None
            give_back = self._slots.take(caller().owner)
            # Not when this method ends: gRPC holds the last chunk until the client has taken it.
            context.add_done_callback(lambda _: give_back())  # type: ignore[arg-type]  # any callable
            stall_seconds = self._limits.stall_seconds
            comes_again = True
            await send(job, wanted, context, known=known, stall_seconds=stall_seconds)
        finally:
            self._store.readers.end(job_id, comes_again=comes_again)

    async def _find(self, action: Action, raw_id: bytes) -> Record | Row:
        found = await self._store.find(caller(), action, wire.job_id(raw_id))
        if found is None:
            raise wire.not_found()
        return found

    async def _job(self, found: Record | Row) -> Job:
        try:
            return await self._store.job(found)
        except RecordError as error:
            _log.error("%s", error)
            raise RefusedError(
                grpc.StatusCode.DATA_LOSS,
                "the job's output cannot be read: its record on the server is missing or damaged; "
                "the server's log says which file",
            ) from error
