"""Owns how long a streaming call may live: until its certificate expires or the server drains."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import grpc

from jobby_server.identity import Principal, expired, utc_now
from jobby_server.refusal import RefusedError

RECHECK_SECONDS = 60.0
"""A timer counts elapsed time, a certificate the wall clock, which may be set meanwhile."""


def shutting_down() -> RefusedError:
    """Returns what ends the calls of a server that shuts down."""
    return RefusedError(
        grpc.StatusCode.UNAVAILABLE,
        "the server is shutting down; output may be missing, and its jobs end with it",
    )


def restarting() -> RefusedError:
    """Returns what ends the calls of a server whose jobs go on without it."""
    return RefusedError(
        grpc.StatusCode.UNAVAILABLE,
        "the server is restarting; its jobs go on, so read on from where you are",
    )


class _Call:
    """One streaming call. Guarded by the event loop."""

    __slots__ = ("_loop", "_principal", "_recheck_seconds", "_scope", "_timer", "ending")

    def __init__(
        self, principal: Principal, scope: asyncio.Timeout, recheck_seconds: float
    ) -> None:
        self._principal = principal
        self._scope = scope
        self._recheck_seconds = recheck_seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.ending: RefusedError | None = None

    def end(self, why: RefusedError) -> None:
        """Interrupts the call at whatever it awaits; the first reason counts."""
        if self.ending is None:
            self.ending = why
            self._scope.reschedule(self._loop.time())

    def watch(self, clock: Callable[[], datetime]) -> None:
        """Ends the call once its certificate has expired."""
        left = (self._principal.not_after - clock()).total_seconds()
        if left < 0:
            self.end(RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(expired(self._principal))))
        else:
            # A millisecond more: the timer must not fire on the last valid moment.
            delay = min(left + 0.001, self._recheck_seconds)
            self._timer = self._loop.call_later(delay, self.watch, clock)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Lifetimes:
    """The streaming calls that are alive. All of it happens on the event loop's thread.

    Args:
        clock: the time by which certificates are judged.
        recheck_seconds: how often to look at it during a call.
        farewell: what ends the calls when the server does.
    """

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        recheck_seconds: float = RECHECK_SECONDS,
        farewell: Callable[[], RefusedError] = shutting_down,
    ) -> None:
        self._clock = clock
        self._recheck_seconds = recheck_seconds
        self._farewell = farewell
        self._calls: set[_Call] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._calls)

    @asynccontextmanager
    async def hold(self, principal: Principal) -> AsyncIterator[None]:
        """Runs its body for as long as the call may live.

        Raises:
            RefusedError: the body was interrupted; the certificate has expired or
                the server shuts down.
        """
        if self._closed:
            raise self._farewell()
        call: _Call | None = None
        try:
            async with asyncio.timeout(None) as scope:
                call = _Call(principal, scope, self._recheck_seconds)
                self._calls.add(call)
                try:
                    call.watch(self._clock)
                    yield
                finally:
                    self._calls.discard(call)
                    call.close()
        except TimeoutError:
            if call is None or call.ending is None:
                raise  # the body's own
            raise call.ending from None

    def end_all(self) -> None:
        """Interrupts every call, and refuses those to come."""
        self._closed = True
        for call in list(self._calls):
            call.end(self._farewell())
