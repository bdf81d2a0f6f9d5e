"""Owns the settings: flags, environment, file and defaults become one frozen ServerConfig."""

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from jobby_server import values
from jobby_server.address import Address
from jobby_server.errors import EXIT_USAGE, ConfigError, OutputError, UsageError
from jobby_server.limits import Keep
from jobby_server.log import LEVELS, printable

_CA_NAMES: Final = (Path("ca.crt"), Path("ca.cert"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What the server was told.

    Attributes:
        listen: where to listen.
        ca: the CA bundle.
        cert: the server's certificate.
        key: its private key.
        state_dir: where the jobs' state is kept for the next server; None keeps it in memory.
        output_dir: where output is kept; None is the temporary folder.
        stop_jobs_on_exit: whether the jobs of a `state_dir` end with the server.
        keep: how long ended jobs are kept.
        log_level: one of `log.LEVELS`.
        expose_samples: whether sample certificates may serve beyond loopback.
    """

    listen: Address
    ca: Path
    cert: Path
    key: Path
    state_dir: Path | None
    output_dir: Path | None
    stop_jobs_on_exit: bool
    keep: Keep
    log_level: str
    expose_samples: bool


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting; its name gives the flag, the variable and the key in the file."""

    name: str
    parse: Callable[[str], Any]
    metavar: str | None  # None: a flag without a value
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "JOBBY_" + self.name.upper()


_SETTINGS: Final = (
    _Setting(
        "listen",
        Address.parse,
        "HOST:PORT",
        "where to listen; port 0 takes a free one (default: 127.0.0.1:50051)",
    ),
    _Setting(
        "ca",
        values.path,
        "FILE",
        "the CA certificates of the clients (default: ca.crt, or ca.cert)",
    ),
    _Setting("cert", values.path, "FILE", "the server's certificate (default: server.cert)"),
    _Setting("key", values.path, "FILE", "the server's private key (default: server.key)"),
    _Setting(
        "state_dir",
        values.path,
        "DIR",
        "keep the jobs here: they go on when the server ends, and the next one finds them,"
        " running or ended (default: jobs end with the server)",
    ),
    _Setting(
        "stop_jobs_on_exit",
        values.truth,
        None,
        "with --state-dir: stop the running jobs when the server is ended",
    ),
    _Setting("keep_days", values.days, "N", "forget jobs N days after their end (default: never)"),
    _Setting("keep_jobs", values.count, "N", "keep the last N ended jobs (default: all)"),
    _Setting(
        "keep_bytes",
        values.size,
        "SIZE",
        "keep so much output of ended jobs, such as 500M or 20G (default: all)",
    ),
    _Setting(
        "output_dir",
        values.path,
        "DIR",
        "keep the jobs' output here, also after the server's end"
        " (default: a temporary folder, removed at the end)",
    ),
    _Setting("log_level", values.level, "LEVEL", f"{', '.join(LEVELS)} (default: info)"),
    _Setting(
        "insecure_expose_sample_certificates",
        values.truth,
        None,
        "serve beyond loopback with the checked-in sample certificates, whose keys everybody has",
    ),
)


# What a value in the file may be, where that isn't a string.
_KINDS: Final[Mapping[str | None, tuple[Any, str]]] = {
    None: (bool, "true or false"),
    "N": (int | float, "a number"),
    "SIZE": (int | str, 'a number of bytes, or a string such as "20G"'),
}


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: object = None) -> None:
        """Writes the help; argparse itself would not notice that it cannot."""
        del file
        _print(self.format_help())

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Returns the settings: a flag wins over the environment, that over the file, that over the
    default. An empty variable counts as not set.

    Only the settings are looked at, and that the config file can be read.

    Raises:
        ConfigError: a value cannot be used; the text names it and where it came from.
        UsageError: two settings exclude each other.
        OutputError: the help or the version cannot be written.
        SystemExit: --help, --version, or a usage error (exit code 64).
    """
    flags = vars(_parser().parse_args(arguments))
    if flags["config"] == "":
        # An unset variable of a script's: starting with the defaults instead would surprise.
        raise ConfigError("cannot use --config '': it names no file; leave it out for none")
    file_name = flags["config"] or environment.get("JOBBY_CONFIG") or None
    table = _Table(None, {}) if file_name is None else _Table.read(Path(file_name))
    found: dict[str, Any] = {}
    for setting in _SETTINGS:
        flag, variable = flags[setting.name], environment.get(setting.variable)
        if flag is not None:
            found[setting.name] = _parse(setting, flag, setting.flag)
        elif variable:
            found[setting.name] = _parse(setting, variable, setting.variable)
        else:
            found[setting.name] = table.value(setting)
    if found["state_dir"] and found["output_dir"]:
        raise UsageError(
            "cannot use --state-dir together with --output-dir: the output lies in the state "
            "folder; leave --output-dir (JOBBY_OUTPUT_DIR, output_dir) out"
        )
    return ServerConfig(
        listen=found["listen"] or Address("127.0.0.1", 50051),
        # The server's own name first; the other one is what a client calls the same file.
        ca=found["ca"] or next((name for name in _CA_NAMES if os.path.lexists(name)), _CA_NAMES[0]),
        cert=found["cert"] or Path("server.cert"),
        key=found["key"] or Path("server.key"),
        state_dir=found["state_dir"],
        output_dir=found["output_dir"],
        stop_jobs_on_exit=bool(found["stop_jobs_on_exit"]),
        keep=Keep(days=found["keep_days"], jobs=found["keep_jobs"], bytes=found["keep_bytes"]),
        log_level=found["log_level"] or "info",
        expose_samples=bool(found["insecure_expose_sample_certificates"]),
    )


class _Version(argparse.Action):
    """Tells the version, and only then loads what finds it: 1 MiB that no server needs."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        _print(f"jobby-server {version('jobby-server')}\n")
        parser.exit()


def _print(text: str) -> None:
    if sys.stdout is None:  # as after >&-
        raise OutputError("cannot write to the standard output: it is closed; write elsewhere")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python would try to write it again at its end, and fail in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"cannot write to the standard output: {error.strerror or error}; write elsewhere"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jobby-server",
        description="Runs commands for authenticated clients over gRPC and mutual TLS 1.3.",
        epilog="Each option has a variable JOBBY_… in the environment (--output-dir is "
        "JOBBY_OUTPUT_DIR) and a key in the config file (output_dir). A flag wins over the "
        "environment, and that over the file. Example: jobby-server --listen 0.0.0.0:50051 "
        "--state-dir /var/lib/jobby",
        allow_abbrev=False,
    )
    for setting in _SETTINGS:
        if setting.metavar is None:
            parser.add_argument(setting.flag, action="store_const", const="true", help=setting.help)
        else:
            parser.add_argument(setting.flag, metavar=setting.metavar, help=setting.help)
    parser.add_argument("--config", metavar="FILE", help="a TOML file with these settings")
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    return parser


