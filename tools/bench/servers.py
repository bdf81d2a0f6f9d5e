"""Owns the servers that are compared: ours, ours with jobs that outlive it, and the Go port."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bench.figure import Values
from bench.peers import MissingError, Peer
from bench.place import Place
from support import procfs
from support.program import Program
from support.server import Server
from support.waiting import eventually

Contenders: TypeAlias = Mapping[str, Callable[[], Values]]
_Running: TypeAlias = AbstractContextManager[tuple[str, int]]

JOBBY, DURABLE, GO = "Jobby", "with --state-dir", "Go port"


@dataclass(frozen=True)
class Servers:
    """Whom a client can be sent to.

    Attributes:
        place: where.
        go: the folder of the Go port's binaries, if there is one.
        go_peer: the Go port as it stands in the list of peers.
    """

    place: Place
    go: Path | None
    go_peer: Peer

    def contenders(
        self, worker: str, job: str, *, durable: bool = False, **arguments: Any
    ) -> Contenders:
        """The same work for each server, each time a new one.

        Args:
            worker: who does it.
            job: what is done.
            durable: whether our server with `--state-dir` takes part.
            arguments: of the job.
        """
        run = partial(self._run, worker, job, arguments)
        found = {JOBBY: lambda: run(self._jobby)}
        if durable:
            found[DURABLE] = lambda: run(self._durable)
        found[GO] = lambda: run(self._go)
        return found

    def _run(
        self,
        worker: str,
        job: str,
        arguments: Mapping[str, Any],
        begin: Callable[[Path], _Running],
    ) -> Values:
        with self.place.scratch() as folder, begin(folder) as (address, pid):
            server = {
                "address": address,
                "pid": pid,
                "folder": str(folder),
                "emit": str(self.place.native["emit"]),
                "gate": str(folder / "gate"),
            }
            client = self.place.installed.client
            return self.place.work(client, worker, job, {"server": server, **arguments})

    def _jobby(self, folder: Path) -> _Running:
        return jobby(self.place, folder)

    def _durable(self, folder: Path) -> _Running:
        return jobby(self.place, folder, "--state-dir", str(folder / "state"))

    def _go(self, folder: Path) -> _Running:
        if self.go is None or self.go_peer.missing:
            raise MissingError
        return _go_port(folder, self.go / "jobbyport-server")


@contextmanager
def jobby(place: Place, folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Our server; gives its address and process id."""
    command = place.installed.server.bin("jobby-server")
    if "--state-dir" in options:
        options = (*options, "--stop-jobs-on-exit")
    with Server(command, None, folder, *options) as server:
        try:
            yield server.address, server.pid
        finally:
            crashed = not server.program.running()
            # Orderly: the jobs have sessions of their own, and end with it.
            server.terminate()
            server.program.wait()
            if crashed and "--state-dir" in options:
                # Its jobs outlive it; the next one has them, and ends them with itself.
                with Server(command, None, folder, *options) as following:
                    following.terminate()
                    following.program.wait()


@contextmanager
def _go_port(folder: Path, command: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    output = folder / "output"
    output.mkdir()
    address = f"127.0.0.1:{port}"
    options = ("-addr", address, "-dir", str(output), "-cert", "server.cert")

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with Program([command, *options], cwd=folder, env={"PATH": "/usr/bin:/bin"}) as running:
        eventually(answers, what="the Go port listens")
        try:
            yield address, running.pid
        finally:
            # It would leave its jobs behind; each is the leader of a group.
            with suppress(FileNotFoundError):  # crashed
                for job in procfs.children(running.pid):
                    with suppress(ProcessLookupError):
                        os.killpg(job, signal.SIGKILL)
            running.send(signal.SIGTERM)
            running.wait()
