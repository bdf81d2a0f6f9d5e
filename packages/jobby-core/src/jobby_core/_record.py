"""Owns the record in a job's folder: what was started, and whether it runs.

`job` is complete before the launcher starts, and locked by it for as long as it lives, so
whoever comes later can tell a running job from one that is lost, and by which process it is
watched over. What the outcome is written to lies ready from the start (`_outcome.py`), so
that a full disk cannot lose it.
"""

import errno
import fcntl
import json
import os
import stat
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jobby_core import _outcome
from jobby_core._limits import limit_error
from jobby_core.errors import InvalidJobError, JobbyError, RecordError, UnreachableJobError
from jobby_core.spec import JobArgs

_VERSION: Final = 1
_RECORD, _RECORD_NEW = "job", "job.new"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
# struct flock of fcntl(2) where off_t has 64 bits; the last item only pads.
_FLOCK = struct.Struct("hhqqi0q")


@dataclass(frozen=True, slots=True)
class Record:
    """What a job's folder tells of its start.

    Attributes:
        args: what was started; without its environment, which may hold secrets.
        mark: what its processes are known by.
        cgroup: the path of its cgroup, or None.
        started_at: when (UTC).
        copied: whether the folder is a copy: what runs belongs to the original.
    """

    args: JobArgs
    mark: str
    cgroup: str | None
    started_at: datetime
    copied: bool = False

    @property
    def directory(self) -> str:
        """The folder."""
        assert self.args.directory is not None, "a record lies in it"
        return os.fspath(self.args.directory)


@dataclass(frozen=True, slots=True)
class Files:
    """The descriptors that a launcher is given, closed by whoever made them."""

    record: int
    folder: int
    outcome: int


