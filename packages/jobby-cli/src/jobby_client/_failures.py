"""Owns what a failed call means: a gRPC status becomes a typed error with a sentence."""

import re
from dataclasses import dataclass
from typing import Any

import grpc

from jobby_client import errors
from jobby_client._probe import Verdict, probe
from jobby_client.address import Address
from jobby_client.credentials import Credentials
from jobby_client.errors import (
    BrokenStreamError,
    CannotStartError,
    DataLossError,
    InvalidRequestError,
    JobbyClientError,
    LimitError,
    NotFoundError,
    PreconditionError,
    RefusedError,
    UnavailableError,
    UnknownStartError,
)

# gRPC's own words. If they change, sentences get less precise, and a start whose answer was lost
# is reported instead of repeated; nothing else.
_NEVER_CONNECTED = ("failed to connect", "errors resolving", "DNS resolution failed")
_FELL_SILENT = re.compile(r"ping timeout|keepalive", re.IGNORECASE)
_CONNECTION_LOST = re.compile(
    r"Stream removed|Socket closed|Connection reset|Broken pipe|Connection timed out|"
    rf"{_FELL_SILENT.pattern}|GOAWAY|Cancelling all calls|Received RST_STREAM",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """How a call failed.

    Attributes:
        status: the status code's name.
        details: the words that came with it, or that name.
    """

    status: str
    details: str

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Said":
        """Reads what gRPC raised."""
        call: Any = error  # gRPC raises what is a grpc.Call too; the type doesn't say so
        status: str = call.code().name
        details: str | None = call.details()
        return cls(status, details or status)

    @property
    def kind(self) -> type[JobbyClientError]:
        """The error that stands for the status."""
        if self.connection_lost:
            return UnavailableError
        return errors.kind_of(self.status)

    @property
    def never_connected(self) -> bool:
        """Whether there was no connection to lose."""
        return self.details.startswith(_NEVER_CONNECTED)

    @property
    def no_answer(self) -> bool:
        """Whether this was not the server's answer, nor the lack of one in time."""
        return self.never_connected or self.connection_lost

    @property
    def connection_lost(self) -> bool:
        """Whether the connection broke, so that the server hasn't answered."""
        transport = self.status in ("UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN")
        broken = transport and _CONNECTION_LOST.search(self.details) is not None
        return broken and not self.never_connected

    @property
    def fell_silent(self) -> bool:
        """Whether the connection broke because no sign of life came over it any more."""
        return self.connection_lost and _FELL_SILENT.search(self.details) is not None

    @property
    def may_have_arrived(self) -> bool:
        """Whether the server may do what it was asked for, though it hasn't said so."""
        return self.kind is UnavailableError and not self.never_connected


@dataclass(frozen=True, slots=True)
class Failures:
    """Tells what failed calls to one server mean.

    Attributes:
        action: what was being done, an infinitive without "to".
        address: where the server is.
        credentials: what was presented to it.
    """

    action: str
    address: Address
    credentials: Credentials

    def of_call(
        self, said: Said, *, seconds: float, request_id: bytes | None = None, lost: bool = False
    ) -> JobbyClientError:
        """Returns what a failed unary call means.

        Args:
            said: how it failed.
            seconds: how long the call was given.
            request_id: that of a start, which may have happened; None for other calls.
            lost: whether the answer to the same start was lost before.
        """
        kind, details = said.kind, said.details
        if kind is PreconditionError and request_id is not None:
            kind = CannotStartError
        if kind is not UnavailableError:
            return kind(self.action, details, errors.way_out_of(said.status))
        finding = probe(self.address, self.credentials)
        if finding.verdict in (Verdict.REFUSED, Verdict.UNTRUSTED):
            return RefusedError(self.action, finding.cause, finding.way_out)
        if said.never_connected and not lost:
            return UnavailableError(self.action, finding.cause, finding.way_out)
        if said.never_connected:
            details = finding.cause
        if said.status == "DEADLINE_EXCEEDED":
            details = f"no answer within {seconds:g} seconds ({details})"
            if finding.verdict is not Verdict.HEALTHY:
                details = f"{details}; {finding.cause}"
        if request_id is not None:
            return UnknownStartError(self.action, details, request_id=request_id)
        return UnavailableError(self.action, details, finding.way_out)

    def of_repeated(self, failure: JobbyClientError, *, request_id: bytes) -> JobbyClientError:
        """Returns what it means that a start failed which may have arrived before."""
        # What the server says of the request id, and what cannot be started at all, is so; a
        # server that refuses to look has said nothing of the first time.
        if isinstance(failure, InvalidRequestError | PreconditionError | UnknownStartError):
            return failure
        cause = f"no answer came, and now: {failure.cause}"
        cause += f"; {failure.way_out}" if failure.way_out else ""
        return UnknownStartError(self.action, cause, request_id=request_id)

    def of_first(self, said: Said) -> JobbyClientError:
        """Returns what it means that a stream failed before the server had answered."""
        if said.kind is not UnavailableError:
            return said.kind(self.action, said.details, errors.way_out_of(said.status))
        # Whom a server refuses, it hangs up on. A look at a silent network takes seconds more, and
        # a dead peer is to be told of in ten.
        if not said.fell_silent:
            finding = probe(self.address, self.credentials)
            if finding.verdict in (Verdict.REFUSED, Verdict.UNTRUSTED):
                return RefusedError(self.action, finding.cause, finding.way_out)
            if said.never_connected:
                return UnavailableError(self.action, finding.cause, finding.way_out)
        return self.broken(said.details, received=0, position=None)

    def of_resumed(
        self, said: Said, *, heard: bool, progress: bool, received: int, position: int | None
    ) -> JobbyClientError | None:
        """Returns what ends a stream that the server had answered before; None if it can go on.

        Args:
            said: how it failed this time.
            heard: whether the server had answered this time.
            progress: whether bytes had come this time.
            received: how many bytes had arrived.
            position: the place of the next byte.
        """
        kind, after = said.kind, f" (after {received} bytes)" if received else ""
        # Whom the server ended for not reading may read on, and had something to read. Whom it
        # doesn't let in may not, nor whom it has no means to serve, such as inotify watches.
        if kind is UnavailableError or (kind is LimitError and progress):
            return None
        if not heard and kind is NotFoundError:
            forgotten = (
                "the server doesn't know the job any more: it was restarted, or has forgotten it"
            )
            return self.broken(forgotten, received=received, position=position)
        if not heard and said.status == "OUT_OF_RANGE":
            cause = f"the server has less of it than what had arrived{after}: {said.details}"
            return DataLossError(self.action, cause, "what arrived may be all that is left of it")
        return kind(self.action, f"{said.details}{after}", errors.way_out_of(said.status))

    def in_vain(
        self, said: Said, *, seconds: float, received: int, position: int | None
    ) -> JobbyClientError:
        """Returns the error for a stream that was not to be resumed within so many seconds."""
        details = said.details
        if said.kind is not UnavailableError:
            after = f" (after {received} bytes)" if received else ""
            return said.kind(self.action, f"{details}{after}", errors.way_out_of(said.status))
        if seconds > 0:
            if said.never_connected:
                details = probe(self.address, self.credentials).cause
            details = f"{details}; {seconds:g} seconds of reconnecting were in vain"
        return self.broken(details, received=received, position=position)

    def lost(self, said: Said, *, received: int, position: int | None) -> BrokenStreamError:
        """Returns what to tell of a break that is to be mended."""
        error = self.broken(said.details, received=received, position=position)
        error.said_by_server = None if said.no_answer else said.details
        return error

    def broken(self, why: str, *, received: int, position: int | None) -> BrokenStreamError:
        """Returns the error for a stream that isn't whole."""
        again = "read it again" if position is None else f"read on from byte {position}"
        return BrokenStreamError(
            self.action,
            f"the stream broke off after {received} bytes ({why})",
            f"what arrived is not all of it; {again}",
            bytes_received=received,
            position=position,
        )
