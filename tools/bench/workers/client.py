"""Owns the worker's side of a server that speaks the RFD's contract: connection, calls, its end."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from jobby_proto.v1 import jobby_pb2 as pb2

DEADLINE_SECONDS = 120.0
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Server:
    """Which server is measured.

    Attributes:
        address: HOST:PORT.
        pid: its process.
        folder: where the client's certificates lie.
        emit: the path of the job that writes as it is told.
        gate: a path that nobody uses, in a folder that is there.
    """

    address: str
    pid: int
    folder: str
    emit: str
    gate: str

    def open_gate(self) -> None:
        """Let the job begin."""
        Path(self.gate).touch()

    def credentials(self) -> grpc.ChannelCredentials:
        """The client's certificates."""
        at = Path(self.folder)
        names = ("ca.cert", "client.key", "client.cert")
        return grpc.ssl_channel_credentials(*((at / name).read_bytes() for name in names))

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        return grpc.secure_channel(self.address, self.credentials(), _OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """A connection of its own, for asyncio."""
        return grpc.aio.secure_channel(self.address, self.credentials(), _OPTIONS)


class Calls:
    """The calls of the contract over one channel, blocking or awaitable as the channel is.

    Output comes as it is on the wire: who measures a server does not want to measure a parser.
    """

    def __init__(self, channel: Any) -> None:
        self.start: Callable[..., Any] = channel.unary_unary(
            "/Jobby/StartJob",
            pb2.StartJobRequest.SerializeToString,
            pb2.StartJobResponse.FromString,
        )
        self.status: Callable[..., Any] = channel.unary_unary(
            "/Jobby/GetStatus",
            pb2.GetStatusRequest.SerializeToString,
            pb2.GetStatusResponse.FromString,
        )
        self.stop: Callable[..., Any] = channel.unary_unary(
            "/Jobby/StopJob",
            pb2.StopJobRequest.SerializeToString,
            pb2.StopJobResponse.FromString,
        )
        self._output: Callable[..., Any] = channel.unary_stream(
            "/Jobby/GetJobOutput", pb2.GetJobOutputRequest.SerializeToString, None
        )

    def output(self, job_id: bytes, kind: pb2.OutputType.ValueType = pb2.OUTPUT_TYPE_STDOUT) -> Any:
        """Standard output, or what is named, from its first byte."""
        return self._output(pb2.GetJobOutputRequest(job_id=job_id, type=kind))

    def run(self, command: str, *arguments: str) -> bytes:
        """Start a job over a blocking channel; returns its id."""
        request = pb2.StartJobRequest(command=command, args=arguments)
        return bytes(self.start(request, timeout=DEADLINE_SECONDS).job_id)

    def finish(self, job_id: bytes) -> None:
        """Wait until a job has ended, over a blocking channel."""
        for _ in self.output(job_id):
            pass


def data_size(message: bytes) -> int:
    """How many bytes of output a GetJobOutputResponse holds, without a copy of them."""
    if message[:1] != b"\x0a":  # field 1, length-delimited; absent in the end
        return 0
    size = shift = 0
    for byte in message[1:6]:
        size |= (byte & 127) << shift
        if byte < 128:
            return size
        shift += 7
    raise ValueError("a message of more than 32 GiB")


def reason(error: grpc.RpcError) -> str:
    """A call's failure on one line: its own text ends with a line that says nothing."""
    return f"{error.code().name}: {' '.join((error.details() or '').split())}"


def main(*jobs: Callable[..., dict[str, float]]) -> None:
    """Do the job that is named, for the server that is described, and print its figures."""
    named = {job.__name__: job for job in jobs}
    arguments = json.loads(sys.argv[2])
    server = Server(**arguments.pop("server"))
    try:
        print(json.dumps(named[sys.argv[1]](server, **arguments)))
    except grpc.RpcError as error:
        sys.exit(reason(error))
