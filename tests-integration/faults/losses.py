"""Owns the account of one fault: what was lost, by kind, and in words."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Losses:
    """What faults have cost; nothing at all is the only good result.

    Attributes:
        bytes: how many bytes of output were missing, too many or wrong.
        exit_codes: how many jobs have another end than they should.
        orphans: how many processes were left running.
        other: how many further promises were broken.
        words: each of them, in words.
    """

    bytes: int = 0
    exit_codes: int = 0
    orphans: int = 0
    other: int = 0
    words: list[str] = field(default_factory=list)

    def output(self, what: str, got: dict[str, Any], *, size: int, sha256: str) -> None:
        """Compare what an agent read, or why it could not, with what was written."""
        if got.get("error") or (got["bytes"], got["sha256"]) != (size, sha256):
            # Of the right length and wrong is one byte at least.
            self.bytes += abs(size - got.get("bytes", 0)) or 1
            self.words.append(f"{what}: {size} bytes were written, and this was read: {got}")

    def end(self, what: str, got: object, want: object) -> None:
        """Compare how a job ended with how it should have."""
        if got != want:
            self.exit_codes += 1
            self.words.append(f"{what}: ended with {got}, not {want}")

    def left(self, processes: Collection[str]) -> None:
        """Count processes that should be gone."""
        self.orphans += len(processes)
        self.words += [f"left running: {each}" for each in processes]

    def expect(self, held: object, promise: str) -> None:
        """Count a promise that was not kept."""
        if not held:
            self.other += 1
            self.words.append(f"not so: {promise}")

    def none(self) -> bool:
        """Whether nothing was lost."""
        return not (self.bytes or self.exit_codes or self.orphans or self.other)
