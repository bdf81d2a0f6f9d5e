"""Where the last lines begin: the same as tail(1) says, in little memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_waiting import run

from jobby_server import tail


class Output:
    """Bytes that are read as an output is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.largest = 0
        self.read = 0

    async def read_at(self, size: int, offset: int) -> bytes:
        """Reads, and notes how much."""
        self.largest = max(self.largest, size)
        self.read += size
        return self._data[offset : offset + size]


def by_lines(data: bytes, lines: int) -> bytes:
    """The last lines, found in the plainest way."""
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""


@given(
    st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\n\n"]), max_size=40).map(b"".join),
    st.integers(0, 45),
    st.integers(1, 9),
)
def test_the_last_lines_begin_where_they_begin(data: bytes, lines: int, block_bytes: int) -> None:
    """With and without a last newline, empty lines, too few lines, and whatever the blocks."""
    found = run(tail.find(Output(data).read_at, len(data), lines, block_bytes=block_bytes))
    assert data[found:] == by_lines(data, lines)


@pytest.mark.parametrize(("lines", "most"), [(10, tail.BLOCK_BYTES + 1), (10**9, 3 << 20)])
def test_no_more_than_a_block_is_held(lines: int, most: int) -> None:
    """Whatever is asked for, one block is in memory; a few lines need one, not the output."""
    output = Output(b"0123456789abcde\n" * 150_000)
    run(tail.find(output.read_at, 2_400_000, lines))
    assert output.largest <= tail.BLOCK_BYTES
    assert output.read <= most


def test_a_search_can_be_called_off() -> None:
    """A client that leaves ends the search through an output without lines."""

    async def scenario() -> None:
        begun = asyncio.Event()

        async def read_at(size: int, offset: int) -> bytes:
            begun.set()
            return b"x" * size

        search = asyncio.create_task(tail.find(read_at, 1 << 50, 1))
        await begun.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    run(scenario())
