"""Owns `jobby status`."""

import json

import click

from jobby_cli.completion import complete_job
from jobby_cli.session import Session
from jobby_cli.stdout import write_line


@click.command(
    short_help="Show where a job stands.",
    epilog="Example:  jobby status d19a",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
@click.argument("job", metavar="[ID]", required=False, shell_complete=complete_job)
@click.pass_obj
def status(session: Session, job: str | None, as_json: bool) -> None:
    """Show whether a job is RUNNING, COMPLETED (with its exit code) or STOPPED.

    ID may be the beginning of the id of a job that you started from this
    machine; without ID, it is the last one that you started. The exit code of
    this command is 0 whatever the job's is.
    """
    job_id = session.job_or_last(job)
    with session.connect() as client:
        found = client.status(job_id)
    if as_json:
        fields = {"job_id": str(job_id), "status": found.state.value, "exit_code": found.exit_code}
        write_line(json.dumps(fields))
        return
    line = f"Status: {found.state.value}"
    write_line(line if found.exit_code is None else f"{line}, ExitCode: {found.exit_code}")
