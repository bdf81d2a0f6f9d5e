"""Sets the tests of the server up: the TLS policy first, then what they share."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports grpc, as every entry point of the server does.
from jobby_server import environment

environment.quiet_grpc(debug=False)
sys.path.append(str(Path(__file__).parent))  # for the server_* files, which are no tests

from server_authority import Authority  # noqa: E402 - grpc comes last
from server_process import Files  # noqa: E402 - grpc comes last
from server_running import state_folder  # noqa: E402 - grpc comes last
from server_waiting import Fifo  # noqa: E402 - grpc comes last

# nohup(1) ignores SIGHUP, and what a test starts would inherit that; not so a handler.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def ca() -> Authority:
    """A CA that the server under test trusts."""
    return Authority.create("Jobby test CA")


@pytest.fixture
def files(tmp_path: Path, ca: Authority) -> Files:
    """A folder with the three files a server loads, as an operator would have it."""
    return Files.create(tmp_path / "server", ca)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    """Where a job waits until the test lets it go on."""
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """Where a server keeps its jobs; none of them outlives the test."""
    with state_folder(tmp_path / "state") as path:
        yield path
