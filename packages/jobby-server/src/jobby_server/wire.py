"""Owns the translation between the core and the contract: ids, enums, statuses, errors. Pure."""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc

from jobby_core import (
    ArgumentsTooLongError,
    InvalidJobError,
    JobbyError,
    LauncherError,
    LimitError,
    OutputMissingError,
    OutputTruncatedError,
    Reason,
    StartError,
    State,
    Status,
    StopError,
    Stream,
)
from jobby_proto.v1 import jobby_pb2
from jobby_server.refusal import RefusedError

SERVICE_NAMES: Final = ("jobby.v1.Jobby", "Jobby")
"""The contract's name, and that of the same contract without a package line."""

NOT_FOUND_TEXT: Final = "no such job"

OFFSET_KEY: Final = "jobby-offset"
"""In an output's initial metadata: where it begins. The client knows it before the first byte."""

_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)

# By name, never by number: a renumbered enum on either side must not change what is said.
_STATUS_NAMES: Final = {
    State.RUNNING: "STATUS_RUNNING",
    State.COMPLETED: "STATUS_COMPLETE",
    State.STOPPED: "STATUS_STOPPED",
}
_REASON_NAMES: Final = {
    Reason.EXITED: "END_REASON_EXITED",
    Reason.SIGNALED: "END_REASON_SIGNALED",
    Reason.STOPPED: "END_REASON_STOPPED",
    Reason.TIMED_OUT: "END_REASON_TIMED_OUT",
    Reason.OUTPUT_LIMIT: "END_REASON_OUTPUT_LIMIT",
    Reason.DISK_FULL: "END_REASON_DISK_FULL",
    Reason.LOST: "END_REASON_LOST",
}
_STREAMS: Final = {
    "OUTPUT_TYPE_STDOUT": Stream.STDOUT,
    "OUTPUT_TYPE_STDERR": Stream.STDERR,
}


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OutputWanted:
    """Which part of which output a client asks for.

    Attributes:
        stream: the output.
        offset: its first byte; 0 with `tail_lines`.
        tail_lines: how many lines before the end to begin at, or None.
        follow: whether to wait for more while the job runs.
    """

    stream: Stream
    offset: int
    tail_lines: int | None
    follow: bool


def not_found() -> RefusedError:
    """Returns the one answer for a job that isn't there and for one that is somebody else's."""
    return RefusedError(grpc.StatusCode.NOT_FOUND, NOT_FOUND_TEXT)


