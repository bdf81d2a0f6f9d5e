"""Owns Job: one command's life, from its start to its outcome."""

import os
import signal
import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

from jobby_core import _inotify, _output, _reaper
from jobby_core._limits import limit_error
from jobby_core._process import Process
from jobby_core.errors import StartError
from jobby_core.follow import OutputFollower
from jobby_core.reader import OutputReader
from jobby_core.spec import JobArgs
from jobby_core.state import Exit, Status, Stream, end_state, ended, started

MAX_CHUNK_BYTES = 262_144
"""How much a follower yields at once. Smaller chunks cost more CPU a byte; larger ones
multiply what a reader that does not read holds in memory."""


class Job:
    """A command that was started, its output files and its outcome.

    Every method may be called from any thread. The job goes on when nobody
    holds this object any more. It belongs to the process that started it: in
    a forked child this object tells nothing new.

    The main process decides: when it ends, the job has ended, and what it
    left behind in its process group is killed before the output counts as
    complete.
    """

    def __init__(
        self, args: JobArgs, process: Process, outputs: dict[Stream, _output.OutputFile]
    ) -> None:
        """Wraps a process that runs already; use `Job.start`."""
        self._args = args
        self._process = process
        self._outputs = outputs
        self._lock = threading.Lock()
        self._status = started(datetime.now(UTC))  # guarded by _lock
        self._ended = threading.Event()

    @classmethod
    def start(cls, args: JobArgs) -> "Job":
        """Creates the output files and starts the command; when it returns, the process runs.

        On an error nothing is left: no file, no process, no descriptor.

        Raises:
            OutputExistsError: an output path is taken.
            OutputError: an output file cannot be created.
            StartError: the command cannot be started; the kind says why.
            LimitError: descriptors, processes, memory or disk are exhausted.
        """
        with ExitStack() as always, ExitStack() as on_error:
            outputs = {}
            fds = []
            for stream, path in (
                (Stream.STDOUT, args.stdout_path),
                (Stream.STDERR, args.stderr_path),
            ):
                outputs[stream], fd = _output.create(os.fspath(path))
                on_error.callback(_unlink, outputs[stream].path)
                always.callback(os.close, fd)
                fds.append(fd)
            process = Process.start(args, *fds)
            job = cls(args, process, outputs)
            try:
                _reaper.watch(process, job._end)
            except OSError as error:
                process.abandon()
                action = f"start {args.command!r}"
                cause = error.strerror or str(error)
                raise (
                    limit_error(error, action) or StartError(action, cause, "see epoll_ctl(2)")
                ) from error
            on_error.pop_all()
            return job

    @property
    def args(self) -> JobArgs:
        """What was started."""
        return self._args

    @property
    def pid(self) -> int:
        """The main process's id; after its end it may belong to a stranger."""
        return self._process.pid

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
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the job still runs after {timeout} seconds")
        return self.status()

    def stop(self, *, grace_seconds: float = 0.0) -> None:
        """Ends the job's whole process group; returns when the outcome is known.

        On a job that has ended already it does nothing. A process that left
        the group (setsid(2)) is not reached.

        Args:
            grace_seconds: how long the job may take to end after SIGTERM
                before SIGKILL follows; 0 kills at once.

        Raises:
            StopError: the kernel does not allow signalling the job.
        """
        if grace_seconds > 0:
            self._process.send_signal(signal.SIGTERM)
            if self._ended.wait(grace_seconds):
                return
        self._process.send_signal(signal.SIGKILL)
        self._ended.wait()

    def stdout(self, *, offset: int = 0) -> OutputReader:
        """Opens standard output for reading, from any thread and at any time; see `OutputReader`.

        Args:
            offset: the first byte wanted, at most what was written so far.

        Raises:
            OutputMissingError: the file was removed or replaced.
            LimitError: no descriptor is left.
            ValueError: `offset` is negative.
        """
        return self._open(Stream.STDOUT, offset)

    def stderr(self, *, offset: int = 0) -> OutputReader:
        """Opens standard error for reading; otherwise the same as `stdout`."""
        return self._open(Stream.STDERR, offset)

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
        _check_offset(offset)
        if max_chunk_bytes < 1:
            raise ValueError(f"max_chunk_bytes must be 1 or more, not {max_chunk_bytes}")
        return OutputFollower(self._outputs[stream], offset, max_chunk_bytes, wait)

    def __repr__(self) -> str:
        status = self.status()
        if status.exit_code is not None:
            return f"<Job {self._args.command!r} {status.state.value} exit_code={status.exit_code}>"
        return f"<Job {self._args.command!r} {status.state.value} pid={self.pid}>"

    def _open(self, stream: Stream, offset: int) -> OutputReader:
        _check_offset(offset)
        return OutputReader(self._outputs[stream], offset)

    def _end(self, exit_: Exit, stop_signals: frozenset[int]) -> None:
        """Publishes the outcome, then wakes everybody; in the reaper's thread, once."""
        now = datetime.now(UTC)
        with self._lock:
            self._status = ended(self._status, end_state(exit_, stop_signals), exit_, now)
        for output in self._outputs.values():
            output.finished = True
        self._ended.set()
        for output in self._outputs.values():
            _inotify.shared.wake(output.key)


def _check_offset(offset: int) -> None:
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
