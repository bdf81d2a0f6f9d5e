"""Owns how long a streaming call may live: until its certificate expires or the server drains."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

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

    def hold(self, principal: Principal) -> "_Call":
        """Returns a context whose body runs for as long as the call may live.

        Raises:
            RefusedError: the server shuts down. Leaving the context raises it, too, when the
                body was interrupted: for that, or because the certificate has expired.
        """
        if self._closed:
            raise self._farewell()
        return _Call(principal, self._calls, self._clock, self._recheck_seconds)

    def end_all(self) -> None:
        """Interrupts every call, and refuses those to come."""
        self._closed = True
        for call in list(self._calls):
            call.end(self._farewell())


class _Call:
    """One streaming call. Guarded by the event loop.

    Not a generator with a decorator: that would be half a KiB more for each of thousands.
    """

    __slots__ = (
        "_calls",
        "_clock",
        "_ending",
        "_loop",
        "_principal",
        "_recheck_seconds",
        "_scope",
        "_timer",
    )

    def __init__(
        self,
        principal: Principal,
        calls: "set[_Call]",
        clock: Callable[[], datetime],
        recheck_seconds: float,
    ) -> None:
        self._principal = principal
        self._calls = calls
        self._clock = clock
        self._recheck_seconds = recheck_seconds
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._ending: RefusedError | None = None

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        self._calls.add(self)
        self._watch()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        interrupted = isinstance(error, TimeoutError)
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError:
            interrupted = True
        # Otherwise it is the body's own timeout, which goes on by itself.
        if interrupted and self._ending is not None:
            raise self._ending from None

    def end(self, why: RefusedError) -> None:
        """Interrupts the call at whatever it awaits; the first reason counts."""
        if self._ending is None:
            self._ending = why
            self._scope.reschedule(self._loop.time())

    def _watch(self) -> None:
        """Ends the call once its certificate has expired."""
        left = (self._principal.not_after - self._clock()).total_seconds()
        if left < 0:
            self.end(RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(expired(self._principal))))
        else:
            # A millisecond more: the timer must not fire on the last valid moment.
            delay = min(left + 0.001, self._recheck_seconds)
            self._timer = self._loop.call_later(delay, self._watch)
