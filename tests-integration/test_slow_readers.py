"""A reader that doesn't read costs the server little memory, and costs others nothing."""

import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client, Contract
from support.certificates import Authority
from support.data import Data
from support.server import Server
from support.user import User
from support.waiting import eventually

SLOW = 8
# What eight streams may pin: some 4 MiB each in gRPC's windows and buffers. Unread they hold
# 240 MB, so a server that keeps what is not taken goes far beyond.
BOUND_BYTES = 48 << 20


@pytest.fixture
def fresh(installed: Installed, authority: Authority, tmp_path: Path) -> Iterator[Server]:
    """A server whose memory nobody else has used."""
    command = installed.server.bin("jobby-server")
    with Server(command, authority.server(), tmp_path / "server") as running:
        yield running


def test_unread_streams_are_bounded_and_delay_nobody(
    fresh: Server, rfd: Contract, authority: Authority, two_files: tuple[Data, Data]
) -> None:
    """While eight streams are not read, others read, start and stop; then the eight read all."""
    file = two_files[0]
    alice = authority.client("alice")
    with (
        calls.client(rfd, fresh.address, alice) as slow,
        calls.client(rfd, fresh.address, alice) as quick,
    ):
        job = slow.start("cat", str(file.path))
        assert calls.digest(quick.output(job)) == file.sha256
        before = procfs.peak_bytes(fresh.pid)
        # From a live job and from one that has ended.
        script = 'cat "$1"; echo written >&2; exec sleep 1000'
        live = slow.start("sh", "-c", script, "sh", str(file.path))
        streams = [slow.output(each) for each in (job, live) for _ in range(SLOW // 2)]
        heads = [next(stream).data for stream in streams]

        other = quick.start("cat", str(file.path))
        assert calls.digest(quick.output(other)) == file.sha256
        assert quick.status(other) == ("STATUS_COMPLETE", 0)
        assert calls.digest(quick.output(job)) == file.sha256
        assert next(quick.output(live, "STDERR")).data == b"written\n"
        quick.stop(live)
        assert quick.status(live) == ("STATUS_STOPPED", None)
        assert procfs.peak_bytes(fresh.pid) - before < BOUND_BYTES

        for head, stream in zip(heads, streams, strict=True):
            rest = b"".join(message.data for message in stream)
            assert sha256(head + rest).hexdigest() == file.sha256


def test_what_was_sent_is_not_kept(fresh: Server, rfd: Contract, authority: Authority) -> None:
    """However long an output is, its stream holds no more than what is under way."""
    size = 3 * BOUND_BYTES
    with calls.client(rfd, fresh.address, authority.client("alice")) as caller:
        short, long = (caller.start("head", "-c", str(n), "/dev/zero") for n in (1 << 20, size))
        assert len(caller.read(short)) == 1 << 20
        before = procfs.peak_bytes(fresh.pid)
        assert sum(len(message.data) for message in caller.output(long)) == size
        assert procfs.peak_bytes(fresh.pid) - before < BOUND_BYTES


def test_a_frozen_client_delays_nobody_and_can_go_on(
    alice: User, caller: Client, two_files: tuple[Data, Data], tmp_path: Path
) -> None:
    """A `jobby output` that is stopped by SIGSTOP holds nobody up; continued, it misses nothing."""
    file = two_files[0]
    job = caller.start("sh", "-c", 'cat "$1" "$1"; exec sleep 1000', "sh", str(file.path))
    taken = tmp_path / "taken"
    with (
        taken.open("wb") as sink,
        alice.begin("output", calls.as_text(job), stdout=sink.fileno()) as frozen,
    ):
        eventually(lambda: taken.stat().st_size, what="a first chunk")
        frozen.send(signal.SIGSTOP)
        read = 0
        for message in caller.output(job):
            read += len(message.data)
            if read == 2 * file.size:
                break
        caller.stop(job)
        assert frozen.running()
        frozen.send(signal.SIGCONT)
        assert frozen.wait() == 0
    # Not compared byte for byte: a difference of 60 MB would take minutes to be shown.
    twice = sha256(file.path.read_bytes() * 2).hexdigest()
    assert sha256(taken.read_bytes()).hexdigest() == twice
