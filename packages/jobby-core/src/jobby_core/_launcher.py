"""Owns starting a launcher: the small program between this process and a job.

It leads the job's session, outlives whoever started it, records the outcome, and when the
main process has ended it kills every process the job has left anywhere (launcher.c).
"""

import errno
import functools
import logging
import os
import signal
import struct
import subprocess
from contextlib import ExitStack, suppress
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Final

from jobby_core import _cgroup, _record
from jobby_core._diagnosis import start_error
from jobby_core._launched import SIGNALS, LaunchedProcess
from jobby_core._limits import limit_error
from jobby_core._record import Record
from jobby_core._stragglers import MARK
from jobby_core.errors import JobbyError, LauncherError
from jobby_core.spec import JobArgs

_log = logging.getLogger(__name__)

_OVERRIDE: Final = "JOBBY_LAUNCHER"
_BUILT_IN: Final = Path(__file__).with_name("jobby-launcher")


class _Step(IntEnum):
    """What the launcher was at when it gave up; as in launcher.c."""

    STARTED = 0
    RECORD_LOCK = 1
    SUBREAPER = 2
    CHILDREN = 3
    MARK = 4
    WATCH = 5
    FORK = 6
    CHDIR = 7
    EXEC = 8


_REPORT: Final = struct.Struct("iii")
_NONE: Final = -1


def path() -> str | None:
    """Returns the launcher's path; None where there is none for this platform.

    `JOBBY_LAUNCHER` in the environment names another one, or is "none".
    """
    override = os.environ.get(_OVERRIDE)
    if override:
        return None if override == "none" else override
    return os.fspath(_BUILT_IN) if _BUILT_IN.exists() else None


def wanted(args: JobArgs) -> bool:
    """Returns whether a job is to have a launcher: wherever there is one.

    Raises:
        LauncherError: there is none, and the job needs it.
    """
    if path() is not None:
        return True
    for name in ("directory", "max_output_bytes", "timeout_seconds"):
        if getattr(args, name) is not None:
            raise LauncherError(
                f"start {args.command!r} with {name}",
                "that needs the launcher, which jobby-core has for x86-64 and aarch64 Linux only",
                f"leave {name} out, or install jobby-core's wheel for this platform",
            )
    _say_what_is_lost()
    return False


@functools.cache
def _say_what_is_lost() -> None:
    _log.warning(
        "jobs are started without a launcher: they and their exit codes do not survive this "
        "process, and what leaves a job's process group is not killed"
    )


def start(args: JobArgs, stdout_fd: int, stderr_fd: int, started_at: datetime) -> LaunchedProcess:
    """Starts a launcher, and has it start the command; when this returns, that was executed.

    Raises:
        StartError: the command cannot be started; the kind says why.
        RecordError: the job's folder holds another job, or cannot be written to.
        LimitError: no process, descriptor, memory or disk space is left for it.
    """
    program = path()
    assert program is not None, "asked before"
    mark = os.urandom(8).hex()
    with ExitStack() as always, ExitStack() as on_error:
        cgroup = _cgroup.create(mark)
        cgroup_fd = _NONE
        if cgroup is not None:
            cgroup_fd = cgroup[1]
            always.callback(os.close, cgroup_fd)
            on_error.callback(_cgroup.remove, cgroup[0])
        record = Record(args, mark, None if cgroup is None else cgroup[0], started_at)
        record_fd = folder_fd = outcome_fd = _NONE
        if args.directory is not None:
            files = _record.create(record, always)
            on_error.callback(_record.discard, record.directory)
            record_fd, folder_fd, outcome_fd = files.record, files.folder, files.outcome
        try:
            watches = _open_folders(args, folder_fd, always)
            report, told = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise start_error(args, error) from error
        on_error.callback(os.close, report)
        inherited = (told, record_fd, folder_fd, outcome_fd, cgroup_fd, *watches)
        try:
            child = _spawn(program, args, mark, (stdout_fd, stderr_fd), inherited)
        finally:
            os.close(told)
        step, error_number, pid = _read_report(report)
        if step is not _Step.STARTED:
            _reap(child)
            raise _start_error(args, step, error_number)
        try:
            pidfd = _open_pidfd(child, report)
        except OSError as error:
            os.kill(child, SIGNALS[signal.SIGKILL])
            _reap(child)
            raise start_error(args, error) from error
        on_error.pop_all()
        return LaunchedProcess(record, pid, pidfd, launcher=child, report=report)


