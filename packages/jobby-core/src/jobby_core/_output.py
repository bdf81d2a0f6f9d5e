"""Owns one output file of one job: its creation, its identity, and its readers' descriptor."""

import errno
import fcntl
import os
import stat
import struct
import threading
from contextlib import suppress

from jobby_core._hub import Key
from jobby_core._limits import limit_error
from jobby_core.errors import (
    JobbyError,
    OutputError,
    OutputExistsError,
    OutputMissingError,
    OutputTruncatedError,
    ReaderBusyError,
    ReaderClosedError,
)

# O_APPEND: without it a job that reopens /dev/stdout, or truncates it, leaves holes of NUL
# bytes. O_EXCL neither overwrites a file nor follows a link that somebody put there.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
# O_NONBLOCK: should the path be a FIFO by now, opening it must fail the check, not hang.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
# FS_IOC_GETVERSION, _IOR('v', 1, long) in <linux/fs.h>: the inode's generation.
_NO_GENERATION = bytes(struct.calcsize("l"))
_GET_GENERATION = 2 << 30 | len(_NO_GENERATION) << 16 | ord("v") << 8 | 1


Version = tuple[int, bytes]
"""What tells a file from the next one of the same device and inode: its type and generation."""


_NOWHERE: tuple[Key, Version] = (-1, -1), (0, b"")
"""What no file is: no device and inode have negative numbers."""


class OutputFile:
    """One output file, open for reading while somebody reads.

    All readers share one descriptor and read by position, so a thousand of
    them cost one descriptor and none can move another.

    Attributes:
        path: where it lies.
        key: its device and inode; no other open file has the same.
        finished: True once nothing will be written any more. Sample it before
            the size (see `_cursor.next_step`).
        final_size: then how long it was; 0 if that is not known.
    """

    __slots__ = (
        "_fd",
        "_lock",
        "_no_wait",
        "_readers",
        "_version",
        "final_size",
        "finished",
        "key",
        "path",
    )

    def __init__(self, path: str, fd: int | None) -> None:
        """Takes the identity of the file that `fd` is open on; None if there is no file."""
        self.path: str = path
        identity: tuple[Key, Version] = _NOWHERE if fd is None else _identity(fd)
        self.key: Key = identity[0]
        self._version: Version = identity[1]
        self.finished: bool = False  # set once, by `finish`
        self.final_size: int = 0  # set before it
        self._lock = threading.RLock()  # reentrant: a signal handler may close a reader
        self._fd = -1  # guarded by _lock
        self._readers = 0  # guarded by _lock
        self._no_wait = True  # until the file system turns out not to know RWF_NOWAIT

    def finish(self, size: int | None) -> None:
        """Notes that nothing will be written any more.

        Args:
            size: how long the file is now; None takes the word of the file system.
        """
        if size is None:
            with suppress(OSError):  # that it is gone is told when it is read
                status = os.stat(self.path)
                if (status.st_dev, status.st_ino) == self.key:
                    size = status.st_size
        self.final_size = size or 0
        self.finished = True

    def look(self, offset: int) -> tuple[bool, int]:
        """Returns whether it is finished, and its size; between `acquire` and `release`.

        Args:
            offset: where who asks stands, for the error.

        Raises:
            OutputTruncatedError: it is finished, and has become shorter since.
        """
        finished = self.finished  # before the size, see Cursor.next_step
        size = os.fstat(self._fd).st_size
        if finished and size < self.final_size:
            raise truncated_error(self, size, offset)
        return finished, size

    def acquire(self) -> int:
        """Opens the file for one more reader, who calls `release`; returns the descriptor.

        Raises:
            OutputMissingError: the file was removed or replaced.
            LimitError: no descriptor is left.
            OutputError: it cannot be opened.
        """
        fd = self.acquire_if_open()
        if fd is not None:
            return fd
        opened = self._open()
        with self._lock:
            self._readers += 1
            if self._fd < 0:
                self._fd = opened
                return opened
            fd = self._fd
        os.close(opened)  # another reader was quicker
        return fd

    def acquire_if_open(self) -> int | None:
        """Does what `acquire` does if that needs no opening, which can block; otherwise None."""
        with self._lock:
            self._readers += 1  # before the look, so that nobody closes what is seen
            if self._fd < 0:
                self._readers -= 1
                return None
            return self._fd

    def release(self) -> None:
        """Ends one `acquire`; the last one closes the descriptor."""
        fd = -1
        with self._lock:
            self._readers -= 1
            if not self._readers:
                fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read_cached(self, size: int, offset: int) -> bytes:
        """Reads what is in memory already; between `acquire` and `release`.

        Raises:
            BlockingIOError: it would have to come from the disk (preadv2(2), RWF_NOWAIT).
        """
        if self._no_wait:
            buffer = bytearray(size)
            try:
                count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    raise
                self._no_wait = False  # tmpfs, for one: all of it is in memory
            else:
                return bytes(buffer) if count == size else bytes(memoryview(buffer)[:count])
        return os.pread(self._fd, size, offset)

    def read(self, size: int, offset: int) -> bytes:
        """Reads from the disk if it must; for a thread that nobody waits for any more, too."""
        fd = self.acquire()
        try:
            return os.pread(fd, size, offset)
        finally:
            self.release()

    def _open(self) -> int:
        action = f"open {self.path} to read a job's output"
        try:
            fd = os.open(self.path, _OPEN)
        except FileNotFoundError as error:
            raise OutputMissingError(
                action,
                "it was removed after the job was started",
                "keep output files while they are needed",
                path=self.path,
            ) from error
        except OSError as error:
            raise _error(error, action, self.path) from error
        try:
            found = _identity(fd)
        except OSError as error:
            os.close(fd)
            raise _error(error, action, self.path) from error
        if found != (self.key, self._version):
            os.close(fd)
            raise OutputMissingError(
                action,
                "another file took its place after the job was started",
                "keep output files where they are while they are needed",
                path=self.path,
            )
        return fd


