"""Owns where the last lines of an output begin: a search backwards, one block in memory."""

import asyncio
from collections.abc import Awaitable, Callable

BLOCK_BYTES = 262_144


async def find(
    read_at: Callable[[int, int], Awaitable[bytes]],
    end: int,
    lines: int,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> int:
    """Returns where the last lines before `end` begin; 0 if there are not that many.

    A newline at `end` closes the last line; without one, what follows the last
    newline is a line too. It may be called off between two blocks.

    Args:
        read_at: reads so many bytes from such an offset.
        end: how long the output is.
        lines: how many lines are wanted; 0 is `end` itself.
        block_bytes: how much is read at once.
    """
    if not lines or not end:
        return end
    # The newline before the first wanted line, counted from the end.
    wanted = lines + (await read_at(1, end - 1) == b"\n")
    while end:
        start = max(0, end - block_bytes)
        block = await read_at(end - start, start)
        # In a thread: a search through a large output must not hold up everybody else.
        found = await asyncio.to_thread(block.count, b"\n")
        if found >= wanted:
            return start + await asyncio.to_thread(_behind_newline, block, found - wanted)
        wanted -= found
        end = start
    return 0


def _behind_newline(block: bytes, skipped: int) -> int:
    """Returns the position behind the newline that follows `skipped` others, by halving."""
    low, high = 0, len(block)  # it lies in block[low:high]
    while high - low > 1:
        middle = (low + high) // 2
        before = block.count(b"\n", low, middle)
        if before > skipped:
            high = middle
        else:
            skipped -= before
            low = middle
    return low + 1