def create(record: Record, close: ExitStack) -> Files:
    """Writes a job's record.

    Args:
        record: what to write.
        close: gets the closing of the descriptors.

    Raises:
        LimitError: the disk or quota is full, or no descriptor is left.
        RecordError: the folder holds a job already, or cannot be written to.
    """
    made = []
    try:
        folder = os.open(record.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        close.callback(os.close, folder)
        fds = []
        # The record last: where there is one, an outcome that isn't there was taken away.
        for name in (_outcome.NEW, _RECORD_NEW):
            fds.append(os.open(name, _CREATE, _PRIVATE, dir_fd=folder))
            made.append(name)
            close.callback(os.close, fds[-1])
            content = _outcome.BLANK if name == _outcome.NEW else _text(record, fds[-1])
            written = os.write(fds[-1], content)
            if written != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if os.path.lexists(os.path.join(record.directory, _RECORD)):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        # Its name only now: half a record would tell of a job that may have run. No other
        # start comes between: outcome.new is here until there is a record, and goes after it.
        os.rename(_RECORD_NEW, _RECORD, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        for name in reversed(made):  # and not another job's
            os.unlink(os.path.join(record.directory, name))
        raise _error(record.directory, "write", error) from error
    return Files(record=fds[1], folder=folder, outcome=fds[0])


def _text(record: Record, fd: int) -> bytes:
    args = record.args
    fields = {
        "version": _VERSION,
        "command": args.command,
        "args": args.args,
        "stdout_path": _inside(args.stdout_path, record.directory),
        "stderr_path": _inside(args.stderr_path, record.directory),
        "cwd": args.cwd,
        "label": args.label,
        "max_output_bytes": args.max_output_bytes,
        "timeout_seconds": args.timeout_seconds,
        "mark": record.mark,
        "cgroup": record.cgroup,
        "started_us": round(record.started_at.timestamp() * 1e6),
        "file": _identity(fd),
    }
    return json.dumps(fields).encode()


def _inside(path: str | os.PathLike[str], directory: str) -> str:
    """Returns the path of a file; its name alone if it lies in the folder, which may be moved."""
    place, name = os.path.split(os.fspath(path))
    return name if place == directory else os.fspath(path)


def _identity(fd: int) -> list[int]:
    """Returns what tells the record's file from a copy of it, for as long as the job can run."""
    found = os.fstat(fd)
    return [found.st_dev, found.st_ino]


def remove(directory: str) -> None:
    """Removes the record of a job that never ran, or was at once killed again."""
    for name in (_RECORD, _outcome.NEW, _outcome.NAME):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def read(directory: str) -> tuple[Record, int]:
    """Reads a job's record.

    Returns:
        it, and the descriptor of its file, which the caller closes.

    Raises:
        UnreachableJobError: it is damaged and the job runs, or it cannot be read.
        RecordError: there is none, or it is damaged and the job does not run.
        LimitError: no descriptor is left.
    """
    path = os.path.join(directory, _RECORD)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _error(directory, "read", error) from error
    try:
        with open(fd, "rb", closefd=False) as file:
            fields = json.loads(file.read())
        return _record(directory, fields, fd), fd
    except (ValueError, TypeError, KeyError, OverflowError, InvalidJobError) as error:
        launcher = holder(fd)  # whatever the content is
        os.close(fd)
        action, cause = f"read the job in {directory}", f"its record is damaged ({error})"
        if launcher is None:
            way_out = "restore it from a backup, or remove the folder"
            raise RecordError(action, cause, way_out, path=path) from error
        raise UnreachableJobError(
            action,
            f"{cause}; it runs, its launcher is process {launcher}",
            "write the record's content into that same file again, or end that process",
            path=path,
        ) from error
    except OSError as error:
        os.close(fd)
        raise _error(directory, "read", error) from error


def holder(record_fd: int) -> int | None:
    """Returns the id of the launcher that holds the record's lock; None if there is none.

    The kernel names the process (F_GETLK in fcntl(2)), so the id is right while it lives.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(record_fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else pid


def fence(directory: str, record_fd: int) -> bool:
    """Makes sure that the job of this folder never starts; False if it has.

    A launcher that is about to start takes the lock and then looks whether the record is
    still there. Here the record is removed while the lock is held.
    """
    try:
        fcntl.lockf(record_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    # Again, under the lock: it may have been held, and all of the job run, since the last look.
    if _outcome.main_pid(directory) is not None:
        fcntl.lockf(record_fd, fcntl.LOCK_UN)
        return False
    remove(directory)
    return True


def _record(directory: str, fields: dict[str, Any], fd: int) -> Record:
    if fields["version"] != _VERSION:
        raise ValueError(f"it has version {fields['version']}, not {_VERSION}")
    names = ("command", "args", "cwd", "label", "max_output_bytes", "timeout_seconds")
    args = JobArgs(
        **{name: fields[name] for name in names},
        stdout_path=os.path.join(directory, fields["stdout_path"]),
        stderr_path=os.path.join(directory, fields["stderr_path"]),
        directory=directory,
    )
    return Record(
        args,
        mark=str(fields["mark"]),
        cgroup=fields["cgroup"],
        started_at=datetime.fromtimestamp(fields["started_us"] / 1e6, UTC),
        copied=fields.get("file") not in (None, _identity(fd)),
    )


def _error(directory: str, verb: str, error: OSError) -> JobbyError:
    action = f"{verb} a job's record in {directory}"
    way_outs = {
        errno.EEXIST: ("it holds a job already", "give each job a folder of its own"),
        errno.ENOENT: ("it holds no job", "name the folder that the job was started with"),
        errno.ENOTDIR: ("it is no folder", "name the folder that the job was started with"),
        errno.EROFS: ("it is on a read-only file system", "mount it for writing"),
    }
    if verb == "write" and error.errno == errno.ENOENT:
        way_outs[errno.ENOENT] = ("there is no such folder", "make it first")
    cause, way_out = way_outs.get(
        error.errno or 0, (error.strerror or str(error), "check that this user may write there")
    )
    # Where there is a file that does not open, nobody can tell whether its job runs.
    no_file = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
    kind = RecordError if verb == "write" or error.errno in no_file else UnreachableJobError
    return limit_error(error, action, directory) or kind(action, cause, way_out, path=directory)
