"""Owns a server in a process of its own: its files, its command, its end, and who is alive."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import grpc.aio
from cryptography import x509
from server_authority import SERVER, Authority
from server_client import Client
from server_waiting import DEADLINE_SECONDS

ANY_PORT = ("--listen", "127.0.0.1:0")
"""What a server is told so that it listens on a free port; its log says which."""


def parent_of(pid: int) -> int:
    """Returns a process's parent (proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


@dataclass(frozen=True)
class Files:
    """The files a server loads, in a folder that it is started in."""

    folder: Path
    ca: Authority

    @classmethod
    def create(cls, folder: Path, ca: Authority) -> Self:
        """Writes them under the names that the server looks for."""
        folder.mkdir()
        leaf = ca.issue("localhost", purposes=[SERVER])
        (folder / "ca.crt").write_bytes(ca.pem)
        (folder / "server.cert").write_bytes(leaf.cert_pem)
        (folder / "server.key").write_bytes(leaf.key_pem)
        (folder / "server.key").chmod(0o600)
        return cls(folder, ca)


@dataclass(frozen=True)
class Process:
    """A server in a process of its own."""

    popen: "subprocess.Popen[str]"
    log: list[str]
    address: str

    def end(self, *signals: int) -> tuple[int, str]:
        """Sends the signals; returns the exit code and all that was logged."""
        for number in signals:
            self.popen.send_signal(number)
        assert self.popen.stderr is not None
        rest = self.popen.stderr.read()  # not communicate: some of it may be buffered already
        return self.popen.wait(DEADLINE_SECONDS), "".join(self.log) + rest


def server_command(*arguments: str) -> list[str]:
    """Returns the command line of a server."""
    return [sys.executable, "-m", "jobby_server", *arguments]


def server_environment(**variables: str) -> dict[str, str]:
    """Returns an environment for a server that knows nothing of this process's own settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JOBBY_", "GRPC_"))}
    return inherited | variables


@contextmanager
def started(
    files: Files, *arguments: str, wrapper: Sequence[str] = (), **variables: str
) -> Iterator[Process]:
    """Runs a server as an operator does; yields once it listens. The test ends it.

    Args:
        files: its working directory.
        arguments: its command line.
        wrapper: a command in front of its own.
        variables: what to add to its environment.
    """
    with subprocess.Popen(
        [*wrapper, *server_command(*arguments)],
        cwd=files.folder,
        env=server_environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stderr is not None
            log: list[str] = []
            for line in popen.stderr:
                log.append(line)
                if "listening on " in line:
                    break
            else:
                raise AssertionError("the server ended: " + "".join(log))
            yield Process(popen, log, log[-1].rpartition("listening on ")[2].strip())
        finally:
            popen.kill()


def failing(
    files: Files, *arguments: str, wrapper: Sequence[str] = (), **variables: str
) -> tuple[int, str]:
    """Runs a server that is not to start; returns its exit code and what it said."""
    done = run_out([*wrapper, *server_command(*arguments)], files.folder, **variables)
    return done.returncode, done.stdout + done.stderr


def run_out(
    command: Sequence[str], folder: Path | None = None, /, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a program until it ends.

    Args:
        command: its command line.
        folder: its working directory; None is this process's own.
        variables: what to add to a server's environment.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env=server_environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # the caller judges it
    )


def connect(files: Files, address: str, subject: str | x509.Name = "alice") -> Client:
    """Returns a client of a server in another process; its channel is closed by its loop."""
    leaf = files.ca.issue(subject)
    credentials = grpc.ssl_channel_credentials(files.ca.pem, leaf.key_pem, leaf.cert_pem)
    return Client(grpc.aio.secure_channel(address, credentials), "jobby.v1.Jobby")
