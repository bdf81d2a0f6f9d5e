"""Owns starting a launcher: the small program between this process and a job.

It leads the job's session, outlives whoever started it, records the outcome, and when the
main process has ended it kills every process the job has left anywhere (launcher.c).
"""

import errno
import fcntl
import os
import select
import signal
import struct
from contextlib import ExitStack, suppress
from datetime import datetime
from enum import IntEnum
from typing import Final

from jobby_core import _cgroup, _pipe, _record
from jobby_core._diagnosis import start_error
from jobby_core._launched import SIGNALS, LaunchedProcess
from jobby_core._limits import limit_error
from jobby_core._pidfd import wait_for
from jobby_core._platform import OVERRIDE
from jobby_core._record import Record
from jobby_core._stragglers import MARK, bury, kill_left
from jobby_core.errors import CommandNotExecutableError, JobbyError, LauncherError, RecordError
from jobby_core.spec import JobArgs


class _Step(IntEnum):
    """What the launcher was at when it gave up; as in launcher.c."""

    STARTED = 0
    RECORD_LOCK = 1
    SUBREAPER = 2
    PROC = 3
    WATCH = 4
    FORK = 5
    CHDIR = 6
    EXEC = 7


_REPORT: Final = struct.Struct("iii")
_NONE: Final = -1

# A file system that does not answer, as NFS does whose server is down, holds chdir(2) and execve(2)
# up for ever, and the launcher with them. Less than a client waits for its answer.
_START_SECONDS: Final = 15.0
_END_SECONDS: Final = 2.0
_GONE_SECONDS: Final = 1.0


def start(
    program: str, args: JobArgs, stdout_fd: int, stderr_fd: int, started_at: datetime
) -> LaunchedProcess:
    """Starts a launcher, and has it start the command; when this returns, that was executed.

    Raises:
        StartError: the command cannot be started; the kind says why.
        RecordError: the job's folder holds another job, or cannot be written to.
        LimitError: no process, descriptor, memory or disk space is left for it.
    """
    mark = os.urandom(8).hex()
    with ExitStack() as always, ExitStack() as on_error:
        cgroup = _cgroup.path_for(mark)
        if cgroup is not None:
            on_error.callback(_cgroup.remove, cgroup)  # should its launcher be killed
        record = Record(args, mark, cgroup, started_at)
        record_fd = folder_fd = outcome_fd = _NONE
        if args.directory is not None:
            files = _record.create(record, always)
            on_error.callback(_record.remove, record.directory)
            record_fd, folder_fd, outcome_fd = files.record, files.folder, files.outcome
        try:
            watches = _open_folders(args, folder_fd, always)
            report, told = _pipe.open_pipe()
        except OSError as error:
            raise start_error(args, error) from error
        on_error.callback(_pipe.close, report)
        inherited = (told, record_fd, folder_fd, outcome_fd, *watches)
        try:
            child = _spawn(program, record, (stdout_fd, stderr_fd), inherited, always)
            # Also at a ctrl-c during the wait below: the job would run on, and its record is gone.
            on_error.callback(_end_launcher, child, report, record)
        finally:
            _pipe.close(told)
        if not _tells(report, select.POLLIN, _START_SECONDS):
            raise CommandNotExecutableError(
                f"start {args.command!r}",
                f"it was not executed within {_START_SECONDS:g} s, as where a file system does not "
                "answer",
                "look for a mount that hangs on the way to it or to its working directory",
                path=args.command,
            )
        step, error_number, pid = _read_report(report)
        if step is not _Step.STARTED:
            raise _start_error(args, step, error_number)
        try:
            pidfd = _open_pidfd(child, report)
        except OSError as error:
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


