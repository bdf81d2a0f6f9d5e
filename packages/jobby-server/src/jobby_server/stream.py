"""Owns the way of output to a client: follower to messages, at the client's pace, and their end."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

import grpc

from jobby_core import Job, OutputFollower, State, Stream
from jobby_server import tail, wire
from jobby_server.identity import Owner
from jobby_server.refusal import RefusedError
from jobby_server.row import Row
from jobby_server.wire import OutputWanted

DIGEST_BYTES: Final = 131_072
"""How long an output may be to end with its digest, which the contract promises."""


LEAST_MESSAGE_BYTES: Final = 262_144
MOST_MESSAGE_BYTES: Final = 1 << 20
# Above what gRPC and the kernel take on their own while nobody reads, some 4 MiB.
_TAKEN_BEFORE_MORE: Final = 64


def message_bytes(taken: int) -> int:
    """Returns how many bytes of output the next message has at most.

    Large messages cost less a byte, but a reader that stops reading holds one
    in memory. So they grow with what a reader has taken: whoever stops at the
    first page never has a large one.

    Args:
        taken: how many bytes this stream has sent.
    """
    size = LEAST_MESSAGE_BYTES
    while size < MOST_MESSAGE_BYTES and taken >= _TAKEN_BEFORE_MORE * size:
        size *= 2
    return size


class Sink(Protocol):
    """What gRPC gives to answer a call with."""

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]], /) -> None:
        """Sends the answer's head."""

    async def write(self, message: Any, /) -> None:
        """Hands one message to the transport; returns when it was taken."""


async def send(
    job: Job, wanted: OutputWanted, sink: Sink, *, known: Row | None = None, stall_seconds: float
) -> None:
    """Sends a job's output, and its end only when it is complete.

    One message is under way at a time: `write` returns when the transport has
    taken it, so a slow reader costs one message of memory and never delays the
    job or another reader. The follower is closed on every path.

    Args:
        job: the job.
        wanted: what of it.
        sink: the way to the client.
        known: what is kept of a job that has ended; None asks the job.
        stall_seconds: how long one message may wait for the reader.

    Raises:
        RefusedError: there is no such offset, the output is shorter than it is known to have
            been, or the reader took nothing for `stall_seconds`.
        JobbyError: the output cannot be read.
    """

    async def write(message: bytes) -> None:
        try:
            async with asyncio.timeout(stall_seconds):
                await sink.write(message)
        except TimeoutError:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the reader took nothing for {stall_seconds:g} seconds, so the stream was "
                "ended; the output is kept, read it again",
            ) from None

    # Before the first look: of a job that ends while what it had written until then is sent,
    # that is not the whole.
    status = known.status if known else job.status()
    async with job.follow(wanted.stream, wait=wanted.follow) as follower:
        start = await _start(follower, wanted)
        # At once, though the job may be silent for hours: the client knows that it is heard.
        await sink.send_initial_metadata(((wire.OFFSET_KEY, str(start)),))
        follower.seek(start)
        async for chunk in follower:
            message = wire.encode_chunk(chunk, follower.offset - len(chunk))
            del chunk  # a reader that takes nothing is to hold one copy of it, not two
            await write(message)
            follower.max_chunk_bytes = message_bytes(follower.offset - start)
        if wanted.follow and known is None:
            status = job.status()
        total = follower.offset
        # The job's own folder tells it no more where its outcome was damaged, too.
        if known and total < (kept := _kept_bytes(known, wanted.stream)):
            raise wire.truncated(total, kept)
        digest = b""
        if status.state is not State.RUNNING and total <= DIGEST_BYTES:
            # Of what is in the file, not of what was sent: the client compares the two.
            digest = sha256(await follower.read_at(total, 0)).digest()
        await write(wire.encode_end(status, total, digest))


def _kept_bytes(known: Row, stream: Stream) -> int:
    return known.stdout_bytes if stream is Stream.STDOUT else known.stderr_bytes


async def _start(follower: OutputFollower, wanted: OutputWanted) -> int:
    """Returns where the stream begins."""
    size = await follower.size()
    if wanted.tail_lines is not None:
        return await tail.find(follower.read_at, size, wanted.tail_lines)
    if wanted.offset > size:
        raise wire.out_of_range(wanted.offset, size)
    return wanted.offset


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
