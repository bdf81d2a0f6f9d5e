"""Gives the integration tests what they drive: see the packages `harness` and `support`."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.environments import Installed, environments
from support import calls, data
from support.calls import Client, Connect, Contract
from support.certificates import Authority
from support.data import Data
from support.gate import Gate
from support.server import Begin, Server
from support.user import User

# nohup(1) ignores SIGHUP, and what a test starts would inherit that; not so a handler.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def both() -> Iterator[tuple[Installed, Installed]]:
    """Our wheels, built anew when a source has changed; use one of the two below."""
    with environments() as made:
        yield made


@pytest.fixture(scope="session")
def installed(both: tuple[Installed, Installed]) -> Installed:
    """Our wheels in clean environments, with the dependencies' tested versions."""
    return both[0]


@pytest.fixture(scope="session")
def lowest(both: tuple[Installed, Installed]) -> Installed:
    """Our wheels in clean environments, with every dependency at its declared lower bound."""
    return both[1]


@pytest.fixture(scope="session")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Contract]:
    """The RFD's contract ("rfd") and the published one ("v1"), as generated code."""
    return calls.generate_all(tmp_path_factory.mktemp("generated"))


@pytest.fixture(scope="session")
def rfd(contracts: dict[str, Contract]) -> Contract:
    """The RFD's contract."""
    return contracts["rfd"]


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that everybody trusts."""
    return Authority()


@pytest.fixture(scope="session")
def two_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Data]:
    """Two large files of random bytes."""
    folder = tmp_path_factory.mktemp("data")
    return data.make(folder / "one"), data.make(folder / "two")


@pytest.fixture(scope="module")
def server(
    installed: Installed, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that the tests of one module share."""
    folder = tmp_path_factory.mktemp("server")
    with Server(installed.server.bin("jobby-server"), authority.server(), folder) as running:
        yield running


@pytest.fixture
def alice(installed: Installed, authority: Authority, server: Server, tmp_path: Path) -> User:
    """A user at a terminal, with the plain client."""
    command = installed.client.bin("jobby")
    return User(command, tmp_path / "alice", authority.client("alice"), server.address)


@pytest.fixture
def bob(installed: Installed, authority: Authority, server: Server, tmp_path: Path) -> User:
    """Another user."""
    command = installed.client.bin("jobby")
    return User(command, tmp_path / "bob", authority.client("bob"), server.address)


@pytest.fixture
def caller(rfd: Contract, authority: Authority, server: Server) -> Iterator[Client]:
    """Alice through a client generated from the RFD."""
    with calls.client(rfd, server.address, authority.client("alice")) as made:
        yield made


@pytest.fixture(params=["rfd", "v1"])
def either(
    request: pytest.FixtureRequest,
    contracts: dict[str, Contract],
    authority: Authority,
    server: Server,
) -> Iterator[Client]:
    """Alice through a client generated from the RFD, and from the published contract."""
    contract = contracts[request.param]
    with calls.client(contract, server.address, authority.client("alice")) as made:
        yield made


@pytest.fixture
def begin(installed: Installed, authority: Authority, tmp_path: Path) -> Iterator[Begin]:
    """Starts servers, each in a folder of its own, that the test may end as it likes."""
    with ExitStack() as stack:

        def make(*options: str, **env: str) -> Server:
            folder = tmp_path / f"server{len(list(tmp_path.iterdir()))}"
            command = installed.server.bin("jobby-server")
            credentials = authority.server()
            return stack.enter_context(Server(command, credentials, folder, *options, env=env))

        yield make


@pytest.fixture
def connect(rfd: Contract, authority: Authority) -> Iterator[Connect]:
    """Connects Alice, through a client generated from the RFD, to any server."""
    with ExitStack() as stack:
        alice = authority.client("alice")
        yield lambda address: stack.enter_context(calls.client(rfd, address, alice))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds a job back until the test opens it."""
    with Gate(tmp_path / "gate") as made:
        yield made
