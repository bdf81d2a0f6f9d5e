"""Owns a job's states: which there are, which may follow which, and the Status snapshot. Pure."""

import enum
import signal as signals
from dataclasses import dataclass
from datetime import datetime

from jobby_core.errors import IllegalMoveError


class State(enum.Enum):
    """Where a job is in its life."""

    RUNNING = "running"
    """The main process has not ended."""
    COMPLETED = "completed"
    """The main process ended by itself, or by a signal that was not the library's."""
    STOPPED = "stopped"
    """The library ended the main process: by `Job.stop`, or at a limit; the reason tells."""


class Stream(enum.Enum):
    """Which of a job's two outputs."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Reason(enum.Enum):
    """Why a job ended; finer than its state."""

    EXITED = "exited"
    """The main process exited by itself."""
    SIGNALED = "signaled"
    """A signal that was not the library's ended the main process."""
    STOPPED = "stopped"
    """`Job.stop` ended it."""
    TIMED_OUT = "timed_out"
    """It ran longer than `JobArgs.timeout_seconds`."""
    OUTPUT_LIMIT = "output_limit"
    """Its outputs together exceeded `JobArgs.max_output_bytes`."""
    DISK_FULL = "disk_full"
    """The disk was full and an output had no room for its next byte: some may be missing."""
    LOST = "lost"
    """How it ended is not known: its launcher was killed, or its record was damaged."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job's processes used, all of them that were waited for (getrusage(2)).

    Attributes:
        user_seconds: CPU time in user mode.
        system_seconds: CPU time in the kernel.
        max_rss_bytes: the largest resident set of any one of them.
    """

    user_seconds: float
    system_seconds: float
    max_rss_bytes: int


_NEXT = {
    State.RUNNING: frozenset({State.COMPLETED, State.STOPPED}),
    State.COMPLETED: frozenset[State](),
    State.STOPPED: frozenset[State](),
}


@dataclass(frozen=True, slots=True)
class Exit:
    """How a main process ended, as waitid(2) tells it: one of the two is set.

    Both are None when its exit status went to somebody else (the program
    around the library ignores SIGCHLD or waits for every child itself).
    """

    code: int | None
    signal: int | None


_KILLED = Exit(None, signals.SIGKILL)
_UNKNOWN = Exit(None, None)


@dataclass(frozen=True, slots=True)
class Ending:
    """All that is known of a job's end.

    Attributes:
        exit: how its main process ended.
        stop_signals: the signals that the library sent it while it was alive.
        cause: for which reason it sent them; None if it sent none.
        disk_full: whether an output had no room for its next byte at the end.
        lost: whether the end was seen by nobody.
        elapsed_seconds: how long it took from the start of the main process until all of the job
            was dead; None if not known.
        usage: what its processes used; None if not known.
        output_bytes: how long standard output and error were when all of it was dead; None if
            not known.
    """

    exit: Exit
    stop_signals: frozenset[int] = frozenset()
    cause: Reason | None = None
    disk_full: bool = False
    lost: bool = False
    elapsed_seconds: float | None = None
    usage: Usage | None = None
    output_bytes: tuple[int, int] | None = None


LOST = Ending(_UNKNOWN, lost=True)
"""The end that nobody saw."""


@dataclass(frozen=True, slots=True)
class Status:
    """A job at one moment; it never changes afterwards.

    Attributes:
        state: where the job is in its life.
        exit_code: 0 to 255, set only in `COMPLETED`. A process killed by
            signal n has 128 + n, as in a shell.
        signal: the number of the signal that ended the process, or None.
        started_at: when the process was started (UTC).
        ended_at: when all of it was dead (UTC): as long after `started_at` as its launcher
            measured, or when it was noticed if that told nothing. None while it runs, or if it
            is not known.
        reason: why it ended; None while it runs.
        usage: what its processes used; None while it runs, or if that is not known.
    """

    state: State
    exit_code: int | None
    signal: int | None
    started_at: datetime
    ended_at: datetime | None
    reason: Reason | None = None
    usage: Usage | None = None


def started(at: datetime) -> Status:
    """Returns the status of a job that was started at `at`."""
    return Status(State.RUNNING, None, None, started_at=at, ended_at=None)


def end_state(exit_: Exit, stop_signals: frozenset[int]) -> State:
    """Returns the state a job ends in.

    Args:
        exit_: how its main process ended.
        stop_signals: the signals that `Job.stop` sent while the process was alive.
    """
    if signals.SIGTERM in stop_signals:
        # Asked to end, it may do so in its own way: by the signal or by exiting.
        return State.STOPPED
    if signals.SIGKILL in stop_signals and exit_ in (_KILLED, _UNKNOWN):
        # Of an end whose status went to somebody else, no more is known than what was sent.
        return State.STOPPED
    # Not signalled, or it ended by itself before the kill reached it.
    return State.COMPLETED


def ended(status: Status, ending: Ending, at: datetime | None) -> Status:
    """Returns the status after `status` once the job has ended.

    Args:
        status: the one before.
        ending: how it ended.
        at: when; None if that is not known.

    Raises:
        IllegalMoveError: `status` is an end already.
    """
    to = State.COMPLETED if ending.lost else end_state(ending.exit, ending.stop_signals)
    if to not in _NEXT[status.state]:
        raise IllegalMoveError(
            f"move a job from {status.state.value} to {to.value}",
            "that is no legal move",
            "this is a defect in the library: report it",
        )
    exit_ = ending.exit
    code = exit_.code if exit_.signal is None else 128 + exit_.signal
    return Status(
        state=to,
        exit_code=code if to is State.COMPLETED else None,
        signal=exit_.signal,
        started_at=status.started_at,
        ended_at=at,
        reason=_reason(to, ending),
        usage=ending.usage,
    )


def _reason(state: State, ending: Ending) -> Reason:
    if ending.lost:
        return Reason.LOST
    if state is State.STOPPED:
        return ending.cause or Reason.STOPPED
    if ending.disk_full:
        # The job may not have noticed: a shell's loop over failing writes still exits with 0.
        return Reason.DISK_FULL
    return Reason.EXITED if ending.exit.signal is None else Reason.SIGNALED
