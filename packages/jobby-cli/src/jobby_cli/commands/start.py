"""Owns `jobby start`."""

import json

import click

from jobby_cli.arguments import command_line
from jobby_cli.failures import EX_INTERRUPTED, CommandError
from jobby_cli.session import Session
from jobby_cli.stdout import write_line


@click.command(
    short_help="Start a command as a new job.",
    epilog="Example:  jobby start -- sh -c 'make all && echo done'",
)
@click.option(
    "-a",
    "--arg",
    "arg_options",
    metavar="ARG",
    multiple=True,
    help="One argument for the command; repeatable. --arg=-n for one that begins with a dash.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
@click.argument("words", metavar="[--] COMMAND [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def start(
    session: Session, words: tuple[str, ...], arg_options: tuple[str, ...], as_json: bool
) -> None:
    """Start COMMAND on the server as a new job, and print the job's id.

    COMMAND is a path on the server's machine, or a name in its PATH. There is
    no shell in between. After -- everything is the command's own; without it,
    words that begin with a dash are options of jobby's.

    These are the same: `jobby start echo hello`, `jobby start -- echo hello`,
    `jobby start echo -a hello`.
    """
    try:
        command, args = command_line(words, arg_options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    scope = session.scope
    with session.connect() as client:
        try:
            job_id = client.start(command, args)
        except KeyboardInterrupt:
            text = "interrupted before the server answered; the job may have been started"
            raise CommandError(text, EX_INTERRUPTED) from None
        try:
            # Before the line: whoever reads it may at once ask for "the last one".
            session.recent.add(scope, job_id, command)
        finally:
            text = str(job_id)
            write_line(json.dumps({"job_id": text}) if as_json else f"Job Started! Id: {text}")
