"""Owns the writing of requests: what no server could accept is told before it is sent."""

import uuid
from collections.abc import Sequence
from typing import Final

from jobby_client.errors import InvalidRequestError
from jobby_client.status import Stream
from jobby_proto.v1 import jobby_pb2

_MOST: Final = 2**64 - 1  # uint64
_OUTPUT_TYPES: Final = {
    Stream.STDOUT: "OUTPUT_TYPE_STDOUT",
    Stream.STDERR: "OUTPUT_TYPE_STDERR",
}


def start(
    action: str,
    command: str,
    args: Sequence[str],
    *,
    max_output_bytes: int | None,
    timeout_seconds: float | None,
    request_id: bytes,
) -> jobby_pb2.StartJobRequest:
    """Writes a start.

    Raises:
        InvalidRequestError: a text is not UTF-8, or a value out of range.
    """
    if isinstance(args, str | bytes):  # a sequence, too: of characters
        cause = "args is one string"
        raise InvalidRequestError(action, cause, "give a sequence, with one element an argument")
    for text in (command, *args):
        _check_text(action, text)
    if not 1 <= len(request_id) <= 64:
        cause = f"a request id has 1 to 64 bytes, not {len(request_id)}"
        raise InvalidRequestError(action, cause, "leave it out for a random one")
    request = jobby_pb2.StartJobRequest(command=command, args=args, request_id=request_id)
    if max_output_bytes is not None:
        _check_range(action, "max_output_bytes", max_output_bytes, least=1)
        request.max_output_bytes = max_output_bytes
    if timeout_seconds is not None:
        if not timeout_seconds > 0:  # nor is NaN
            cause = f"timeout_seconds has to be more than 0, not {timeout_seconds}"
            raise InvalidRequestError(action, cause, "leave it out for none")
        if timeout_seconds >= _MOST / 1000:
            cause = f"timeout_seconds is too long: {timeout_seconds}"
            way_out = f"give {_MOST // 1000} or less, or leave it out for none"
            raise InvalidRequestError(action, cause, way_out)
        request.timeout_ms = max(1, round(timeout_seconds * 1000))
    return request


def output(
    action: str,
    job: uuid.UUID | str,
    stream: Stream,
    *,
    offset: int,
    tail_lines: int | None,
    follow: bool,
) -> jobby_pb2.GetJobOutputRequest:
    """Writes which part of which output is wanted; raises as `start` does."""
    _check_range(action, "offset", offset, least=0)
    request = jobby_pb2.GetJobOutputRequest(
        job_id=job_id(action, job),
        type=jobby_pb2.OutputType.Value(_OUTPUT_TYPES[stream]),
        offset=offset,
        follow=follow,
    )
    if tail_lines is not None:
        _check_range(action, "tail_lines", tail_lines, least=0)
        if offset:
            raise InvalidRequestError(
                action, "offset and tail_lines are both given", "give one of the two"
            )
        request.tail_lines = tail_lines
    return request


def job_id(action: str, given: uuid.UUID | str) -> bytes:
    """Writes an id; raises as `start` does."""
    if isinstance(given, uuid.UUID):
        return given.bytes
    try:
        return uuid.UUID(given).bytes
    except ValueError:
        raise InvalidRequestError(action, f"{given!r} is not a job's id", "give a UUID") from None


def _check_text(action: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            action, f"{text!r} is not text in UTF-8", "the contract carries nothing else"
        ) from None


def _check_range(action: str, name: str, value: int, *, least: int) -> None:
    if not least <= value <= _MOST:
        way_out = f"give {least} or more" if value < least else f"give {_MOST} or less"
        raise InvalidRequestError(action, f"{name} is out of range: {value}", way_out)
