"""Owns the calls of a client, and the status that one fails with."""

from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from jobby_proto.v1 import jobby_pb2 as pb


class Client:
    """The contract's four calls over one channel, under either of its names."""

    channel: Any  # the tests call methods on it that no contract has

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        def unary(name: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(
                f"/{service}/{name}", request.SerializeToString, response.FromString
            )

        self.channel = channel
        self.start = unary("StartJob", pb.StartJobRequest, pb.StartJobResponse)
        self.stop = unary("StopJob", pb.StopJobRequest, pb.StopJobResponse)
        self.status = unary("GetStatus", pb.GetStatusRequest, pb.GetStatusResponse)
        self.output: Any = channel.unary_stream(
            f"/{service}/GetJobOutput",
            pb.GetJobOutputRequest.SerializeToString,
            pb.GetJobOutputResponse.FromString,
        )

    async def run_job(self, *command: str) -> bytes:
        """Starts a job; returns its id."""
        request = pb.StartJobRequest(command=command[0], args=command[1:])
        response: pb.StartJobResponse = await self.start(request)
        return response.job_id

    def follow(
        self,
        job_id: bytes,
        output: pb.OutputType.ValueType = pb.OUTPUT_TYPE_STDOUT,
        **fields: Any,
    ) -> Any:
        """Opens a stream of a job's output; `fields` are the request's other ones."""
        return self.output(pb.GetJobOutputRequest(job_id=job_id, type=output, **fields))

    async def read(
        self, job_id: bytes, output: pb.OutputType.ValueType = pb.OUTPUT_TYPE_STDOUT
    ) -> bytes:
        """Reads an output to its end."""
        return b"".join([message.data async for message in self.follow(job_id, output)])

    async def wait(self, job_id: bytes) -> pb.GetStatusResponse:
        """Waits for a job's end, as any client can: its output ends with it."""
        await self.read(job_id)
        response: pb.GetStatusResponse = await self.status(pb.GetStatusRequest(job_id=job_id))
        return response


def health(channel: Any) -> Any:
    """Returns the standard health service's calls."""
    return health_pb2_grpc.HealthStub(channel)


def reflection(channel: Any) -> Any:
    """Returns the standard reflection service's call."""
    return reflection_pb2_grpc.ServerReflectionStub(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """Returns the status that a call, or a stream read to its end, fails with."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was not refused")
