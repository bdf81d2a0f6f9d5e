"""Owns gates: FIFOs that hold a job back until the test lets it go on."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self


class Gate:
    """A FIFO. A job that reads a line from it waits there for the test.

    The test has it open for reading too, which lets neither side wait in open(2)
    for the other (fifo(7)), and keeps a line for a job that comes later.

    Attributes:
        path: where it lies, for the job's command line.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def __str__(self) -> str:
        return str(self.path)

    def open(self, line: str = "go") -> None:
        """Let one job go on, once: it reads `line`."""
        os.write(self._fd, f"{line}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
