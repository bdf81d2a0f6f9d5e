"""Output comes back byte for byte: large, binary, on both streams, to readers at any time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import grpc
import grpc.aio

from support import calls, data, procfs
from support.calls import Client, Contract
from support.certificates import Authority
from support.data import Data
from support.gate import Gate
from support.server import Server
from support.user import User

FOLLOWERS = 300


def test_both_streams_at_once(either: Client, two_files: tuple[Data, Data]) -> None:
    """30 MB of random bytes on each stream, written and read at the same time, arrive intact."""
    out, err = two_files
    job = either.start("sh", "-c", data.BOTH, "sh", str(out.path), str(err.path))
    with ThreadPoolExecutor(2) as pool:
        digests = pool.map(
            lambda stream: calls.digest(either.output(job, stream)), ("STDOUT", "STDERR")
        )
        assert list(digests) == [out.sha256, err.sha256]
    assert either.status(job) == ("STATUS_COMPLETE", 0)


def test_both_streams_at_once_through_pipes(alice: User, two_files: tuple[Data, Data]) -> None:
    """`jobby output` in a pipeline passes 30 MB of random bytes on each stream untouched."""
    out, err = two_files
    job = alice.start("sh", "-c", data.BOTH, "sh", str(out.path), str(err.path))
    line = 'jobby output "$1" --type {} | sha256sum'
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(lambda kind: alice.shell(line.format(kind), job), ("stdout", "stderr"))
        )
    assert [each.stdout.split()[0].decode() for each in done] == [out.sha256, err.sha256]
    assert [(each.code, each.stderr) for each in done] == [(0, "")] * 2


def test_readers_before_during_and_after(
    caller: Client, gate: Gate, two_files: tuple[Data, Data]
) -> None:
    """Who comes before the first byte, in the middle or after the end reads the same whole."""
    file, half = two_files[0], two_files[0].size // 2
    script = ("sh", "-c", data.IN_TWO_PARTS, "sh", str(gate), str(file.path), str(half))
    job = caller.start(*script)
    before = caller.output(job)
    # The answer's head comes at once: this reader is there while the job is silent.
    before.initial_metadata()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(calls.digest, before)
        gate.open()
        during = caller.output(job)
        head = next(during).data
        second = pool.submit(lambda: head + b"".join(message.data for message in during))
        gate.open()
        assert first.result() == file.sha256
        assert sha256(second.result()).hexdigest() == file.sha256
    assert calls.digest(caller.output(job)) == file.sha256
    assert caller.read(job, "STDERR") == b""


def test_a_line_arrives_while_the_job_runs(caller: Client, gate: Gate) -> None:
    """What a job writes is pushed to its readers before it writes more."""
    job = caller.start(
        "sh", "-c", 'for i in 1 2 3; do echo $i; read -r _ < "$1"; done', "sh", str(gate)
    )
    output = caller.output(job)
    for expected in (b"1\n", b"2\n", b"3\n"):
        assert next(output).data == expected
        gate.open()
    assert calls.joined(output) == b""
    assert output.code() is grpc.StatusCode.OK


def test_no_last_byte_is_lost(caller: Client) -> None:
    """Of two hundred jobs that end as they write, each reader gets all before the end."""

    def one(number: int) -> tuple[bytes, bytes]:
        job = caller.start("sh", "-c", f"echo {number}; printf last; printf err >&2")
        return caller.read(job), caller.read(job, "STDERR")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(200)))
    assert found == [(f"{number}\nlast".encode(), b"err") for number in range(200)]


def test_what_is_left_behind_neither_hangs_nor_hides(caller: Client) -> None:
    """A process that the job leaves in its group ends with it, and so does the output."""
    job = caller.start("sh", "-c", "sleep 1000 & echo $!; printf last")
    pid, last = caller.read(job).split()
    assert last == b"last"
    assert caller.status(job) == ("STATUS_COMPLETE", 0)
    assert not procfs.alive(int(pid))


def test_300_followers_of_one_live_job(
    caller: Client, rfd: Contract, authority: Authority, server: Server, gate: Gate
) -> None:
    """300 streams over three connections follow one job live, and all read the same."""
    lines = 'seq 1 10000; for i in 1 2 3; do read -r _ < "$1"; seq "$i" 10000; done'
    job = caller.start("sh", "-c", lines, "sh", str(gate))
    parts = [range(1, 10001), *(range(i, 10001) for i in (1, 2, 3))]
    expected = "".join(f"{number}\n" for part in parts for number in part).encode()
    size = len(b"".join(b"%d\n" % number for number in parts[0]))
    identity = authority.client("alice")

    async def follow() -> list[bytes]:
        credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.cert)
        channels = [
            grpc.aio.secure_channel(
                server.address, credentials, [("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(3)
        ]
        there = asyncio.Semaphore(0)

        async def one(number: int) -> bytes:
            stub = rfd.stubs.JobbyStub(channels[number % len(channels)])
            request = rfd.GetJobOutputRequest(job_id=job, type="OUTPUT_TYPE_STDOUT")
            found = bytearray()
            async for message in stub.GetJobOutput(request):
                if len(found) < size <= len(found) + len(message.data):
                    there.release()
                found += message.data
            return sha256(found).digest()

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(one(number)) for number in range(FOLLOWERS)]
            for _ in readers:
                await there.acquire()  # everybody has read the first part and follows
            for _ in range(3):
                gate.open()
        for channel in channels:
            await channel.close()
        return [reader.result() for reader in readers]

    assert set(asyncio.run(follow())) == {sha256(expected).digest()}
