"""Output: all of it, in order, at each reader's pace, and OK only at its end."""

import asyncio
import hashlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest
from server_authority import Authority
from server_client import refused
from server_process import server_environment
from server_running import serving
from server_waiting import Fifo, run, until

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server.identity import Owner
from jobby_server.limits import Limits
from jobby_server.refusal import RefusedError
from jobby_server.stream import (
    LEAST_MESSAGE_BYTES,
    MOST_MESSAGE_BYTES,
    FollowerSlots,
    message_bytes,
)

CODE = grpc.StatusCode
ENDLESS = ("sh", "-c", "while :; do head -c 1000000 /dev/zero; done")


def test_random_bytes_arrive_as_they_were_written(ca: Authority) -> None:
    """8 MiB on both streams at once, followed live and read again afterwards, by digest."""
    program = (
        "import os, sys, hashlib\n"
        "for fd in (1, 2):\n"
        "    digest = hashlib.sha256()\n"
        "    for _ in range(128):\n"
        "        block = os.urandom(65536)\n"
        "        digest.update(block)\n"
        "        os.write(fd, block)\n"
        "    print(digest.hexdigest(), file=open(sys.argv[fd], 'w'))\n"
    )

    async def scenario(folder: Path) -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            sums = [folder / "one", folder / "two"]
            job = await alice.run_job(sys.executable, "-c", program, *map(str, sums))
            for _ in range(2):
                outputs = await asyncio.gather(
                    alice.read(job, pb.OUTPUT_TYPE_STDOUT),
                    alice.read(job, pb.OUTPUT_TYPE_STDERR),
                )
                found = [hashlib.sha256(output).hexdigest() for output in outputs]
                assert found == [path.read_text().strip() for path in sums]

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run(scenario(Path(folder)))


def test_the_last_bytes_before_the_end_are_never_lost(ca: Authority) -> None:
    """Jobs that write and end at once: each follower gets every byte before OK."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:

            async def one(number: int) -> bytes:
                job = await alice.run_job("sh", "-c", f"echo start; echo end {number}")
                return await alice.read(job)

            outputs = await asyncio.gather(*(one(number) for number in range(50)))
            assert outputs == [b"start\nend %d\n" % number for number in range(50)]

    run(scenario())


def test_followers_before_during_and_after_get_the_same(ca: Authority, fifo: Fifo) -> None:
    """Each reader starts at the first byte, whenever it comes; stop doesn't delete output."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("sh", "-c", f"echo a; read x < {fifo}; echo b; sleep 1000")
            first = aiter(alice.follow(job))
            assert (await anext(first)).data == b"a\n"
            during = asyncio.create_task(alice.read(job))
            fifo.release()
            assert (await anext(first)).data == b"b\n"
            await alice.stop(pb.StopJobRequest(job_id=job))
            assert [m.data async for m in first] == [b""]
            assert await during == await alice.read(job) == b"a\nb\n"

    run(scenario())


def test_a_silent_job_is_heard_at_once(ca: Authority) -> None:
    """The server accepts a stream before the first byte: a client knows that it follows."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            call = alice.follow(await alice.run_job("sleep", "1000"))
            await call.initial_metadata()
            assert not call.done()

    run(scenario())


def open_files() -> list[str]:
    """Returns what this process holds open of any job's output."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # closed meanwhile
        if target.endswith(("/stdout", "/stderr")):
            found.append(target)
    return found


