"""Owns `jobby output`."""

import shlex
import uuid

import click

from jobby_cli import stdout
from jobby_cli.completion import complete_job
from jobby_cli.failures import EX_INTERRUPTED, CommandError
from jobby_cli.session import Session
from jobby_client.errors import StreamClosedError


@click.command(
    short_help="Print a job's output, live.",
    epilog="Example:  jobby output --type stderr d19a | less",
)
@click.option(
    "--type",
    "stream",
    type=click.Choice(["stdout", "stderr"]),
    default="stdout",
    show_default=True,
    help="Which of the job's outputs.",
)
@click.argument("job", metavar="[ID]", required=False, shell_complete=complete_job)
@click.pass_obj
def output(session: Session, job: str | None, stream: str) -> None:
    """Print a job's output from its beginning, as it comes, until the job ends.

    The bytes pass through untouched. Ctrl-c detaches, and the job runs on;
    so does a reader that leaves, as in `| head`, which is no failure: exit
    code 0. Any other exit code than 0 means that the output isn't complete.

    ID may be the beginning of the id of a job that you started from this
    machine; without ID, it is the last one that you started.
    """
    job_id = session.job_or_last(job)
    try:
        _copy(session, job_id, stream)
    except stdout.ReaderGoneError:
        return
    except KeyboardInterrupt:
        again = shlex.join(_again(session, job_id, stream))
        raise CommandError(
            f"detached, the job runs on; to come back: {again}", EX_INTERRUPTED
        ) from None


def _copy(session: Session, job_id: uuid.UUID, stream: str) -> None:
    with (
        session.connect() as client,
        client.output(job_id, "stderr" if stream == "stderr" else "stdout") as chunks,
        stdout.ReaderWatch(chunks.close) as watch,
    ):
        try:
            for chunk in chunks:
                stdout.write(chunk)
        except StreamClosedError:
            if not watch.gone:
                raise
            raise stdout.ReaderGoneError from None


def _again(session: Session, job_id: uuid.UUID, stream: str) -> list[str]:
    type_ = [] if stream == "stdout" else ["--type", stream]
    return ["jobby", *session.global_options(), "output", *type_, str(job_id)]
