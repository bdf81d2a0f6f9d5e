"""Owns a state folder, the server on it, and every process that comes of it."""

import fcntl
import os
import re
import signal
import struct
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support import procfs
from support.certificates import Credentials
from support.port import held_port
from support.program import Program
from support.server import environment
from support.waiting import eventually

# Inherited by all that comes of a host, so that none of it escapes: found by its environment.
_MARK = "FAULTS_HOST"
# struct flock of fcntl(2), where off_t has 64 bits.
_FLOCK = struct.Struct("hhqqi0q")


class Host:
    """A machine, as it were: its server may be killed and started again on the same port.

    At the end of its `with` all of its processes are killed, and no others.

    Args:
        command: `jobby-server`.
        credentials: the server's.
        folder: the server's working directory.
        options: for its command line.
        state: its state folder.
        wrapper: a command that the server's follows; it must become it, with exec.
        env: more variables for it.

    Attributes:
        state: the state folder.
        address: HOST:PORT to call, the same over restarts.
        nap: how long jobs may tell sleep(1) to: by this they are found whatever they do.
        program: the server's present process.
    """

    program: Program

    def __init__(
        self,
        command: Path,
        credentials: Credentials,
        folder: Path,
        *options: str,
        state: Path | None = None,
        wrapper: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        credentials.for_server(folder)
        self.state = state or folder / "state"
        self._port = held_port()
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"
        self._folder = folder
        # Should the tests be killed themselves, it ends with them.
        dying = ("setpriv", "--pdeathsig", "KILL")
        self._command: tuple[str | Path, ...] = (
            *dying,
            command,
            "--state-dir",
            self.state,
            *options,
        )
        self._wrapper = tuple(wrapper)
        self._mark = uuid.uuid4().hex
        self.nap = f"300.{int(self._mark, 16)}"
        self._env = {_MARK: self._mark, **(env or {})}

    def serve(self) -> Self:
        """Start the server; it answers when this returns."""
        env = environment(self._folder, self._env)
        command = [*self._wrapper, *self._command, "--listen", self.address]
        self.program = Program(command, cwd=self._folder, env=env)
        self.program.stderr.until(r"listening on \S+\n")
        return self

    def refused(self, *wrapper: str) -> tuple[int, str]:
        """Start the server, which must not succeed: its exit code, and what it says."""
        env = environment(self._folder, self._env)
        command = [*(wrapper or self._wrapper), *self._command, "--listen", self.address]
        with Program(command, cwd=self._folder, env=env) as it:
            return it.wait(), it.stderr.all().decode()

    def kill(self) -> None:
        """Kill the server, and nothing else."""
        self.program.send(signal.SIGKILL)
        self.program.wait()

    def restart(self) -> None:
        """Kill the server, and start the next one."""
        self.kill()
        self.serve()

    def log(self) -> str:
        """What the present server has written so far."""
        return self.program.stderr.now().decode()

    def inside(self, path: Path) -> Path:
        """A path as the server sees it, which may be in a mount namespace of its own."""
        return Path(f"/proc/{self.program.pid}/root{path}") if self.program.running() else path

    def folder(self, job: str) -> Path:
        """Where a job's files lie."""
        return self.state / "jobs" / job

    def launcher(self, job: str) -> int:
        """The process that watches over a running job: it holds its record's lock."""
        folder = self.folder(job)
        if not folder.exists():
            folder = self.inside(folder)
        with (folder / "job").open("rb+") as record:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return int(_FLOCK.unpack(fcntl.fcntl(record, fcntl.F_GETLK, asked))[4])

    def processes(self) -> dict[int, str]:
        """All that comes of this host but its server: the command lines by process id."""
        found = {}
        mark = f"{_MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            pid = entry.name
            if not pid.isdigit() or int(pid) == self.program.pid:
                continue
            with suppress(OSError):  # gone meanwhile, or another user's
                words = (entry / "cmdline").read_bytes().split(b"\0")
                variables = (entry / "environ").read_bytes().split(b"\0")
                if mark in variables or os.fsencode(self.nap) in words:
                    found[int(pid)] = re.sub(r"\s+", " ", os.fsdecode(b" ".join(words)))[:200]
        return {pid: line for pid, line in found.items() if procfs.alive(pid)}

    def orphans(self) -> list[str]:
        """What is left when every job has ended; gives launchers the time to say so."""
        with suppress(TimeoutError):
            eventually(lambda: not self.processes(), what="no process is left")
        return [f"{pid} {line}" for pid, line in self.processes().items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._port.close()
        if not hasattr(self, "program"):
            return
        with self.program:
            pass
        # Again: one may have forked meanwhile. Killing a launcher kills its job.
        while left := self.processes():
            for pid in left:
                self._end(pid)

    def _end(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if pid in self.processes():  # and nobody else who got the id
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
