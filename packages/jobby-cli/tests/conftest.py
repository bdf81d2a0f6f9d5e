"""Sets the tests of the command line up: the TLS policy first, then what they share."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from jobby_cli import environment

environment.adopt()
sys.path.append(str(Path(__file__).parent))  # for the cli_* files, which are no tests

from cli_authority import Authority  # noqa: E402 - grpc reads the environment on import
from cli_command import Cli  # noqa: E402 - grpc reads the environment on import
from cli_files import write_files  # noqa: E402 - grpc reads the environment on import
from cli_peer import Peer, serving  # noqa: E402 - grpc reads the environment on import
from cli_relay import Relay  # noqa: E402 - grpc reads the environment on import

from jobby_client import Client  # noqa: E402 - grpc reads the environment on import

# On a busy machine an example may take long without being wrong.
settings.register_profile("jobby", deadline=None)
settings.load_profile("jobby")


@pytest.fixture(scope="session", autouse=True)
def heard() -> Iterator[None]:
    """Lets ctrl-c and SIGHUP reach the commands under test.

    A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP, and that
    is inherited (signal(7)); a handler of Python's own becomes the default in a child.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.getsignal(signal.SIGHUP)
    if hangup is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ca() -> Authority:
    """A CA that server and clients trust."""
    return Authority()


@pytest.fixture
def peer(ca: Authority) -> Iterator[Peer]:
    """A server that answers as it is told."""
    with serving(ca) as peer:
        yield peer


@pytest.fixture
def client(ca: Authority, peer: Peer) -> Iterator[Client]:
    """A client of `peer`."""
    with Client(peer.address, ca.credentials()) as client:
        yield client


@pytest.fixture
def relay(peer: Peer) -> Iterator[Relay]:
    """A way to `peer` that can be cut."""
    relay = Relay(peer.port)
    yield relay
    relay.close()


@pytest.fixture
def bare(tmp_path: Path) -> Cli:
    """The command, without a certificate or a server."""
    folder, home = tmp_path / "here", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Cli(folder, home)


@pytest.fixture
def jobby(bare: Cli, ca: Authority, peer: Peer) -> Cli:
    """The command, with a certificate of `alice`'s and a server."""
    write_files(bare.folder, ca.pem, ca.leaf("alice"))
    bare.env["JOBBY_SERVER"] = peer.address
    return bare