@pytest.mark.parametrize("way", ["cancelled", "disconnected"])
def test_a_reader_that_leaves_is_forgotten(ca: Authority, way: str) -> None:
    """Cancelling the call or closing the connection frees the stream; the job runs on."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job(*ENDLESS)
            async with running.client("alice") as leaving:
                calls = [leaving.follow(job) for _ in range(5)]
                for call in calls:
                    await call.read()
                assert len(running.server.lifetimes) == 5
                assert open_files()
                if way == "cancelled":
                    for call in calls:
                        call.cancel()
            await until(lambda: not len(running.server.lifetimes) and not open_files())
            await until(lambda: not len(running.server._servicer._slots))
            status = await alice.status(pb.GetStatusRequest(job_id=job))
            assert status.current_status == pb.STATUS_RUNNING

    run(scenario())


def test_a_reader_that_takes_nothing_is_ended(ca: Authority) -> None:
    """After the stall limit the stream's file is closed, and the reader is told when it looks."""

    async def scenario() -> None:
        limits = Limits(stall_seconds=0.3)
        async with (
            serving(ca, limits=limits) as running,
            # A window that doesn't grow: what it holds back stays held back.
            running.client("alice", options=[("grpc.http2.bdp_probe", 0)]) as lazy,
        ):
            job = await lazy.run_job("head", "-c", "100000000", "/dev/zero")
            call = lazy.follow(job)
            await call.initial_metadata()
            await until(lambda: not len(running.server.lifetimes) and not open_files())
            # What was under way is still there; its place counts until the client has taken it.
            assert len(running.server._servicer._slots) == 1
            code, text = await refused(call)
            assert code is CODE.RESOURCE_EXHAUSTED
            assert "took nothing for 0.3 seconds" in text
            await until(lambda: not len(running.server._servicer._slots))

    run(scenario())


def test_a_stalled_reader_that_disconnects_is_no_error(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes while its end is being told to it: its place is free, and the log is quiet."""

    async def scenario() -> None:
        async with serving(ca, limits=Limits(stall_seconds=0.1)) as running:
            async with running.client("alice", options=[("grpc.http2.bdp_probe", 0)]) as lazy:
                job = await lazy.run_job("head", "-c", "100000000", "/dev/zero")
                await lazy.follow(job).initial_metadata()
                await until(lambda: not len(running.server.lifetimes))
            await until(lambda: not len(running.server._servicer._slots))

    run(scenario())
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_slow_reader_does_not_hold_up_the_job(ca: Authority) -> None:
    """A job writes far more than gRPC buffers while its reader waits, and still ends."""

    async def scenario() -> None:
        async with (
            serving(ca) as running,
            running.client("alice") as lazy,
            running.client("alice") as other,
        ):
            job = await lazy.run_job("head", "-c", "100000000", "/dev/zero")
            call = lazy.follow(job)
            await call.initial_metadata()
            assert (await other.wait(job)).current_status == pb.STATUS_COMPLETE
            assert len(b"".join([m.data async for m in call])) == 100_000_000

    run(scenario())


def test_output_that_was_cut_off_is_data_loss_and_not_the_end(ca: Authority, fifo: Fifo) -> None:
    """A job that truncates its output, and an output that is gone, are said and not passed over."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job(
                "sh", "-c", f"echo long enough; read x < {fifo}; echo x > /dev/stdout; sleep 1000"
            )
            stream = aiter(alice.follow(job))
            assert (await anext(stream)).data == b"long enough\n"
            fifo.release()
            code, text = await refused(stream)
            assert code is CODE.DATA_LOSS
            assert "truncated" in text
            for folder in running.spool.path.iterdir():
                (folder / "stderr").unlink()
            code, text = await refused(alice.follow(job, pb.OUTPUT_TYPE_STDERR))
            assert code is CODE.DATA_LOSS
            assert str(running.spool.path) not in text

    run(scenario())


def test_one_owner_has_a_limited_number_of_streams(ca: Authority) -> None:
    """The limit is per owner, over all of its connections, and a place that is left is free."""

    async def scenario() -> None:
        async with (
            serving(ca, limits=Limits(followers_per_owner=2)) as running,
            running.client("alice") as one,
            running.client("alice") as two,
            running.client("bob") as bob,
        ):
            job = await one.run_job("sleep", "1000")
            calls = [one.follow(job), two.follow(job)]
            for call in calls:
                await call.initial_metadata()
            code, text = await refused(two.follow(job))
            assert code is CODE.RESOURCE_EXHAUSTED
            assert "2 output streams are open" in text
            # A full owner learns no more about others' jobs than an empty one does.
            foreign = await bob.run_job("true")
            assert (await refused(one.follow(foreign)))[0] is CODE.NOT_FOUND
            await bob.wait(foreign)
            await one.status(pb.GetStatusRequest(job_id=job))
            calls[0].cancel()
            await until(lambda: len(running.server._servicer._slots) == 1)
            await two.follow(job).initial_metadata()

    run(scenario())


