"""Owns the translation between the core and the contract: ids, enums, statuses, errors. Pure."""

import re
import uuid
from typing import Final

import grpc

from jobby_core import (
    ArgumentsTooLongError,
    InvalidJobError,
    JobbyError,
    LimitError,
    OutputMissingError,
    OutputTruncatedError,
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

_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)

# By name, never by number: a renumbered enum on either side must not change what is said.
_STATUS_NAMES: Final = {
    State.RUNNING: "STATUS_RUNNING",
    State.COMPLETED: "STATUS_COMPLETE",
    State.STOPPED: "STATUS_STOPPED",
}
_STREAMS: Final = {
    "OUTPUT_TYPE_STDOUT": Stream.STDOUT,
    "OUTPUT_TYPE_STDERR": Stream.STDERR,
}


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


def status_response(
    status: Status, *, stopped_by: str = "", stdout_bytes: int = 0, stderr_bytes: int = 0
) -> jobby_pb2.GetStatusResponse:
    """Writes how a job stands."""
    response = jobby_pb2.GetStatusResponse(
        current_status=jobby_pb2.Status.Value(_STATUS_NAMES[status.state]),
        stopped_by=stopped_by,
        stdout_bytes=stdout_bytes,
        stderr_bytes=stderr_bytes,
    )
    if status.state is State.COMPLETED and status.exit_code is not None:
        response.exit_code = status.exit_code
    return response


# GetJobOutputResponse.data is field 1, and length-delimited is wire type 2
# (protobuf.dev/programming-guides/encoding).
_DATA_TAG = bytes([jobby_pb2.GetJobOutputResponse.DATA_FIELD_NUMBER << 3 | 2])


def encode_chunk(data: bytes) -> bytes:
    """Writes a GetJobOutputResponse that holds `data`.

    By hand: a message object would copy every chunk once more on its way.
    """
    length = len(data)
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return b"".join((_DATA_TAG, varint, data))


def refusal(error: JobbyError) -> RefusedError | None:
    """Returns the status an error of the core ends a call with; None if it is the server's defect.

    The server's own paths stay out of the text.
    """
    match error:
        case InvalidJobError() | ArgumentsTooLongError():
            return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        case StopError():
            return RefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error))
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
