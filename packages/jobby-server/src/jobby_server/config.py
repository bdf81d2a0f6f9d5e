"""Owns the settings: flags, environment, file and defaults become one frozen ServerConfig."""

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

from jobby_server.address import Address
from jobby_server.errors import EXIT_USAGE, ConfigError
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
        output_dir: where output is kept; None is the temporary folder.
        log_level: one of `log.LEVELS`.
        expose_samples: whether sample certificates may serve beyond loopback.
    """

    listen: Address
    ca: Path
    cert: Path
    key: Path
    output_dir: Path | None
    log_level: str
    expose_samples: bool


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("it is not a path")
    return Path(text)


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError(f"it is none of {', '.join(LEVELS)}")
    return text.lower()


def _truth(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError("it is neither true nor false") from None


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
        "ca", _path, "FILE", "the CA certificates of the clients (default: ca.crt, or ca.cert)"
    ),
    _Setting("cert", _path, "FILE", "the server's certificate (default: server.cert)"),
    _Setting("key", _path, "FILE", "the server's private key (default: server.key)"),
    _Setting(
        "output_dir",
        _path,
        "DIR",
        "keep the jobs' output here, also after the server's end"
        " (default: a temporary folder, removed at the end)",
    ),
    _Setting("log_level", _level, "LEVEL", f"{', '.join(LEVELS)} (default: info)"),
    _Setting(
        "insecure_expose_sample_certificates",
        _truth,
        None,
        "serve beyond loopback with the checked-in sample certificates, whose keys everybody has",
    ),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Returns the settings: a flag wins over the environment, that over the file, that over the
    default. An empty variable counts as not set.

    Only the settings are looked at, and that the config file can be read.

    Raises:
        ConfigError: a value cannot be used; the text names it and where it came from.
        SystemExit: --help, --version, or a usage error (exit code 64).
    """
    flags = vars(_parser().parse_args(arguments))
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
    return ServerConfig(
        listen=found["listen"] or Address("127.0.0.1", 50051),
        # The server's own name first; the other one is what a client calls the same file.
        ca=found["ca"] or next((name for name in _CA_NAMES if name.exists()), _CA_NAMES[0]),
        cert=found["cert"] or Path("server.cert"),
        key=found["key"] or Path("server.key"),
        output_dir=found["output_dir"],
        log_level=found["log_level"] or "info",
        expose_samples=bool(found["insecure_expose_sample_certificates"]),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jobby-server",
        description="Runs commands for authenticated clients over gRPC and mutual TLS 1.3.",
        epilog="Each option has a variable JOBBY_… in the environment (--output-dir is "
        "JOBBY_OUTPUT_DIR) and a key in the config file (output_dir). A flag wins over the "
        "environment, and that over the file.",
        allow_abbrev=False,
    )
    for setting in _SETTINGS:
        if setting.metavar is None:
            parser.add_argument(setting.flag, action="store_const", const="true", help=setting.help)
        else:
            parser.add_argument(setting.flag, metavar=setting.metavar, help=setting.help)
    parser.add_argument("--config", metavar="FILE", help="a TOML file with these settings")
    parser.add_argument(
        "--version", action="version", version=f"jobby-server {version('jobby-server')}"
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
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{start}: {error.strerror or error}; check --config or JOBBY_CONFIG"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
        wanted = bool if setting.metavar is None else str
        if not isinstance(value, wanted):
            kind = "true or false" if wanted is bool else "a string in quotes"
            raise ConfigError(f"cannot use {origin} {value!r}: it has to be {kind}")
        parsed = _parse(setting, str(value), origin)
        # A path in a file means the same wherever the server is started.
        return self.path.parent / parsed if isinstance(parsed, Path) else parsed
