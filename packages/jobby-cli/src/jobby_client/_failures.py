"""Owns what a failed call means: a gRPC status becomes a typed error with a sentence."""

from typing import Any

import grpc

from jobby_client import errors
from jobby_client._probe import Verdict, probe
from jobby_client.address import Address
from jobby_client.credentials import Credentials
from jobby_client.errors import (
    BrokenStreamError,
    CannotStartError,
    JobbyClientError,
    PreconditionError,
    RefusedError,
    UnavailableError,
)

_UNKNOWN_START = "whether the job was started is not known"


def of_call(
    error: grpc.RpcError,
    action: str,
    address: Address,
    credentials: Credentials,
    *,
    starting: bool,
    seconds: float,
) -> JobbyClientError:
    """Returns what a failed unary call means.

    Args:
        error: what gRPC raised.
        action: what was being done, an infinitive without "to".
        address: where the server is.
        credentials: what was presented to it.
        starting: whether the call, had it arrived, has started a job.
        seconds: how long the call was given.
    """
    status, details = _said(error)
    kind = errors.kind_of(status)
    if kind is PreconditionError and starting:
        kind = CannotStartError
    if kind is not UnavailableError:
        return kind(action, details, errors.way_out_of(status))
    finding = probe(address, credentials)
    if finding.verdict in (Verdict.REFUSED, Verdict.UNTRUSTED):
        return RefusedError(action, finding.cause, finding.way_out)
    if _never_connected(details):
        return UnavailableError(action, finding.cause, finding.way_out)
    if status == "DEADLINE_EXCEEDED":
        details = f"no answer within {seconds:g} seconds ({details})"
        if finding.verdict is not Verdict.HEALTHY:
            details = f"{details}; {finding.cause}"
    return UnavailableError(action, details, _UNKNOWN_START if starting else finding.way_out)


def of_stream(
    error: grpc.RpcError,
    action: str,
    address: Address,
    credentials: Credentials,
    *,
    received: int,
) -> JobbyClientError:
    """Returns what a stream that ended otherwise than well means.

    Args:
        error: what gRPC raised.
        action: what was being done, an infinitive without "to".
        address: where the server is.
        credentials: what was presented to it.
        received: how many bytes had arrived.
    """
    status, details = _said(error)
    kind = errors.kind_of(status)
    if kind is not UnavailableError:
        if received:
            details = f"{details} (after {received} bytes)"
        return kind(action, details, errors.way_out_of(status))
    if not received:
        finding = probe(address, credentials)
        if finding.verdict in (Verdict.REFUSED, Verdict.UNTRUSTED):
            return RefusedError(action, finding.cause, finding.way_out)
        if _never_connected(details):
            return UnavailableError(action, finding.cause, finding.way_out)
    return BrokenStreamError(
        action,
        f"the stream broke off after {received} bytes ({details})",
        "what arrived is not all of it; read it again",
        bytes_received=received,
    )


def _said(error: grpc.RpcError) -> tuple[str, str]:
    """Returns the status's name and the words that came with it, or that name."""
    call: Any = error  # gRPC raises what is a grpc.Call too; the type doesn't say so
    name: str = call.code().name
    details: str | None = call.details()
    return name, details or name


def _never_connected(details: str) -> bool:
    # gRPC's own words. If they change, a sentence gets less precise, and nothing else.
    return details.startswith(("failed to connect", "errors resolving", "DNS resolution failed"))
