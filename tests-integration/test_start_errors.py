"""Commands that cannot be started: each its own sentence and exit code, and nothing left behind."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client
from support.server import Server
from support.user import User
from support.waiting import eventually

CANNOT_START, INVALID = 65, 64


def script(first_line: str) -> Callable[[Path], None]:
    """Makes an executable script with this first line."""

    def make(path: Path) -> None:
        path.write_bytes(f"{first_line}\necho hello\n".encode())
        path.chmod(0o755)

    return make


def no_x_bit(path: Path) -> None:
    """Makes a right script that may not be executed."""
    script("#!/bin/sh")(path)
    path.chmod(0o644)


def missing(path: Path) -> None:
    """Makes nothing."""


# What is at the path that is started, and a part of what has to be said about it.
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (missing, "there is no such file"),
    "a directory": (Path.mkdir, "is a directory"),
    "no x bit": (no_x_bit, "chmod +x"),
    "missing interpreter": (script("#!/no/such/interpreter"), "/no/such/interpreter"),
    "CRLF": (script("#!/bin/sh\r"), "CRLF"),
    "no first line": (script(""), "#!/bin/sh"),
}


@pytest.fixture(autouse=True)
def nothing_left(server: Server) -> Iterator[None]:
    """Neither a folder nor a process remains of what could not be started."""
    yield
    assert list(server.spool.iterdir()) == []
    assert server.jobs() == frozenset()


@pytest.mark.parametrize("case", CASES)
def test_through_the_command_line(alice: User, tmp_path: Path, case: str) -> None:
    """`jobby start` says in one line what is wrong with the command, and exits with 65."""
    make, reason = CASES[case]
    path = tmp_path / "command"
    make(path)
    done = alice.jobby("start", "--", str(path))
    assert (done.code, done.stdout) == (CANNOT_START, b"")
    assert reason in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("case", CASES)
def test_through_generated_code(caller: Client, tmp_path: Path, case: str) -> None:
    """The same is FAILED_PRECONDITION, with the same reason."""
    make, reason = CASES[case]
    path = tmp_path / "command"
    make(path)
    failed = calls.failure(caller.start, str(path))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert reason in failed.text


def test_a_name_that_is_not_in_the_path(alice: User) -> None:
    """A command without a slash is looked up in the server's PATH, and said not to be there."""
    done = alice.jobby("start", "no-such-command")
    assert (done.code, done.stdout) == (CANNOT_START, b"")
    assert "PATH" in done.stderr
    assert "no-such-command" in done.stderr
    # Nothing was started, so nothing is remembered as the last one.
    assert alice.jobby("status").code == INVALID


@pytest.mark.parametrize("arguments", [["x" * 131_072], ["x" * 100_000] * 30])
def test_too_long(alice: User, installed: Installed, arguments: list[str]) -> None:
    """One argument of 128 KiB, and 3 MB of them, are too long, and said to be."""
    # Not as a command line of `jobby` itself, for which the system would refuse them already.
    program = "import sys; from jobby_cli.main import main; sys.exit(main(eval(sys.stdin.read())))"
    done = subprocess.run(
        [installed.client.python, "-c", program],
        cwd=alice.folder,
        env=alice.environment(),
        input=repr(["start", "--", "echo", *arguments]),
        capture_output=True,
        text=True,
        check=False,  # it fails, which is what is looked at
    )
    assert (done.returncode, done.stdout) == (INVALID, "")
    assert "too long" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_request_beyond_all_measure(caller: Client) -> None:
    """A request of 5 MB, which no system could start, is refused as it comes."""
    failed = calls.failure(caller.start, "echo", *["x" * 100_000] * 50)
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_hundred_failures_hold_nothing(caller: Client, server: Server, tmp_path: Path) -> None:
    """Failed starts keep no descriptor and no watch."""
    calls.failure(caller.start, str(tmp_path / "missing"))
    before = procfs.holdings(server.pid)
    for _ in range(100):
        calls.failure(caller.start, str(tmp_path / "missing"))
    # What an earlier call held may go meanwhile.
    eventually(
        lambda: procfs.holdings(server.pid).descriptors <= before.descriptors,
        what="no more descriptors than before",
    )
    assert procfs.holdings(server.pid).watches == before.watches
