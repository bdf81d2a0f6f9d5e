"""Owns the folder of finished builds: one a state of the sources and the Python."""

import fcntl
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "packages"
CACHE = ROOT / ".cache" / "integration"
KEPT = 3


def inputs() -> Iterator[Path]:
    """Every file that decides what is built or how it is installed."""
    yield ROOT / "uv.toml"
    yield from sorted(Path(__file__).parent.glob("*.py"))
    for package in sorted(path.parent for path in PACKAGES.glob("*/pyproject.toml")):
        # Tests are in the sdists too, but in no wheel: a change there rebuilds nothing.
        yield from (path for path in sorted(package.glob("*.*")) if path.is_file())
        yield package / "LICENSE"
        yield from sorted(package.glob("launcher/*"))
        yield from sorted(package.glob("systemd/*"))
        for path in sorted(package.glob("src/**/*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def key() -> str:
    """A name for this state of the sources and this Python."""
    digest = hashlib.sha256()
    digest.update(f"{sys.base_prefix}\0{platform.python_version()}\0".encode())
    for path in inputs():
        content = path.read_bytes()
        # The length keeps the end of one file apart from the start of the next.
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{platform.python_version()}-{digest.hexdigest()[:16]}"


@contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    """Hold flock(2) `operation` on `path` meanwhile.

    Raises:
        BlockingIOError: somebody else holds it, and `operation` has LOCK_NB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Close-on-exec, as all of Python's: a server that a test starts does not keep it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def finished(name: str, make: Callable[[Path], None], cache: Path = CACHE) -> Iterator[Path]:
    """The folder `name` of `cache` as `make` fills it, made once, and kept while in use.

    Several test runs may ask at the same time: one makes it, the others wait.
    """
    folder = cache / name
    lock = cache / f"{name}.lock"
    complete = folder / "complete"
    while True:
        # Looked at only under the shared lock: before it, another run may prune.
        with locked(lock, fcntl.LOCK_SH):
            if complete.exists():
                os.utime(folder)
                prune(cache)
                yield folder
                return
        with locked(lock, fcntl.LOCK_EX):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                complete.touch()


def prune(cache: Path) -> None:
    """Remove all but the last three folders of `cache`, and none that is in use."""
    folders = [path for path in cache.iterdir() if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders[KEPT:]:
        try:
            with locked(cache / f"{folder.name}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                (folder / "complete").unlink(missing_ok=True)
                shutil.rmtree(folder)
        except BlockingIOError:
            continue  # in use by another run; a later one removes it
