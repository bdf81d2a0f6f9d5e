"""A stream that breaks is never taken for one that ended, on either side."""

import os
import signal
from pathlib import Path

import grpc
import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client, Connect
from support.certificates import Authority
from support.data import Data
from support.gate import Gate
from support.server import Begin, Server, end_jobs
from support.user import User
from support.waiting import eventually


def test_a_killed_server_breaks_streams(
    begin: Begin, connect: Connect, two_files: tuple[Data, Data]
) -> None:
    """When the server dies in the middle, a live stream and one of a finished job both fail."""
    server = begin()
    caller = connect(server.address)
    running = caller.start("sh", "-c", "echo $$; exec sleep 1000")
    done = caller.start("cat", str(two_files[0].path))
    caller.ended(done)
    live, unread = caller.output(running), caller.output(done)
    next(live), next(unread)
    orphans = server.jobs()
    try:
        server.program.send(signal.SIGKILL)
        assert server.program.wait() == -signal.SIGKILL
        for stream in (live, unread):
            assert calls.failure(list, stream).code is grpc.StatusCode.UNAVAILABLE
    finally:
        end_jobs(orphans)


def test_a_truncated_output_is_data_loss(caller: Client, alice: User, server: Server) -> None:
    """When the file loses what a reader has not read, it hears of it, and no end."""
    job = caller.start("sh", "-c", "echo first; exec sleep 1000")
    live = caller.output(job)
    assert next(live).data == b"first\n"
    with alice.begin("output", calls.as_text(job)) as output:
        output.stdout.until("first\n")
        file = server.spool / calls.as_text(job) / "stdout"
        os.truncate(file, 0)
        assert calls.failure(list, live).code is grpc.StatusCode.DATA_LOSS
        assert output.wait() == 74
        said = output.stderr.all().decode()
    assert len(said.splitlines()) == 1
    # Where the server keeps its files is nobody's business.
    assert str(server.spool) not in said
    caller.stop(job)


def test_a_removed_output_is_data_loss(caller: Client, alice: User, server: Server) -> None:
    """When the file is gone before a reader comes, it hears of it, and no end."""
    job = caller.start("echo", "hello")
    caller.ended(job)
    (server.spool / calls.as_text(job) / "stdout").unlink()
    done = alice.jobby("output", calls.as_text(job))
    assert (done.code, done.stdout) == (74, b"")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_keeps_what_it_has_open(caller: Client, server: Server, gate: Gate) -> None:
    """When the file is removed under a reader, the reader still gets all of it."""
    job = caller.start("sh", "-c", 'echo first; read -r _ < "$1"; echo second', "sh", str(gate))
    live = caller.output(job)
    assert next(live).data == b"first\n"
    (server.spool / calls.as_text(job) / "stdout").unlink()
    gate.open()
    assert b"".join(message.data for message in live) == b"second\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_command_line_says_that_output_is_missing(
    begin: Begin, installed: Installed, authority: Authority, tmp_path: Path, number: signal.Signals
) -> None:
    """`jobby output` prints what it got, says that the stream broke, and exits with 69."""
    server = begin()
    command = installed.client.bin("jobby")
    alice = User(command, tmp_path / "alice", authority.client("alice"), server.address)
    job = alice.start("sh", "-c", "echo first; exec sleep 1000")
    with alice.begin("output", "--reconnect", "0", job) as output:
        output.stdout.until("first\n")
        orphans = server.jobs()
        try:
            server.program.send(number)
            assert output.wait() == 69
        finally:
            if number is signal.SIGKILL:
                end_jobs(orphans)
        assert output.stdout.all() == b"first\n"
        said = output.stderr.all().decode()
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    again = alice.jobby("status", job)
    assert again.code == 69
    assert server.address in again.stderr


def test_a_killed_client_gives_its_stream_back(
    begin: Begin, connect: Connect, installed: Installed, authority: Authority, tmp_path: Path
) -> None:
    """After SIGKILL of a follower the server holds what it held before it came."""
    server = begin()
    caller = connect(server.address)
    command = installed.client.bin("jobby")
    alice = User(command, tmp_path / "alice", authority.client("alice"), server.address)
    job = caller.start("sh", "-c", "echo first; exec sleep 1000")
    before = procfs.holdings(server.pid)
    with alice.begin("output", calls.as_text(job)) as follower:
        follower.stdout.until("first\n")
        assert procfs.holdings(server.pid).descriptors != before.descriptors
        follower.send(signal.SIGKILL)
        eventually(
            lambda: procfs.holdings(server.pid).descriptors <= before.descriptors,
            what="the killed follower's descriptors",
        )
    assert procfs.holdings(server.pid).watches == before.watches
