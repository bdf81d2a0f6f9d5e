"""Run a command as a job that loses nothing: its output stays in files, for any number of readers.

Linux only. Needs nothing but the standard library and watchdog.
"""

from jobby_core._platform import launcher_available
from jobby_core.errors import (
    ArgumentsTooLongError,
    CommandNotExecutableError,
    CommandNotFoundError,
    IllegalMoveError,
    InvalidJobError,
    JobbyError,
    LauncherError,
    LimitError,
    NotStartedError,
    OutputError,
    OutputExistsError,
    OutputMissingError,
    OutputTruncatedError,
    ReaderBusyError,
    ReaderClosedError,
    RecordError,
    StartError,
    StopError,
    UnreachableJobError,
    WorkingDirectoryError,
)
from jobby_core.follow import OutputFollower
from jobby_core.job import Job
from jobby_core.reader import OutputReader
from jobby_core.spec import JobArgs
from jobby_core.state import Reason, State, Status, Stream, Usage

__all__ = [
    "ArgumentsTooLongError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "IllegalMoveError",
    "InvalidJobError",
    "Job",
    "JobArgs",
    "JobbyError",
    "LauncherError",
    "LimitError",
    "NotStartedError",
    "OutputError",
    "OutputExistsError",
    "OutputFollower",
    "OutputMissingError",
    "OutputReader",
    "OutputTruncatedError",
    "ReaderBusyError",
    "ReaderClosedError",
    "Reason",
    "RecordError",
    "StartError",
    "State",
    "Status",
    "StopError",
    "Stream",
    "UnreachableJobError",
    "Usage",
    "WorkingDirectoryError",
    "launcher_available",
]
