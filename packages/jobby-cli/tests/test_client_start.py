"""A start happens once, though its answer may be lost."""

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cli_authority import Authority
from cli_command import Cli
from cli_peer import JOB, Peer, refuse, serving
from cli_relay import Relay
from cli_waiting import DEADLINE_SECONDS

from jobby_client import (
    CannotStartError,
    Client,
    InvalidRequestError,
    JobbyClientError,
    UnavailableError,
    UnknownStartError,
)
from jobby_proto.v1 import jobby_pb2 as pb


def test_every_start_has_an_id_of_its_own(ca: Authority, peer: Peer) -> None:
    """Without one, each gets a random one; a given one and the limits are sent as they are."""
    with Client(peer.address, ca.credentials()) as client:
        client.start("x")
        client.start("x")
        client.start("x", max_output_bytes=5, timeout_seconds=0.0001, request_id=b"mine")
    one, two, three = peer.servicer.starts
    assert len(one.request_id) == len(two.request_id) == 16
    assert one.request_id != two.request_id
    assert (one.max_output_bytes, one.timeout_ms) == (0, 0)
    # The shortest limit there is: 0 would be none.
    assert three == pb.StartJobRequest(
        command="x", max_output_bytes=5, timeout_ms=1, request_id=b"mine"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"max_output_bytes": 0},
        {"max_output_bytes": -1},
        {"max_output_bytes": 2**64},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": float("nan")},
        {"request_id": b""},
        {"request_id": b"x" * 65},
    ],
)
def test_limits_that_are_none_are_told(ca: Authority, peer: Peer, options: dict[str, Any]) -> None:
    """What would mean "no limit" in the contract, or nothing at all, is not sent."""
    with Client(peer.address, ca.credentials()) as client:
        with pytest.raises(InvalidRequestError):
            client.start("x", **options)
    assert not peer.servicer.starts


@pytest.mark.parametrize("args", ["hello", b"hello"], ids=["str", "bytes"])
def test_one_string_is_not_taken_for_its_characters(ca: Authority, peer: Peer, args: Any) -> None:
    """Another command than was meant would run."""
    with Client(peer.address, ca.credentials()) as client:
        with pytest.raises(InvalidRequestError, match="args is one string; give a sequence"):
            client.start("echo", args)
    assert not peer.servicer.starts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_seconds": 0}, "has to be more than 0"),
        ({"timeout_seconds": float("nan")}, "has to be more than 0"),
        ({"timeout_seconds": 1e30}, "is too long: .*; give 18446744073709551 or less"),
        ({"timeout_seconds": float("inf")}, "is too long"),
        ({"max_output_bytes": 0}, "is out of range: 0; give 1 or more"),
        ({"max_output_bytes": 2**64}, "is out of range: .*; give 18446744073709551615 or less"),
    ],
)
def test_the_way_out_of_a_limit_leads_there(
    ca: Authority, options: dict[str, Any], said: str
) -> None:
    """Too little is told as too little, and too much as too much."""
    with Client("localhost:1", ca.credentials()) as client:
        with pytest.raises(InvalidRequestError, match=said):
            client.start("x", **options)


def test_a_beginning_that_is_none_is_told(ca: Authority, peer: Peer) -> None:
    """An offset or tail out of range, or both, is an error before anything is sent."""
    wrong: list[dict[str, Any]] = [
        *({"offset": -1}, {"offset": 2**64}, {"tail_lines": -1}, {"tail_lines": 2**64}),
        {"offset": 1, "tail_lines": 1},
    ]
    with Client(peer.address, ca.credentials()) as client:
        for options in wrong:
            with pytest.raises(InvalidRequestError):
                client.output(JOB, **options)
    assert not peer.servicer.outputs


def test_a_lost_answer_is_asked_for_again(ca: Authority, peer: Peer, relay: Relay) -> None:
    """The connection breaks while the server starts the job: the same id is sent once more."""

    def start(request: pb.StartJobRequest, context: Any) -> pb.StartJobResponse:
        if len(peer.servicer.starts) < 3:
            relay.cut()
        return pb.StartJobResponse(job_id=JOB.bytes)

    peer.servicer.on_start = start
    with Client(relay.address, ca.credentials()) as client:
        assert client.start("x", ["y"], timeout_seconds=2) == JOB
    first, *rest = peer.servicer.starts
    assert rest == [first] * 2


