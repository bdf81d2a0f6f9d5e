"""Owns how certificates and keys get onto the disk: all of them or none, and nothing is lost."""

import os
import secrets
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobby_cli.failures import EX_CONFIG, EX_IO, CommandError


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file's content, and whether only its owner may see it."""

    content: bytes
    secret: bool


_SECRET_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644


def check_free(folder: Path, names: list[str], *, replace: bool) -> None:
    """Checks, before any work, that writing may begin.

    Raises:
        CommandError: some of the files are there already and may not be replaced.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not replace:
        raise CommandError(
            f"nothing was written, because {_listed(there)} in {folder} would be lost; "
            "--force replaces files, another folder keeps them",
            EX_CONFIG,
        )
    if folders := [name for name in there if (folder / name).is_dir()]:
        raise CommandError(
            f"nothing was written: {_listed(folders)} in {folder} is a folder; move it away",
            EX_CONFIG,
        )


def write(folder: Path, files: Mapping[str, NewFile], *, replace: bool) -> None:
    """Writes all files, or none when one of them fails; makes the folder.

    A secret is readable by its owner alone from its first byte on. Without
    `replace`, a file that appeared in the meantime is not touched either. With
    it, old and new files are never mixed.

    Raises:
        CommandError: they cannot be written.
    """
    check_free(folder, list(files), replace=replace)
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Replacing goes through other names, so that a full disk costs nobody the old files.
        suffix = f".{secrets.token_hex(8)}" if replace else ""
        for name, file in files.items():
            path = folder / f"{name}{suffix}"
            mode = _SECRET_MODE if file.secret else _PUBLIC_MODE
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            made.append(path)
            with open(fd, "wb") as stream:
                stream.write(file.content)
                stream.flush()
                os.fsync(fd)
        if replace:
            _exchange([folder / name for name in files], made)
    except BaseException as error:
        for path in made:
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise CommandError(
                f"cannot write to {folder}: {error.strerror or error}; nothing was left there, "
                "choose another folder or free space",
                EX_IO,
            ) from error
        raise


def _exchange(places: list[Path], made: list[Path]) -> None:
    """Moves what was made to its places; should one fail, what was there before returns.

    Raises:
        OSError: one cannot be moved, and all is as it was.
        CommandError: one cannot be moved, and something old cannot return or be removed.
    """
    olds: dict[Path, Path] = {}
    moved: list[Path] = []
    # What ends a command waits until the files are all old or all new.
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        for place, path in zip(places, made, strict=True):
            if os.path.lexists(place):
                old = path.with_name(f"{path.name}.old")
                os.rename(place, old)
                olds[place] = old
        for place, path in zip(places, made, strict=True):
            os.rename(path, place)
            moved.append(place)
    except BaseException as error:
        _put_back(olds, moved, error)
        raise
    else:
        _remove(olds.values())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _put_back(olds: Mapping[Path, Path], moved: list[Path], error: BaseException) -> None:
    for place in moved:
        with suppress(OSError):
            place.unlink()
    kept = []
    for place, old in olds.items():
        try:
            os.replace(old, place)
        except OSError:
            kept.append(old)
    if kept:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise CommandError(
            f"cannot replace the files in {kept[0].parent}: {cause}; what was there before is "
            f"now called {_listed([old.name for old in kept])}, so rename it",
            EX_IO,
        ) from error


def _remove(olds: Iterable[Path]) -> None:
    left = []
    for old in olds:
        try:
            old.unlink()
        except OSError:
            left.append(old)
    if left:
        raise CommandError(
            f"the files in {left[0].parent} are new, but what was there before could not be "
            f"removed; remove {_listed([old.name for old in left])}",
            EX_IO,
        )


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
