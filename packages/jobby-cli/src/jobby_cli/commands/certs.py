"""Owns `jobby certs`."""

import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobby_cli import names, new_files
from jobby_cli.failures import EX_CONFIG, CommandError, say
from jobby_cli.new_files import NewFile
from jobby_cli.printable import printable
from jobby_cli.stdout import write_line

if TYPE_CHECKING:
    from datetime import datetime

    from jobby_cli.certificates import Authority, Pair

_Command = TypeVar("_Command", bound=Callable[..., Any])

# Servers and clients look for the CA under different names; the content is the same.
_CA_NAMES = ("ca.crt", "ca.cert")


@click.group(short_help="Make certificates.", epilog="Example:  jobby certs init ~/jobby-certs")
def certs() -> None:
    """Make the certificates by which servers and clients know each other.

    Whoever has ca.key can make clients of any name: keep it away from servers
    and clients. Needs jobby-cli[certs].
    """


def _checked(check: Callable[[str], None]) -> Callable[..., Any]:
    """Makes a click callback of a check for one value, or for each of several."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for text in (value,) if isinstance(value, str) else value:
            try:
                check(text)
            except ValueError as error:
                raise click.BadParameter(f"{text!r}: {error}", context, parameter) from error
        return value

    return callback


def _subject_options(command: _Command) -> _Command:
    groups = "the client's groups; repeatable."
    for name, kind in (("--unit", "An OU"), ("--org", "An O")):
        command = click.option(
            name,
            f"{name[2:]}s",
            metavar="TEXT",
            multiple=True,
            callback=_checked(names.check_name),
            help=f"{kind} value of the client's subject: one of {groups}",
        )(command)
    return command


def _file_options(command: _Command) -> _Command:
    command = click.option("--force", is_flag=True, help="Replace files that exist.")(command)
    command = click.option(
        "--no-expiry", is_flag=True, help="Valid until 9999-12-31. For samples, not for use."
    )(command)
    return click.option(
        "--days",
        type=click.IntRange(1, 36500),
        default=365,
        show_default=True,
        help="How long the certificates are valid; the CA at least 10 years.",
    )(command)


def _host_option(command: _Command) -> _Command:
    return click.option(
        "--host",
        "hosts",
        metavar="NAME",
        multiple=True,
        callback=_checked(names.check_host),
        help="A name or IP address that clients call the server by, besides localhost; repeatable.",
    )(command)


def _ca_option(command: _Command) -> _Command:
    return click.option(
        "--dir",
        "folder",
        metavar="DIR",
        type=click.Path(path_type=Path),
        default=Path(),
        help="Where the CA is, and where the files go.  [default: the working directory]",
    )(command)


@certs.command(
    short_help="Make a CA, a server and a client.",
    epilog="Example:  jobby certs init --host jobs.example.org ~/jobby-certs",
)
@_host_option
@click.option(
    "--client",
    "client_name",
    metavar="NAME",
    default="client",
    show_default=True,
    callback=_checked(names.check_name),
    help="The CN of the client: the user's name.",
)
@_subject_options
@_file_options
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def init(
    folder: Path,
    hosts: tuple[str, ...],
    client_name: str,
    orgs: tuple[str, ...],
    units: tuple[str, ...],
    days: int,
    no_expiry: bool,
    force: bool,
) -> None:
    """Make a new CA, a server certificate and a client certificate in DIR.

    The files have the names that jobby-server and jobby look for: ca.crt (for
    servers) and ca.cert (for clients, the same file), ca.key, server.cert,
    server.key, client.cert, client.key. DIR is the working directory if it is
    left out, and made if it isn't there.

    --force replaces the CA as well: what the old one signed becomes useless.
    """
    made = [*_CA_NAMES, "ca.key", "server.cert", "server.key", "client.cert", "client.key"]
    new_files.check_free(folder, made, replace=force)
    _require_cryptography()
    from jobby_cli.certificates import LOCAL_HOSTS, NO_EXPIRY, Authority, end_after

    authority = Authority.make(None if no_expiry else days)
    until = NO_EXPIRY if no_expiry else end_after(days)
    files = {name: NewFile(authority.pair.certificate, secret=False) for name in _CA_NAMES}
    files["ca.key"] = NewFile(authority.pair.key, secret=True)
    files |= _leaf_files("server", authority.server(hosts, until))
    files |= _leaf_files("client", authority.client(client_name, orgs, units, until))
    new_files.write(folder, files, replace=force)
    write_line(
        f"Made in {printable(str(folder.absolute()))}:\n"
        "  ca.crt, ca.cert           the CA's certificate, for servers and for clients\n"
        "  ca.key                    the CA's key: keep it to yourself\n"
        f"  server.cert, server.key   for {', '.join((*LOCAL_HOSTS, *hosts))}\n"
        f"  client.cert, client.key   for {client_name}\n"
        "There, `jobby-server` and `jobby` find them by themselves."
    )


@certs.command(
    short_help="Make a server's certificate anew, or one more.",
    epilog="Example:  jobby certs server --host jobs.example.org --dir ~/jobby-certs --force",
)
@_host_option
@_ca_option
@_file_options
def server(folder: Path, hosts: tuple[str, ...], days: int, no_expiry: bool, force: bool) -> None:
    """Make server.cert and server.key, signed by the CA in DIR.

    To renew them before they run out, with --force, or for a further --host.
    It is for the names that are given now, whatever it was for before. The
    clients' certificates stay as good as they are. A running server takes the
    new ones when it is restarted.
    """

    def sign(authority: "Authority", until: "datetime") -> "Pair":
        return authority.server(hosts, until)

    made = _add("server", folder, sign, days=days, no_expiry=no_expiry, force=force)
    from jobby_cli.certificates import LOCAL_HOSTS

    write_line(f"{made}, for {', '.join((*LOCAL_HOSTS, *hosts))}")


@certs.command(
    short_help="Make one more client.",
    epilog="Example:  jobby certs client alice --org 'Example Inc' --unit ops",
)
@_ca_option
@_subject_options
@_file_options
@click.argument("name", callback=_checked(names.check_client_name))
def client(
    name: str,
    folder: Path,
    orgs: tuple[str, ...],
    units: tuple[str, ...],
    days: int,
    no_expiry: bool,
    force: bool,
) -> None:
    """Make NAME.cert and NAME.key, signed by the CA in DIR.

    A job belongs to the subject of the certificate that started it: O, OU and
    CN together. A new certificate with the same subject is the same user.
    """

    def sign(authority: "Authority", until: "datetime") -> "Pair":
        return authority.client(name, orgs, units, until)

    write_line(_add(name, folder, sign, days=days, no_expiry=no_expiry, force=force))


def _add(
    name: str,
    folder: Path,
    sign: "Callable[[Authority, datetime], Pair]",
    *,
    days: int,
    no_expiry: bool,
    force: bool,
) -> str:
    """Writes what the CA in a folder signs, beside it; returns what to say of it."""
    new_files.check_free(folder, [f"{name}.cert", f"{name}.key"], replace=force)
    _require_cryptography()
    authority, until = _signer(folder, days, no_expiry=no_expiry)
    files = _leaf_files(name, sign(authority, until))
    new_files.write(folder, files, replace=force)
    return f"Made in {printable(str(folder.absolute()))}: {' and '.join(files)}"


def _require_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise CommandError(
            "cannot make certificates without the package cryptography; "
            "pip install 'jobby-cli[certs]'",
            EX_CONFIG,
        )


def _signer(folder: Path, days: int, *, no_expiry: bool) -> "tuple[Authority, datetime]":
    """Returns the CA in a folder, and when what it signs for so many days runs out."""
    from jobby_cli.certificates import NO_EXPIRY, end_after

    authority = _load_authority(folder)
    until = NO_EXPIRY if no_expiry else end_after(days)
    if authority.not_after < end_after(1):
        text = (
            f"cannot sign: the CA ends at {authority.not_after}; make a new one in another folder"
        )
        raise CommandError(text, EX_CONFIG)
    if until > authority.not_after:
        way_out = "leave out --no-expiry" if no_expiry else "give fewer --days"
        text = f"cannot sign for so long: the CA itself ends at {authority.not_after}; {way_out}"
        raise CommandError(text, EX_CONFIG)
    return authority, until


def _load_authority(folder: Path) -> "Authority":
    from jobby_cli.certificates import Authority, Pair

    names = [name for name in _CA_NAMES if (folder / name).exists()] or list(_CA_NAMES)
    key = folder / "ca.key"
    try:
        authority = Authority.load(Pair((folder / names[0]).read_bytes(), key.read_bytes()))
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        text = (
            f"cannot read the CA's {error.filename}: {error.strerror or error}; name its folder "
            "with --dir, or make a CA with `jobby certs init`"
        )
        raise CommandError(text, EX_CONFIG) from error
    except ValueError as error:
        text = f"cannot use the CA in {folder.absolute()}: {error}; name another folder with --dir"
        raise CommandError(text, EX_CONFIG) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        say(
            f"warning: others may read or change {key} (mode {mode:04o}), and whoever has it can "
            "be any client: chmod 600 it"
        )
    return authority


def _leaf_files(name: str, pair: "Pair") -> dict[str, NewFile]:
    return {
        f"{name}.cert": NewFile(pair.certificate, secret=False),
        f"{name}.key": NewFile(pair.key, secret=True),
    }
