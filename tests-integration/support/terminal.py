"""Owns a pseudoterminal and the program that runs in front of it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.program import Gathered, Program

INTERRUPT = b"\x03"  # what the terminal turns into SIGINT for the program in front (termios(3))

# The terminal has to become the program's own, which only the program's own process can do.
_TAKE_IT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with one program; what that writes to stderr goes to a pipe, to tell it apart.

    Attributes:
        program: the program.
        screen: what it has written to the terminal, where lines end in CR LF.
    """

    def __init__(self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        try:
            self.program = Program(
                [sys.executable, "-I", "-S", "-c", _TAKE_IT, *command],
                cwd=cwd,
                env=env,
                stdin=theirs,
                stdout=theirs,
            )
        finally:
            os.close(theirs)
        self.screen = Gathered(os.fdopen(os.dup(self._ours), "rb"))

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.program:
            os.close(self._ours)