def _open_pidfd(child: int, report: int) -> int:
    try:
        return os.pidfd_open(child)
    except ProcessLookupError:
        # It has ended, and somebody else in this program waited for it (or SIGCHLD is ignored).
        # The outcome is in the pipe, which is as readable as the pidfd would be.
        return os.dup(report)


def _reap(child: int) -> None:
    with suppress(ChildProcessError):  # somebody else in this program did
        os.waitpid(child, 0)


def _open_folders(args: JobArgs, folder_fd: int, close: ExitStack) -> tuple[int, int]:
    """Opens the folders of the outputs where the launcher is to be told of writes.

    That is where there is a limit, and in the job's own folder, where a full disk ends it.
    Elsewhere not: for each watch the kernel goes through all entries of the folder.
    """
    fds = []
    for folder in {os.path.dirname(p) for p in (args.stdout_path, args.stderr_path)}:
        if folder == args.directory:
            fds.append(folder_fd)
            continue
        if args.max_output_bytes is None:
            continue
        fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        close.callback(os.close, fds[-1])
    fds += [_NONE] * (2 - len(fds))
    return fds[0], fds[1]


def _spawn(
    program: str, args: JobArgs, mark: str, outputs: tuple[int, int], inherited: tuple[int, ...]
) -> int:
    timeout_ms = 0 if args.timeout_seconds is None else max(1, round(args.timeout_seconds * 1000))
    numbers = (*inherited, args.max_output_bytes or 0, timeout_ms)
    try:
        # Only these options: whatever makes Popen fork for real (preexec_fn, user, …)
        # copies the page tables of a large process, at up to 185 ms a start.
        child = subprocess.Popen(
            [
                program,
                *map(str, numbers),
                f"{MARK}={mark}",
                os.fspath(args.cwd or ""),
                args.command,
                *args.args,
            ],
            stdin=subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[1],
            env=args.env,
            start_new_session=True,
            pass_fds=[fd for fd in inherited if fd != _NONE],
        )
    except OSError as error:
        too_long = error.errno == errno.E2BIG
        if too_long or limit_error(error, "") or error.filename != program:
            raise start_error(args, error) from error
        raise LauncherError(
            f"start {args.command!r}",
            f"its launcher {program} cannot be started: {error.strerror}",
            f"reinstall jobby-core where programs may be executed, or set {_OVERRIDE}=none",
        ) from error
    # Popen's own bookkeeping would reap the process from any later Popen call in this
    # program once this object is gone; the reaper is the only one that may.
    child.returncode = 0
    return child.pid


def _read_report(report: int) -> tuple[_Step | None, int, int]:
    message = os.read(report, _REPORT.size)
    if len(message) != _REPORT.size:
        return None, 0, 0
    step, error_number, pid = _REPORT.unpack(message)
    return _Step(step), error_number, pid


def _start_error(args: JobArgs, step: _Step | None, error_number: int) -> JobbyError:
    """Returns what it means that the launcher gave up at `step`; None is that it vanished."""
    error = OSError(error_number, os.strerror(error_number))
    if step is _Step.EXEC:
        return start_error(args, error)
    if step is _Step.CHDIR:
        return start_error(args, error, entering=True)
    action = f"start {args.command!r}"
    if step is None:
        return LauncherError(action, "its launcher was killed", "try again")
    return limit_error(error, action) or LauncherError(
        action,
        f"its launcher failed at {step.name.lower()}: {error.strerror}",
        f"see launcher.c for what it needs of the system, or set {_OVERRIDE}=none",
    )
