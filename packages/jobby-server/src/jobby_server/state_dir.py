"""Owns where output lies: one private folder a server, one subfolder a job."""

import errno
import os
import shutil
import stat
import tempfile
import uuid
from pathlib import Path

from jobby_core import LimitError
from jobby_server.errors import ConfigError

_PREFIX = "jobby-server-"


class Spool:
    """The folder that holds the output of all jobs. Made by `create`.

    Attributes:
        path: the folder; its mode is 0700.
        keep: whether it outlives the server.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path = path
        self.keep = keep

    @classmethod
    def create(cls, parent: Path | None) -> "Spool":
        """Makes a new folder under a name that nobody could foresee (mkdtemp).

        Args:
            parent: where; its outputs are kept when the server ends, because
                whoever names a place wants them there. None is the system's
                temporary folder, and the outputs go when the server ends.

        Raises:
            ConfigError: it cannot be made there.
        """
        where = Path(tempfile.gettempdir()) if parent is None else parent
        check_parent(where)
        try:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).absolute()
        except OSError as error:
            raise _unusable(where, error.strerror or str(error)) from error
        return cls(path, keep=parent is not None)

    def make_folder(self, job_id: uuid.UUID) -> Path:
        """Makes a job's folder.

        Raises:
            LimitError: the disk or the quota is full.
            OSError: it cannot be made for another reason.
        """
        folder = self.path / str(job_id)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise LimitError(
                f"create {folder} for a job's output",
                "disk full or quota exhausted",
                "free space, or choose another --output-dir",
                path=str(folder),
                limit="disk space",
            ) from error
        return folder

    def discard(self, job_id: uuid.UUID) -> None:
        """Removes a job's folder and what is in it; a missing one is no error."""
        folder = self.path / str(job_id)
        try:
            # Of a job that never was, it is empty. rmtree needs a descriptor, and that there is
            # none left may be why the job could not be started.
            folder.rmdir()
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder, unless it is to be kept and holds something."""
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        try:
            self.path.rmdir()
        except OSError:
            return  # not empty: this is what was to be kept


def check_parent(where: Path) -> None:
    """Looks whether a private folder in `where` stays private.

    Raises:
        ConfigError: it is no folder, or somebody else could replace what is in it.
    """
    try:
        found = where.stat()
    except OSError as error:
        raise _unusable(where, error.strerror or str(error)) from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(where, "it is not a folder")
    if found.st_uid not in (0, os.geteuid()):
        raise _unusable(where, "it belongs to another user, who could replace what is in it")
    # In a folder without the sticky bit, who may write may rename others' entries (unlink(2)).
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not found.st_mode & stat.S_ISVTX:
        raise _unusable(where, "others may write to it and replace what is in it (chmod go-w)")
    if not os.access(where, os.W_OK | os.X_OK):
        raise _unusable(where, "this user may not write to it")


def _unusable(where: Path, cause: str) -> ConfigError:
    return ConfigError(
        f"cannot keep output in {where}: {cause}; name a folder of this user with --output-dir"
    )
