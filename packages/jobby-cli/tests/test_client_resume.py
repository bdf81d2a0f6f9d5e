"""A stream goes on at the right byte after a break, and is never whole without its end."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import grpc
import pytest
from cli_authority import Authority
from cli_peer import JOB, Output, Peer, end_of, refuse, serving, then_silent, when_over
from cli_relay import Relay
from cli_waiting import DEADLINE_SECONDS

from jobby_client import (
    BrokenStreamError,
    Client,
    DataLossError,
    InternalServerError,
    JobbyClientError,
    LimitError,
    NotFoundError,
    OutputEnd,
    OutputStream,
    Reason,
    RefusedError,
    State,
    StreamClosedError,
    UnavailableError,
)
from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode


def in_turn(*outputs: Output) -> Output:
    """Answers the first call as the first says, the second as the second, the rest as the last."""
    left = list(outputs)

    def output(request: Any, context: Any) -> Iterable[bytes | pb.GetJobOutputResponse]:
        this = left.pop(0) if len(left) > 1 else left[0]
        return this(request, context)

    return output


def whole(*chunks: bytes) -> Output:
    """All of an output."""
    return lambda request, context: chunks


def then_refused(code: grpc.StatusCode, text: str, *chunks: bytes) -> Output:
    """Some of it, and then the server ends the call."""

    def output(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from chunks
        context.abort(code, text)

    return output


SHUT_DOWN = then_refused(CODE.UNAVAILABLE, "the server is restarting", b"abc", b"def")


def test_it_goes_on_at_the_byte_that_is_due(client: Client, peer: Peer) -> None:
    """After a break the server is asked for the rest alone, and who reads sees no seam."""
    peer.servicer.on_output = in_turn(SHUT_DOWN, whole(b"abcd", b"efgh"))
    lost: list[BrokenStreamError] = []
    stream = client.output(JOB, on_reconnect=lost.append)
    assert b"".join(stream) == b"abcdefgh"
    assert [request.offset for request in peer.servicer.outputs] == [0, 6]
    assert [(error.bytes_received, error.position) for error in lost] == [(6, 6)]
    assert "the server is restarting" in str(lost[0])
    digest = sha256(b"abcdefgh").digest()
    assert stream.end == OutputEnd(8, State.COMPLETED, 0, Reason.EXITED, digest)
    assert (stream.complete, stream.bytes_received, stream.position) == (True, 8, 8)


def test_what_was_asked_for_is_asked_for_again(client: Client, peer: Peer) -> None:
    """The job, the stream, and whether to follow stay; a tail goes on at its byte."""

    def tail(request: object, context: Any) -> Iterator[pb.GetJobOutputResponse]:
        yield pb.GetJobOutputResponse(data=b"cde", offset=2)
        context.abort(CODE.UNAVAILABLE, "later")

    peer.servicer.on_output = in_turn(tail, whole(b"abcdefgh"))
    stream = client.output(JOB, "stderr", tail_lines=1, follow=False)
    assert b"".join(stream) == b"cdefgh"
    assert peer.servicer.outputs == [
        pb.GetJobOutputRequest(
            job_id=JOB.bytes, type=pb.OUTPUT_TYPE_STDERR, tail_lines=1, follow=False
        ),
        pb.GetJobOutputRequest(
            job_id=JOB.bytes, type=pb.OUTPUT_TYPE_STDERR, offset=5, follow=False
        ),
    ]


def test_a_tail_keeps_its_place_before_its_first_byte(ca: Authority, relay: Relay) -> None:
    """What is written while a tail that was silent so far is cut off is not skipped."""
    place = "4"

    class Silent(grpc.GenericRpcHandler):
        def __init__(self) -> None:
            self.requests: list[pb.GetJobOutputRequest] = []
            self.heard = threading.Event()

        def service(self, details: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(
                self.output,
                pb.GetJobOutputRequest.FromString,
                pb.GetJobOutputResponse.SerializeToString,
            )

        def output(
            self, request: pb.GetJobOutputRequest, context: Any
        ) -> Iterator[pb.GetJobOutputResponse]:
            self.requests.append(request)
            context.send_initial_metadata((("jobby-offset", place),))
            if len(self.requests) == 1:
                self.heard.set()
                context.abort(CODE.UNAVAILABLE, "later")
            yield pb.GetJobOutputResponse(data=b"new", offset=4)
            yield end_of(7)

    handler = Silent()
    with serving(ca, handler=handler) as peer, Client(peer.address, ca.credentials()) as client:
        assert b"".join(client.output(JOB, tail_lines=0)) == b"new"
    assert [request.offset for request in handler.requests] == [0, 4]
    assert [request.HasField("tail_lines") for request in handler.requests] == [True, False]


def test_a_silence_before_the_first_answer_is_told_at_once(
    ca: Authority, peer: Peer, relay: Relay
) -> None:
    """No second look, which would wait in vain as long again, comes before the word of it."""
    lost: list[BrokenStreamError] = []

    def on_reconnect(error: BrokenStreamError) -> None:
        lost.append(error)
        relay.cut()

    with Client(relay.address, ca.credentials()) as client:
        client.status(JOB)
        relay.freeze()
        assert b"".join(client.output(JOB, on_reconnect=on_reconnect)) == b"hello\n"
    assert [error.bytes_received for error in lost] == [0]
    assert relay.accepted == 2  # the one that fell silent, and the one that replaced it


@pytest.mark.parametrize("way", ["cut", "half-closed"])
def test_many_breaks_leave_no_trace(ca: Authority, peer: Peer, relay: Relay, way: str) -> None:
    """However often the connection breaks, the bytes are those of one that never did."""
    data = random.Random(3).randbytes(300_000)
    chunks = [data[i : i + 10_000] for i in range(0, len(data), 10_000)]

    def output(request: pb.GetJobOutputRequest, context: Any) -> Iterator[bytes]:
        over = threading.Event()
        when_over(context, over.set)
        for number, chunk in enumerate(chunks, 1):
            yield chunk
            if number % 3 == 0 and request.offset < number * 10_000 < len(data):
                over.wait()  # it doesn't come to an end before it is broken

    peer.servicer.on_output = output
    breaks: list[int] = []
    with Client(relay.address, ca.credentials()) as client:
        stream = client.output(JOB, on_reconnect=lambda error: breaks.append(error.bytes_received))
        found = bytearray()
        for chunk in stream:
            found += chunk
            if len(found) % 30_000 == 0 and len(found) < len(data):
                relay.cut() if way == "cut" else relay.half_close()
        relay.cut()
    assert sha256(found).digest() == sha256(data).digest()
    assert breaks == list(range(30_000, 300_000, 30_000))


def test_no_end_is_no_success(client: Client, peer: Peer) -> None:
    """A stream that the server closes with OK, but without its end, is broken: now and later."""
    peer.servicer.on_output = lambda request, context: [
        pb.GetJobOutputResponse(data=b"all there is")
    ]
    stream = client.output(JOB)
    assert next(stream) == b"all there is"
    for _ in range(2):
        with pytest.raises(BrokenStreamError, match=r"after 12 bytes \(it has no end") as caught:
            next(stream)
    assert (caught.value.bytes_received, caught.value.position) == (12, 12)
    assert not stream.complete
    assert stream.end is None
    assert len(peer.servicer.outputs) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pb.GetJobOutputResponse(data=b"c", offset=3),
        pb.GetJobOutputResponse(data=b"b", offset=1),
        pb.GetJobOutputResponse(data=b"a"),
        end_of(3),
        end_of(2, sha256=sha256(b"xy").digest()),
    ],
    ids=["gap", "overlap", "again", "short", "other"],
)
def test_wrong_bytes_are_data_loss(
    client: Client, peer: Peer, wrong: pb.GetJobOutputResponse
) -> None:
    """What isn't the next byte is an error that stays, and the server's side is let go."""

    def output(request: object, context: Any) -> Iterator[pb.GetJobOutputResponse]:
        yield pb.GetJobOutputResponse(data=b"ab")
        yield wrong
        yield from then_silent()(request, context)  # type: ignore[misc]  # it yields nothing

    peer.servicer.on_output = output
    stream = client.output(JOB)
    assert next(stream) == b"ab"
    for _ in range(2):
        with pytest.raises(DataLossError, match="after 2 bytes"):
            next(stream)
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (CODE.NOT_FOUND, BrokenStreamError, "doesn't know the job any more"),
        (CODE.OUT_OF_RANGE, DataLossError, r"less of it than what had arrived \(after 6 bytes"),
        (CODE.UNAUTHENTICATED, RefusedError, r"words \(after 6 bytes"),
        (CODE.INTERNAL, InternalServerError, r"words \(after 6 bytes"),
        (CODE.DATA_LOSS, DataLossError, r"words \(after 6 bytes"),
        (CODE.RESOURCE_EXHAUSTED, LimitError, r"words \(after 6 bytes"),
    ],
)
def test_some_answers_to_a_new_attempt_are_final(
    client: Client, peer: Peer, code: grpc.StatusCode, kind: type[JobbyClientError], said: str
) -> None:
    """A server that forgot the job, lost bytes or lets nobody in is not asked again."""
    peer.servicer.on_output = in_turn(SHUT_DOWN, refuse(code, "words"))
    stream = client.output(JOB)
    assert next(stream) + next(stream) == b"abcdef"
    for _ in range(2):
        with pytest.raises(kind, match=said) as caught:
            next(stream)
        assert type(caught.value) is kind
    assert len(peer.servicer.outputs) == 2


def test_a_job_that_is_not_there_is_asked_for_once(client: Client, peer: Peer) -> None:
    """Before anything has come, every answer is final."""
    peer.servicer.on_output = refuse(CODE.NOT_FOUND, "no such job")
    with pytest.raises(NotFoundError):
        next(client.output(JOB))
    peer.servicer.on_output = refuse(CODE.UNAVAILABLE, "shutting down")
    with pytest.raises(UnavailableError, match="shutting down"):
        next(client.output(JOB))
    assert len(peer.servicer.outputs) == 2


def test_who_was_ended_for_not_reading_reads_on(client: Client, peer: Peer) -> None:
    """A pager that stood still too long gets the rest; without reconnecting, it is told."""
    stalled = then_refused(CODE.RESOURCE_EXHAUSTED, "the reader took nothing", b"abc")
    peer.servicer.on_output = in_turn(stalled, whole(b"abcdef"))
    assert b"".join(client.output(JOB)) == b"abcdef"
    peer.servicer.on_output = stalled
    with pytest.raises(LimitError, match=r"the reader took nothing \(after 3 bytes"):
        b"".join(client.output(JOB, reconnect_seconds=0))


def test_a_limit_of_the_server_is_final_and_named(client: Client, peer: Peer) -> None:
    """Who is answered, and then refused for want of something, is told at once of what."""
    limited = then_refused(CODE.RESOURCE_EXHAUSTED, "inotify watches are used up")
    peer.servicer.on_output = in_turn(SHUT_DOWN, limited)
    with pytest.raises(LimitError, match=r"inotify watches are used up \(after 6 bytes"):
        b"".join(client.output(JOB))
    peer.servicer.on_output = limited
    with pytest.raises(LimitError, match="inotify watches are used up"):
        next(client.output(JOB))
    assert len(peer.servicer.outputs) == 3


def test_it_gives_up_when_nobody_comes_back(ca: Authority) -> None:
    """A server that is gone for good: what arrived, why, and where to read on."""
    with serving(ca) as peer:
        peer.servicer.on_output = then_silent(b"0123456789")
        client = Client(peer.address, ca.credentials())
        lost: list[BrokenStreamError] = []
        stream = client.output(JOB, offset=3, reconnect_seconds=0.5, on_reconnect=lost.append)
        assert next(stream) == b"3456789"
    with client, pytest.raises(BrokenStreamError) as caught:
        next(stream)
    assert (caught.value.bytes_received, caught.value.position) == (7, 10)
    assert "no server answers at" in str(caught.value)
    assert "0.5 seconds of reconnecting were in vain" in str(caught.value)
    assert "read on from byte 10" in str(caught.value)
    assert len(lost) == 1, "one break, however many attempts"


def test_it_does_not_wait_for_a_server_that_never_was(ca: Authority) -> None:
    """Who has the address wrong is told at once."""
    with serving(ca) as peer:
        address = peer.address
    started = time.monotonic()
    with Client(address, ca.credentials()) as client:
        with pytest.raises(UnavailableError, match="no server answers"):
            next(client.output(JOB, reconnect_seconds=1000))
    assert time.monotonic() - started < DEADLINE_SECONDS


def test_a_break_before_the_answer_is_mended_too(ca: Authority, peer: Peer, relay: Relay) -> None:
    """Who was connected when it broke goes on, though nothing had come, not even a head."""
    calls: list[int] = []

    def output(request: object, context: Any) -> Iterable[bytes]:
        calls.append(1)
        if len(calls) == 1:
            relay.cut()  # before the initial metadata
        return [b"abc"]

    peer.servicer.on_output = output
    with Client(relay.address, ca.credentials()) as client:
        assert b"".join(client.output(JOB)) == b"abc"
    assert len(calls) == 2


def test_closing_ends_the_wait_for_a_server(ca: Authority) -> None:
    """`close` from another thread ends a stream that is about to reconnect."""
    lost = threading.Event()
    caught: list[BaseException] = []

    def read(stream: OutputStream) -> None:
        try:
            list(stream)
        except StreamClosedError as error:
            caught.append(error)

    with serving(ca) as peer:
        peer.servicer.on_output = then_silent(b"x")
        client = Client(peer.address, ca.credentials())
        stream = client.output(JOB, reconnect_seconds=1000, on_reconnect=lambda error: lost.set())
        assert next(stream) == b"x"
        thread = threading.Thread(target=read, args=(stream,))
        thread.start()
    assert lost.wait(DEADLINE_SECONDS)
    stream.close()
    thread.join(DEADLINE_SECONDS)
    assert len(caught) == 1
    assert repr(stream) == "<OutputStream closed bytes=1>"
    with pytest.raises(StreamClosedError):
        next(stream)
    client.close()


def test_a_restarted_server_is_found_again(ca: Authority) -> None:
    """The stream survives the server's end and its successor on the same port."""
    data = random.Random(5).randbytes(50_000)
    with serving(ca) as peer:
        peer.servicer.on_output = then_silent(data[:20_000])
        client = Client(peer.address, ca.credentials())
        stream = client.output(JOB)
        assert next(stream) == data[:20_000]
        port = peer.port
    with client, serving(ca, port=port) as peer:
        peer.servicer.on_output = whole(data)
        assert b"".join(stream) == data[20_000:]
        assert peer.servicer.outputs[0].offset == 20_000
