"""Owns the diagnosis of a failed start: errno to an error that says what is wrong with the command.

execve(2) says ENOENT for a missing command, a missing interpreter and a
missing folder alike, and EACCES for a directory; what is on the disk tells
them apart.
"""

import errno
import os

from jobby_core._limits import limit_error
from jobby_core.errors import (
    ArgumentsTooLongError,
    CommandNotExecutableError,
    CommandNotFoundError,
    JobbyError,
    WorkingDirectoryError,
)
from jobby_core.spec import JobArgs


def start_error(args: JobArgs, error: OSError, *, entering: bool = False) -> JobbyError:
    """Returns what an error means to somebody who wants `args` started.

    Args:
        args: what was to be started.
        error: what the system said.
        entering: whether it said so of entering the working directory.
    """
    action = f"start {args.command!r}"
    limit = limit_error(error, action)
    if limit is not None:
        return limit
    if error.errno == errno.E2BIG:
        return ArgumentsTooLongError(
            action,
            "its arguments and environment are too long for the system",
            "pass the data in a file",
        )
    # Popen puts the directory's name into the exception when the child could not enter it. That
    # says nothing where the command is the same folder.
    entering = entering or (args.cwd is not None and error.filename == args.cwd != args.command)
    if entering:
        assert args.cwd is not None, "otherwise there is nothing to enter"
        return WorkingDirectoryError(
            action,
            f"cannot enter its working directory {args.cwd}: {error.strerror}",
            "name an existing folder",
            path=os.fspath(args.cwd),
        )
    path = _find(args)
    # A folder of the PATH that may not be entered makes it EACCES (execvp(3)), whatever the others
    # hold; what isn't found in any is missing all the same, as a shell says too.
    unseen = path is None and error.errno == errno.EACCES
    absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
    if unseen or (absent and (path is None or not os.path.exists(path))):
        return CommandNotFoundError(
            action,
            "there is no such file" if "/" in args.command else "it is not in the job's PATH",
            "check the spelling, or give the full path",
            path=args.command,
        )
    cause, way_out = _why_not_executable(path or args.command, error)
    return CommandNotExecutableError(action, cause, way_out, path=path)


def _find(args: JobArgs) -> str | None:
    """Returns the file that the command names, executable or not."""
    if "/" in args.command:
        return os.path.join(args.cwd or "", args.command)
    for folder in os.get_exec_path(args.env):
        path = os.path.join(args.cwd or "", folder, args.command)
        if os.path.exists(path):
            return path
    return None


def _why_not_executable(path: str, error: OSError) -> tuple[str, str]:
    if os.path.isdir(path):
        return f"{path} is a directory", "name a program"
    if error.errno == errno.ENOEXEC:
        return (
            f"{path} is not a program the system knows",
            "begin a script with a line like #!/bin/sh",
        )
    if error.errno == errno.EACCES:
        return f"{path} may not be executed", "set its x bit with chmod +x, or check its folder"
    if error.errno == errno.ENOENT:
        # The file is there, so what the kernel misses is the interpreter in its first line.
        interpreter = _interpreter(path)
        if interpreter.endswith("\r"):
            return (
                f"the first line of {path} ends in CRLF, so its interpreter is not found",
                "save it with LF line ends",
            )
        return (
            f"the interpreter of {path} is missing ({interpreter or 'unknown'})",
            "install it or correct the script's first line",
        )
    return f"{error.strerror}", "check the file"


def _interpreter(path: str) -> str:
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    return os.fsdecode(first[2:].rstrip(b"\n").strip(b" \t")) if first[:2] == b"#!" else ""
