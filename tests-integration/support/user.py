"""Owns a user: a certificate, a home, and the `jobby` command as it is installed."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.certificates import Credentials
from support.program import Program
from support.server import environment
from support.terminal import Terminal
from support.waiting import DEADLINE_SECONDS

JOB_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Done:
    """How a command went."""

    code: int
    stdout: bytes
    stderr: str


class User:
    """Somebody at a terminal.

    Attributes:
        folder: the working directory and the home; the certificate files are there, unless
            this is somebody without.
    """

    def __init__(
        self,
        command: Path,
        folder: Path,
        identity: Credentials | None,
        address: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        if identity is not None:
            identity.for_client(folder)
        self.folder = folder
        self._env = {"JOBBY_SERVER": address, **(env or {})}

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of this user's commands; `jobby` is on its PATH."""
        found = environment(self.folder, {**self._env, **(more or {})})
        found["PATH"] = f"{self._command.parent}:{found['PATH']}"
        return found

    def jobby(self, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        """Run `jobby` to its end."""
        return self.run([str(self._command), *arguments], env=env)

    def shell(self, line: str, *arguments: str) -> Done:
        """Run a line of bash, in which a pipeline fails with its first failure."""
        return self.run(["bash", "-o", "pipefail", "-c", line, "bash", *arguments])

    def run(self, command: list[str], *, env: Mapping[str, str] | None = None) -> Done:
        """Run anything to its end."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * DEADLINE_SECONDS,
            check=False,  # the exit code is what tests look at
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def begin(self, *arguments: str, stdout: int | None = None) -> Program:
        """Start `jobby` and let it run."""
        return Program(
            [self._command, *arguments], cwd=self.folder, env=self.environment(), stdout=stdout
        )

    def at_terminal(self, *arguments: str) -> Terminal:
        """Start `jobby` at a terminal and let it run."""
        return Terminal([self._command, *arguments], cwd=self.folder, env=self.environment())

    def start(self, *command: str) -> str:
        """Start a job; returns its id as it was printed."""
        done = self.jobby("start", "--", *command)
        assert done.code == 0, done.stderr
        match = re.fullmatch(rf"Job Started! Id: ({JOB_ID})\n", done.stdout.decode())
        assert match is not None, done.stdout
        return match[1]
