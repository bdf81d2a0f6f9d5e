"""`jobby certs`: what it makes works at once, for both programs, and overwrites nothing."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.environments import Installed
from support.server import Server
from support.user import User

USAGE, NO_SUCH_JOB, CONFIG = 64, 66, 78
MADE = {
    *("ca.crt", "ca.cert", "ca.key"),
    *("server.cert", "server.key", "client.cert", "client.key"),
}


@pytest.fixture
def newcomer(installed: Installed, tmp_path: Path) -> User:
    """Somebody in an empty folder, who has the client with its extra, and no server yet."""
    folder = tmp_path / "new"
    folder.mkdir()
    return User(installed.certs.bin("jobby"), folder, None, "127.0.0.1:1")


@pytest.fixture
def theirs(installed: Installed, newcomer: User) -> Iterator[Server]:
    """The newcomer's own server, in the same folder, on the certificates just made."""
    made = newcomer.jobby("certs", "init")
    assert (made.code, made.stderr) == (0, "")
    with Server(installed.server.bin("jobby-server"), None, newcomer.folder) as server:
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_one_command_and_both_sides_work(newcomer: User, theirs: Server) -> None:
    """After `certs init` server and client need no option for their certificates, under any of
    the names of this machine; private keys are private."""
    assert set(contents(newcomer.folder)) == MADE
    for path in newcomer.folder.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    port = theirs.address.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1"):
        there = ("--server", f"{host}:{port}")
        assert newcomer.jobby(*there, "start", "echo", "hello").code == 0
        assert newcomer.jobby(*there, "output").stdout == b"hello\n"
    assert "expires" not in theirs.log()


def test_one_more_client(newcomer: User, theirs: Server) -> None:
    """`certs client` makes somebody else, whom the running server knows at once."""
    mine = ("--server", theirs.address)
    newcomer.jobby(*mine, "start", "sleep", "1000")
    job = newcomer.jobby(*mine, "start", "--json", "true").stdout.decode().split('"')[3]
    made = newcomer.jobby("certs", "client", "bob", "--org", "Example Inc", "--unit", "ops")
    assert (made.code, made.stderr) == (0, "")
    bobs = (*mine, "--cert", "bob.cert", "--key", "bob.key")
    assert newcomer.jobby(*bobs, "status", job).code == NO_SUCH_JOB
    assert newcomer.jobby(*bobs, "start", "echo", "bob").code == 0
    assert newcomer.jobby(*bobs, "output").stdout == b"bob\n"
    assert "OU=ops" in theirs.log()


def test_nothing_is_overwritten(newcomer: User) -> None:
    """Existing files stay as they are, all of them, unless --force is given."""
    newcomer.jobby("certs", "init")
    before = contents(newcomer.folder)
    (newcomer.folder / "server.key").unlink()
    for words in (["init"], ["client", "client"]):
        again = newcomer.jobby("certs", *words)
        assert (again.code, again.stdout) == (CONFIG, b"")
        assert "--force" in again.stderr
        assert len(again.stderr.splitlines()) == 1
        now = contents(newcomer.folder)
        assert now == {name: data for name, data in before.items() if name != "server.key"}
    assert newcomer.jobby("certs", "init", "--force").code == 0
    after = contents(newcomer.folder)
    assert set(after) == MADE
    assert all(after[name] != before[name] for name in MADE)


def test_elsewhere(newcomer: User) -> None:
    """A folder may be named; it is made, and the working directory stays empty."""
    assert newcomer.jobby("certs", "init", "deep/er").code == 0
    assert set(contents(newcomer.folder / "deep" / "er")) == MADE
    assert newcomer.jobby("certs", "client", "--dir", "deep/er", "bob").code == 0
    assert {"bob.cert", "bob.key"} < set(contents(newcomer.folder / "deep" / "er"))
    assert contents(newcomer.folder) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["client", "../evil"],
        ["client", "a\x07b"],
        ["client", " alice"],
        ["client", ""],
        ["init", "--client", ""],
        ["init", "--host", "not a host"],
        ["init", "--days", "0"],
    ],
)
def test_names_that_no_server_would_take(newcomer: User, words: list[str]) -> None:
    """A name that would be refused later is refused now, and nothing is made."""
    done = newcomer.jobby("certs", *words)
    assert done.code == USAGE
    assert "Traceback" not in done.stderr
    assert contents(newcomer.folder) == {}
    assert not (newcomer.folder.parent / "evil.cert").exists()


def test_without_a_ca(newcomer: User) -> None:
    """A client cannot be made where there is no CA, and that is said."""
    done = newcomer.jobby("certs", "client", "bob")
    assert (done.code, done.stdout) == (CONFIG, b"")
    assert "jobby certs init" in done.stderr
    assert contents(newcomer.folder) == {}


def test_without_the_extra(alice: User) -> None:
    """The plain client says what to install, and makes nothing."""
    done = alice.jobby("certs", "init", "new")
    assert (done.code, done.stdout) == (CONFIG, b"")
    assert "jobby-cli[certs]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (alice.folder / "new").exists()
