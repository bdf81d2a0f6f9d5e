"""Owns where a server keeps its state: one private folder, used by one server at a time."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from pathlib import Path

from jobby_core import LimitError
from jobby_server.errors import ConfigError, StateInUseError

_PREFIX = "jobby-server-"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FILES = frozenset({"stdout", "stderr", "job.new", "outcome.new"})
"""What a job's folder may hold before there is a record in it."""


class StateDir:
    """The folder that holds all there is of the jobs. Made by `temporary` or `named`.

    Attributes:
        path: the folder; its mode is 0700.
        jobs: where the jobs' folders lie, each under the job's id.
        durable: whether the next server finds everything again.
    """

    def __init__(self, path: Path, *, keep: bool, lock: int | None = None) -> None:
        """Holds a folder that exists; use `temporary` or `named`."""
        self.path = path
        self.durable = lock is not None
        self.jobs = path / "jobs" if self.durable else path
        self._trash = path / "trash"
        self._keep = keep
        self._lock = lock

    @classmethod
    def temporary(cls, parent: Path | None) -> "StateDir":
        """Makes a new folder under a name that nobody could foresee (mkdtemp).

        Args:
            parent: where; its outputs are kept when the server ends, because
                whoever names a place wants them there. None is the system's
                temporary folder, and the outputs go when the server ends.

        Raises:
            ConfigError: it cannot be made there.
        """
        try:
            where = Path(tempfile.gettempdir()) if parent is None else parent
        except OSError as error:
            raise ConfigError(
                f"cannot keep output: {error.strerror or error}; set TMPDIR or --output-dir to a "
                "folder that this user may write to"
            ) from error
        _check_parent(where, "keep output in", "--output-dir")
        _check_writable(where, "keep output in", "--output-dir")
        try:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).absolute()
        except OSError as error:
            cause = error.strerror or str(error)
            raise _unusable("keep output in", where, cause, "--output-dir") from error
        return cls(path, keep=parent is not None)

    @classmethod
    def named(cls, path: Path) -> "StateDir":
        """Takes a folder for this server alone, and makes it if it isn't there.

        Raises:
            ConfigError: it cannot be used, or wouldn't be private.
            StateInUseError: another server uses it.
        """
        path = Path(os.path.realpath(path))
        action, option = "keep the jobs' state in", "--state-dir"
        _check_parent(path.parent, action, option)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            _check_ours(path, action, option)
            _check_private(path, action, option)
            lock = _take(path)
        except OSError as error:
            cause = {
                errno.EROFS: "it is read-only",
                errno.EACCES: "this user may not write to it",
            }.get(error.errno or 0, error.strerror or str(error))
            raise _unusable(action, path, cause, option) from error
        state = cls(path, keep=True, lock=lock)
        # What a server was removing when it was killed.
        shutil.rmtree(state._trash, ignore_errors=True)
        return state

    @property
    def database(self) -> Path | None:
        """Where the journal lies; None keeps it in memory: it ends with the server."""
        return self.path / "jobs.sqlite" if self.durable else None

    def folder(self, job_id: uuid.UUID) -> Path:
        """Returns where a job's files lie."""
        return self.jobs / str(job_id)

    def make_folder(self, job_id: uuid.UUID) -> Path:
        """Makes a job's folder.

        Raises:
            LimitError: the disk or the quota is full, or has become read-only.
            OSError: it cannot be made for another reason.
        """
        folder = self.folder(job_id)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            option = "--state-dir" if self.durable else "--output-dir"
            full = ("disk space", "disk full or quota exhausted", "free space")
            cases = {
                errno.ENOSPC: full,
                errno.EDQUOT: full,
                errno.EROFS: ("a writable disk", "it is read-only now", "mount it for writing"),
            }
            if error.errno not in cases:
                raise
            limit, cause, way_out = cases[error.errno]
            raise LimitError(
                f"create {folder} for a job's output",
                cause,
                f"{way_out}, or choose another {option}",
                path=str(folder),
                limit=limit,
            ) from error
        return folder

    def sizes(self, job_id: uuid.UUID) -> tuple[int, int]:
        """Returns how many bytes a job's two outputs have; 0 of one that was removed."""
        folder = self.folder(job_id)
        return _size(f"{folder}/stdout"), _size(f"{folder}/stderr")

    def holds_no_job(self, job_id: uuid.UUID) -> bool:
        """Whether a job's folder was made by a server that was killed before it came further."""
        try:
            return _FILES.issuperset(os.listdir(self.folder(job_id)))
        except OSError:  # it is no folder
            return False

    def discard(self, job_id: uuid.UUID) -> None:
        """Removes a job's folder and what is in it; a missing one is no error."""
        folder = self.folder(job_id)
        with contextlib.suppress(OSError):
            # Of a job that never was, it is empty. rmtree needs a descriptor, and that there is
            # none left may be why the job could not be started.
            folder.rmdir()
            return
        if self.durable:
            # At once: half a folder would look like a damaged job to the next server.
            with contextlib.suppress(OSError):
                self._trash.mkdir(mode=0o700, exist_ok=True)
                folder = folder.rename(self._trash / folder.name)
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Gives the folder back; a temporary one goes, unless it is to be kept and holds something.

        Again is no error.
        """
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        elif not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        elif not self.durable:
            with contextlib.suppress(OSError):  # not empty: this is what was to be kept
                self.path.rmdir()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _take(path: Path) -> int:
    """Locks the folder; returns the descriptor that holds the lock."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (path / "jobs").mkdir(mode=0o700, exist_ok=True)
    except BlockingIOError:
        os.close(lock)
        raise StateInUseError(
            f"cannot keep the jobs' state in {path}: another jobby-server uses it; "
            "stop that one, or name another --state-dir"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_parent(where: Path, action: str, option: str) -> None:
    """Looks whether a private folder in `where` stays private.

    Raises:
        ConfigError: it is no folder, or somebody else could replace what is in it.
    """
    try:
        found = where.stat()
    except OSError as error:
        cause = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            cause = "there is no such folder (make it first)"
        raise _unusable(action, where, cause, option) from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(action, where, "it is not a folder", option)
    if found.st_uid not in (0, os.geteuid()):
        cause = "it belongs to another user, who could replace what is in it"
        raise _unusable(action, where, cause, option)
    # In a folder without the sticky bit, who may write may rename others' entries (unlink(2)).
    if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
        cause = "others may write to it and replace what is in it (chmod go-w)"
        raise _unusable(action, where, cause, option)


def _check_ours(path: Path, action: str, option: str) -> None:
    """Makes sure that nothing of somebody's is taken for a server's, which removes what is left."""
    names = set(os.listdir(path))
    if "lock" not in names:  # a backup may lack it; the root of a disk has lost+found
        names = {name for name in names if not name.startswith("jobs.sqlite")}
        if others := sorted(names - {"jobs", "lost+found"}):
            cause = f"it is no state folder, as it holds {others[0]!r} (name an empty one)"
            raise _unusable(action, path, cause, option)


def _check_private(path: Path, action: str, option: str) -> None:
    """Makes sure that nobody else sees into a folder of this user, or ever could write there."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise _unusable(action, path, "it belongs to another user", option)
    if found.st_mode & _OTHERS_WRITE:
        cause = "others may write to it, and may have put something there (chmod 0700)"
        raise _unusable(action, path, cause, option)
    if found.st_mode & _OTHERS:
        path.chmod(0o700)


def _check_writable(where: Path, action: str, option: str) -> None:
    if os.statvfs(where).f_flag & os.ST_RDONLY:
        raise _unusable(action, where, "it is read-only", option)
    if not os.access(where, os.W_OK | os.X_OK):
        raise _unusable(action, where, "this user may not write to it", option)


def _unusable(action: str, where: Path, cause: str, option: str) -> ConfigError:
    return ConfigError(
        f"cannot {action} {where}: {cause}; name a folder of this user with {option}"
    )
