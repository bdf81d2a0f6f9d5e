"""Owns what a job's folder tells of its end.

`outcome.new` is blank at first, then tells that the command is being executed, then the main
process's id, then how the job ended; renamed to `outcome`, it is on the disk for good.
"""

import errno
import json
import os
import signal
import stat
from contextlib import suppress
from typing import Final

from jobby_core._limits import limit_error
from jobby_core.errors import JobbyError, UnreachableJobError
from jobby_core.state import LOST, Ending, Exit, Reason, Usage

NAME: Final = "outcome"
NEW: Final = "outcome.new"
_BYTES: Final = 512  # as in launcher.c
BLANK: Final = b" " * (_BYTES - 1) + b"\n"
_VERSION: Final = 1
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
_MOST: Final = 1 << 53  # 285 years in microseconds, 8 PiB: what all that reads it can hold
_MOST_PID: Final = 1 << 22  # proc_sys_kernel(5), pid_max


def read(directory: str) -> Ending | None:
    """Returns how the job of this folder ended; None if no outcome was recorded (yet).

    Raises:
        LimitError: no descriptor or memory is left to read it with.
        UnreachableJobError: it cannot be read for another reason.
    """
    if (text := _content(directory, NAME)) is not None:
        try:
            return parse(text)
        except ValueError:
            return LOST
    # A launcher that is killed just before it gives the outcome its name has written all of it.
    if (text := _content(directory, NEW)) is not None:
        with suppress(ValueError):
            return parse(text)
    return None


def hold(directory: str) -> int | None:
    """Opens what the launcher of a running job will write its end to; None if that is gone.

    Its new name leaves it the same file, so whoever holds it needs no descriptor at the end.

    Raises:
        LimitError: no descriptor or memory is left.
        UnreachableJobError: it cannot be opened for another reason.
    """
    for name in (NEW, NAME):
        try:
            return os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _error(directory, error) from error
    return None


def read_held(fd: int) -> bytes:
    """Returns what is written by now in a file that `hold` opened."""
    return os.pread(fd, _BYTES, 0)


def parse(text: bytes) -> Ending:
    """Reads what the launcher wrote of a job's end.

    Raises:
        ValueError: it is damaged, or was written before the end.
    """
    fields = json.loads(text)
    try:
        if fields["version"] != _VERSION:
            raise ValueError(f"it has version {fields['version']}, not {_VERSION}")
        if fields.get("lost"):
            return LOST
        signum = _whole(fields["signal"])
        sizes = (fields.get("stdout_bytes"), fields.get("stderr_bytes"))
        sent = {signal.SIGTERM: fields["asked"], signal.SIGKILL: fields["killed"]}
        return Ending(
            exit=Exit(None, signum) if signum else Exit(_whole(fields["code"]), None),
            stop_signals=frozenset(signum for signum, was_sent in sent.items() if was_sent),
            cause=Reason(fields["cause"]) if fields["cause"] else None,
            disk_full=bool(fields["disk_full"]),
            elapsed_seconds=_whole(fields["elapsed_us"]) / 1e6,
            usage=Usage(
                user_seconds=_whole(fields["user_us"]) / 1e6,
                system_seconds=_whole(fields["system_us"]) / 1e6,
                max_rss_bytes=_whole(fields["max_rss_kib"]) * 1024,
            ),
            output_bytes=None if None in sizes else (_whole(sizes[0]), _whole(sizes[1])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error!r}") from error


def _whole(value: object) -> int:
    """Returns a number as a launcher writes it; JSON also knows NaN and 1e999."""
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r} is no number of a launcher's")
    return value


def main_pid(directory: str) -> int | None:
    """Returns the main process's id; 0 if that is not known; None if the job has not run (yet).

    Raises:
        LimitError: no descriptor or memory is left to read it with.
        UnreachableJobError: it cannot be read for another reason.
    """
    for name in (NEW, NAME):
        text = _content(directory, name)
        if text == BLANK:
            return None
        if text and (pid := pid_in(text)):
            return pid
    return 0


def pid_in(text: bytes) -> int:
    """Returns the main process's id that was written, before the end or at it; 0 if none was."""
    with suppress(ValueError, AttributeError):
        fields = json.loads(text)
        pid = _whole(fields.get("running", fields.get("pid")))
        return pid if pid <= _MOST_PID else 0
    return 0


def put_lost(directory: str) -> None:
    """Records that nobody saw the job's end, so that everybody says the same from now on."""
    with suppress(OSError):  # then it is found lost again the next time
        # Not over outcome.new: empty for a moment, it would tell of a job that never ran.
        path, name = os.path.join(directory, f"{NAME}.lost"), os.path.join(directory, NAME)
        if os.path.lexists(name):
            return  # there was no descriptor to read it with
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, _PRIVATE)) as file:
            json.dump({"version": _VERSION, "lost": True, "pid": 0}, file)
        os.rename(path, name)


def _content(directory: str, name: str) -> bytes | None:
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP):
            return b""  # something else in its place: damaged
        raise _error(directory, error) from error


def _error(directory: str, error: OSError) -> JobbyError:
    action = f"read a job's outcome in {directory}"
    return limit_error(error, action, directory) or UnreachableJobError(
        action, error.strerror or str(error), "check that this user may read it", path=directory
    )
