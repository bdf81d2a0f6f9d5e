"""How long a streaming call lives."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from server_waiting import run, until

from jobby_server.identity import Owner, Principal
from jobby_server.lifetime import Lifetimes
from jobby_server.refusal import RefusedError

CODE = grpc.StatusCode
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def principal(not_after: datetime) -> Principal:
    """Returns somebody whose certificate runs out at a moment."""
    return Principal(Owner("CN=alice", "ca"), frozenset(), NOW - timedelta(days=1), not_after)


async def held(lifetimes: Lifetimes, who: Principal) -> RefusedError:
    """Holds a call until it is ended; returns why it was."""
    with pytest.raises(RefusedError) as caught:
        async with lifetimes.hold(who):
            await asyncio.Event().wait()
    return caught.value


def test_a_call_ends_when_its_certificate_does() -> None:
    """The timer is the certificate's own; nobody polls."""

    async def scenario() -> None:
        soon = datetime.now(UTC) + timedelta(milliseconds=20)
        why = await held(Lifetimes(), principal(soon))
        assert why.code is CODE.UNAUTHENTICATED
        assert "expired at" in why.text

    run(scenario())


def test_a_clock_that_is_set_forward_is_noticed() -> None:
    """A timer counts elapsed time; the wall clock is looked at again at intervals."""
    readings = iter([NOW, NOW, NOW + timedelta(days=2)])

    async def scenario() -> None:
        lifetimes = Lifetimes(lambda: next(readings), recheck_seconds=0.01)
        why = await held(lifetimes, principal(NOW + timedelta(days=1)))
        assert why.code is CODE.UNAUTHENTICATED

    run(scenario())


def test_the_end_of_all_ends_those_under_way_and_refuses_those_to_come() -> None:
    """Both get the same answer, which is not the one for complete output."""

    async def scenario() -> None:
        lifetimes, who = Lifetimes(), principal(datetime.max.replace(tzinfo=UTC))
        calls = [asyncio.create_task(held(lifetimes, who)) for _ in range(3)]
        await until(lambda: len(lifetimes) == 3)
        lifetimes.end_all()
        lifetimes.end_all()  # again is no error
        reasons = [*await asyncio.gather(*calls), await held(lifetimes, who)]
        assert {why.code for why in reasons} == {CODE.UNAVAILABLE}
        assert len(lifetimes) == 0

    run(scenario())


def test_a_call_that_ends_by_itself_is_left_alone() -> None:
    """Its result counts, its own timeout stays its own, a cancellation stays one."""

    async def scenario() -> None:
        lifetimes, who = Lifetimes(), principal(datetime.max.replace(tzinfo=UTC))
        async with lifetimes.hold(who):
            assert len(lifetimes) == 1
        with pytest.raises(TimeoutError):
            async with lifetimes.hold(who), asyncio.timeout(0):
                await asyncio.Event().wait()
        task = asyncio.create_task(held(lifetimes, who))
        await until(lambda: len(lifetimes))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(lifetimes) == 0

    run(scenario())
