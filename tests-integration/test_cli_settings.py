"""Where the client's settings come from: a flag, then a variable, then a file, then a default."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.environments import Installed
from support.certificates import Authority
from support.server import Server
from support.user import User

JOB = "d19af777-cfa4-40a3-b835-244365b5a697"
NO_SUCH_JOB, UNAVAILABLE = 66, 69


@pytest.fixture
def nobodys() -> Iterator[list[str]]:
    """Three addresses at which nobody listens as long as the test runs."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def test_the_nearest_setting_counts(alice: User, nobodys: list[str]) -> None:
    """--server wins over JOBBY_SERVER, that over the config file; an empty variable is none."""
    flag, variable, file = nobodys
    config = alice.folder / ".config" / "jobby" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'server = "{file}"\n')
    for options, value, expected in (
        (["--server", flag], variable, flag),
        ([], variable, variable),
        ([], "", file),
    ):
        done = alice.jobby(*options, "status", JOB, env={"JOBBY_SERVER": value})
        assert done.code == UNAVAILABLE
        assert expected in done.stderr
        others = {flag, variable, file} - {expected}
        assert not [other for other in others if other in done.stderr]


def test_the_config_files_name_is_a_setting_too(alice: User, nobodys: list[str]) -> None:
    """--config wins over JOBBY_CONFIG, that over the file in the user's configuration."""
    flag, variable, default = nobodys
    files = {
        "flag.toml": flag,
        "variable.toml": variable,
        ".config/jobby/config.toml": default,
    }
    for name, address in files.items():
        path = alice.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'server = "{address}"\n')
    none, named = {"JOBBY_SERVER": ""}, {"JOBBY_SERVER": "", "JOBBY_CONFIG": "variable.toml"}
    assert flag in alice.jobby("--config", "flag.toml", "status", JOB, env=named).stderr
    assert variable in alice.jobby("status", JOB, env=named).stderr
    assert default in alice.jobby("status", JOB, env=none).stderr


def test_certificates_from_elsewhere(alice: User, authority: Authority, tmp_path: Path) -> None:
    """--ca, --cert and --key, their variables, and the config file name files anywhere."""
    elsewhere = authority.client("alice").write(
        tmp_path / "x", ca="a.pem", cert="b.pem", key="c.pem"
    )
    # What lies in the working directory is another CA's, and must not be used.
    Authority("Other CA").client("alice").for_client(alice.folder)
    names = {"ca": "a.pem", "cert": "b.pem", "key": "c.pem"}
    flags = [text for name, file in names.items() for text in (f"--{name}", str(elsewhere / file))]
    variables = {f"JOBBY_{name.upper()}": str(elsewhere / file) for name, file in names.items()}
    # A path in a file is meant from where the file lies.
    (elsewhere / "jobby.toml").write_text("".join(f'{k} = "{v}"\n' for k, v in names.items()))
    assert alice.jobby("status", JOB).code not in (0, NO_SUCH_JOB)
    assert alice.jobby(*flags, "status", JOB).code == NO_SUCH_JOB
    assert alice.jobby("status", JOB, env=variables).code == NO_SUCH_JOB
    config = str(elsewhere / "jobby.toml")
    assert alice.jobby("--config", config, "status", JOB).code == NO_SUCH_JOB


def test_the_clients_own_name_of_the_ca_comes_first(alice: User) -> None:
    """With ca.cert and ca.crt in the working directory, ca.cert counts."""
    (alice.folder / "ca.crt").write_bytes(Authority("Other CA").pem)
    assert alice.jobby("status", JOB).code == NO_SUCH_JOB


def test_two_servers_at_once(
    alice: User, installed: Installed, authority: Authority, tmp_path: Path
) -> None:
    """The last job and short ids are each server's own."""
    command = installed.server.bin("jobby-server")
    with Server(command, authority.server(), tmp_path / "second") as second:
        there = ("--server", second.address)
        here_id = alice.start("echo", "here")
        done = alice.jobby(*there, "start", "echo", "there")
        there_id = done.stdout.decode().split()[-1]
        assert alice.jobby("output").stdout == b"here\n"
        assert alice.jobby(*there, "output").stdout == b"there\n"
        assert alice.jobby(*there, "output", here_id).code == NO_SUCH_JOB
        assert alice.jobby(*there, "output", here_id[:12]).code == NO_SUCH_JOB
        assert alice.jobby("stop", there_id).code == NO_SUCH_JOB


def test_another_certificate_is_another_user(alice: User, authority: Authority) -> None:
    """In one home, with two certificates, each has its own last job."""
    alice.start("echo", "alice's")
    bobs = authority.client("bob").write(alice.folder / "bob", ca="ca", cert="cert", key="key")
    as_bob = [f"--{name}={bobs / name}" for name in ("ca", "cert", "key")]
    assert alice.jobby(*as_bob, "output").code == 64
    alice.jobby(*as_bob, "start", "echo", "bob's")
    assert alice.jobby(*as_bob, "output").stdout == b"bob's\n"
    assert alice.jobby("output").stdout == b"alice's\n"