def _parse(setting: _Setting, text: str, origin: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"cannot use {origin} {printable(text)!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Table:
    """The config file; `path` is None if there is none."""

    path: Path | None
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "_Table":
        start = f"cannot read the config file {printable(str(path))}"
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(
                f"{start}: {error.strerror or error}; check --config or JOBBY_CONFIG"
            ) from error
        # Of a number with thousands of digits, and of brackets as deep: not tomllib's own.
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{start}: it is not TOML: {error}") from error
        known = [setting.name for setting in _SETTINGS]
        for name in values:
            if name not in known:
                raise ConfigError(
                    f"{start}: there is no setting {printable(name)!r}, only {', '.join(known)}"
                )
        return cls(path, values)

    def value(self, setting: _Setting) -> Any:
        value = self.values.get(setting.name)
        if value is None:
            return None
        assert self.path is not None, "an absent file holds no value"
        origin = f"{setting.name} in {printable(str(self.path))}:"
        wanted, kind = _KINDS.get(setting.metavar, (str, "a string in quotes"))
        # To Python true and false are numbers.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"cannot use {origin} {value!r}: it has to be {kind}")
        parsed = _parse(setting, str(value), origin)
        # A path in a file means the same wherever the server is started.
        return self.path.parent / parsed if isinstance(parsed, Path) else parsed