def create(path: str) -> tuple[OutputFile, int]:
    """Creates an output file, private to its user (0600).

    Returns:
        the file, and a descriptor to write to it, which the caller closes.

    Raises:
        OutputExistsError: the path is taken.
        LimitError: the disk or quota is full, or no descriptor is left.
        OutputError: the file cannot be created; the cause says why.
    """
    action = f"create {path} for a job's output"
    try:
        fd = os.open(path, _CREATE, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError as error:
        raise OutputExistsError(
            action,
            "the path is taken, and its content is not overwritten",
            "move it away, or name another path",
            path=path,
        ) from error
    except OSError as error:
        raise _error(error, action, path) from error
    return OutputFile(path, fd), fd


def existing(path: str) -> OutputFile:
    """Returns the output file of a job that another process started.

    One that is not there any more is told when it is read.

    Raises:
        LimitError: no descriptor is left to look with.
    """
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        if limit := limit_error(error, f"open {path} to read a job's output", path):
            raise limit from error
        return OutputFile(path, None)
    try:
        return OutputFile(path, fd)
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[Key, Version]:
    """Returns the device and inode of an open file, and what tells it from the inode's next user.

    ext4 gives the inode number of a deleted file to the next one that is made,
    of whatever type: only the inode's generation tells the two apart. tmpfs
    has none and does not use numbers again; overlayfs has none and does.
    """
    status = os.fstat(fd)
    generation = b""
    with suppress(OSError):
        generation = fcntl.ioctl(fd, _GET_GENERATION, _NO_GENERATION)
    return (status.st_dev, status.st_ino), (stat.S_IFMT(status.st_mode), generation)


def _error(error: OSError, action: str, path: str) -> JobbyError:
    return limit_error(error, action, path) or OutputError(
        action,
        error.strerror or str(error),
        "check that its folder exists and may be used by this user",
        path=path,
    )


def truncated_error(output: OutputFile, size: int, offset: int) -> OutputTruncatedError:
    """Returns the error for a file that has `size` bytes, fewer than were read or written."""
    way_out = "have the job append with >> to /dev/stdout and /dev/stderr, not truncate with >"
    if output.finished and size < output.final_size:
        way_out = f"leave it alone: it had {output.final_size} bytes when the job ended"
    return OutputTruncatedError(
        f"read {output.path} on from byte {offset}",
        f"it was truncated to {size} bytes, so output is lost",
        way_out,
        path=output.path,
    )


def closed_error(output: OutputFile) -> ReaderClosedError:
    """Returns the error for reading from a closed reader."""
    return ReaderClosedError(
        f"read {output.path}", "the reader is closed", "open another one", path=output.path
    )


def busy_error(output: OutputFile) -> ReaderBusyError:
    """Returns the error for two readers on one reader."""
    return ReaderBusyError(
        f"read {output.path}",
        "somebody else is reading from this reader",
        "give each thread or task a reader of its own",
        path=output.path,
    )
