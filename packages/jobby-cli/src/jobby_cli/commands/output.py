"""Owns `jobby output`."""

import shlex
import uuid
from dataclasses import dataclass
from typing import Literal

import click

from jobby_cli import interruption, stdout
from jobby_cli.completion import complete_job
from jobby_cli.failures import EX_INTERRUPTED, EX_IO, CommandError, say
from jobby_cli.options import read_by
from jobby_cli.quantities import seconds
from jobby_cli.session import Session
from jobby_client.errors import BrokenStreamError, StreamClosedError
from jobby_client.status import Reason


@click.command(
    short_help="Print a job's output, live.",
    epilog="""\b
Examples:  jobby output --type stderr d19a | less
           jobby output --tail 20 d19a
           jobby output --offset 1048576 --no-follow d19a >> log
""",
)
@click.option(
    "--type",
    "stream",
    type=click.Choice(["stdout", "stderr"]),
    default="stdout",
    show_default=True,
    help="Which of the job's outputs.",
)
@click.option(
    "--offset",
    metavar="N",
    type=click.IntRange(0),
    help="Begin at this byte, counted from 0.",
)
@click.option(
    "--tail",
    metavar="N",
    type=click.IntRange(0),
    help="Begin this many lines before the end; 0 is only what comes from now on.",
)
@click.option("--no-follow", is_flag=True, help="End with what there is by now.")
@click.option(
    "--reconnect",
    metavar="DURATION",
    callback=read_by(seconds),
    default="60s",
    show_default=True,
    help="How long to try to go on when the connection breaks; 0 never does.",
)
@click.argument("job", metavar="[ID]", required=False, shell_complete=complete_job)
@click.pass_obj
def output(
    session: Session,
    job: str | None,
    stream: Literal["stdout", "stderr"],
    offset: int | None,
    tail: int | None,
    no_follow: bool,
    reconnect: float,
) -> None:
    """Print a job's output from its beginning, as it comes, until the job ends.

    The bytes pass through untouched. Ctrl-c detaches, and leaves the job alone;
    so does a reader that leaves, as in `| head`, which is no failure: exit
    code 0. Any other exit code than 0 means that the output isn't complete.

    When the connection breaks or the server is restarted, that is said, and
    the output goes on at the byte that is due.

    ID may be the beginning of the id of a job that you started from this
    machine; without ID, it is the last one that you started.
    """
    if offset is not None and tail is not None:
        raise click.UsageError("--offset and --tail are both given; choose one beginning")
    wanted = _Wanted(stream, offset or 0, tail, not no_follow, reconnect)
    job_id = session.job_or_last(job)
    try:
        _copy(session, job_id, wanted)
    except stdout.ReaderGoneError:
        return
    except KeyboardInterrupt:
        again = shlex.join(_again(session, job_id, stream))
        raise CommandError(
            f"detached, the job itself is left alone; to come back: {again}", EX_INTERRUPTED
        ) from None


@dataclass(frozen=True)
class _Wanted:
    """What the options said."""

    stream: Literal["stdout", "stderr"]
    offset: int
    tail_lines: int | None
    follow: bool
    reconnect_seconds: float


def _copy(session: Session, job_id: uuid.UUID, wanted: _Wanted) -> None:
    with (
        interruption.kept(),
        session.connect() as client,
        client.output(
            job_id,
            wanted.stream,
            offset=wanted.offset,
            tail_lines=wanted.tail_lines,
            follow=wanted.follow,
            reconnect_seconds=wanted.reconnect_seconds,
            on_reconnect=_say_lost,
        ) as chunks,
        stdout.ReaderWatch(chunks.close) as watch,
    ):
        try:
            for chunk in chunks:
                stdout.write(chunk)
        except StreamClosedError:
            if not watch.gone:
                raise
            raise stdout.ReaderGoneError from None
        # All that the server has; what the disk took no more, the job may have lost.
        if chunks.end is not None and chunks.end.reason is Reason.DISK_FULL:
            text = (
                "the disk with the job's output was full, so output may be missing; "
                "free space on the server, and start it again"
            )
            raise CommandError(text, EX_IO)


def _say_lost(error: BrokenStreamError) -> None:
    why = f" ({error.said_by_server})" if error.said_by_server else ""
    say(f"connection lost after {error.bytes_received} bytes; reconnecting …{why}")


def _again(session: Session, job_id: uuid.UUID, stream: str) -> list[str]:
    type_ = [] if stream == "stdout" else ["--type", stream]
    return ["jobby", *session.global_options(), "output", *type_, str(job_id)]
