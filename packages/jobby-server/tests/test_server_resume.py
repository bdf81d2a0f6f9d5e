"""Output from anywhere: each byte has its place, and each whole stream its end."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from server_authority import Authority
from server_client import Client, refused
from server_running import serving
from server_waiting import Fifo, run

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server.stream import DIGEST_BYTES

CODE = grpc.StatusCode


async def received(call: Any) -> tuple[int, bytes, pb.OutputEnd]:
    """Reads a stream to its end; returns where it began, its bytes and its end.

    Each message begins where the one before it ended, and only the last one carries an end.
    """
    metadata = dict(await call.initial_metadata())
    start = position = int(metadata["jobby-offset"])
    data = bytearray()
    end: pb.OutputEnd | None = None
    async for message in call:
        assert end is None, "the end comes last"
        assert message.offset == position
        data += message.data
        position += len(message.data)
        if message.HasField("end"):
            end = message.end
        else:
            assert message.data
    assert end is not None
    assert end.total_bytes == position
    return start, bytes(data), end


async def read(client: Client, job: bytes, **fields: Any) -> tuple[int, bytes, pb.OutputEnd]:
    """Does the same for a new stream."""
    return await received(client.follow(job, **fields))


def test_a_stream_begins_at_any_byte(ca: Authority) -> None:
    """From each byte on, the end included, comes the rest; the end is the whole output's."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("sh", "-c", "printf 0123456789; exit 3")
            whole = hashlib.sha256(b"0123456789").digest()
            for offset in range(11):
                start, data, end = await read(alice, job, offset=offset)
                assert (start, data) == (offset, b"0123456789"[offset:])
                assert (end.total_bytes, end.sha256) == (10, whole)
                assert (end.status, end.exit_code) == (pb.STATUS_COMPLETE, 3)

    run(scenario())


def test_nothing_is_there_behind_the_end(ca: Authority) -> None:
    """An offset that was not written yet is OUT_OF_RANGE, of a live job too, and not waited for."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            live = await alice.run_job("sh", "-c", "printf 12345; exec sleep 1000")
            stream = aiter(alice.follow(live))
            assert (await anext(stream)).data == b"12345"
            for offset in (6, 2**63, 2**64 - 1):
                code, text = await refused(alice.follow(live, offset=offset))
                assert code is CODE.OUT_OF_RANGE
                assert text == f"offset: {offset} is beyond the 5 bytes that were written by now"

    run(scenario())


def test_large_output_has_places_up_to_its_end(ca: Authority) -> None:
    """Megabytes resumed at random places join up; the digest of so much is left out."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            program = "import os, random; os.write(1, random.Random(4).randbytes(3_000_000))"
            job = await alice.run_job("python3", "-c", program)
            data = random.Random(4).randbytes(3_000_000)
            for offset in [0, 1, *(random.Random(5).randrange(3_000_000) for _ in range(5))]:
                _, rest, end = await read(alice, job, offset=offset)
                assert hashlib.sha256(rest).digest() == hashlib.sha256(data[offset:]).digest()
                assert (end.total_bytes, end.sha256) == (3_000_000, b"")

    run(scenario())


@pytest.mark.parametrize("size", [0, 1, DIGEST_BYTES, DIGEST_BYTES + 1])
def test_a_small_output_ends_with_its_digest(ca: Authority, size: int) -> None:
    """Up to 128 KiB, the empty output included, an ended job's output has its SHA-256."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("head", "-c", str(size), "/dev/zero")
            _, data, end = await read(alice, job)
            assert len(data) == size
            digest = hashlib.sha256(bytes(size)).digest()
            assert end.sha256 == (digest if size <= DIGEST_BYTES else b"")

    run(scenario())


def test_without_following_a_live_output_ends_where_it_stands(ca: Authority, fifo: Fifo) -> None:
    """`follow` false gives what is there, says RUNNING and no digest; absent, it is waited for."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            script = f"printf before; echo >&2; read x < {fifo}; printf ' after'"
            job = await alice.run_job("sh", "-c", script)
            live = aiter(alice.follow(job))
            assert (await anext(live)).data == b"before"
            for offset, rest in ((0, b"before"), (2, b"fore"), (6, b"")):
                _, data, end = await read(alice, job, offset=offset, follow=False)
                assert (data, end.total_bytes) == (rest, 6)
                assert (end.status, end.sha256) == (pb.STATUS_RUNNING, b"")
                assert end.reason == pb.END_REASON_UNSPECIFIED
            fifo.release()
            assert (await read(alice, job, follow=True))[1] == b"before after"
            _, data, end = await read(alice, job, follow=False)
            assert (data, end.status) == (b"before after", pb.STATUS_COMPLETE)
            assert end.sha256 == hashlib.sha256(data).digest()

    run(scenario())


def test_without_following_even_a_flood_ends(ca: Authority) -> None:
    """A job that writes as fast as it is read doesn't keep a reader that does not follow."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("yes")
            await anext(aiter(alice.follow(job)))
            _, data, end = await read(alice, job, follow=False)
            assert data == (b"y\n" * len(data))[: len(data)]
            assert end.status == pb.STATUS_RUNNING

    run(scenario())


TAILS: Mapping[int, bytes] = {
    0: b"",
    1: b"four",
    2: b"three\nfour",
    2**64 - 1: b"one\n\nthree\nfour",
}


def test_a_tail_begins_at_the_last_lines_and_goes_on_live(ca: Authority, fifo: Fifo) -> None:
    """The tail of what is there comes at once, and what is written afterwards follows it."""
    whole = b"one\n\nthree\nfour"

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            script = f"printf 'one\\n\\nthree\\nfour'; read x < {fifo}; printf ' and more\\n'"
            job = await alice.run_job("sh", "-c", script)
            assert (await anext(aiter(alice.follow(job)))).data == whole
            for lines, tail in {**TAILS, 3: whole[4:], 4: whole}.items():
                start, data, _ = await read(alice, job, tail_lines=lines, follow=False)
                assert (start, data) == (len(whole) - len(tail), tail)
            live = alice.follow(job, tail_lines=1)
            # Its place is fixed before anything comes.
            assert dict(await live.initial_metadata()) == {"jobby-offset": "11"}
            none = alice.follow(job, tail_lines=0)
            assert dict(await none.initial_metadata()) == {"jobby-offset": str(len(whole))}
            fifo.release()
            assert (await received(live))[1] == b"four and more\n"
            assert (await received(none))[1] == b" and more\n"

    run(scenario())


def test_a_beginning_is_given_once(ca: Authority) -> None:
    """Offset and tail_lines together are INVALID_ARGUMENT that names the field."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("true")
            code, text = await refused(alice.follow(job, offset=1, tail_lines=1))
            assert code is CODE.INVALID_ARGUMENT
            assert text.startswith("tail_lines: ")

    run(scenario())


def test_a_status_has_sizes_and_times(ca: Authority) -> None:
    """GetStatus tells how much there is of each output, and since and until when it ran."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("sh", "-c", "printf 12345; printf 123 >&2")
            status = await alice.wait(job)
            assert (status.stdout_bytes, status.stderr_bytes) == (5, 3)
            assert 0 < status.started_at_us <= status.ended_at_us
            live = await alice.run_job("sh", "-c", "printf 12; exec sleep 1000")
            await anext(aiter(alice.follow(live)))
            status = await alice.status(pb.GetStatusRequest(job_id=live))
            assert (status.stdout_bytes, status.ended_at_us) == (2, 0)

    run(scenario())
