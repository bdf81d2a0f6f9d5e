"""Owns the real command: how it is run, what it is sent, and how it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli_gathered import Gathered
from cli_waiting import DEADLINE_SECONDS

TELL = (
    "-c",
    (
        "import atexit, sys\n"
        "heavy = ('grpc', 'google', 'cryptography', 'jobby_proto')\n"
        "atexit.register(lambda: sys.stderr.write(repr([m for m in heavy if m in sys.modules])))\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())"
    ),
)
"""Runs the command, and afterwards tells on stderr which heavy packages were loaded."""


@dataclass
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: bytes
    err: str


class Running:
    """A command under way; killed at the end of its `with`, if it still runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: int | None, err: int) -> None:
        self.process = process
        self.err = Gathered(err)
        self.out = None if out is None else Gathered(out)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def end(self) -> Done:
        """Waits for its end."""
        code = self.process.wait(DEADLINE_SECONDS)
        return Done(code, self.out.all() if self.out else b"", self.err.all().decode())

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        if self.process.stdin:
            self.process.stdin.close()


@dataclass
class Cli:
    """The real command, with a home and a working directory of its own.

    Attributes:
        folder: where it is run.
        home: its HOME.
        env: variables it gets besides.
    """

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def recent(self) -> Path:
        """Where it remembers jobs."""
        return self.home / "state" / "jobby" / "recent.json"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """All of its environment."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            **self.env,
            **(extra or {}),
        }

    def spawn(
        self,
        *arguments: str | bytes,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        python: Iterable[str] = ("-m", "jobby_cli"),
    ) -> Running:
        """Starts the command; with a descriptor as `stdout`, its output goes there."""
        read, write = os.pipe() if stdout is None else (None, stdout)
        err_read, err_write = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, *python, *arguments],
                cwd=self.folder,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=err_write,
            )
        finally:
            os.close(err_write)
            if stdout is None:
                os.close(write)
        return Running(process, read, err_read)

    def __call__(self, *arguments: str | bytes, **options: Any) -> Done:
        """Runs the command to its end."""
        with self.spawn(*arguments, **options) as running:
            return running.end()

    @contextmanager
    def on_terminal(self, *arguments: str) -> Iterator[tuple[Running, int]]:
        """Runs the command in the foreground of a terminal of its own.

        Yields it and the terminal's other side: what is written there is typed.
        """
        master, slave = os.openpty()
        err_read, err_write = os.pipe()
        process = subprocess.Popen(
            # The terminal is made the controlling one by what then becomes the command.
            [
                sys.executable,
                "-c",
                (
                    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
                    "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
                ),
                *arguments,
            ],
            cwd=self.folder,
            env=self.environment(),
            stdin=slave,
            stdout=slave,
            stderr=err_write,
            start_new_session=True,
        )
        os.close(slave)
        os.close(err_write)
        keyboard = os.dup(master)
        try:
            with Running(process, master, err_read) as running:
                yield running, keyboard
        finally:
            os.close(keyboard)
