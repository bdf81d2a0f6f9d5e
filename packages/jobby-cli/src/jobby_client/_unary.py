"""Owns the calls with one answer: made once, or, for a start, until there is an answer."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import grpc

from jobby_client._backoff import Backoff
from jobby_client._failures import Failures, Said
from jobby_client.errors import (
    ClientClosedError,
    JobbyClientError,
    UnavailableError,
    UnknownStartError,
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Unary:
    """One client's calls.

    Args:
        seconds: how long a call may take.
        closed: set before the client's channel is closed.
    """

    def __init__(self, seconds: float, closed: threading.Event) -> None:
        self._seconds: Final = seconds
        self._closed: Final = closed

    def call(
        self,
        failures: Failures,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
    ) -> _Response:
        """Asks once.

        Raises:
            JobbyClientError: there was no answer, or one that says no.
        """
        try:
            return self.make(failures, partial(method, request, timeout=self._seconds))
        except grpc.RpcError as error:
            raise self._failure(failures, Said.of(error)) from error

    def start(
        self,
        failures: Failures,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        request_id: bytes,
    ) -> _Response:
        """Asks until there is an answer; the request id makes that one job. Raises as `call`."""
        until, backoff = time.monotonic() + self._seconds, Backoff()
        lost = False
        while True:
            seconds = max(0, until - time.monotonic())
            try:
                return self.make(failures, partial(method, request, timeout=seconds))
            except ClientClosedError as error:
                if not lost:
                    raise
                raise failures.of_repeated(error, request_id=request_id) from error
            except grpc.RpcError as error:
                said = Said.of(error)
                failure = self._failure(failures, said, request_id=request_id, lost=lost)
                lost = lost or said.may_have_arrived
                if isinstance(failure, UnknownStartError) and said.no_answer:
                    wait = backoff.next_seconds()
                    if time.monotonic() + wait < until and not self._closed.wait(wait):
                        continue
                if lost:
                    failure = failures.of_repeated(failure, request_id=request_id)
                raise failure from error

    def make(self, failures: Failures, call: Callable[[], _Response]) -> _Response:
        """Makes a call; raises gRPC's own errors, and `ClientClosedError` if it cannot be made."""
        try:
            return call()
        except ValueError as error:  # gRPC's, for a channel that was closed
            if not self._closed.is_set():
                raise
            raise _closed(failures) from error

    def _failure(
        self,
        failures: Failures,
        said: Said,
        *,
        request_id: bytes | None = None,
        lost: bool = False,
    ) -> JobbyClientError:
        # An answer that came just before is one.
        if self._closed.is_set() and said.kind is UnavailableError:
            return _closed(failures)
        return failures.of_call(said, seconds=self._seconds, request_id=request_id, lost=lost)


def _closed(failures: Failures) -> ClientClosedError:
    return ClientClosedError(failures.action, "the client was closed", "make another one")