def _end_launcher(child: int, report: int, record: Record) -> None:
    """Ends a launcher, and its job with it, unless it has ended; reaps it."""
    # Somebody else in this program may have waited for it: then its id may be a stranger's.
    with suppress(ChildProcessError, ProcessLookupError):
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(child, SIGNALS[signal.SIGKILL])
        heard = False
        try:
            heard = _tells(report, select.POLLHUP, _END_SECONDS)
        finally:  # also at another ctrl-c
            if not heard:
                # Nothing is heard while the command is being executed.
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                left = _children(child)
                os.kill(child, signal.SIGKILL)
                for pidfd in left:  # they die with it
                    wait_for(pidfd, _GONE_SECONDS)
                bury(left)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                kill_left(record.mark, record.cgroup)


def _children(pid: int) -> list[int]:
    """Returns pidfds of a process's children, as far as they can be had."""
    pidfds: list[int] = []
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        pidfds.extend(os.pidfd_open(int(child)) for child in file.read().split())
    return pidfds


def _tells(report: int, event: int, seconds: float) -> bool:
    """Waits for an event of the pipe; tells whether it came in time."""
    poll = select.poll()
    poll.register(report, event)
    return bool(poll.poll(seconds * 1000))


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
    program: str,
    record: Record,
    outputs: tuple[int, int],
    inherited: tuple[int, ...],
    close: ExitStack,
) -> int:
    """Starts a launcher, which gets `inherited` in that order; returns its process id."""
    args = record.args
    timeout_ms = 0 if args.timeout_seconds is None else max(1, round(args.timeout_seconds * 1000))
    out, err, *fds = (_above_standard(fd, close) for fd in (*outputs, *inherited))
    numbers = _numbers(fds)
    actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
    for fd, number in numbers.items():
        # By way of 0: to its own number, an older C library would leave it close-on-exec.
        actions += [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, 0, number)]
    try:
        # Not subprocess.Popen, which takes twice the CPU: what it does besides (the other
        # descriptors, the working directory) the launcher does by itself.
        return os.posix_spawn(
            program,
            [
                program,
                *(str(numbers.get(fd, _NONE)) for fd in fds),
                str(args.max_output_bytes or 0),
                str(timeout_ms),
                f"{MARK}={record.mark}",
                record.cgroup or "",
                os.fspath(args.cwd or ""),
                args.command,
                *args.args,
            ],
            dict(os.environb) if args.env is None else args.env,
            file_actions=[*actions, (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)],
            setsid=True,  # a ctrl-c for this program is none for the job
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
            setsigmask=(),  # a thread that blocks SIGTERM would have the job never hear of a stop
        )
    except OSError as error:
        if error.errno == errno.E2BIG or limit_error(error, ""):
            raise start_error(args, error) from error
        raise LauncherError(
            f"start {args.command!r}",
            f"its launcher {program} cannot be started: {error.strerror}",
            f"reinstall jobby-core where programs may be executed, or set {OVERRIDE}=none",
        ) from error


def _above_standard(fd: int, close: ExitStack) -> int:
    """Returns a duplicate of a descriptor below 3: one of a program that closed its own."""
    if fd == _NONE or fd > 2:
        return fd
    fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    close.callback(os.close, fd)
    return fd


def _numbers(fds: list[int]) -> dict[int, int]:
    """Returns the launcher's numbers for descriptors: 3 and on, none below an earlier one's own.

    So each can be put to its place before another one takes the place it had.
    """
    return {fd: 3 + index for index, fd in enumerate(sorted(set(fds) - {_NONE}))}


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
    if step is _Step.RECORD_LOCK and error_number in (errno.EAGAIN, errno.EACCES):
        # fcntl(2), F_SETLK; of fork(2) the first would be a limit.
        return RecordError(
            action,
            "another process holds the lock of its record",
            "attach to a job only when its start has returned",
            path=os.fspath(args.directory or ""),
        )
    return limit_error(error, action) or LauncherError(
        action,
        f"its launcher failed at {step.name.lower()}: {error.strerror}",
        f"see launcher.c for what it needs of the system, or set {OVERRIDE}=none",
    )
