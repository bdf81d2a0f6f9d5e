"""Owns the `jobby` process: global options, lazy verbs, and how it ends."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import shell_complete

from jobby_cli import environment
from jobby_cli.arguments import DASHES_HINT
from jobby_cli.completion import COMPLETE_VARIABLE, complete_file
from jobby_cli.failures import (
    EX_INTERRUPTED,
    EX_IO,
    EX_SOFTWARE,
    EX_USAGE,
    CommandError,
    exit_code_of,
    say,
    show,
)
from jobby_cli.profile import DEFAULT_SERVER, SETTINGS
from jobby_cli.session import Session
from jobby_cli.stdout import ReaderGoneError
from jobby_client.errors import JobbyClientError

_VERBS: Final = ("start", "status", "output", "stop", "certs", "completion")
_EPILOG: Final = """\b
Each option is also taken from JOBBY_SERVER, JOBBY_CA, JOBBY_CERT, JOBBY_KEY
and JOBBY_CONFIG, then from the config file (server = "...", ca = "...").
\b
Exit codes: 0 all is well, 64 usage, 65 the command cannot be started or the job
not be signalled, 66 no such job, 69 server unavailable or output cut short,
70 a defect, 74 output lost or not writable, 75 the server is at a limit,
77 refused, 78 bad local configuration, 129 SIGHUP, 130 ctrl-c, 143 SIGTERM.
\b
Example:  jobby start echo hello  &&  jobby output
"""


class _LazyGroup(click.Group):
    """Loads a verb's module when the verb is named, so that none pays for another's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs, in the order they are mostly used."""
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads one verb."""
        del ctx
        if cmd_name not in _VERBS:
            return None
        command = getattr(import_module(f"jobby_cli.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    del parameter
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"jobby {version('jobby-cli')}")
        context.exit()


# Any: click's decorators take and give functions of whatever kind.
def _file_option(flag: str, text: str) -> Callable[[Any], Any]:
    return click.option(flag, metavar="FILE", shell_complete=complete_file, help=text)


@click.group(
    cls=_LazyGroup,
    epilog=_EPILOG,
    # No -h: `jobby start df -h` is a mistake to be told, not a call for help.
    context_settings={"max_content_width": 100},
)
@click.option(
    "--server", metavar="HOST:PORT", help=f"Where the server is.  [default: {DEFAULT_SERVER}]"
)
@_file_option("--ca", "The server's CA.  [default: ca.cert, or ca.crt]")
@_file_option("--cert", "Your certificate.  [default: client.cert]")
@_file_option("--key", "Its private key.  [default: client.key]")
@_file_option("--config", "Settings in TOML.  [default: $XDG_CONFIG_HOME/jobby/config.toml]")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def jobby(context: click.Context, /, config: str | None, **flags: str | None) -> None:
    """Run commands on a Jobby server, and follow their output.

    The three files are taken from the working directory unless they are named.
    `jobby certs init` makes them.
    """
    context.obj = Session(flags, config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    Args:
        arguments: the command line without the program's name; None is the process's own.
    """
    environment.occupy_standard_descriptors()
    environment.adopt()
    environment.end_by_signals()
    try:
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            return shell_complete(jobby, {}, "jobby", COMPLETE_VARIABLE, instruction)
        _run(sys.argv[1:] if arguments is None else list(arguments))
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return EX_INTERRUPTED
    except Exception as error:  # whatever it is: a sentence and an exit code, no traceback
        if os.environ.get("JOBBY_DEBUG"):
            raise
        text, exit_code = _ending(error)
        say(text)
        return exit_code
    return 0


def _run(arguments: list[str]) -> None:
    with jobby.make_context("jobby", arguments) as context:
        try:
            jobby.invoke(context)
        except click.UsageError as error:
            # click's parser leaves out where it was.
            error.ctx = error.ctx or click.Context(
                click.Command(None), parent=context, info_name=context.invoked_subcommand
            )
            raise


def _ending(error: Exception) -> tuple[str, int]:
    """Returns what to say of an error, nothing if there is nothing to say, and the exit code."""
    match error:
        case ReaderGoneError():
            return "", 0  # as with `jobby output | head`: who read has seen enough
        case click.exceptions.NoArgsIsHelpError():
            show(f"{error.format_message()}\n")
            return "", EX_USAGE
        case click.UsageError():
            return _usage(error), EX_USAGE
        case CommandError():
            return str(error), error.exit_code
        case JobbyClientError():
            return str(error), exit_code_of(error)
        case BrokenPipeError():  # of --help and --version, which click writes
            return "", _abandon_stdout(0)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EIO | errno.EBADF):
            text = f"cannot write the output: {error.strerror or error}; write it elsewhere"
            return text, _abandon_stdout(EX_IO)
        case _:
            text = f"defect in jobby: {type(error).__name__}: {error}"
            return f"{text}; please report it, with what JOBBY_DEBUG=1 shows", EX_SOFTWARE


def _usage(error: click.UsageError) -> str:
    """Returns the sentence for a command line that makes no sense."""
    path = error.ctx.command_path if error.ctx else "jobby"
    verb = path.removeprefix("jobby").strip()
    # click puts each of the choices on a line of its own.
    text = error.format_message().rstrip(".").replace("\n\t", " ")
    option = getattr(error, "option_name", None) or ""
    ways_out = []
    if verb == "start" and isinstance(error, click.NoSuchOption | click.BadOptionUsage):
        ways_out.append(DASHES_HINT)
    if option.lstrip("-") in (*SETTINGS, "config"):
        ways_out.append(f"put it before the verb if it is jobby's: jobby {option} … {verb}")
    way_out = "; ".join(ways_out) or f"see {path} --help"
    return f"{verb}: {text}; {way_out}" if verb else f"{text}; {way_out}"


def _abandon_stdout(exit_code: int) -> int:
    """Lets the interpreter's last flush of stdout go nowhere instead of failing in its turn."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return exit_code
