"""Owns large outputs: random bytes that a job writes and readers compare by digest."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

# More than any window or buffer between the two ends holds.
BIG_BYTES = 30_000_000

# Writes its first file to stdout and its second one to stderr, both at once.
BOTH = 'cat "$1" & cat "$2" >&2; wait'
# Waits for the gate ($1), writes half of the file ($2), waits again, writes the rest.
IN_TWO_PARTS = """
read -r line < "$1"
head -c "$3" "$2"
read -r line < "$1"
tail -c "+$(($3 + 1))" "$2"
"""


@dataclass(frozen=True)
class Data:
    """A file of random bytes.

    Attributes:
        path: where it lies.
        sha256: its digest.
        size: its length.
    """

    path: Path
    sha256: str
    size: int


def make(path: Path, size: int = BIG_BYTES) -> Data:
    """Write a file of `size` random bytes."""
    content = os.urandom(size)
    path.write_bytes(content)
    return Data(path, sha256(content).hexdigest(), size)
