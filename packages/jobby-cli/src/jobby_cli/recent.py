"""Owns the memory of which jobs this user started from this machine, and on which server.

It is a convenience: losing it loses no job, so no trouble with it ever stops a
command. It is one small file, replaced whole, so a reader needs no lock; who
changes it holds one.
"""

import errno
import fcntl
import json
import os
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from jobby_cli.failures import say

MOST_JOBS: Final = 500
"""How many jobs are remembered in one scope."""

MOST_IN_ALL: Final = 5000
"""How many are remembered altogether, so that the file stays small."""

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Scope:
    """Within which ids are looked up: an id of elsewhere must never be meant by accident.

    Attributes:
        server: HOST:PORT, as it was given.
        subject: the subject of the certificate that started the job.
    """

    server: str
    subject: str


@dataclass(frozen=True)  # without slots: of thousands `vars` is much quicker than `asdict`
class Entry:
    """One remembered job.

    Attributes:
        server: its scope's server.
        subject: its scope's subject.
        id: the job's id, as text.
        command: the command's name, without its arguments: those may be secrets.
    """

    server: str
    subject: str
    id: str
    command: str

    @property
    def scope(self) -> Scope:
        """Where its id is looked up."""
        return Scope(self.server, self.subject)


class _UnreadableError(Exception):
    """The file isn't one that `Recent` wrote; the text says why."""


class Recent:
    """The remembered jobs.

    Args:
        path: the file; its folder is made when something is to be remembered.
        tell: takes the sentence about what is wrong with it.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] = say) -> None:
        self._path = path
        self._tell = tell

    @classmethod
    def of_user(cls, environment: Mapping[str, str], tell: Callable[[str], None] = say) -> Self:
        """Returns this user's: below XDG_STATE_HOME (XDG Base Directory Specification)."""
        given = environment.get("XDG_STATE_HOME", "")
        # The specification: a relative path is to be ignored.
        base = given if os.path.isabs(given) else os.path.expanduser("~/.local/state")
        return cls(Path(base, "jobby", "recent.json"), tell)

    def jobs(self, scope: Scope) -> list[tuple[uuid.UUID, str]]:
        """Returns the ids and commands of the jobs in `scope`, the last started first."""
        try:
            entries = self._read()
        except _UnreadableError as error:
            self._tell(
                f"ignoring the list of recent jobs {self._path}: {error}; delete it to start anew"
            )
            return []
        mine = [entry for entry in entries if entry.scope == scope]
        return [(uuid.UUID(entry.id), entry.command) for entry in reversed(mine)]

    def add(self, scope: Scope, job_id: uuid.UUID, command: str) -> None:
        """Remembers a job; tells if that cannot be done."""
        entry = Entry(scope.server, scope.subject, str(job_id), os.path.basename(command))
        try:
            if not self._path.is_absolute():
                raise FileNotFoundError(errno.ENOENT, "this user has no home")
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                self._write(_kept([*self._read_or_set_aside(), entry]))
        except OSError as error:
            self._tell(
                f"cannot remember the job in {self._path}: {error.strerror or error}; "
                "use its whole id, or set XDG_STATE_HOME to a folder of yours"
            )

    def _read(self) -> list[Entry]:
        try:
            content = json.loads(self._path.read_bytes())
            if not isinstance(content, dict) or content.get("version") != _VERSION:
                raise _UnreadableError("it was written by another version of jobby")
            entries = [Entry(**each) for each in content["jobs"]]
            for entry in entries:
                if not all(isinstance(value, str) for value in vars(entry).values()):
                    raise TypeError
                uuid.UUID(entry.id)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _UnreadableError(error.strerror or str(error)) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _UnreadableError("it is damaged") from error
        return entries

    def _read_or_set_aside(self) -> list[Entry]:
        try:
            return self._read()
        except _UnreadableError as error:
            aside = self._path.with_suffix(".unreadable")
            os.replace(self._path, aside)
            self._tell(
                f"the list of recent jobs {self._path} is new: {error}; the old one is {aside}"
            )
            return []

    def _write(self, entries: list[Entry]) -> None:
        content = json.dumps({"version": _VERSION, "jobs": [vars(e) for e in entries]})
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(new, self._path)
        except BaseException:  # a ctrl-c, too
            with suppress(OSError):
                new.unlink()
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file of its own: the list itself is replaced, and with it what was locked.
        path = self._path.with_suffix(".lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _kept(entries: list[Entry]) -> list[Entry]:
    """Returns what is remembered of `entries` after the last of them was added."""
    scope = entries[-1].scope
    mine = [place for place, entry in enumerate(entries) if entry.scope == scope]
    forgotten = set(mine[:-MOST_JOBS])
    kept = [entry for place, entry in enumerate(entries) if place not in forgotten]
    return kept[-MOST_IN_ALL:]
