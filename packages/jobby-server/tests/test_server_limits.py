"""What the server bears: connections, handshakes, and how it counts them."""

import asyncio
import contextlib
import resource
import socket

import grpc
import pytest
from server_authority import Authority
from server_client import refused
from server_running import serving
from server_waiting import run

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server.limits import Limits, channel_arguments, connection_limit


def silent(port: int, count: int) -> list[bytes]:
    """Opens connections that say nothing; returns what each gets, b"" for being closed."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    answers = [connection.recv(1) for connection in connections]
    for connection in connections:
        connection.close()
    return answers


def test_a_connection_that_says_nothing_is_closed(ca: Authority) -> None:
    """Half a handshake holds a descriptor only for as long as the handshake's limit."""

    async def scenario() -> None:
        async with serving(ca, limits=Limits(handshake_seconds=0.2)) as running:
            answers = await asyncio.to_thread(silent, running.address.port, 5)
            assert answers == [b""] * 5

    run(scenario())


def test_connections_are_limited(ca: Authority) -> None:
    """One too many is closed at once, though handshakes may take long; then there is room again."""

    async def scenario() -> None:
        limits = Limits(connections=3, handshake_seconds=1000)
        async with serving(ca, limits=limits) as running:
            port = running.address.port
            held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            assert await asyncio.to_thread(silent, port, 1) == [b""]
            for connection in held:
                connection.close()
            async with running.client("alice") as alice:
                # The server notices the closed ones in its own time.
                request = pb.StartJobRequest(command="true")
                started = False
                while not started:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await alice.start(request, wait_for_ready=True)
                        started = True

    run(scenario())


@pytest.mark.parametrize(
    ("descriptors", "wanted"),
    [(1024, 512), (1, 1), (20_000, 10_000), (resource.RLIM_INFINITY, 65_536)],
)
def test_connections_leave_descriptors_for_jobs(descriptors: int, wanted: int) -> None:
    """Half of RLIMIT_NOFILE, whatever it is, unless a number was given."""
    assert connection_limit(Limits(), descriptors) == wanted
    assert connection_limit(Limits(connections=7), descriptors) == 7


def test_a_dead_peer_is_found_within_ten_seconds() -> None:
    """The defaults of keepalive add up to less, and nothing else stretches them."""
    arguments = dict(channel_arguments(Limits()))
    found = arguments["grpc.keepalive_time_ms"] + arguments["grpc.keepalive_timeout_ms"]
    assert found < 10_000
    assert arguments["grpc.http2.ping_timeout_ms"] <= arguments["grpc.keepalive_timeout_ms"]
    assert arguments["grpc.so_reuseport"] == 0


def test_the_followers_limit_is_reached_before_the_transports() -> None:
    """The one that answers in words comes first; the other would make calls wait in silence."""
    arguments = dict(channel_arguments(Limits(followers_per_owner=10)))
    assert arguments["grpc.max_concurrent_streams"] > 10


def test_calls_that_come_at_once_are_all_answered(ca: Authority) -> None:
    """However many wait for the loop, up to what one client may have: gRPC ends none of them."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            request = pb.GetStatusRequest(job_id=bytes(16))
            calls = (refused(alice.status(request)) for _ in range(2000))
            codes = {code for code, _ in await asyncio.gather(*calls)}
            assert codes == {grpc.StatusCode.NOT_FOUND}

    run(scenario())
