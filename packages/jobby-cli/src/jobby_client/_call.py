"""Owns one call with a stream of answers, until gRPC's own thread is through with it."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from jobby_proto.v1 import jobby_pb2

_LET_GO_SECONDS: Final = 1.0


class _GrpcCall(Iterator[jobby_pb2.GetJobOutputResponse], Protocol):
    """What gRPC gives for such a call; its own types don't say all of it."""

    def initial_metadata(self) -> Iterable[tuple[str, Any]] | None:
        """Waits for the answer's head."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls back once the call has terminated; false if it has."""

    def cancel(self) -> object:
        """Asks for its end."""


class Call(Iterator[jobby_pb2.GetJobOutputResponse]):
    """One call; iterating it raises gRPC's own errors."""

    def __init__(self, call: object) -> None:
        """Takes over what a method of the stub has returned."""
        self._call: _GrpcCall = call  # type: ignore[assignment]  # see there
        self._over = threading.Event()
        if not self._call.add_callback(self._over.set):
            self._over.set()

    def __next__(self) -> jobby_pb2.GetJobOutputResponse:
        """Waits for the next message."""
        return next(self._call)

    def initial_metadata(self) -> Iterable[tuple[str, Any]]:
        """Waits for the answer's head."""
        return self._call.initial_metadata() or ()

    def end(self) -> None:
        """Cancels it, if it isn't over, and returns when gRPC has let go of it."""
        self._call.cancel()
        # A daemon thread of gRPC delivers a call's last event under the call's lock. An interpreter
        # that ends just then freezes that thread for good, and waits for the lock when it collects
        # the call: one in sixty on a busy machine. The callback comes after that lock.
        # It doesn't come for a message that gRPC couldn't read: that fails, but isn't terminated.
        self._over.wait(_LET_GO_SECONDS)
