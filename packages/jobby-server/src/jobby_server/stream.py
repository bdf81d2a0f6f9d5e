"""Owns the way of output to a client: follower to messages, at the client's pace."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc

from jobby_core import OutputFollower
from jobby_server.identity import Owner
from jobby_server.refusal import RefusedError


async def send(
    follower: OutputFollower, write: Callable[[bytes], Awaitable[None]], *, stall_seconds: float
) -> None:
    """Sends all of a job's output, and returns only when the output is complete.

    One chunk is under way at a time: `write` returns when the transport has
    taken it, so a slow reader costs one chunk of memory and never delays the
    job or another reader. The follower is closed on every path.

    Args:
        follower: the output.
        write: hands one chunk to the transport.
        stall_seconds: how long one chunk may wait for the reader.

    Raises:
        RefusedError: the reader took nothing for `stall_seconds`.
        JobbyError: the output cannot be read.
    """
    async with follower:
        async for chunk in follower:
            try:
                async with asyncio.timeout(stall_seconds):
                    await write(chunk)
            except TimeoutError:
                raise RefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the reader took nothing for {stall_seconds:g} seconds, so the stream was "
                    "ended; the output is kept, read it again",
                ) from None


class FollowerSlots:
    """Counts each owner's output streams. All of it happens on the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[Owner] = Counter()

    def take(self, owner: Owner) -> Callable[[], None]:
        """Takes one of the owner's places.

        Returns:
            what gives the place back; calling it again does nothing.

        Raises:
            RefusedError: none is left.
        """
        if self._taken[owner] >= self._most:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._most} output streams are open for this client already; end some first",
            )
        self._taken[owner] += 1
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._taken[owner] -= 1
                if not self._taken[owner]:
                    del self._taken[owner]

        return give_back

    def __len__(self) -> int:
        return self._taken.total()
