"""Owns `jobby start`."""

import json
import os
import shlex
import uuid

import click

from jobby_cli import interruption
from jobby_cli.arguments import command_line, refuse_misread
from jobby_cli.failures import EX_INTERRUPTED, EX_UNAVAILABLE, CommandError
from jobby_cli.options import read_by
from jobby_cli.quantities import size, some_seconds
from jobby_cli.session import Session
from jobby_cli.stdout import write_line
from jobby_client.errors import UnknownStartError


class _Start(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # the shell's completion asks about half a line
            try:
                refuse_misread(args, self._valued())
            except ValueError as error:
                raise click.BadOptionUsage("-a", str(error), ctx) from error
        return super().parse_args(ctx, args)

    def _valued(self) -> list[str]:
        options = [option for option in self.params if isinstance(option, click.Option)]
        return [name for option in options if not option.is_flag for name in option.opts]


@click.command(
    cls=_Start,
    short_help="Start a command as a new job.",
    epilog="""\b
Examples:  jobby start -- sh -c 'make all && echo done'
           jobby start --timeout 10m --max-output 1G -- make all
""",
)
@click.option(
    "-a",
    "--arg",
    "arg_options",
    metavar="ARG",
    multiple=True,
    help="One argument for the command; repeatable. --arg=-n for one that begins with a dash.",
)
@click.option(
    "--max-output",
    metavar="SIZE",
    callback=read_by(size),
    help="Stop it once its outputs together exceed this: 4096, 64K, 10M, 1G. It may write some "
    "more before it is dead, and that is kept.  [default: no limit]",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_by(some_seconds),
    help="Stop it when it has run this long: 90s, 10m, 2h.  [default: no limit]",
)
@click.option(
    "--request-id",
    metavar="ID",
    help="Starts one job only, as long as the server remembers it; 1 to 64 bytes.  "
    "[default: random]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
@click.argument("words", metavar="[--] COMMAND [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def start(
    session: Session,
    words: tuple[str, ...],
    arg_options: tuple[str, ...],
    max_output: int | None,
    timeout: float | None,
    request_id: str | None,
    as_json: bool,
) -> None:
    """Start COMMAND on the server as a new job, and print the job's id.

    COMMAND is a path on the server's machine, or a name in its PATH. There is
    no shell in between. After -- everything is the command's own; without it,
    words that begin with a dash are options of jobby's.

    These are the same: `jobby start echo hello`, `jobby start -- echo hello`,
    `jobby start echo -a hello`.

    If the connection breaks before the answer, it is asked for again, and the
    request id sees to it that one job is started; only a server that keeps no
    state, and was restarted in between, starts a second one. A script that may
    have to try again gives an id of its own.
    """
    try:
        command, args = command_line(words, arg_options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    scope = session.scope
    # Text, so that it can be typed again.
    request_id = str(uuid.uuid4()) if request_id is None else request_id
    again = f"with --request-id {shlex.quote(request_id)} the same command starts no second one"
    with session.connect() as client:
        try:
            with interruption.kept():
                job_id = client.start(
                    command,
                    args,
                    max_output_bytes=max_output,
                    timeout_seconds=timeout,
                    request_id=os.fsencode(request_id),
                )
        except UnknownStartError as error:
            text = f"cannot {error.action}: {error.cause}; the job may have been started; {again}"
            raise CommandError(text, EX_UNAVAILABLE) from None
        except (KeyboardInterrupt, SystemExit) as error:  # ctrl-c; SIGTERM or SIGHUP
            text = f"interrupted before the server answered; the job may have been started; {again}"
            exit_code = error.code if isinstance(error, SystemExit) else EX_INTERRUPTED
            raise CommandError(text, int(exit_code or 0)) from None
        try:
            # Before the line: whoever reads it may at once ask for "the last one".
            session.recent.add(scope, job_id, command)
        finally:
            _tell(str(job_id), as_json=as_json)


def _tell(job_id: str, *, as_json: bool) -> None:
    try:
        write_line(json.dumps({"job_id": job_id}) if as_json else f"Job Started! Id: {job_id}")
    except CommandError as error:
        text = f"the job runs, and its id is {job_id}, but {error}"
        raise CommandError(text, error.exit_code) from error
