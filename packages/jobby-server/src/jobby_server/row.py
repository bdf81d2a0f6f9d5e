"""Owns Row: what is kept of a job, and how the database holds it. Pure."""

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jobby_core import Reason, State, Status, Usage
from jobby_server.identity import Owner

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Returns the time in microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def to_us(moment: datetime) -> int:
    """Returns a moment in microseconds since the Unix epoch, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Returns the moment that `to_us` was given."""
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is kept of a job, besides what it runs.

    Attributes:
        id: the job's id.
        owner: who started it.
        groups: the groups in the certificate that started it.
        request_id: what makes its start idempotent; None if nothing does.
        boot_id: in which life of the machine it was started (random(4)).
        created_us: when it was asked for.
        status: how it stands; of a running job it says no more than that.
        stopped_by: who asked for its stop; "" if nobody did.
        stdout_bytes: the size of its standard output; 0 while it runs.
        stderr_bytes: the size of its standard error; 0 while it runs.
    """

    id: uuid.UUID
    owner: Owner
    groups: frozenset[str]
    request_id: bytes | None
    boot_id: str
    created_us: int
    status: Status
    stopped_by: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0


END_COLUMNS: Final = (
    "state",
    "reason",
    "exit_code",
    "signal",
    "started_us",
    "ended_us",
    "user_us",
    "system_us",
    "max_rss_bytes",
    "stopped_by",
    "stdout_bytes",
    "stderr_bytes",
)
COLUMNS: Final = (
    "id",
    "owner_name",
    "owner_authority",
    "owner_groups",
    "request_id",
    "boot_id",
    "created_us",
    *END_COLUMNS,
)


def encode(row: Row) -> tuple[Any, ...]:
    """Returns the values of `COLUMNS`."""
    return (
        row.id.bytes,
        row.owner.name,
        row.owner.authority,
        json.dumps(sorted(row.groups)),
        row.request_id,
        row.boot_id,
        row.created_us,
        *encode_end(row.status, row.stopped_by, row.stdout_bytes, row.stderr_bytes),
    )


def encode_end(
    status: Status, stopped_by: str, stdout_bytes: int, stderr_bytes: int
) -> tuple[Any, ...]:
    """Returns the values of `END_COLUMNS`."""
    usage = status.usage
    return (
        status.state.value,
        None if status.reason is None else status.reason.value,
        status.exit_code,
        status.signal,
        to_us(status.started_at),
        None if status.ended_at is None else to_us(status.ended_at),
        *(
            (None, None, None)
            if usage is None
            else (
                round(usage.user_seconds * 1_000_000),
                round(usage.system_seconds * 1_000_000),
                usage.max_rss_bytes,
            )
        ),
        stopped_by,
        stdout_bytes,
        stderr_bytes,
    )


def decode(found: tuple[Any, ...]) -> Row:
    """Reads the values of `COLUMNS`."""
    (job_id, name, authority, groups, request_id, boot_id, created_us, *rest) = found
    (state, reason, exit_code, signal, started_us, ended_us, user, system, rss, *last) = rest
    stopped_by, stdout_bytes, stderr_bytes = last
    return Row(
        id=uuid.UUID(bytes=job_id),
        owner=Owner(name, authority),
        groups=frozenset(json.loads(groups)),
        request_id=request_id,
        boot_id=boot_id,
        created_us=created_us,
        status=Status(
            State(state),
            exit_code,
            signal,
            started_at=from_us(started_us),
            ended_at=None if ended_us is None else from_us(ended_us),
            reason=None if reason is None else Reason(reason),
            usage=None if user is None else Usage(user / 1_000_000, system / 1_000_000, rss),
        ),
        stopped_by=stopped_by,
        stdout_bytes=stdout_bytes,
        stderr_bytes=stderr_bytes,
    )


def label(row: Row) -> str:
    """Returns what a job's own folder keeps of its row, should the database be lost."""
    return json.dumps(
        {
            "owner": row.owner.name,
            "authority": row.owner.authority,
            "groups": sorted(row.groups),
            "request_id": None if row.request_id is None else row.request_id.hex(),
            "boot_id": row.boot_id,
            "created_us": row.created_us,
        }
    )


def from_label(job_id: uuid.UUID, text: str, status: Status) -> Row:
    """Returns the row that `label` was given, with another status.

    Raises:
        ValueError: that is no such label.
    """
    try:
        fields = json.loads(text)
        request_id = fields["request_id"]
        return Row(
            id=job_id,
            owner=Owner(str(fields["owner"]), str(fields["authority"])),
            groups=frozenset(map(str, fields["groups"])),
            request_id=None if request_id is None else bytes.fromhex(request_id),
            boot_id=str(fields["boot_id"]),
            created_us=int(fields["created_us"]),
            status=status,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no label of a job ({error!r})") from error
