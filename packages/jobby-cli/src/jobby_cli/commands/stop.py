"""Owns `jobby stop`."""

import click

from jobby_cli.completion import complete_job
from jobby_cli.session import Session


@click.command(
    short_help="Kill a job.",
    epilog="Example:  jobby stop d19a",
)
@click.argument("job", metavar="ID", shell_complete=complete_job)
@click.pass_obj
def stop(session: Session, job: str) -> None:
    """Kill a job and all that it started, and return when it has ended.

    ID may be the beginning of the id of a job that you started from this
    machine, but it has to be given: nothing is killed by omission. A job that
    has ended stays as it is.
    """
    job_id = session.job(job)
    with session.connect() as client:
        client.stop(job_id)
