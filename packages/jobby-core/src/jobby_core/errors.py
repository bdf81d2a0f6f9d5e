"""Owns the library's errors: what was tried, on what, why it failed, and the way out."""


class JobbyError(Exception):
    """Base of every error this library raises on purpose.

    The text reads "cannot ACTION: CAUSE; WAY OUT", so that a log line alone is
    enough to act on.

    Attributes:
        action: what was being done, an infinitive without "to".
        cause: why it failed.
        way_out: what the reader can do about it.
        path: the file or folder concerned, or None.
    """

    def __init__(self, action: str, cause: str, way_out: str, *, path: str | None = None) -> None:
        super().__init__(action, cause, way_out)
        self.action = action
        self.cause = cause
        self.way_out = way_out
        self.path = path

    def __str__(self) -> str:
        return f"cannot {self.action}: {self.cause}; {self.way_out}"


class InvalidJobError(JobbyError, ValueError):
    """A field of `JobArgs` holds something that can never be started.

    Attributes:
        field: the name of the offending `JobArgs` field.
    """

    def __init__(
        self, action: str, cause: str, way_out: str, *, path: str | None = None, field: str = ""
    ) -> None:
        super().__init__(action, cause, way_out, path=path)
        self.field = field


class StartError(JobbyError):
    """The command cannot be started; no job exists and nothing is left behind."""


class CommandNotFoundError(StartError):
    """The command is neither a file nor found in the job's PATH."""


class CommandNotExecutableError(StartError):
    """The command exists, but the system will not execute it, or does not within 15 seconds."""


class WorkingDirectoryError(StartError):
    """The job's working directory is missing or cannot be entered."""


class ArgumentsTooLongError(StartError):
    """The command line and environment exceed what execve(2) takes."""


class LauncherError(StartError):
    """The launcher is not there, or cannot do its work on this system."""


class RecordError(JobbyError):
    """A job's folder does not tell of a job: its record is missing or damaged."""


class NotStartedError(RecordError):
    """The job of this folder never ran, and never will."""


class UnreachableJobError(RecordError):
    """The job of this folder runs, or may run, and cannot be attached to."""


class StopError(JobbyError):
    """The job's processes may not be signalled by this process."""

    @classmethod
    def forked(cls, what: str) -> "StopError":
        """Returns that this process was forked from the one that `what` belongs to."""
        return cls(
            f"signal {what}",
            "it belongs to the process that this one was forked from",
            "stop it there",
        )

    @classmethod
    def foreign(cls, what: str) -> "StopError":
        """Returns that the kernel does not allow it (kill(2), EPERM)."""
        return cls(
            f"signal {what}",
            "it runs under another user",
            "stop it as that user or as root",
        )


class OutputError(JobbyError):
    """An output file cannot be created, opened or read."""


class OutputExistsError(OutputError):
    """The path given for an output is taken; nothing was overwritten."""


class OutputMissingError(OutputError):
    """The output file was removed or replaced after the job was started."""


class OutputTruncatedError(OutputError):
    """The output file became shorter than what was read, or than it was when the job ended."""


class LimitError(JobbyError):
    """A limit of the machine or of this process is exhausted.

    Attributes:
        limit: the limit's own name, such as "RLIMIT_NOFILE",
            "fs.inotify.max_user_watches" or "disk space".
    """

    def __init__(
        self, action: str, cause: str, way_out: str, *, path: str | None = None, limit: str = ""
    ) -> None:
        super().__init__(action, cause, way_out, path=path)
        self.limit = limit


class ReaderClosedError(JobbyError, ValueError):
    """The reader was closed; this is not the end of the output."""


class ReaderBusyError(JobbyError, RuntimeError):
    """Another thread or task is reading from the same reader."""


class IllegalMoveError(JobbyError, RuntimeError):
    """A job was asked to go from one state to another that cannot follow it."""
