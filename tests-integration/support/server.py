"""Owns one running `jobby-server`, its jobs, and that none of them outlives its test."""

import os
import select
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support import procfs
from support.certificates import Credentials
from support.program import Program
from support.waiting import DEADLINE_SECONDS

KILL = 41
"""The signal by which a launcher is told to kill its job (launcher.c)."""


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program finds when nobody has set anything up: none of the caller's JOBBY_…"""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(home / "tmp"),
        **(more or {}),
    }


class Server:
    """A server on a port of its own, which answers when this returns.

    Everything that it started is killed at the end of its `with`. Its certificates are
    written into `folder` first, unless they are there.

    Attributes:
        address: HOST:PORT to call.
        folder: its working directory, with its certificates, and `tmp` in it.
        program: the process.
        spool: the folder of its jobs' output.
    """

    def __init__(
        self,
        command: Path,
        credentials: Credentials | None,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if credentials is not None:
            credentials.for_server(folder)
        self.folder = folder
        settings = {"JOBBY_LISTEN": "127.0.0.1:0", **(env or {})}
        self.program = Program([command, *options], cwd=folder, env=environment(folder, settings))
        try:
            log = self.program.stderr
            self.spool = Path(log.until(r"(?:output is \w+|jobs are kept) in (.+)\n")[1].decode())
            self.address = log.until(r"listening on (\S+)\n")[1].decode()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.program.pid

    def jobs(self) -> frozenset[int]:
        """The processes of its jobs that were not reaped yet."""
        return procfs.children(self.pid)

    def log(self) -> str:
        """What it has written to its log so far."""
        return self.program.stderr.now().decode()

    def terminate(self) -> None:
        """Ask it to end."""
        self.program.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its jobs by force."""
        if self.program.running():
            end_jobs(self.jobs())
        with self.program:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


Begin = Callable[..., Server]
"""Starts a server: options for its command line, variables by name."""


def end_jobs(launchers: frozenset[int]) -> None:
    """Have launchers kill their jobs and end: one killed by force would leave its cgroup."""
    for pid in launchers:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(pidfd, KILL)
                ended = select.poll()
                ended.register(pidfd, select.POLLIN)
                if not ended.poll(DEADLINE_SECONDS * 1000):
                    os.killpg(pid, signal.SIGKILL)
            finally:
                os.close(pidfd)
