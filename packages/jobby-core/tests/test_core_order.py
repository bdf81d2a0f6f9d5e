"""Promises about the order in which a follower looks: whatever happens in between, nothing is lost.

The pure decision is proven in test_core_cursor.py. Here the moments between two
looks, which real jobs seldom hit, are made to happen each time.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core_support import DEADLINE_SECONDS, Holdings, background

from jobby_core import OutputFollower, OutputReader, _output
from jobby_core._output import OutputFile

HEAD, TAIL = b"head ", b"tail"


class EndingOutput(OutputFile):
    """The output of a job that writes its last bytes and ends just before it is asked for its end.

    So `finished` is true with the first look at it, and the tail is there by then: who
    looked at the size before that has missed the tail.
    """

    __slots__ = ("asked", "write_fd")

    asked: bool
    write_fd: int

    @property
    def finished(self) -> bool:
        """Writes the tail once, and says that nothing will follow."""
        if not self.asked:
            self.asked = True
            os.write(self.write_fd, TAIL)
        return True

    @finished.setter
    def finished(self, value: bool) -> None:
        """Takes what the base class begins with."""


@pytest.fixture
def holdings() -> Iterator[None]:
    """Fails if the library still holds anything after the test."""
    before = Holdings()
    yield
    before.check_given_back()


Read = Callable[[OutputFile], bytes]


def read(output: OutputFile, kind: type[OutputReader] = OutputReader) -> bytes:
    """Reads an output to its end, in a thread."""

    def read() -> bytes:
        with kind(output, 0) as reader:
            return reader.read()

    return background(read).result(DEADLINE_SECONDS)


def follow(output: OutputFile, kind: type[OutputFollower] = OutputFollower) -> bytes:
    """Reads an output to its end, in a loop."""

    async def follow() -> bytes:
        async with asyncio.timeout(DEADLINE_SECONDS), kind(output, 0, 1000) as follower:
            return b"".join([chunk async for chunk in follower])

    return asyncio.run(follow())


@pytest.mark.usefixtures("holdings")
@pytest.mark.parametrize("read_all", [read, follow])
@pytest.mark.parametrize("head", [b"", HEAD])
def test_last_bytes_written_between_two_looks_are_not_lost(
    tmp_path: Path, read_all: Read, head: bytes
) -> None:
    """`finished` is sampled before the size: what a job writes just before it ends arrives."""
    path = str(tmp_path / "out")
    _, fd = _output.create(path)
    os.write(fd, head)
    output = EndingOutput(path, fd)
    output.asked, output.write_fd = False, fd
    try:
        assert read_all(output) == head + TAIL
    finally:
        os.close(fd)


@pytest.mark.usefixtures("holdings")
@pytest.mark.parametrize("way", ["thread", "loop"])
def test_what_happens_between_the_look_and_the_watch_is_seen(tmp_path: Path, way: str) -> None:
    """A write, or the end, right before the watch is armed causes no event: it is looked for."""
    output, fd = _output.create(str(tmp_path / "out"))

    def happen() -> None:
        if os.fstat(fd).st_size == 0:
            os.write(fd, TAIL)
        else:
            output.finished = True  # and whoever waited before was woken

    class LateReader(OutputReader):
        def _arm(self) -> Any:
            happen()
            return super()._arm()

    class LateFollower(OutputFollower):
        def _arm(self) -> Any:
            happen()
            return super()._arm()

    try:
        assert (read(output, LateReader) if way == "thread" else follow(output, LateFollower)) == (
            TAIL
        )
        assert output.finished, "it has come to the end, too"
    finally:
        os.close(fd)
