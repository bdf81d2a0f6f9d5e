"""Owns the reading of answers: messages of the contract become typed values, enums by name."""

from datetime import UTC, datetime, timedelta
from typing import Final

from jobby_client.errors import InternalServerError
from jobby_client.status import OutputEnd, Reason, State, Status, Usage
from jobby_proto.v1 import jobby_pb2

_STATES: Final = {
    "STATUS_RUNNING": State.RUNNING,
    "STATUS_STOPPED": State.STOPPED,
    "STATUS_COMPLETE": State.COMPLETED,
}
_REASONS: Final = {f"END_REASON_{reason.name}": reason for reason in Reason}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def status(action: str, response: jobby_pb2.GetStatusResponse) -> Status:
    """Reads how a job stands.

    Raises:
        InternalServerError: in a state that the contract doesn't know.
    """
    return Status(
        state=_state(action, response.current_status),
        exit_code=response.exit_code if response.HasField("exit_code") else None,
        reason=_reason(response.reason),
        signal=response.signal or None,
        stopped_by=response.stopped_by,
        started_at=_moment(response.started_at_us),
        ended_at=_moment(response.ended_at_us),
        stdout_bytes=response.stdout_bytes,
        stderr_bytes=response.stderr_bytes,
        usage=_usage(response.usage) if response.HasField("usage") else None,
    )


def end(action: str, message: jobby_pb2.OutputEnd) -> OutputEnd:
    """Reads the end of a stream; raises as `status` does."""
    return OutputEnd(
        total_bytes=message.total_bytes,
        state=_state(action, message.status),
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        reason=_reason(message.reason),
        sha256=message.sha256,
    )


def _state(action: str, number: int) -> State:
    known = jobby_pb2.Status.DESCRIPTOR.values_by_number.get(number)
    state = None if known is None else _STATES.get(known.name)
    if state is None:
        cause = f"the server answered with an unknown state ({number})"
        raise InternalServerError(action, cause, "update this client")
    return state


def _reason(number: int) -> Reason | None:
    # Unlike states, there may be more of them some day: a client does well without the new ones.
    known = jobby_pb2.EndReason.DESCRIPTOR.values_by_number.get(number)
    return None if known is None else _REASONS.get(known.name)


def _usage(message: jobby_pb2.ResourceUsage) -> Usage:
    return Usage(message.user_cpu_us / 1e6, message.system_cpu_us / 1e6, message.max_rss_bytes)


def _moment(microseconds: int) -> datetime | None:
    if microseconds <= 0:
        return None
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # after the year 9999: no clock says that
        return None
