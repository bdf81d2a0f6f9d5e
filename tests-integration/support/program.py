"""Owns a process that a test started: its output as it comes, its signals, its end."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from support.waiting import DEADLINE_SECONDS


class Gathered:
    """What was read from a pipe so far; another thread adds to it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._data = bytearray()  # guarded by _changed
        self._ended = False  # guarded by _changed
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        with self._pipe:
            # EIO is how a pseudoterminal says that its other side is closed (pty(7)).
            with suppress(OSError):
                while chunk := os.read(self._pipe.fileno(), 1 << 18):
                    with self._changed:
                        self._data += chunk
                        self._changed.notify_all()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def now(self) -> bytes:
        """What has come so far."""
        with self._changed:
            return bytes(self._data)

    def until(self, pattern: str) -> re.Match[bytes]:
        """Wait until the output matches; returns the first match.

        Raises:
            EOFError: it ended without.
            TimeoutError: it has not come by the deadline.
        """
        expression = re.compile(pattern.encode())
        end = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while not (match := expression.search(bytes(self._data))):
                if self._ended:
                    raise EOFError(f"no {pattern!r} in {bytes(self._data)!r}")
                if not self._changed.wait(end - time.monotonic()):
                    raise TimeoutError(f"no {pattern!r} yet in {bytes(self._data)!r}")
            return match

    def all(self) -> bytes:
        """Wait for the end of the output; returns all of it.

        Raises:
            TimeoutError: it has not ended by the deadline.
        """
        self._thread.join(DEADLINE_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError(f"the output has not ended: {self.now()[-1000:]!r}")
        return self.now()


class Program:
    """A started process; killed at the end of its `with`, if it still runs.

    Attributes:
        pid: its process id.
        stdout: what it writes there.
        stderr: what it writes there.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        """Start `command`; with a descriptor as `stdout`, its output goes there ungathered."""
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._stdout = None if self._process.stdout is None else Gathered(self._process.stdout)
        assert self._process.stderr is not None
        self.stderr = Gathered(self._process.stderr)

    @property
    def stdout(self) -> Gathered:
        """What it writes to its standard output."""
        assert self._stdout is not None, "its output was sent elsewhere"
        return self._stdout

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns the exit code, or the negative number of the signal.

        Raises:
            TimeoutError: it still runs at the deadline.
        """
        try:
            return self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"it still runs; stderr: {self.stderr.now()!r}") from None

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
