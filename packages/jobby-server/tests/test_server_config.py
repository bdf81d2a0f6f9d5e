"""The settings: where they come from, which wins, and what is said of bad ones."""

import itertools
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_server import config
from jobby_server.address import Address
from jobby_server.config import ServerConfig
from jobby_server.environment import OWN_VARIABLES
from jobby_server.errors import (
    EXIT_CONFIG,
    EXIT_USAGE,
    AddressInUseError,
    ConfigError,
    UsageError,
)
from jobby_server.limits import Keep

# One setting each: the option, and how three different values of it are read.
SETTINGS = {
    "listen": ["127.0.0.1:1", "[::1]:2", "localhost:3"],
    "ca": ["/a", "/b", "/c"],
    "cert": ["/a", "/b", "/c"],
    "key": ["/a", "/b", "/c"],
    "state_dir": ["/a", "/b", "/c"],
    "output_dir": ["/a", "/b", "/c"],
    "keep_days": ["1", "2.5", "30"],
    "keep_jobs": ["0", "10", "20"],
    "keep_bytes": ["1", "2", "3"],
    "log_level": ["debug", "warning", "error"],
}
NUMBERS = {"keep_days", "keep_jobs", "keep_bytes"}


def read(settings: ServerConfig, name: str) -> str:
    """Returns a setting as the text it was given as."""
    if name.startswith("keep_"):
        value = getattr(settings.keep, name.removeprefix("keep_"))
        return "None" if value is None else f"{value:g}"
    return str(getattr(settings, name))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path, name: str) -> None:
    """For every setting and every combination of places, the first of the three counts."""
    file = tmp_path / "jobby.toml"
    flag, variable, key = SETTINGS[name]
    default = read(config.load([], {}), name)
    for places in itertools.product([True, False], repeat=3):
        arguments = ["--" + name.replace("_", "-"), flag] if places[0] else []
        environment = {"JOBBY_" + name.upper(): variable} if places[1] else {}
        written = key if name in NUMBERS else f'"{key}"'
        file.write_text(f"{name} = {written}\n" if places[2] else "")
        settings = config.load([*arguments, "--config", str(file)], environment)
        wanted = next(
            itertools.compress([flag, variable, key, default], [*places, True]),
        )
        assert read(settings, name) == wanted


def test_without_any_setting_the_documented_names_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory's ca.crt, server.cert and server.key, on loopback."""
    monkeypatch.chdir(tmp_path)
    assert config.load([], {}) == ServerConfig(
        listen=Address("127.0.0.1", 50051),
        ca=Path("ca.crt"),
        cert=Path("server.cert"),
        key=Path("server.key"),
        state_dir=None,
        output_dir=None,
        stop_jobs_on_exit=False,
        keep=Keep(days=None, jobs=None, bytes=None),
        log_level="info",
        expose_samples=False,
    )
    (tmp_path / "ca.cert").touch()
    assert config.load([], {}).ca == Path("ca.cert")
    (tmp_path / "ca.crt").touch()
    assert config.load([], {}).ca == Path("ca.crt")


def test_the_config_file_is_named_by_flag_or_environment(tmp_path: Path) -> None:
    """--config wins over JOBBY_CONFIG, and an empty variable counts as not set."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('log_level = "error"')
    two.write_text('log_level = "debug"')
    assert config.load([], {"JOBBY_CONFIG": str(one)}).log_level == "error"
    assert config.load(["--config", str(two)], {"JOBBY_CONFIG": str(one)}).log_level == "debug"
    assert config.load([], {"JOBBY_CONFIG": "", "JOBBY_LOG_LEVEL": ""}).log_level == "info"


def test_a_config_file_with_no_name_is_refused() -> None:
    """A script whose variable is not set must not start a server with the defaults."""
    with pytest.raises(ConfigError, match="cannot use --config ''"):
        config.load(["--config", ""], {"JOBBY_CONFIG": "jobby.toml"})


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Some editors write one."""
    file = tmp_path / "jobby.toml"
    file.write_bytes(b"\xef\xbb\xbflog_level = 'error'")
    assert config.load(["--config", str(file)], {}).log_level == "error"


