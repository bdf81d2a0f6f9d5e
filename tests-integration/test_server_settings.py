"""Where the server's settings come from: a flag wins over the environment, that over a file."""

from pathlib import Path

import pytest

from harness.environments import Installed
from support import calls
from support.calls import Contract
from support.certificates import Authority
from support.server import Begin, Server


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Output folders by the setting that names them."""
    made = {name: tmp_path / name for name in ("flag", "variable", "file")}
    for folder in made.values():
        folder.mkdir()
    return made


def test_a_flag_a_variable_a_file_a_default(begin: Begin, places: dict[str, Path]) -> None:
    """Of several, the nearest counts; an empty variable is none."""
    flag, variable, file = places["flag"], places["variable"], places["file"]
    config = file.parent / "jobby.toml"
    # A path in a file means the same from everywhere.
    config.write_text('output_dir = "file"\nlog_level = "warning"\n')
    both = {"JOBBY_CONFIG": str(config), "JOBBY_LOG_LEVEL": "info"}
    by_flag = begin("--output-dir", str(flag), JOBBY_OUTPUT_DIR=str(variable), **both)
    by_variable = begin(JOBBY_OUTPUT_DIR=str(variable), **both)
    by_file = begin(JOBBY_OUTPUT_DIR="", **both)
    by_default = begin()
    parents = [each.spool.parent for each in (by_flag, by_variable, by_file, by_default)]
    assert parents == [flag, variable, file, by_default.folder / "tmp"]


def test_the_config_files_name_is_a_setting_too(begin: Begin, places: dict[str, Path]) -> None:
    """--config wins over JOBBY_CONFIG."""
    one, two = (places["flag"].parent / name for name in ("one.toml", "two.toml"))
    one.write_text('output_dir = "flag"\n')
    two.write_text('output_dir = "variable"\n')
    server = begin("--config", str(one), JOBBY_CONFIG=str(two))
    assert server.spool.parent == places["flag"]


def test_certificates_under_other_names(
    installed: Installed, authority: Authority, rfd: Contract, tmp_path: Path
) -> None:
    """--ca, --cert and --key, or their variables, name files anywhere."""
    command = installed.server.bin("jobby-server")
    elsewhere = authority.server().write(tmp_path / "x", ca="a.pem", cert="b.pem", key="c.pem")
    # What lies in the working directory is another CA's, and must not be used.
    other = Authority("Other CA").server()
    names = {"ca": "a.pem", "cert": "b.pem", "key": "c.pem"}
    flags = [text for option, name in names.items() for text in (f"--{option}", elsewhere / name)]
    variables = {f"JOBBY_{option.upper()}": str(elsewhere / name) for option, name in names.items()}
    with (
        Server(command, other, tmp_path / "one", *map(str, flags)) as one,
        Server(command, other, tmp_path / "two", env=variables) as two,
    ):
        for server in (one, two):
            with calls.client(rfd, server.address, authority.client("alice")) as caller:
                assert caller.read(caller.start("echo", "hello")) == b"hello\n"


def test_the_clients_name_of_the_ca_is_taken(
    installed: Installed, authority: Authority, rfd: Contract, tmp_path: Path
) -> None:
    """A working directory with ca.cert in place of ca.crt serves; with both, ca.crt counts."""
    command = installed.server.bin("jobby-server")
    own, other = authority.server(), Authority("Other CA").server()
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "ca.cert").write_bytes(other.ca)
    alone = tmp_path / "alone"
    own.for_server(alone)
    (alone / "ca.crt").rename(alone / "ca.cert")
    with (
        Server(command, own, folder) as first,
        Server(command, None, alone) as second,
    ):
        for server in (first, second):
            with calls.client(rfd, server.address, authority.client("alice")) as caller:
                assert caller.read(caller.start("echo", "hello")) == b"hello\n"


def test_two_servers_keep_their_jobs_apart(
    begin: Begin, authority: Authority, rfd: Contract
) -> None:
    """Two servers of one CA on one machine know nothing of each other's jobs."""
    alice = authority.client("alice")
    one, two = begin(), begin()
    assert one.address != two.address
    assert one.spool != two.spool
    with (
        calls.client(rfd, one.address, alice) as here,
        calls.client(rfd, two.address, alice) as there,
    ):
        job = here.start("sleep", "1000")
        assert calls.failure(there.status, job).text == "no such job"
        two.terminate()
        assert two.program.wait() == 0
        assert here.status(job) == ("STATUS_RUNNING", None)