def lost_and_then(peer: Peer, relay: Relay, answer: Callable[[Any, Any], Any]) -> None:
    """Has the peer lose its first answer to a start, and give another to the second."""

    def start(request: pb.StartJobRequest, context: Any) -> Any:
        if len(peer.servicer.starts) > 1:
            return answer(request, context)
        relay.cut()
        return pb.StartJobResponse(job_id=JOB.bytes)

    peer.servicer.on_start = start


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, UnknownStartError),
        (grpc.StatusCode.INTERNAL, UnknownStartError),
        (grpc.StatusCode.UNIMPLEMENTED, UnknownStartError),
        (grpc.StatusCode.UNAUTHENTICATED, UnknownStartError),
        (grpc.StatusCode.PERMISSION_DENIED, UnknownStartError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.ALREADY_EXISTS, InvalidRequestError),
        (grpc.StatusCode.FAILED_PRECONDITION, CannotStartError),
    ],
)
def test_a_refusal_after_a_lost_answer_says_nothing_of_the_first_time(
    ca: Authority,
    peer: Peer,
    relay: Relay,
    code: grpc.StatusCode,
    kind: type[JobbyClientError],
) -> None:
    """The job may run, whatever the server holds against the second ask; unless the answer is
    about that very start."""
    lost_and_then(peer, relay, refuse(code, "the server's words"))
    with Client(relay.address, ca.credentials()) as client:
        with pytest.raises(JobbyClientError, match="the server's words") as caught:
            client.start("x", request_id=b"mine")
    assert type(caught.value) is kind
    if isinstance(caught.value, UnknownStartError):
        assert caught.value.request_id == b"mine"
    assert len(peer.servicer.starts) == 2


@pytest.mark.parametrize("who", ["the client", "the server"])
def test_a_certificate_refused_after_a_lost_answer_leaves_the_start_unknown(
    ca: Authority, peer: Peer, relay: Relay, who: str
) -> None:
    """A server that comes back with another CA, or another's certificate, may have started it."""
    stranger = Authority()
    leaf, client_ca = (None, stranger.pem) if who == "the client" else (stranger.server(), ca.pem)
    with serving(ca, leaf, client_ca=client_ca) as other:

        def start(request: pb.StartJobRequest, context: Any) -> pb.StartJobResponse:
            relay.lead_to(other.port)
            relay.cut()
            return pb.StartJobResponse(job_id=JOB.bytes)

        peer.servicer.on_start = start
        with Client(relay.address, ca.credentials(), call_seconds=1000) as client:
            with pytest.raises(UnknownStartError, match=r"doesn't accept|is not trusted") as caught:
                client.start("x", request_id=b"mine")
    assert caught.value.request_id == b"mine"


def test_the_command_says_how_to_ask_again(
    ca: Authority, peer: Peer, relay: Relay, jobby: Cli
) -> None:
    """A start that may have happened is 69, and its id is among the words."""
    lost_and_then(peer, relay, refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many jobs"))
    done = jobby("--server", relay.address, "start", "--request-id", "mine", "x")
    assert (done.code, done.out) == (69, b"")
    assert "too many jobs; the job may have been started; with --request-id mine" in done.err


def test_a_server_that_does_not_come_back_leaves_the_start_unknown(ca: Authority) -> None:
    """It dies in the middle of a start: after the time for a call, that is said, with the id."""
    with serving(ca) as peer:
        hit, go = threading.Event(), threading.Event()

        def start(request: object, context: Any) -> pb.StartJobResponse:
            hit.set()
            go.wait(DEADLINE_SECONDS)
            return pb.StartJobResponse(job_id=JOB.bytes)

        peer.servicer.on_start = start
        client = Client(peer.address, ca.credentials(), call_seconds=3)
        caught: list[UnknownStartError] = []

        def run() -> None:
            try:
                client.start("x", request_id=b"mine")
            except UnknownStartError as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert hit.wait(DEADLINE_SECONDS)
        peer.server.stop(None)
        go.set()
        thread.join(DEADLINE_SECONDS)
        client.close()
    assert "whether the job was started is not known" in str(caught[0])
    assert caught[0].request_id == b"mine"


def test_an_answer_is_an_answer(ca: Authority, peer: Peer) -> None:
    """What the server says itself is not asked for again, and a server that isn't there neither."""
    peer.servicer.on_start = refuse(grpc.StatusCode.UNAVAILABLE, "shutting down")
    with Client(peer.address, ca.credentials()) as client:
        with pytest.raises(UnavailableError, match="shutting down"):
            client.start("x")
        peer.servicer.on_start = refuse(grpc.StatusCode.ALREADY_EXISTS, "another command")
        with pytest.raises(InvalidRequestError, match="another command"):
            client.start("x", request_id=b"used")
    assert len(peer.servicer.starts) == 2
    with serving(ca) as gone:
        address = gone.address
    began = time.monotonic()
    with Client(address, ca.credentials(), call_seconds=1000) as client:
        with pytest.raises(UnavailableError, match="no server answers") as caught:
            client.start("x")
    assert not isinstance(caught.value, UnknownStartError)
    assert time.monotonic() - began < DEADLINE_SECONDS
