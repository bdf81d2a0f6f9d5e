"""Owns the connection to one server: start, stop, status and output as typed calls."""

import uuid
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

import grpc

from jobby_client import _failures
from jobby_client.address import Address
from jobby_client.credentials import Credentials
from jobby_client.errors import InternalServerError, InvalidRequestError
from jobby_client.output import OutputStream
from jobby_client.status import State, Status, Stream
from jobby_proto.v1 import jobby_pb2, jobby_pb2_grpc

DEFAULT_ADDRESS: Final = "localhost:50051"
CALL_SECONDS: Final = 30.0

_CONNECT_MS = 8_000
# grpc/impl/channel_arg_names.h
_CHANNEL_ARGUMENTS: Final = (
    # A dead server is found within 5 + 3 seconds. Not more often than servers allow, and Jobby's
    # allows a ping a second: too many make it close the connection.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # Without this one a silent server is kept for a minute longer.
    ("grpc.http2.ping_timeout_ms", 3_000),
    # 0: a quiet job's stream is asked after for as long as it lasts.
    ("grpc.http2.max_pings_without_data", 0),
    # In spite of its name: how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Chunks are some 100 KiB; nothing of the contract comes near.
    ("grpc.max_receive_message_length", 4 << 20),
    # A proxy in the environment is there for the web, and localhost is never behind one.
    ("grpc.enable_http_proxy", 0),
)
_STATES: Final = {
    "STATUS_RUNNING": State.RUNNING,
    "STATUS_STOPPED": State.STOPPED,
    "STATUS_COMPLETE": State.COMPLETED,
}
_OUTPUT_TYPES: Final = {
    Stream.STDOUT: "OUTPUT_TYPE_STDOUT",
    Stream.STDERR: "OUTPUT_TYPE_STDERR",
}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Client:
    """A connection to a Jobby server, made on the first call; use it as a context manager.

    Its methods may be called from many threads at once. gRPC's own lowest TLS
    version is 1.2; a Jobby server accepts 1.3 only, so that is what is spoken.

    Args:
        address: where the server is, HOST:PORT.
        credentials: what to present, and whom to trust.
        call_seconds: how long a call may take; an output stream may last for ever.

    Raises:
        ValueError: the address isn't one.
        CredentialsError: no server could accept the credentials.
    """

    def __init__(
        self,
        address: str | Address,
        credentials: Credentials,
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._address = address if isinstance(address, Address) else Address.parse(address)
        credentials.check()
        self._credentials = credentials
        self._call_seconds = call_seconds
        self._channel = grpc.secure_channel(
            # The scheme is given, or a host called "unix" would be a file.
            f"dns:///{self._address}",
            grpc.ssl_channel_credentials(
                credentials.ca_pem, credentials.key_pem, credentials.cert_pem
            ),
            options=_CHANNEL_ARGUMENTS,
        )
        self._stub = jobby_pb2_grpc.JobbyStub(self._channel)

    def start(self, command: str, args: Sequence[str] = ()) -> uuid.UUID:
        """Starts a command and returns the new job's id once its process runs.

        Args:
            command: a path on the server's machine, or a name in its PATH. No shell.
            args: its arguments.

        Raises:
            InvalidRequestError: the command is empty or holds what no process can be given.
            CannotStartError: it isn't there or cannot be executed; no job exists.
            JobbyClientError: see its other subclasses.
        """
        action = f"start the job on {self._address}"
        for text in (command, *args):
            _check_text(action, text)
        request = jobby_pb2.StartJobRequest(command=command, args=args)
        response = self._call(action, self._stub.StartJob, request, starting=True)
        try:
            return uuid.UUID(bytes=response.job_id)
        except ValueError:
            raise InternalServerError(
                action, "the server answered with no job id", "check the server's version"
            ) from None

    def stop(self, job_id: uuid.UUID | str) -> None:
        """Kills a job and returns once it has ended. A job that has ended stays as it is.

        Raises:
            NotFoundError: there is no such job for this certificate.
            JobbyClientError: see its other subclasses.
        """
        action = f"stop the job on {self._address}"
        request = jobby_pb2.StopJobRequest(job_id=_id_bytes(action, job_id))
        self._call(action, self._stub.StopJob, request)

    def status(self, job_id: uuid.UUID | str) -> Status:
        """Returns where a job stands.

        Raises:
            NotFoundError: there is no such job for this certificate.
            JobbyClientError: see its other subclasses.
        """
        action = f"see the job's status on {self._address}"
        request = jobby_pb2.GetStatusRequest(job_id=_id_bytes(action, job_id))
        response = self._call(action, self._stub.GetStatus, request)
        # By name, never by number.
        number = response.current_status
        known = jobby_pb2.Status.DESCRIPTOR.values_by_number.get(number)
        state = None if known is None else _STATES.get(known.name)
        if state is None:
            raise InternalServerError(
                action,
                f"the server answered with an unknown state ({number})",
                "update this client",
            )
        return Status(state, response.exit_code if response.HasField("exit_code") else None)

    def output(
        self, job_id: uuid.UUID | str, stream: Stream | Literal["stdout", "stderr"] = Stream.STDOUT
    ) -> OutputStream:
        """Opens one of a job's outputs, from its first byte, live while the job runs.

        What is wrong with it shows at the first `next`.

        Raises:
            ValueError: there is no such stream.
        """
        name = jobby_pb2.OutputType.Value(_OUTPUT_TYPES[Stream(stream)])
        action = f"read the job's output from {self._address}"
        request = jobby_pb2.GetJobOutputRequest(job_id=_id_bytes(action, job_id), type=name)

        translate = partial(
            _failures.of_stream,
            action=action,
            address=self._address,
            credentials=self._credentials,
        )
        return OutputStream(self._stub.GetJobOutput(request), translate)

    def close(self) -> None:
        """Closes the connection; calls under way end with an error. Idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self._address}>"

    def _call(
        self,
        action: str,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        *,
        starting: bool = False,
    ) -> _Response:
        try:
            return method(request, timeout=self._call_seconds)
        except grpc.RpcError as error:
            raise _failures.of_call(
                error,
                action,
                self._address,
                self._credentials,
                starting=starting,
                seconds=self._call_seconds,
            ) from error


def _id_bytes(action: str, job_id: uuid.UUID | str) -> bytes:
    if isinstance(job_id, uuid.UUID):
        return job_id.bytes
    try:
        return uuid.UUID(job_id).bytes
    except ValueError:
        raise InvalidRequestError(action, f"{job_id!r} is not a job's id", "give a UUID") from None


def _check_text(action: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            action, f"{text!r} is not text in UTF-8", "the contract carries nothing else"
        ) from None
