"""Owns the place of one run: scratch folders, certificates, and the running of workers."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure import UnableError, Values
from harness.environments import Environment, Installed
from support.certificates import Authority, Credentials
from support.server import environment

TOOLS = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        starts: calls of StartJob in a round; of GetStatus five times as many.
        stream: bytes of a large output.
        stamps: how many stamps a follower is sent.
        followers: the largest number of followers.
        jobs: how many jobs a server gets.
        lines: how many tiny lines.
        seconds: how long something idle is looked at.
        commands: how often a command is run in a round.
    """

    starts: int = 500
    stream: int = 1 << 30
    stamps: int = 200
    followers: int = 1000
    jobs: int = 10_000
    lines: int = 1_000_000
    seconds: float = 60.0
    commands: int = 5


QUICK = Scale(
    starts=150, stream=128 << 20, stamps=40, jobs=500, lines=300_000, seconds=5.0, commands=3
)


@dataclass(frozen=True)
class Place:
    """Where a run happens, and with what.

    Attributes:
        installed: our wheels.
        folder: an empty folder, on the file system that is measured.
        scale: how much.
        native: the programs in C.
        client: the certificates of the client, which every server trusts.
        server: the certificates of the servers.
    """

    installed: Installed
    folder: Path
    scale: Scale
    native: Mapping[str, Path]
    client: Credentials
    server: Credentials

    @classmethod
    def at(
        cls, installed: Installed, folder: Path, scale: Scale, native: Mapping[str, Path]
    ) -> "Place":
        """Take a folder, and make certificates."""
        authority = Authority("Benchmark CA")
        return cls(installed, folder, scale, native, authority.client("bench"), authority.server())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for one piece of work, with everybody's certificates in it."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            self.server.for_server(folder)
            self.client.for_client(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def work(
        self,
        where: Environment,
        worker: str,
        job: str,
        arguments: Mapping[str, Any],
        more: Mapping[str, str] | None = None,
    ) -> Values:
        """Run a worker in one of the environments; returns its figures.

        Raises:
            UnableError: it failed; the text is the last thing it said.
        """
        variables = environment(self.folder / "home", more) | {"PYTHONPATH": str(TOOLS)}
        command: list[str | Path] = [
            where.python,
            "-m",
            f"bench.workers.{worker}",
            job,
            json.dumps(arguments),
        ]
        values: Values = json.loads(output_of(command, variables))
        return values


def output_of(command: Sequence[str | Path], variables: Mapping[str, str]) -> str:
    """What a program prints.

    Raises:
        UnableError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,  # its words are better than CalledProcessError's
        )
    except subprocess.TimeoutExpired as error:
        raise UnableError(f"not within {TIMEOUT_SECONDS:g} seconds") from error
    print(done.stderr, end="", file=sys.stderr)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnableError(said[-1][:200])
    return done.stdout