def invalid(field: str, reason: str) -> RefusedError:
    """Returns the refusal of a request's field."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {reason}")


def job_id(raw: bytes) -> uuid.UUID:
    """Reads an id: the 16 bytes of a UUID, or its text (RFC 9562, section 4).

    Raises:
        RefusedError: it is absent or neither of the two.
    """
    if not raw:
        raise invalid("job_id", "it is absent; give the id that StartJob answered")
    if len(raw) == 16:
        return uuid.UUID(bytes=raw)
    text = raw.decode("ascii", errors="replace")
    if not _UUID_TEXT.fullmatch(text):
        raise invalid(
            "job_id", f"it is neither 16 bytes nor the text of a UUID ({len(raw)} bytes were given)"
        )
    return uuid.UUID(text)


def stream(output_type: int) -> Stream:
    """Reads which output is wanted.

    Raises:
        RefusedError: unspecified, or a number this server doesn't know.
    """
    descriptor = jobby_pb2.OutputType.DESCRIPTOR.values_by_number.get(output_type)
    wanted = None if descriptor is None else _STREAMS.get(descriptor.name)
    if wanted is None:
        known = " or ".join(_STREAMS)
        given = f"unknown value {output_type}" if descriptor is None else "it is unspecified"
        raise invalid("type", f"{given}; give {known}")
    return wanted


def output_wanted(request: jobby_pb2.GetJobOutputRequest) -> OutputWanted:
    """Reads which part of which output is wanted.

    Raises:
        RefusedError: the output is unspecified or unknown, or two beginnings were given.
    """
    tail_lines = request.tail_lines if request.HasField("tail_lines") else None
    if tail_lines is not None and request.offset:
        raise invalid("tail_lines", "it was given together with offset; give one of the two")
    follow = request.follow if request.HasField("follow") else True
    return OutputWanted(stream(request.type), request.offset, tail_lines, follow)


def out_of_range(offset: int, size: int) -> RefusedError:
    """Returns the refusal of an offset behind the end."""
    return RefusedError(
        grpc.StatusCode.OUT_OF_RANGE,
        f"offset: {offset} is beyond the {size} bytes that were written by now",
    )


def truncated(size: int, kept: int) -> RefusedError:
    """Returns how the stream of an output ends that has become shorter since its job ended."""
    return RefusedError(
        grpc.StatusCode.DATA_LOSS,
        f"the job's output cannot be read: it was truncated to {size} bytes, so output is lost; "
        f"leave it alone: it had {kept} bytes when the job ended",
    )


def status_response(
    status: Status, *, stopped_by: str = "", stdout_bytes: int, stderr_bytes: int
) -> jobby_pb2.GetStatusResponse:
    """Writes how a job stands.

    Args:
        status: how it stands.
        stopped_by: who asked for its stop; empty if nobody did.
        stdout_bytes: how long its standard output is.
        stderr_bytes: how long its standard error is.
    """
    response = jobby_pb2.GetStatusResponse(
        current_status=jobby_pb2.Status.Value(_STATUS_NAMES[status.state]),
        reason=_reason(status),
        signal=status.signal or 0,
        stopped_by=stopped_by,
        started_at_us=_microseconds(status.started_at),
        ended_at_us=0 if status.ended_at is None else _microseconds(status.ended_at),
        stdout_bytes=stdout_bytes,
        stderr_bytes=stderr_bytes,
    )
    if (exit_code := _exit_code(status)) is not None:
        response.exit_code = exit_code
    if (usage := status.usage) is not None:
        response.usage.user_cpu_us = round(usage.user_seconds * 1_000_000)
        response.usage.system_cpu_us = round(usage.system_seconds * 1_000_000)
        response.usage.max_rss_bytes = usage.max_rss_bytes
    return response


# GetJobOutputResponse.data is field 1, and length-delimited is wire type 2; offset is field 2,
# and a varint is wire type 0 (protobuf.dev/programming-guides/encoding).
_DATA_TAG = bytes([jobby_pb2.GetJobOutputResponse.DATA_FIELD_NUMBER << 3 | 2])
_OFFSET_TAG = bytes([jobby_pb2.GetJobOutputResponse.OFFSET_FIELD_NUMBER << 3])


def encode_chunk(data: bytes, offset: int) -> bytes:
    """Writes a GetJobOutputResponse that holds `data`, which begins at `offset`.

    By hand: a message object would copy every chunk once more on its way.
    """
    head = (_DATA_TAG, _varint(len(data)), data)
    return b"".join((*head, _OFFSET_TAG, _varint(offset)) if offset else head)


def encode_end(status: Status, total_bytes: int, sha256: bytes) -> bytes:
    """Writes the GetJobOutputResponse that ends a whole stream.

    Args:
        status: how the job stands.
        total_bytes: how long the output is.
        sha256: the digest of all of it; empty to leave it out.
    """
    end = jobby_pb2.OutputEnd(
        total_bytes=total_bytes,
        status=jobby_pb2.Status.Value(_STATUS_NAMES[status.state]),
        exit_code=_exit_code(status),
        reason=_reason(status),
        sha256=sha256,
    )
    return jobby_pb2.GetJobOutputResponse(offset=total_bytes, end=end).SerializeToString()


def _exit_code(status: Status) -> int | None:
    return status.exit_code if status.state is State.COMPLETED else None


def _reason(status: Status) -> jobby_pb2.EndReason.ValueType:
    if status.reason is None:
        return jobby_pb2.END_REASON_UNSPECIFIED
    return jobby_pb2.EndReason.Value(_REASON_NAMES[status.reason])


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def refusal(error: JobbyError) -> RefusedError | None:
    """Returns the status an error of the core ends a call with; None if it is the server's defect.

    The server's own paths stay out of the text.
    """
    match error:
        case InvalidJobError() | ArgumentsTooLongError():
            return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        case StopError():
            return RefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        case LauncherError():
            return None  # of the server's installation, with its paths
        case StartError() if type(error) is not StartError:
            return RefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        case LimitError():
            return RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server is at a limit ({error.limit}): {error.cause}; "
                f"on the server: {error.way_out}",
            )
        case OutputMissingError() | OutputTruncatedError():
            return RefusedError(
                grpc.StatusCode.DATA_LOSS,
                f"the job's output cannot be read: {error.cause}; {error.way_out}",
            )
        case _:
            return None