def test_a_path_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    """The file means the same wherever the server is started; flags mean the working directory."""
    file = tmp_path / "jobby.toml"
    file.write_text('ca = "pki/ca.crt"\noutput_dir = "/spool"')
    settings = config.load(["--config", str(file), "--key", "my.key"], {})
    assert settings.ca == tmp_path / "pki/ca.crt"
    assert settings.output_dir == Path("/spool")
    assert settings.key == Path("my.key")


def test_the_samples_are_exposed_only_by_name(tmp_path: Path) -> None:
    """The dangerous setting has one name in all three places, and is off otherwise."""
    name = "insecure_expose_sample_certificates"
    file = tmp_path / "jobby.toml"
    file.write_text(f"{name} = true")
    flag = "--" + name.replace("_", "-")
    assert config.load([flag], {}).expose_samples
    assert config.load([], {"JOBBY_" + name.upper(): "1"}).expose_samples
    assert config.load(["--config", str(file)], {}).expose_samples
    assert not config.load(
        ["--config", str(file)], {"JOBBY_" + name.upper(): "false"}
    ).expose_samples


BAD_VALUES: dict[str, tuple[list[str], dict[str, str], str | bytes, str]] = {
    "no port": (["--listen", "localhost"], {}, "", "--listen 'localhost': it is not HOST:PORT"),
    "a bare IPv6 address": (["--listen", "::1:5"], {}, "", "[::1]:50051"),
    "no IPv6 address in brackets": (["--listen", "[1.2.3.4]:5"], {}, "", "not an IPv6 address"),
    "a port too high": (["--listen", "a:65536"], {}, "", "65535"),
    "no host": (["--listen", ":5"], {}, "", "HOST:PORT"),
    "from the environment": ([], {"JOBBY_LISTEN": "x"}, "", "JOBBY_LISTEN 'x'"),
    "from the file": ([], {}, 'listen = "x"', "listen in "),
    "a level": (["--log-level", "loud"], {}, "", "debug, info, warning, error"),
    "a path with NUL": (["--ca", "a\0b"], {}, "", "--ca"),
    "an empty flag": (["--key", ""], {}, "", "--key ''"),
    "a flag's value": (
        [],
        {"JOBBY_INSECURE_EXPOSE_SAMPLE_CERTIFICATES": "maybe"},
        "",
        "neither true nor false",
    ),
    "no TOML": ([], {}, "listen = ", "it is not TOML"),
    "not UTF-8": ([], {}, b"\xff\xfe", "it is not TOML"),
    "a number of any length": ([], {}, f"listen = {'1' * 5000}", "it is not TOML"),
    "brackets of any depth": ([], {}, f"listen = {'[' * 5000}", "it is not TOML"),
    "an unknown key": ([], {}, 'output-dir = "/x"', "no setting 'output-dir'"),
    "a number for text": ([], {}, "listen = 5", "a string in quotes"),
    "no days": (["--keep-days", "soon"], {}, "", "no number of days"),
    "negative days": (["--keep-days=-1"], {}, "", "no number of days"),
    "days that are no number": (["--keep-days", "nan"], {}, "", "no number of days"),
    "no count": (["--keep-jobs", "1.5"], {}, "", "no number, such as 1000"),
    "no size": (["--keep-bytes", "20GB"], {}, "", "20G"),
    "text for a number": ([], {}, 'keep_jobs = "5"', "it has to be a number"),
    "a truth for a number": ([], {}, "keep_days = true", "it has to be a number"),
    "a truth for a size": ([], {}, "keep_bytes = true", "a number of bytes"),
    "text for a truth": ([], {}, 'insecure_expose_sample_certificates = "1"', "true or false"),
}


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("2k", 2048), ("3M", 3 << 20), ("4G", 4 << 30), ("5T", 5 << 40)],
)
def test_a_size_has_the_usual_units(tmp_path: Path, text: str, size: int) -> None:
    """Powers of 1024, in either case; in the file as text or as a number."""
    file = tmp_path / "jobby.toml"
    file.write_text(f'keep_bytes = "{text}"')
    assert config.load(["--config", str(file)], {}).keep.bytes == size
    file.write_text(f"keep_bytes = {size}")
    assert config.load(["--config", str(file)], {}).keep.bytes == size


