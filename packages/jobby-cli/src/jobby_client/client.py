"""Owns the connection to one server: start, stop, status and output as typed calls."""

import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self
from weakref import WeakSet

from jobby_client import _answers, _channel, _requests
from jobby_client._call import Call
from jobby_client._failures import Failures
from jobby_client._resume import Resume
from jobby_client._tally import Tally
from jobby_client._unary import Unary
from jobby_client.address import Address
from jobby_client.credentials import Credentials
from jobby_client.errors import BrokenStreamError, InternalServerError
from jobby_client.output import OutputStream
from jobby_client.status import Status, Stream
from jobby_proto.v1 import jobby_pb2, jobby_pb2_grpc

CALL_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 60.0


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
        self._closed = threading.Event()  # set by any thread, before streams and channel are closed
        self._unary = Unary(call_seconds, self._closed)
        self._streams: WeakSet[OutputStream] = WeakSet()  # guarded by _streams_lock
        self._streams_lock = threading.Lock()
        self._channel = _channel.open_to(self._address, credentials)
        self._stub = jobby_pb2_grpc.JobbyStub(self._channel)

    def start(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        max_output_bytes: int | None = None,
        timeout_seconds: float | None = None,
        request_id: bytes | None = None,
    ) -> uuid.UUID:
        """Starts a command and returns the new job's id once its process runs.

        Should the connection break before the answer, it asks again under the
        same request id until `call_seconds` have passed; that starts no second
        job, unless the server keeps no state and was restarted in between. One
        that cannot be reached in the first place is not waited for.

        Args:
            command: a path on the server's machine, or a name in its PATH. No shell.
            args: its arguments.
            max_output_bytes: how much both outputs together may have before it is stopped.
            timeout_seconds: how long it may run before it is stopped.
            request_id: 1 to 64 bytes; the same id starts one job only, for as long as the server
                remembers that job. None takes a random one.

        Raises:
            InvalidRequestError: the command is empty or holds what no process can be given, a
                limit is out of range, or the request id was used for another command.
            CannotStartError: it isn't there or cannot be executed; no job exists.
            UnknownStartError: no answer came, so whether it was started is not known.
            JobbyClientError: see its other subclasses.
        """
        action = f"start the job on {self._address}"
        request = _requests.start(
            action,
            command,
            args,
            max_output_bytes=max_output_bytes,
            timeout_seconds=timeout_seconds,
            request_id=uuid.uuid4().bytes if request_id is None else request_id,
        )
        response = self._unary.start(
            self._failures(action), self._stub.StartJob, request, request.request_id
        )
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
        request = jobby_pb2.StopJobRequest(job_id=_requests.job_id(action, job_id))
        self._unary.call(self._failures(action), self._stub.StopJob, request)

    def status(self, job_id: uuid.UUID | str) -> Status:
        """Returns where a job stands.

        Raises:
            NotFoundError: there is no such job for this certificate.
            JobbyClientError: see its other subclasses.
        """
        action = f"see the job's status on {self._address}"
        request = jobby_pb2.GetStatusRequest(job_id=_requests.job_id(action, job_id))
        response = self._unary.call(self._failures(action), self._stub.GetStatus, request)
        return _answers.status(action, response)

    def output(
        self,
        job_id: uuid.UUID | str,
        stream: Stream | Literal["stdout", "stderr"] = Stream.STDOUT,
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = True,
        reconnect_seconds: float = RECONNECT_SECONDS,
        on_reconnect: Callable[[BrokenStreamError], None] | None = None,
    ) -> OutputStream:
        """Opens one of a job's outputs, from its first byte, live while the job runs.

        What is wrong with it shows at the first `next`.

        Args:
            job_id: the job.
            stream: which output.
            offset: the first byte wanted, at most what was written so far.
            tail_lines: begin this many lines before the end of what was written so far; 0 is
                only what is written from now on.
            follow: whether to wait for more while the job runs.
            reconnect_seconds: how long to try to go on after the last sign of life, when the
                connection breaks or the server is restarted; 0 ends the stream instead.
            on_reconnect: called in the iterating thread at each break that is to be mended.

        Raises:
            ValueError: there is no such stream.
            InvalidRequestError: the id isn't one, the beginning is out of range or given twice.
        """
        action = f"read the job's output from {self._address}"
        request = _requests.output(
            action, job_id, Stream(stream), offset=offset, tail_lines=tail_lines, follow=follow
        )
        failures = self._failures(action)

        def reopen(position: int | None) -> Call:
            if position is not None:
                request.ClearField("tail_lines")
                request.offset = position
            return Call(self._unary.make(failures, partial(self._stub.GetJobOutput, request)))

        opened = OutputStream(
            reopen,
            Tally(action, offset if tail_lines is None else None),
            Resume(reconnect_seconds),
            failures,
            on_reconnect,
        )
        with self._streams_lock:
            self._streams.add(opened)
        # Closed meanwhile? Then either `close` has seen the new stream, or this sees that.
        if self._closed.is_set():
            opened.close()
        return opened

    def close(self) -> None:
        """Closes the connection, from any thread; calls under way end with an error. Idempotent.

        Streams end as by their own `close`, and every later call raises `ClientClosedError`.
        """
        self._closed.set()
        with self._streams_lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
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

    def _failures(self, action: str) -> Failures:
        return Failures(action, self._address, self._credentials)
