"""Owns jobs whose every byte and whose end is known, and which write when they are told to."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from faults.agent import Agent, Deed
from faults.losses import Losses
from faults.scene import Scene
from support.gate import Gate

# Notes that it began (once, whatever happens), then writes a part for each line of the gate:
# many small writes of the shell's own.
_SCRIPT = """
echo "$1" >> "$2"
exec 3< "$3"
part=0
while [ $part -lt $4 ]; do
  read -r _ <&3
  part=$((part + 1)) line=0
  while [ $line -lt $5 ]; do
    line=$((line + 1))
    echo "job $1, part $part, line $line of $5: a quick brown fox jumps over the lazy dog"
  done
done
exit "$6"
"""
LINES = 60


@dataclass(frozen=True)
class Paced:
    """One job of a set.

    Attributes:
        name: what it calls itself.
        exit_code: how it ends.
        text: what it writes.
    """

    name: str
    exit_code: int
    text: bytes


class PacedJobs:
    """Jobs that advance together, part by part.

    Attributes:
        jobs: them.
        effects: a file to which each of them has added its name, once.
    """

    def __init__(self, scene: Scene, count: int, parts: int) -> None:
        self.jobs = [self._make(number, parts) for number in range(count)]
        self.effects: Path = scene.path("effects")
        self._gates: list[Gate] = [scene.gate() for _ in self.jobs]
        self._parts = parts

    def _make(self, number: int, parts: int) -> Paced:
        fox = "a quick brown fox jumps over the lazy dog"
        lines = [
            f"job {number}, part {part}, line {line} of {LINES}: {fox}\n"
            for part in range(1, parts + 1)
            for line in range(1, LINES + 1)
        ]
        return Paced(str(number), number % 200 + 1, "".join(lines).encode())

    def command(self, job: Paced) -> tuple[str, ...]:
        """What starts one of them."""
        own = (job.name, str(self.effects), str(self._gates[int(job.name)]))
        return ("sh", "-c", _SCRIPT, "sh", *own, *map(str, (self._parts, LINES, job.exit_code)))

    def start(self, agent: Agent) -> list[Deed]:
        """Start all of them at the same time."""
        return [agent.start(*self.command(job)) for job in self.jobs]

    def advance(self, parts: int = 1) -> Self:
        """Let each of them write so many parts more."""
        for gate in self._gates * parts:
            gate.open()
        return self

    def check_once(self, losses: Losses) -> None:
        """See that each of them has run once, however often its start was asked for."""
        began = sorted(self.effects.read_text().split(), key=int)
        losses.expect(began == [job.name for job in self.jobs], f"each ran once, not: {began}")

    def check(self, losses: Losses, agent: Agent, ids: Sequence[str], reads: list[Deed]) -> None:
        """Compare what was read, and how the jobs have ended, with what they did."""
        for job, read in zip(self.jobs, reads, strict=True):
            got = read.result()
            digest = sha256(job.text).hexdigest()
            losses.output(f"job {job.name}", got, size=len(job.text), sha256=digest)
            if "error" not in got:
                losses.end(f"job {job.name}'s stream", got.get("exit_code"), job.exit_code)
        for job, status in zip(self.jobs, agent.statuses(ids), strict=True):
            ended = (status.get("reason"), status.get("exit_code"))
            losses.end(f"job {job.name}", ended, ("EXITED", job.exit_code))