def test_jobs_are_stopped_on_exit_only_where_that_is_asked_for(tmp_path: Path) -> None:
    """A flag as the others: three places, and off by default."""
    file = tmp_path / "jobby.toml"
    file.write_text("stop_jobs_on_exit = true")
    assert config.load(["--stop-jobs-on-exit"], {}).stop_jobs_on_exit
    assert config.load([], {"JOBBY_STOP_JOBS_ON_EXIT": "1"}).stop_jobs_on_exit
    assert config.load(["--config", str(file)], {}).stop_jobs_on_exit
    assert not config.load([], {}).stop_jobs_on_exit


def test_state_and_output_in_two_places_is_a_usage_error() -> None:
    """Wherever the two come from; the message says which one to leave out."""
    with pytest.raises(UsageError, match=r"leave --output-dir .* out") as caught:
        config.load(["--state-dir", "/a"], {"JOBBY_OUTPUT_DIR": "/b"})
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_bad_value_is_one_sentence_with_its_origin(tmp_path: Path, case: str) -> None:
    """The operator is told which setting, where it came from, and what would do."""
    arguments, environment, content, words = BAD_VALUES[case]
    file = tmp_path / "jobby.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        config.load([*arguments, "--config", str(file)], environment)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == EXIT_CONFIG == 78


def test_a_missing_config_file_is_an_error(tmp_path: Path) -> None:
    """A file that was named is wanted: starting with the defaults instead would surprise."""
    with pytest.raises(ConfigError, match="No such file"):
        config.load(["--config", str(tmp_path / "none")], {})


@pytest.mark.parametrize(
    "arguments", [["--no-such"], ["--listen"], ["stray"], ["--lis", "localhost:1"]]
)
def test_a_usage_error_exits_with_64(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown option, missing value, stray word, abbreviation: one line, and 64 (sysexits.h)."""
    with pytest.raises(SystemExit) as caught:
        config.load(arguments, {})
    assert caught.value.code == EXIT_USAGE == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_every_setting_is_kept_from_the_jobs() -> None:
    """The list of variables that jobs don't get is that of the settings, and --config."""
    names = {setting.variable for setting in config._SETTINGS}
    assert names | {"JOBBY_CONFIG"} == OWN_VARIABLES


PORTS = st.integers(0, 65535)


@given(
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    PORTS,
)
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    """Writing and reading are each other's inverse, for names and both kinds of IP address."""
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    """No input breaks the parser."""
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert address.host


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
    ],
)
def test_loopback_is_known_by_what_the_host_stands_for(host: str, loopback: bool) -> None:
    """A wildcard is not loopback, whatever else it contains."""
    assert Address(host, 0).is_loopback() is loopback


def test_a_name_that_resolves_to_nothing_cannot_be_listened_on() -> None:
    """A typing error in the host is told as such."""
    with pytest.raises(ConfigError, match="no name resolves to it"):
        Address("no-such-host.invalid", 0).try_out()


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    """The system's reason is given in words."""
    with pytest.raises(ConfigError, match="this machine has no such address"):
        Address("192.0.2.1", 0).try_out()


def test_what_cannot_be_looked_for_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a working directory that may not be entered: reading the file says why."""
    too_long = Path("x" * 300)  # an error for root, too
    # Both names lie in the working directory, which root may always enter.
    monkeypatch.setattr(config, "_CA_NAMES", (too_long, too_long))
    assert config.load([], {}).ca == too_long


def test_of_a_names_addresses_one_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is often ::1 too, also where there is no IPv6; gRPC listens on the other."""
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, 0)) for ip in ("192.0.2.1", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)  # whatever is in /etc/hosts
    Address("localhost", 0).try_out()
    del found[1]
    with pytest.raises(ConfigError, match="this machine has no such address"):
        Address("localhost", 0).try_out()


def test_an_address_in_use_is_told_apart() -> None:
    """It is nobody's wrong setting, so it has an exit code of its own."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(AddressInUseError, match="the address is in use") as caught:
            Address("127.0.0.1", taken.getsockname()[1]).try_out()
    assert caught.value.exit_code == 69
