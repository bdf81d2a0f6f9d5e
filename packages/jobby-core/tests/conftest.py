"""The fixtures of the library's tests."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# importlib mode adds no folder to the path; the helper's name is unique in the repository.
sys.path.insert(0, os.path.dirname(__file__))

from core_support import Holdings, Spool

# On a busy machine an example may take long without being wrong.
settings.register_profile("jobby", deadline=None)
settings.load_profile("jobby")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Starts jobs, ends them after the test, and fails if the library still holds anything."""
    before = Holdings()
    with Spool(tmp_path) as spool:
        yield spool
    before.check_given_back()


@pytest.fixture(params=["launched", "direct"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test twice: with the launcher, and as on a platform that has none."""
    way = str(request.param)
    if way == "direct":
        monkeypatch.setenv("JOBBY_LAUNCHER", "none")
    return way


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test as on a platform that has no launcher."""
    monkeypatch.setenv("JOBBY_LAUNCHER", "none")


@pytest.fixture
def memory_spool() -> Iterator[Spool]:
    """Does what `spool` does, with the outputs on a tmpfs."""
    yield from _spool_in("/dev/shm")


@pytest.fixture
def disk_spool() -> Iterator[Spool]:
    """Does what `spool` does, with the outputs on a disk: /tmp may be a tmpfs."""
    yield from _spool_in("/var/tmp")


def _spool_in(parent: str) -> Iterator[Spool]:
    before = Holdings()
    with tempfile.TemporaryDirectory(dir=parent, prefix="jobby-test-") as folder:
        with Spool(Path(folder)) as spool:
            yield spool
    before.check_given_back()


@pytest.fixture
def two_users() -> Iterator[Path]:
    """A folder that every user may use; skips where we may not be another user."""
    if os.geteuid() != 0:
        pytest.skip("only root may run processes under another user")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="jobby-test-") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.fixture
def own_mounts() -> list[str]:
    """A command to run another under, with root's rights in a mount namespace of its own."""
    return _unshare("--mount")


@pytest.fixture
def own_limits() -> list[str]:
    """A command to run another under, in a user namespace whose inotify limits are its own.

    The limits in /proc/sys/user hold for that namespace alone (namespaces(7)).
    """
    return _unshare("--user", "--map-root-user")


def _unshare(*options: str) -> list[str]:
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *dict.fromkeys([*own_user, *options])]
    refused = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if refused.returncode != 0:
        pytest.skip(f"this machine lets us make no namespace: {refused.stderr.strip()}")
    return command
