"""Owns Record: a job that this server watches over, and how it stands."""

from dataclasses import dataclass

from jobby_core import Job, Reason, State, Status
from jobby_server.identity import Owner


@dataclass(slots=True)
class Record:
    """A job that this server watches over, and whose it is.

    Attributes:
        job: the job itself.
        owner: who started it.
        stopped_by: who asked for its stop; "" if nobody did.
        seen: whether it ran when this server began to watch over it.
    """

    job: Job
    owner: Owner
    stopped_by: str = ""
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands, and what the core doesn't know of it."""

    status: Status
    stopped_by: str
    stdout_bytes: int
    stderr_bytes: int


def stopped_by(record: Record, status: Status) -> str:
    """Returns who stopped a job; nobody did if it ended otherwise before the kill reached it."""
    if status.state is State.RUNNING or status.reason in (Reason.STOPPED, None):
        return record.stopped_by
    return ""
