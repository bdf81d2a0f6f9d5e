"""Owns how a job stands that another process started: it runs, has ended, or is lost."""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from jobby_core import _cgroup, _outcome, _record
from jobby_core._launched import LaunchedProcess
from jobby_core._limits import limit_error
from jobby_core._record import Record
from jobby_core._stragglers import kill_left
from jobby_core.errors import NotStartedError, UnreachableJobError
from jobby_core.state import LOST, Ending


@dataclass(frozen=True, slots=True)
class Adopted:
    """A job of another process.

    Attributes:
        record: what was started.
        pid: its main process's id; 0 if not known.
        process: what it runs in; None if it has ended, or nobody watches over it.
        ending: how it ended; None if it runs.
    """

    record: Record
    pid: int
    process: LaunchedProcess | None
    ending: Ending | None


def adopt(directory: str) -> Adopted:
    """Looks at a job's folder.

    Raises:
        NotStartedError: the job never ran, and now never will.
        UnreachableJobError: it runs, or may run, and cannot be watched over.
        RecordError: the record is missing, or damaged and the job does not run.
        LimitError: no descriptor is left.
    """
    record, record_fd = _record.read(directory)
    try:
        while True:
            launcher = _record.holder(record_fd)
            if launcher is not None:
                process = _open(record, record_fd, launcher)
                if process is None:
                    continue  # it ended just now
                return Adopted(record, process.pid, process, None)
            ending = _outcome.read(directory)
            if ending is not None:
                return Adopted(record, _outcome.main_pid(directory) or 0, None, ending)
            pid = _outcome.main_pid(directory)
            if pid is not None:
                if _record.holder(record_fd) is not None:
                    continue  # it began just now
                if _outcome.read(directory) is not None:
                    continue  # it ended just now
                _end_lost(record)
                return Adopted(record, pid, None, LOST)
            if _record.fence(directory, record_fd):
                if record.cgroup is not None and not record.copied:
                    _cgroup.remove(record.cgroup)  # its launcher may have got as far as that
                raise NotStartedError(
                    f"attach to the job in {directory}",
                    "whoever was about to start it ended before it ran",
                    "start it again, in another folder",
                    path=directory,
                )
    finally:
        os.close(record_fd)


def _end_lost(record: Record) -> None:
    """Ends what a killed launcher has left, then records that the outcome is not known."""
    if not record.copied:
        kill_left(record.mark, record.cgroup)
    _outcome.put_lost(record.directory)


def _open(record: Record, record_fd: int, launcher: int) -> LaunchedProcess | None:
    """Returns the running job; None if its launcher has just ended."""
    action = f"attach to the job in {record.directory}"
    if launcher <= 0:
        raise UnreachableJobError(
            action,
            "it runs in another PID namespace",
            "attach from where it was started",
            path=record.directory,
        )
    try:
        pidfd = os.pidfd_open(launcher)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise limit_error(error, action) or UnreachableJobError(
            action, error.strerror or str(error), "see pidfd_open(2)", path=record.directory
        ) from error
    with ExitStack() as on_error:
        on_error.callback(os.close, pidfd)
        # Asked again: the id may have gone to a stranger before the pidfd was open.
        if _record.holder(record_fd) != launcher:
            return None
        outcome = _outcome.hold(record.directory)
        pid = 0
        if outcome is not None:
            on_error.callback(os.close, outcome)
            with suppress(OSError):  # not known, then
                pid = _outcome.pid_in(_outcome.read_held(outcome))
        on_error.pop_all()
    return LaunchedProcess(record, pid, pidfd, launcher=launcher, outcome=outcome)
