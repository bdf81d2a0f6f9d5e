"""A stream of output is whole, broken or closed, and its reader is told which."""

import concurrent.futures
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cli_authority import Authority
from cli_peer import JOB, Peer, then_silent
from cli_relay import Relay
from cli_waiting import DEADLINE_SECONDS, wait_until

from jobby_client import (
    BrokenStreamError,
    Client,
    JobbyClientError,
    State,
    Stream,
    StreamClosedError,
    UnavailableError,
)
from jobby_proto.v1 import jobby_pb2 as pb


@pytest.fixture(scope="module", autouse=True)
def silent(
    request: pytest.FixtureRequest, ca: Authority
) -> Iterator["concurrent.futures.Future[BaseException | None] | None"]:
    """What reading from a server that says nothing raises; begun first, for it takes long."""
    if not any(item.name == "test_a_silent_server_is_given_up" for item in request.session.items):
        yield None
        return
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"127.0.0.1:{listener.getsockname()[1]}", ca.credentials()) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        yield pool.submit(caught_from, client.output(JOB))


def caught_from(stream: Iterator[bytes]) -> BaseException | None:
    """Returns what the first chunk raises."""
    try:
        next(stream)
    except JobbyClientError as error:
        return error
    return None


@pytest.mark.parametrize("stream", [Stream.STDERR, "stderr"])
def test_the_stream_is_asked_for_by_name(client: Client, peer: Peer, stream: Any) -> None:
    """A wrong name is an error, not another stream."""
    peer.servicer.on_output = lambda request, context: [pb.OutputType.Name(request.type).encode()]
    assert list(client.output(JOB, stream)) == [b"OUTPUT_TYPE_STDERR"]
    with pytest.raises(ValueError, match="both"):
        client.output(JOB, "both")  # type: ignore[arg-type]  # that is the test


def test_a_stream_has_no_deadline_but_signs_of_life(
    ca: Authority, peer: Peer, relay: Relay
) -> None:
    """A peer that vanishes is found although no deadline is set."""
    peer.servicer.on_output = then_silent(b"x" * 10)
    with Client(relay.address, ca.credentials(), call_seconds=0.1) as client:
        stream = client.output(JOB, reconnect_seconds=0)
        assert next(stream) == b"x" * 10
        relay.freeze()
        with pytest.raises(BrokenStreamError, match="after 10 bytes") as caught:
            next(stream)
    assert caught.value.bytes_received == 10


def test_a_broken_connection_is_no_end(ca: Authority, peer: Peer, relay: Relay) -> None:
    """A stream that breaks raises, and raises again; it is never just over."""
    peer.servicer.on_output = then_silent(b"x" * 10)
    with Client(relay.address, ca.credentials()) as client:
        stream = client.output(JOB, reconnect_seconds=0)
        next(stream)
        relay.cut()
        for _ in range(2):
            with pytest.raises(BrokenStreamError):
                next(stream)
        assert not stream.complete
        # A call may still meet the old connection; the client connects anew by itself.
        wait_until(lambda: can_ask(client))


def can_ask(client: Client) -> bool:
    """Whether a call gets through."""
    try:
        return client.status(JOB).state is State.COMPLETED
    except UnavailableError:
        return False


def test_closing_a_stream_lets_the_servers_side_go(client: Client, peer: Peer) -> None:
    """`close`, the end of a `with`, and being dropped all cancel the call."""
    peer.servicer.on_output = then_silent(b"x")
    stream = client.output(JOB)
    next(stream)
    stream.close()
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)
    stream.close()
    with pytest.raises(StreamClosedError):
        next(stream)
    peer.servicer.ended.clear()
    with client.output(JOB) as chunks:
        next(chunks)
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)
    peer.servicer.ended.clear()
    next(client.output(JOB))
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)


def test_closing_wakes_a_reader_in_another_thread(client: Client, peer: Peer) -> None:
    """A thread that waits for output returns at once, and not as if that was all."""
    peer.servicer.on_output = then_silent(b"x")
    stream = client.output(JOB)
    next(stream)
    caught: list[BaseException] = []
    waiting = threading.Event()

    def read() -> None:
        waiting.set()
        try:
            next(stream)
        except StreamClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    waiting.wait(DEADLINE_SECONDS)
    stream.close()
    thread.join(DEADLINE_SECONDS)
    assert len(caught) == 1


def test_closing_the_client_closes_its_streams(client: Client, peer: Peer) -> None:
    """A thread that waits for output is woken; nothing is connected again, or told to be."""
    peer.servicer.on_output = then_silent(b"x")
    breaks: list[BrokenStreamError] = []
    stream = client.output(JOB, on_reconnect=breaks.append)
    next(stream)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(caught_from, stream)
        client.close()
        assert type(reading.result(DEADLINE_SECONDS)) is StreamClosedError
    assert not breaks
    with pytest.raises(StreamClosedError):
        next(stream)


def test_closing_the_client_ends_the_wait_for_a_connection(
    ca: Authority, peer: Peer, relay: Relay
) -> None:
    """A stream that is about to be connected again isn't any more."""
    peer.servicer.on_output = then_silent(b"x")
    client = Client(relay.address, ca.credentials())
    stream = client.output(JOB, on_reconnect=lambda error: client.close())
    next(stream)
    relay.cut()
    with pytest.raises(StreamClosedError):
        next(stream)
    assert len(peer.servicer.outputs) == 1


def test_a_complete_stream_stays_complete(client: Client, peer: Peer) -> None:
    """After the end there is the end, closed or not."""
    stream = client.output(JOB)
    assert b"".join(stream) == b"hello\n"
    assert (stream.complete, stream.bytes_received) == (True, 6)
    stream.close()
    assert list(stream) == []
    assert repr(stream) == "<OutputStream complete bytes=6>"


def test_empty_chunks_are_passed_over(client: Client, peer: Peer) -> None:
    """No chunk is empty, whatever a server sends: an empty one would look like an end."""
    peer.servicer.on_output = lambda request, context: [b"", b"a", b"", b"b", b""]
    assert list(client.output(JOB)) == [b"a", b"b"]


def test_large_output_arrives_whole_beside_other_calls(client: Client, peer: Peer) -> None:
    """A stream and calls share the connection, from several threads."""
    data = [random.Random(n).randbytes(250_000) for n in range(40)]
    peer.servicer.on_output = lambda request, context: data
    seen: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: seen.append(b"".join(client.output(JOB)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert client.status(JOB).exit_code == 0
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert seen == [b"".join(data)] * 4


def test_a_silent_server_is_given_up(
    silent: "concurrent.futures.Future[BaseException | None]",
) -> None:
    """A connection that is accepted and then nothing: unavailable, in words."""
    error = silent.result(DEADLINE_SECONDS)
    assert isinstance(error, UnavailableError)
    assert "doesn't answer as a TLS server does" in str(error)
