"""Owns the client's errors: what was tried, why it failed, the way out, and which status is which.

Statuses are mapped by name. Nothing here imports grpc.
"""

from pathlib import Path
from typing import Final


class JobbyClientError(Exception):
    """Base of every error this package raises on purpose.

    The text reads "cannot ACTION: CAUSE; WAY OUT". What the server said is in
    it unchanged: escape it before it goes to a terminal.

    Attributes:
        action: what was being done, an infinitive without "to".
        cause: why it failed.
        way_out: what the reader can do about it; may be empty.
    """

    def __init__(self, action: str, cause: str, way_out: str = "") -> None:
        super().__init__(action, cause, way_out)
        self.action = action
        self.cause = cause
        self.way_out = way_out

    def __str__(self) -> str:
        return f"cannot {self.action}: {self.cause}" + (f"; {self.way_out}" if self.way_out else "")


class CredentialsError(JobbyClientError):
    """A certificate or key file cannot be used; found on this side, before any call.

    Attributes:
        role: "ca", "cert" or "key": which of the three.
        path: the file, or None if it was given as bytes.
    """

    def __init__(
        self, action: str, cause: str, way_out: str, *, role: str, path: Path | None = None
    ) -> None:
        super().__init__(action, cause, way_out)
        self.role = role
        self.path = path


class InvalidRequestError(JobbyClientError, ValueError):
    """The request makes no sense to the server, or could not even be sent.

    INVALID_ARGUMENT; OUT_OF_RANGE, an offset that was not written yet; ALREADY_EXISTS, a request
    id that was used for another command.
    """


class NotFoundError(JobbyClientError):
    """No such job for this certificate (NOT_FOUND)."""


class PreconditionError(JobbyClientError):
    """The server's machine doesn't allow it as things stand (FAILED_PRECONDITION)."""


class CannotStartError(PreconditionError):
    """The command cannot be started there; no job exists (FAILED_PRECONDITION of a start)."""


class RefusedError(JobbyClientError):
    """One side doesn't accept the other's certificate (UNAUTHENTICATED, PERMISSION_DENIED, TLS)."""


class LimitError(JobbyClientError):
    """The server has reached a limit (RESOURCE_EXHAUSTED)."""


class DataLossError(JobbyClientError):
    """The job's output is no longer whole on the server (DATA_LOSS), or didn't arrive as it is."""


class InternalServerError(JobbyClientError):
    """The server failed in a way of its own, or answered something that is not in the contract."""


class UnavailableError(JobbyClientError):
    """The server cannot be reached, is shutting down, or doesn't answer in time."""


class UnknownStartError(UnavailableError):
    """A start was not answered: whether the job was started is not known.

    Attributes:
        request_id: a start with the same one starts no second job, and returns the first one's id.
    """

    def __init__(self, action: str, cause: str, *, request_id: bytes) -> None:
        way_out = "whether the job was started is not known; the same request id starts no second"
        super().__init__(action, cause, way_out)
        self.request_id = request_id


class ClientClosedError(JobbyClientError):
    """The client was closed on this side, before the call or before its answer."""


class BrokenStreamError(UnavailableError):
    """An output stream broke off: what arrived is not all.

    Attributes:
        bytes_received: how many bytes had arrived.
        position: the offset to read on from, or None if not even the first byte's was known.
        said_by_server: its words, where it ended the stream itself and that is to be mended.
    """

    def __init__(
        self,
        action: str,
        cause: str,
        way_out: str,
        *,
        bytes_received: int,
        position: int | None = None,
    ) -> None:
        super().__init__(action, cause, way_out)
        self.bytes_received = bytes_received
        self.position = position
        self.said_by_server: str | None = None


class StreamClosedError(JobbyClientError):
    """An output stream was closed on this side before its end: what arrived may not be all."""


_BY_STATUS: Final[dict[str, type[JobbyClientError]]] = {
    "CANCELLED": UnavailableError,
    "UNKNOWN": InternalServerError,
    "INVALID_ARGUMENT": InvalidRequestError,
    "DEADLINE_EXCEEDED": UnavailableError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": InvalidRequestError,
    "PERMISSION_DENIED": RefusedError,
    "RESOURCE_EXHAUSTED": LimitError,
    "FAILED_PRECONDITION": PreconditionError,
    "ABORTED": UnavailableError,
    "OUT_OF_RANGE": InvalidRequestError,
    "UNIMPLEMENTED": InternalServerError,
    "INTERNAL": InternalServerError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": DataLossError,
    "UNAUTHENTICATED": RefusedError,
}

_WAYS_OUT: Final = {
    "NOT_FOUND": "check the id and which certificate is used; a server that keeps no state forgets "
    "its jobs when it is restarted",
    "UNIMPLEMENTED": "check that client and server are of matching versions",
}


def kind_of(status: str) -> type[JobbyClientError]:
    """Returns the error that stands for a status.

    Args:
        status: the status code's name, such as "NOT_FOUND"; one that isn't known
            counts as the server's defect.
    """
    return _BY_STATUS.get(status, InternalServerError)


def way_out_of(status: str) -> str:
    """Returns advice to add to the server's own words; it may be empty."""
    return _WAYS_OUT.get(status, "")
