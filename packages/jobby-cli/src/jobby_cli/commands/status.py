"""Owns `jobby status`."""

import json
import uuid
from dataclasses import asdict
from datetime import datetime
from typing import Final

import click

from jobby_cli.completion import complete_job
from jobby_cli.session import Session
from jobby_cli.stdout import write_line
from jobby_client.status import Reason, Status

# The others are what the state and the exit code say already.
_SENTENCES: Final = {
    Reason.TIMED_OUT: "it ran longer than it was allowed to",
    Reason.OUTPUT_LIMIT: "it wrote more than it was allowed to",
    Reason.DISK_FULL: "the disk with its output was full, so output may be missing",
    Reason.LOST: "how it ended is not known; nothing of it runs any more",
    Reason.NOT_STARTED: "the server was ended before it could start it",
}


@click.command(
    short_help="Show where a job stands.",
    epilog="Example:  jobby status d19a",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
@click.argument("job", metavar="[ID]", required=False, shell_complete=complete_job)
@click.pass_obj
def status(session: Session, job: str | None, as_json: bool) -> None:
    """Show whether a job is RUNNING, COMPLETED (with its exit code) or STOPPED.

    A reason follows where that doesn't say it: TIMED_OUT, OUTPUT_LIMIT,
    DISK_FULL, LOST, or STOPPED if the server did that as it ended. --json has
    all that is known: times, sizes of the outputs, CPU time, who stopped it.

    ID may be the beginning of the id of a job that you started from this
    machine; without ID, it is the last one that you started. The exit code of
    this command is 0 whatever the job's is.
    """
    job_id = session.job_or_last(job)
    with session.connect() as client:
        found = client.status(job_id)
    write_line(json.dumps(_fields(job_id, found)) if as_json else _line(found))


def _line(found: Status) -> str:
    line = f"Status: {found.state.value}"
    if found.exit_code is not None:
        line += f", ExitCode: {found.exit_code}"
    if found.reason is None:
        return line
    sentence = _SENTENCES.get(found.reason)
    if found.reason is Reason.STOPPED and found.stopped_by == "server":
        sentence = "the server stopped it as it ended"
    return line if sentence is None else f"{line}, Reason: {found.reason.value} ({sentence})"


def _fields(job_id: uuid.UUID, found: Status) -> dict[str, object]:
    return {
        "job_id": str(job_id),
        "status": found.state.value,
        "exit_code": found.exit_code,
        "reason": None if found.reason is None else found.reason.value,
        "signal": found.signal,
        "stopped_by": found.stopped_by or None,
        "started_at": _moment(found.started_at),
        "ended_at": _moment(found.ended_at),
        "stdout_bytes": found.stdout_bytes,
        "stderr_bytes": found.stderr_bytes,
        "usage": None if found.usage is None else asdict(found.usage),
    }


def _moment(moment: datetime | None) -> str | None:
    # RFC 3339
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
