"""Owns what the server tells of a job: how it stands, how it ended, the names of its outputs."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class State(Enum):
    """Where a job is in its life."""

    RUNNING = "RUNNING"
    """Its main process runs."""
    COMPLETED = "COMPLETED"
    """Its main process ended by itself, or by a signal that was not Jobby's."""
    STOPPED = "STOPPED"
    """Jobby ended it: by a stop, or at a limit; the reason tells."""


class Reason(Enum):
    """Why a job ended; finer than its state."""

    EXITED = "EXITED"
    """Its main process exited; the exit code says how."""
    SIGNALED = "SIGNALED"
    """A signal that was not Jobby's ended its main process."""
    STOPPED = "STOPPED"
    """Somebody stopped it, or the server did as it ended; `Status.stopped_by` says who."""
    TIMED_OUT = "TIMED_OUT"
    """It ran longer than it was allowed to."""
    OUTPUT_LIMIT = "OUTPUT_LIMIT"
    """It wrote more than it was allowed to."""
    DISK_FULL = "DISK_FULL"
    """The disk that holds its output was full: output may be missing."""
    LOST = "LOST"
    """How it ended is not known. Nothing of it runs any more."""
    NOT_STARTED = "NOT_STARTED"
    """The server was ended while it was about to start it: it never ran."""


class Stream(Enum):
    """Which of a job's outputs."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a job used, all of them that were waited for.

    Attributes:
        user_seconds: CPU time in user mode.
        system_seconds: CPU time in the kernel.
        max_rss_bytes: the largest resident set of any one of them.
    """

    user_seconds: float
    system_seconds: float
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a job stood when the server answered.

    Attributes:
        state: its state.
        exit_code: 0 to 255, and 128 + n after signal n; None unless COMPLETED, and if it is lost.
        reason: why it ended; None while it runs, or if the server gives none that is known here.
        signal: the signal that ended its main process, or None.
        stopped_by: who asked for its stop, a Distinguished Name or "server"; empty if nobody did.
        started_at: when it was started (UTC), or None if the server doesn't say.
        ended_at: when it ended; None while it runs, or if that is not known.
        stdout_bytes: how much standard output there was.
        stderr_bytes: how much standard error there was.
        usage: what it used; None while it runs, or if that is not known.
    """

    state: State
    exit_code: int | None = None
    reason: Reason | None = None
    signal: int | None = None
    stopped_by: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """The end of a whole output stream.

    Attributes:
        total_bytes: how many bytes the output has.
        state: the job's state; RUNNING only if the stream didn't follow.
        exit_code: as in `Status`.
        reason: as in `Status`.
        sha256: SHA-256 of the whole output from byte 0; empty if the server leaves it out, as it
            does above 128 KiB.
    """

    total_bytes: int
    state: State
    exit_code: int | None = None
    reason: Reason | None = None
    sha256: bytes = b""
