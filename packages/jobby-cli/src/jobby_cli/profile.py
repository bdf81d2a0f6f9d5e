"""Owns where the settings come from: flag, environment, config file, working directory."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobby_cli.failures import EX_CONFIG, EX_USAGE, CommandError
from jobby_client.address import Address
from jobby_client.credentials import Credentials
from jobby_client.errors import CredentialsError

SETTINGS: Final = ("server", "ca", "cert", "key")
DEFAULT_SERVER: Final = "localhost:50051"
# The client's own name first; the other one is what a server calls the same file.
_DEFAULT_FILES: Final = {
    "ca": ("ca.cert", "ca.crt"),
    "cert": ("client.cert",),
    "key": ("client.key",),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and where it came from.

    Attributes:
        value: as it was given; a path in a config file is relative to that file.
        origin: words for a sentence, such as "--ca" or "JOBBY_CA"; empty if it is the default.
    """

    value: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """Which server is meant, and the files to go there with.

    Attributes:
        address: the server.
        files: "ca", "cert" and "key" with where each was named.
    """

    address: Address
    files: Mapping[str, Setting]

    def credentials(self) -> Credentials:
        """Reads the files.

        Raises:
            CommandError: one of them cannot be used; the sentence says who named it.
        """
        try:
            return Credentials.from_files(*(self.files[role].value for role in SETTINGS[1:]))
        except CredentialsError as error:
            raise self.failure(error) from error

    def failure(self, error: CredentialsError) -> CommandError:
        """Returns the failure for a file that cannot be used."""
        setting = self.files[error.role]
        if setting.origin:
            text = f"{error} (it was named by {setting.origin})"
        else:
            tried = " and ".join(_DEFAULT_FILES[error.role])
            flag = f"--{error.role}, JOBBY_{error.role.upper()} or the config file"
            text = f"{error} (the default is {tried} in the working directory; {flag} name others)"
        return CommandError(text, EX_CONFIG)


def load(
    flags: Mapping[str, str | None], config: str | None, environment: Mapping[str, str]
) -> Profile:
    """Returns the settings.

    A flag wins over the environment, that over the config file, that over the
    default. An empty variable counts as not set.

    Args:
        flags: what was given on the command line, for each of `SETTINGS`.
        config: the value of --config, if it was given.
        environment: the variables.

    Raises:
        CommandError: a value or the config file cannot be used.
    """
    from_file = _read_config(config, environment)
    found: dict[str, Setting] = {}
    for name in SETTINGS:
        flag, variable = flags.get(name), f"JOBBY_{name.upper()}"
        if flag is not None:
            found[name] = Setting(flag, f"--{name}")
        elif environment.get(variable):
            found[name] = Setting(environment[variable], variable)
        elif name in from_file:
            found[name] = from_file[name]
        else:
            found[name] = Setting(_default(name))
    return Profile(_address(found.pop("server")), found)


def _default(name: str) -> str:
    if name == "server":
        return DEFAULT_SERVER
    names = _DEFAULT_FILES[name]
    return next((each for each in names if os.path.lexists(each)), names[0])


def _address(setting: Setting) -> Address:
    try:
        return Address.parse(setting.value)
    except ValueError as error:
        exit_code = EX_USAGE if setting.origin == "--server" else EX_CONFIG
        text = f"cannot use the server {setting.value!r} from {setting.origin}: {error}"
        raise CommandError(text, exit_code) from error


def _read_config(config: str | None, environment: Mapping[str, str]) -> Mapping[str, Setting]:
    if config == "":
        text = "cannot use the config file '' (named by --config): no file is called so; name one"
        raise CommandError(text, EX_CONFIG)
    named = config or environment.get("JOBBY_CONFIG")
    path = Path(named) if named else _default_config(environment)
    start = f"cannot use the config file {path}"
    if named:
        start += f" (named by {'--config' if config else 'JOBBY_CONFIG'})"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        # Nobody meant a file that isn't there, or is behind a HOME that is no folder of ours.
        if not named and not os.path.exists(path):
            return {}
        if isinstance(error, FileNotFoundError):
            text = f"{start}: there is no such file; correct the name"
            raise CommandError(text, EX_CONFIG) from error
        text = f"{start}: {error.strerror or error}; make it readable, or name another"
        raise CommandError(text, EX_CONFIG) from error
    # Neither TOML nor UTF-8, no path at all, or brackets a thousand deep.
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{start}: it is not TOML: {error}; correct it", EX_CONFIG) from error
    return {name: _from_file(start, path, name, value) for name, value in table.items()}


def _from_file(start: str, path: Path, name: str, value: object) -> Setting:
    if name not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise CommandError(f"{start}: there is no setting {name!r}, only {known}", EX_CONFIG)
    if not isinstance(value, str) or not value:
        raise CommandError(f"{start}: {name} has to be a string in quotes", EX_CONFIG)
    if name != "server":
        # A path in a file means the same wherever the command is run.
        value = str(path.parent / os.path.expanduser(value))
    return Setting(value, f"{name} in {path}")


def _default_config(environment: Mapping[str, str]) -> Path:
    given = environment.get("XDG_CONFIG_HOME", "")
    # XDG Base Directory Specification: a relative path is to be ignored.
    base = given if os.path.isabs(given) else os.path.expanduser("~/.config")
    return Path(base, "jobby", "config.toml")
