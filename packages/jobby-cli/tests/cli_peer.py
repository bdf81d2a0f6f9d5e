"""Owns a real gRPC server in this process that runs nothing, and answers as a test tells it to."""

import os
import socket
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import grpc
from cli_authority import Authority, Leaf
from cli_waiting import DEADLINE_SECONDS

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_proto.v1 import jobby_pb2_grpc

JOB = uuid.UUID("d19af777-cfa4-40a3-b835-244365b5a697")
"""A job of the server's: it takes any id for one."""


Output = Callable[[Any, Any], Iterable[bytes | pb.GetJobOutputResponse]]
"""What answers a call for output: all of it, from its first byte, or else the very messages."""


class Servicer(jobby_pb2_grpc.JobbyServicer):
    """Answers as a test tells it to; by default each job has run and printed `hello`.

    Attributes:
        starts: the requests to start that came.
        stops: the ids that were to be stopped.
        outputs: the requests for output that came.
        on_start, on_stop, on_status, on_output: what a test puts in the place of the default.
        ended: set when a stream is over, however it came to that.
    """

    def __init__(self) -> None:
        self.starts: list[pb.StartJobRequest] = []
        self.stops: list[uuid.UUID] = []
        self.outputs: list[pb.GetJobOutputRequest] = []
        self.ended = threading.Event()
        self.on_start: Callable[[Any, Any], pb.StartJobResponse] = lambda request, context: (
            pb.StartJobResponse(job_id=uuid.uuid4().bytes)
        )
        self.on_stop: Callable[[Any, Any], pb.StopJobResponse] = lambda request, context: (
            pb.StopJobResponse()
        )
        self.on_status: Callable[[Any, Any], pb.GetStatusResponse] = lambda request, context: (
            pb.GetStatusResponse(current_status=pb.STATUS_COMPLETE, exit_code=0)
        )
        self.on_output: Output = lambda request, context: [b"hello\n"]

    def StartJob(self, request: pb.StartJobRequest, context: Any) -> pb.StartJobResponse:
        """Notes the request, and answers."""
        self.starts.append(request)
        return self.on_start(request, context)

    def StopJob(self, request: pb.StopJobRequest, context: Any) -> pb.StopJobResponse:
        """Notes the id, and answers."""
        self.stops.append(uuid.UUID(bytes=request.job_id))
        return self.on_stop(request, context)

    def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        """Answers."""
        return self.on_status(request, context)

    def GetJobOutput(
        self, request: pb.GetJobOutputRequest, context: Any
    ) -> Iterator[pb.GetJobOutputResponse]:
        """Streams what `on_output` gives, from the wanted byte on, and the end."""
        when_over(context, self.ended.set)
        self.outputs.append(request)
        chunks = self.on_output(request, context)
        context.send_initial_metadata((("jobby-offset", str(request.offset)),))
        position, digest, whole = 0, sha256(), True
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                whole = False
                yield chunk
                continue
            digest.update(chunk)
            skipped = min(len(chunk), max(0, request.offset - position))
            offset = position + skipped
            position += len(chunk)
            if skipped < len(chunk) or not chunk:
                yield pb.GetJobOutputResponse(data=chunk[skipped:], offset=offset)
        if whole:
            yield end_of(position, sha256=digest.digest())


def end_of(total_bytes: int, **fields: Any) -> pb.GetJobOutputResponse:
    """The message that ends a stream of a job that has completed."""
    end = pb.OutputEnd(
        total_bytes=total_bytes,
        status=pb.STATUS_COMPLETE,
        exit_code=0,
        **{"reason": pb.END_REASON_EXITED, **fields},
    )
    return pb.GetJobOutputResponse(offset=total_bytes, end=end)


def when_over(context: Any, call: Callable[[], object]) -> None:
    """Calls when the client has gone; at once if it has already, as gRPC takes no callback then."""
    if not context.add_callback(call):
        call()


def then_silent(*chunks: bytes) -> Output:
    """Some of an output, and then nothing until the client goes."""

    def output(request: object, context: Any) -> Iterator[bytes]:
        over = threading.Event()
        when_over(context, over.set)
        yield from chunks
        over.wait()

    return output


def refuse(code: grpc.StatusCode, text: str) -> Callable[[Any, Any], Any]:
    """What to put in place of a default so that the call ends with a status."""

    def answer(request: object, context: grpc.ServicerContext) -> None:
        context.abort(code, text)

    return answer


@dataclass
class Peer:
    """A real gRPC server over TLS that runs nothing.

    Attributes:
        port: where it listens.
        servicer: what it answers.
    """

    port: int
    servicer: Servicer
    server: grpc.Server

    @property
    def address(self) -> str:
        """Where to connect to."""
        return f"localhost:{self.port}"


def hold_port() -> tuple[int, int]:
    """Returns a descriptor and the port that it keeps from others who ask for any port.

    It doesn't listen. A server that is told the port, and allows its reuse, can.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    return holder.detach(), port


@contextmanager
def serving(
    ca: Authority,
    leaf: Leaf | None = None,
    *,
    client_ca: bytes | None = None,
    port: int = 0,
    handler: grpc.GenericRpcHandler | None = None,
) -> Iterator[Peer]:
    """Runs a server in this process; `handler` answers in the place of the servicer.

    Where it listened, nobody else does for as long as the test has its peer.
    """
    leaf = leaf or ca.server()
    servicer = Servicer()
    holder = None
    if not port:
        holder, port = hold_port()
    with ThreadPoolExecutor(16) as pool:
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.server(pool, options=options)
        if handler is None:
            jobby_pb2_grpc.add_JobbyServicer_to_server(servicer, server)
        else:
            server.add_generic_rpc_handlers([handler])
        credentials = grpc.ssl_server_credentials(
            [(leaf.key, leaf.cert)], client_ca or ca.pem, require_client_auth=True
        )
        server.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.start()
        peer = Peer(port, servicer, server)
        if holder is not None:
            weakref.finalize(peer, os.close, holder)
        try:
            yield peer
        finally:
            server.stop(None).wait(DEADLINE_SECONDS)