def test_messages_grow_with_what_was_taken() -> None:
    """Who has taken little never has a large message in memory; who takes all gets large ones."""
    assert message_bytes(0) == LEAST_MESSAGE_BYTES
    assert message_bytes((16 << 20) - 1) == LEAST_MESSAGE_BYTES
    assert message_bytes(16 << 20) == 2 * LEAST_MESSAGE_BYTES
    assert message_bytes(1 << 40) == MOST_MESSAGE_BYTES
    for taken in range(0, 64 << 20, 100_000):
        assert message_bytes(taken) <= max(LEAST_MESSAGE_BYTES, taken // 32)


def test_a_long_output_is_sent_in_large_messages(ca: Authority) -> None:
    """Messages grow along the stream, and each begins where the one before it ended."""
    size = 40 << 20

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("head", "-c", str(size), "/dev/zero")
            await alice.read(job, pb.OUTPUT_TYPE_STDOUT)  # it has ended
            taken, sizes = 0, []
            async for message in alice.follow(job):
                assert message.offset == taken
                taken += len(message.data)
                sizes.append(len(message.data))
            assert (taken, sizes.pop()) == (size, 0)
            assert sizes[0] == LEAST_MESSAGE_BYTES
            assert max(sizes) == MOST_MESSAGE_BYTES

    run(scenario())


def test_slots_are_counted_and_given_back_once() -> None:
    """Giving back twice must not open a place that somebody else holds."""
    slots = FollowerSlots(2)
    alice, bob = Owner("CN=alice", "ca"), Owner("CN=bob", "ca")
    back = slots.take(alice)
    slots.take(alice)
    with pytest.raises(RefusedError):
        slots.take(alice)
    slots.take(bob)
    back()
    back()
    assert len(slots) == 2
    slots.take(alice)
    with pytest.raises(RefusedError):
        slots.take(alice)


FROZEN = """
import grpc, pathlib, sys
folder, address, job = pathlib.Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
files = [(folder / name).read_bytes() for name in ("ca", "key", "cert")]
from jobby_proto.v1 import jobby_pb2, jobby_pb2_grpc
with grpc.secure_channel(address, grpc.ssl_channel_credentials(*files)) as channel:
    stub = jobby_pb2_grpc.JobbyStub(channel)
    call = stub.GetJobOutput(jobby_pb2.GetJobOutputRequest(job_id=job, type=1))
    call.initial_metadata()
    print("following", flush=True)
    for _ in call:
        pass
"""


def follower(*arguments: str) -> "subprocess.Popen[bytes]":
    """Starts a follower in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", FROZEN, *arguments],
        env=server_environment(),
        stdout=subprocess.PIPE,
    )


def test_a_peer_that_has_gone_silent_is_found(ca: Authority, tmp_path: Path) -> None:
    """A frozen client follows a silent job: no write ever fails, yet keepalive frees the stream."""
    leaf = ca.issue("alice")
    for name, pem in {"ca": ca.pem, "key": leaf.key_pem, "cert": leaf.cert_pem}.items():
        (tmp_path / name).write_bytes(pem)

    async def scenario() -> None:
        # Not so short that a client which starts on a busy machine is taken for a silent one.
        limits = Limits(keepalive_seconds=1, keepalive_timeout_seconds=3)
        async with serving(ca, limits=limits) as running, running.client(leaf) as alice:
            job = await alice.run_job("sleep", "1000")
            client = follower(str(tmp_path), str(running.address), job.hex())
            try:
                assert client.stdout is not None
                line = await asyncio.to_thread(client.stdout.readline)
                assert line == b"following\n"
                assert len(running.server.lifetimes) == 1
                client.send_signal(signal.SIGSTOP)
                await until(lambda: not len(running.server.lifetimes))
                assert client.poll() is None
            finally:
                client.kill()
                client.communicate()

    run(scenario())
