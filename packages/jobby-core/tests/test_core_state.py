"""Promises about a job's states, all of them pure."""

import dataclasses
import signal
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_core import IllegalMoveError, Reason, State, Status
from jobby_core.state import LOST, Ending, Exit, end_state, ended, started

START = datetime(2024, 5, 1, tzinfo=UTC)
END = START + timedelta(seconds=1)
KILL = frozenset({signal.SIGKILL})
TERM = frozenset({signal.SIGTERM})
BOTH = KILL | TERM
NONE: frozenset[int] = frozenset()

exits = st.one_of(
    st.builds(Exit, st.integers(0, 255), st.none()),
    st.builds(Exit, st.none(), st.integers(1, 64)),
    st.just(Exit(None, None)),
)


@pytest.mark.parametrize("to", [State.COMPLETED, State.STOPPED])
@pytest.mark.parametrize("from_", State)
def test_only_a_running_job_ends_and_only_once(from_: State, to: State) -> None:
    """RUNNING goes to COMPLETED or STOPPED; any other move is an error that names both."""
    status = dataclasses.replace(started(START), state=from_)
    ending = Ending(Exit(0, None), TERM if to is State.STOPPED else NONE)
    if from_ is State.RUNNING:
        assert ended(status, ending, END).state is to
    else:
        with pytest.raises(IllegalMoveError, match=f"from {from_.value} to {to.value}"):
            ended(status, ending, END)


@pytest.mark.parametrize(
    ("exit_", "stop_signals", "state"),
    [
        # Nobody stopped it.
        (Exit(0, None), NONE, State.COMPLETED),
        (Exit(3, None), NONE, State.COMPLETED),
        (Exit(None, signal.SIGKILL), NONE, State.COMPLETED),
        (Exit(None, signal.SIGTERM), NONE, State.COMPLETED),
        (Exit(None, signal.SIGSEGV), NONE, State.COMPLETED),
        (Exit(None, None), NONE, State.COMPLETED),
        # stop() killed it, or was too late.
        (Exit(None, signal.SIGKILL), KILL, State.STOPPED),
        (Exit(0, None), KILL, State.COMPLETED),
        (Exit(1, None), KILL, State.COMPLETED),
        (Exit(None, signal.SIGSEGV), KILL, State.COMPLETED),
        # Its exit status went to somebody else, but stop() killed it while it was alive.
        (Exit(None, None), KILL, State.STOPPED),
        # Asked to end, it did so by the signal, in its own way, or not until the kill.
        (Exit(None, signal.SIGTERM), TERM, State.STOPPED),
        (Exit(0, None), TERM, State.STOPPED),
        (Exit(143, None), TERM, State.STOPPED),
        (Exit(None, signal.SIGKILL), BOTH, State.STOPPED),
        (Exit(0, None), BOTH, State.STOPPED),
    ],
)
def test_stopped_is_what_stop_did(exit_: Exit, stop_signals: frozenset[int], state: State) -> None:
    """A job is STOPPED if stop() ended it, and COMPLETED if anything else did."""
    assert end_state(exit_, stop_signals) is state


@given(exits)
def test_without_a_stop_every_end_is_completed(exit_: Exit) -> None:
    """Whatever ends a job that nobody stopped, it COMPLETED."""
    assert end_state(exit_, NONE) is State.COMPLETED


@given(exits, st.sampled_from([State.COMPLETED, State.STOPPED]))
def test_an_exit_code_belongs_to_completed(exit_: Exit, to: State) -> None:
    """COMPLETED has the exit code, 128 + n after signal n; STOPPED has none; the signal stays."""
    # A job that was asked to end is stopped, in whatever way it did so.
    status = ended(started(START), Ending(exit_, TERM if to is State.STOPPED else NONE), END)
    expected = exit_.code if exit_.signal is None else 128 + exit_.signal
    assert status == Status(
        state=to,
        exit_code=expected if to is State.COMPLETED else None,
        signal=exit_.signal,
        started_at=START,
        ended_at=END,
        reason=status.reason,
    )


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(Exit(0, None)), Reason.EXITED),
        (Ending(Exit(1, None)), Reason.EXITED),
        (Ending(Exit(None, signal.SIGSEGV)), Reason.SIGNALED),
        (Ending(Exit(None, signal.SIGKILL)), Reason.SIGNALED),
        (Ending(Exit(None, signal.SIGKILL), KILL), Reason.STOPPED),
        (Ending(Exit(None, signal.SIGKILL), KILL, Reason.STOPPED), Reason.STOPPED),
        (Ending(Exit(None, signal.SIGKILL), KILL, Reason.TIMED_OUT), Reason.TIMED_OUT),
        (Ending(Exit(None, signal.SIGKILL), KILL, Reason.OUTPUT_LIMIT), Reason.OUTPUT_LIMIT),
        (Ending(Exit(None, signal.SIGKILL), KILL, Reason.DISK_FULL), Reason.DISK_FULL),
        # The kill came too late, so it is no reason.
        (Ending(Exit(0, None), KILL, Reason.TIMED_OUT), Reason.EXITED),
        # It noticed nothing, but its output may lack something.
        (Ending(Exit(0, None), disk_full=True), Reason.DISK_FULL),
        (Ending(Exit(None, signal.SIGXFSZ), disk_full=True), Reason.DISK_FULL),
        (LOST, Reason.LOST),
    ],
)
def test_each_end_has_its_own_reason(ending: Ending, reason: Reason) -> None:
    """Exit, signal, stop, time limit, output limit, full disk and lost are kept apart."""
    assert ended(started(START), ending, END).reason is reason


def test_of_a_lost_job_no_exit_code_is_claimed() -> None:
    """Nobody saw the end: it is COMPLETED, and what isn't known isn't told."""
    assert ended(started(START), LOST, None) == Status(
        State.COMPLETED, None, None, START, None, Reason.LOST
    )


def test_a_started_job_has_no_outcome_yet() -> None:
    """RUNNING has neither exit code nor signal nor end."""
    assert started(START) == Status(State.RUNNING, None, None, START, None)


def test_a_status_never_changes() -> None:
    """A snapshot that was handed out stays as it is."""
    status = started(START)
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = State.STOPPED  # type: ignore[misc] # the point of the test
    ended(status, Ending(Exit(0, None)), END)
    assert status.state is State.RUNNING
