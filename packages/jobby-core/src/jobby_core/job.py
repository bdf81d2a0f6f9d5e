"""Owns Job: one command's life, from its start to its outcome."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobby_core import _inotify, _launcher, _output, _platform, _reaper, _record
from jobby_core._adopt import adopt
from jobby_core._direct import DirectProcess
from jobby_core._launched import LaunchedProcess
from jobby_core._limits import limit_error
from jobby_core._poller import poller
from jobby_core.errors import LimitError, StartError
from jobby_core.follow import OutputFollower
from jobby_core.reader import OutputReader
from jobby_core.spec import JobArgs
from jobby_core.state import Ending, Status, Stream, ended, started

_log = logging.getLogger(__name__)

_SEEN_SECONDS = 1.0

MAX_CHUNK_BYTES = 262_144
"""How much a follower yields at once. Smaller chunks cost more CPU a byte; larger ones
multiply what a reader that does not read holds in memory."""


class Job:
    """A command that was started, its output files and its outcome.

    Every method may be called from any thread. The job goes on when nobody
    holds this object any more. It belongs to the process that started it: in
    a forked child this object tells nothing new. Started with
    `JobArgs.directory`, the job survives that process, and another one
    attaches to it; otherwise it ends with it, since nobody could reach it (without
    a launcher it does not, if that process is killed: `launcher_available`).

    The main process decides: when it ends, the job has ended, and all that it
    left behind is killed before the output counts as complete.
    """

    def __init__(
        self, args: JobArgs, outputs: dict[Stream, _output.OutputFile], started_at: datetime
    ) -> None:
        """Holds what is known of a job; use `Job.start` or `Job.attach`."""
        self._args = args
        self._outputs = outputs
        self._pid = 0  # written once, before anybody else has this object
        self._process: DirectProcess | LaunchedProcess | None = None  # likewise
        self._lock = threading.Lock()
        self._status = started(started_at)  # guarded by _lock
        self._callbacks: list[Callable[[Job], None]] = []  # guarded by _lock
        self._ended = threading.Event()

    @classmethod
    def start(cls, args: JobArgs) -> "Job":
        """Creates the output files and starts the command; when it returns, the process runs.

        On an error nothing is left: no file, no process, no descriptor.

        Raises:
            OutputExistsError: an output path is taken.
            OutputError: an output file cannot be created.
            RecordError: `JobArgs.directory` is not there, or holds another job.
            StartError: the command cannot be started; the kind says why.
            LimitError: descriptors, processes, memory or disk are exhausted.
        """
        started_at = datetime.now(UTC)
        launcher = _platform.path_for(args)
        outputs: dict[Stream, _output.OutputFile] = {}
        fds: list[int] = []
        try:
            for stream, path in zip(Stream, (args.stdout_path, args.stderr_path), strict=True):
                outputs[stream], fd = _output.create(os.fspath(path))
                fds.append(fd)
            process: DirectProcess | LaunchedProcess
            if launcher is not None:
                process = _launcher.start(launcher, args, fds[0], fds[1], started_at)
            else:
                process = DirectProcess.start(args, fds[0], fds[1])
            job = cls(args, outputs, started_at)
            try:
                job._watch(process, f"start {args.command!r}")
            except BaseException as error:
                # At a ctrl-c the reaper may have it already: then nobody else may wait for it.
                if isinstance(error, (LimitError, StartError)) or not job._killed(process):
                    process.abandon()
                if args.directory is not None:
                    _record.remove(os.fspath(args.directory))
                raise
        except BaseException:  # a ctrl-c, too
            for output in outputs.values():
                Path(output.path).unlink(missing_ok=True)
            raise
        finally:
            for fd in fds:
                os.close(fd)
        return job

    @classmethod
    def attach(cls, directory: str | os.PathLike[str]) -> "Job":
        """Returns the job whose record lies in `directory`, whoever started it.

        It may run, and then everything works as for who started it; or it has ended. One
        whose launcher was killed has `Reason.LOST`, and what it left is killed here. Opens
        files, so it may block for a moment.

        Raises:
            NotStartedError: the job never ran; it is made sure that it never will.
            UnreachableJobError: it runs, or may run, but its record cannot be used from here.
            RecordError: the record is missing, or damaged and the job does not run.
            LimitError: no descriptor or memory is left.
        """
        found = adopt(os.path.abspath(directory))
        args = found.record.args
        try:
            paths = (os.fspath(path) for path in (args.stdout_path, args.stderr_path))
            outputs = {s: _output.existing(p) for s, p in zip(Stream, paths, strict=True)}
            job = cls(args, outputs, found.record.started_at)
            if found.process is not None:
                job._watch(found.process, f"attach to the job in {found.record.directory}")
        except (LimitError, StartError):
            if found.process is not None:
                found.process.release()
            raise
        if found.ending is not None:
            job._pid = found.pid
            job._end(found.ending)
        return job

    @property
    def args(self) -> JobArgs:
        """What was started."""
        return self._args

    @property
    def pid(self) -> int:
        """The main process's id; after its end it may belong to a stranger."""
        return self._pid

    def status(self) -> Status:
        """Returns how the job stands now."""
        with self._lock:
            return self._status

    def wait(self, timeout: float | None = None) -> Status:
        """Waits until the job has ended and its output is complete.

        Args:
            timeout: how long at most, in seconds; None is for ever.

        Raises:
            TimeoutError: it still runs.
            RuntimeError: this is the library's own thread, as in a callback: it waits for itself.
        """
        if not poller.wait_for(self._ended, timeout):
            raise TimeoutError(f"the job still runs after {timeout} seconds")
        return self.status()

    def add_done_callback(self, callback: Callable[["Job"], None]) -> None:
        """Calls `callback(job)` once the job has ended and its output is complete.

        At once if it has; otherwise in the library's thread, where it must not block: no job
        ends meanwhile. What it raises is logged.
        """
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        self._call(callback)

    def kill(self) -> None:
        """Ends all of the job, and waits for nothing; otherwise as `stop`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)

    def stop(self, *, grace_seconds: float = 0.0) -> None:
        """Ends all of the job; returns when the outcome is known.

        On a job that has ended already it does nothing. Without a launcher, a process that
        left the job's group (setsid(2)) is not reached.

        Not for a signal handler, which may have interrupted the very call that this waits for: set
        a flag there, and stop the job when the interrupted code looks at it.

        Args:
            grace_seconds: how long the job may take to end after SIGTERM
                before SIGKILL follows; 0 kills at once.

        Raises:
            StopError: the kernel does not allow signalling the job.
            RuntimeError: this is the library's own thread, as in a callback: the first signal is
                sent, but the end cannot be waited for.
        """
        if self._process is None:
            return
        if grace_seconds > 0:
            self._process.send_signal(signal.SIGTERM)
            if poller.wait_for(self._ended, grace_seconds):
                return
        self.kill()
        poller.wait_for(self._ended, None)

    def stdout(self, *, offset: int = 0) -> OutputReader:
        """Opens standard output for reading, from any thread and at any time; see `OutputReader`.

        Args:
            offset: the first byte wanted, at most what was written so far.

        Raises:
            OutputMissingError: the file was removed or replaced.
            LimitError: no descriptor is left.
            ValueError: `offset` is negative.
        """
        return OutputReader(self._outputs[Stream.STDOUT], _checked(offset))

    def stderr(self, *, offset: int = 0) -> OutputReader:
        """Opens standard error for reading; otherwise the same as `stdout`."""
        return OutputReader(self._outputs[Stream.STDERR], _checked(offset))

    def follow(
        self,
        stream: Stream,
        *,
        offset: int = 0,
        max_chunk_bytes: int = MAX_CHUNK_BYTES,
        wait: bool = True,
    ) -> OutputFollower:
        """Returns an async iterator over an output; it opens the file at the first chunk.

        Args:
            stream: which output.
            offset: the first byte wanted, at most what was written so far.
            max_chunk_bytes: how many bytes a chunk has at most.
            wait: whether to wait for more while the job runs; without, it ends
                with what had been written at its first look.

        Raises:
            ValueError: `offset` is negative, or `max_chunk_bytes` less than 1.
        """
        if max_chunk_bytes < 1:
            raise ValueError(f"max_chunk_bytes must be 1 or more, not {max_chunk_bytes}")
        return OutputFollower(self._outputs[stream], _checked(offset), max_chunk_bytes, wait)

    def __repr__(self) -> str:
        status = self.status()
        if status.exit_code is not None:
            return f"<Job {self._args.command!r} {status.state.value} exit_code={status.exit_code}>"
        return f"<Job {self._args.command!r} {status.state.value} pid={self.pid}>"

    def _watch(self, process: DirectProcess | LaunchedProcess, action: str) -> None:
        self._process, self._pid = process, process.pid
        try:
            _reaper.watch(process, self._end)
        except OSError as error:
            cause = error.strerror or str(error)
            raise (
                limit_error(error, action) or StartError(action, cause, "see epoll_ctl(2)")
            ) from error

    def _killed(self, process: DirectProcess | LaunchedProcess) -> bool:
        """Kills the job; tells whether the reaper has seen its end, as it does within moments."""
        process.send_signal(signal.SIGKILL)
        return self._ended.wait(_SEEN_SECONDS)

    def _end(self, ending: Ending) -> None:
        """Publishes the outcome, then wakes everybody; in the reaper's thread, once."""
        at: datetime | None = datetime.now(UTC)
        if ending.elapsed_seconds is not None:
            # By a clock that nobody sets; and right also for a job that ended long ago.
            at = self._status.started_at + timedelta(seconds=ending.elapsed_seconds)
        elif self._process is None:
            at = None
        with self._lock:
            self._status = ended(self._status, ending, at)
        sizes = ending.output_bytes or (None, None)
        for output, size in zip(self._outputs.values(), sizes, strict=True):
            output.finish(size)
        with self._lock:
            self._ended.set()
            callbacks, self._callbacks = self._callbacks, []
        for output in self._outputs.values():
            _inotify.shared.wake(output.key)
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[["Job"], None]) -> None:
        try:
            callback(self)
        except BaseException as error:
            # The others have a right to be called, and every job needs the poller's thread. In
            # the caller's own, a ctrl-c or an exit is the caller's.
            if not (isinstance(error, Exception) or poller.is_current()):
                raise
            _log.exception("a callback of %r failed", self)


def _checked(offset: int) -> int:
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")
    return offset
