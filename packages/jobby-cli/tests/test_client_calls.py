import concurrent.futures
import os
import random
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli_authority import Authority
from cli_files import write_files
from cli_peer import Peer, end_of, refuse, serving
from cli_relay import Relay
from cli_waiting import DEADLINE_SECONDS, wait_until

from jobby_client import (
    Address,
    BrokenStreamError,
    CannotStartError,
    Client,
    ClientClosedError,
    DataLossError,
    InternalServerError,
    InvalidRequestError,
    JobbyClientError,
    LimitError,
    NotFoundError,
    PreconditionError,
    Reason,
    RefusedError,
    State,
    Status,
    Stream,
    StreamClosedError,
    UnavailableError,
    UnknownStartError,
    Usage,
    errors,
)
from jobby_proto.v1 import jobby_pb2 as pb

JOB = uuid.UUID("d19af777-cfa4-40a3-b835-244365b5a697")


@pytest.fixture
def client(ca: Authority, peer: Peer) -> Iterator[Client]:
    """A client of `peer`."""
    with Client(peer.address, ca.credentials()) as client:
        yield client


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


def test_the_program_of_the_readme_works(ca: Authority, peer: Peer, tmp_path: Path) -> None:
    """What the page shows can be copied and run."""
    page = (Path(__file__).parents[1] / "README.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    write_files(tmp_path, ca.pem, ca.leaf())

    def status(request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        if request.job_id == bytes(16):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such job")
        return pb.GetStatusResponse(current_status=pb.STATUS_COMPLETE, exit_code=3)

    peer.servicer.on_status = status
    done = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:50051", peer.address)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    chunk, shown, *_ = done.stdout.splitlines()
    assert chunk == "b'hello\\n'"
    assert shown.startswith("Status(state=<State.COMPLETED: 'COMPLETED'>, exit_code=3, ")
    assert "no such job" in done.stdout


def test_a_job_from_start_to_stop(client: Client, peer: Peer) -> None:
    """Start, follow, look, stop."""
    job_id = client.start("echo", ["hello"])
    assert isinstance(job_id, uuid.UUID)
    assert b"".join(client.output(job_id, "stdout")) == b"hello\n"
    assert client.status(job_id) == Status(State.COMPLETED, 0)
    client.stop(job_id)
    assert list(peer.servicer.starts[0].args) == ["hello"]
    assert peer.servicer.stops == [job_id]


def test_ids_are_taken_as_uuid_and_as_text(client: Client, peer: Peer) -> None:
    """Both name the same job; anything else is told before it is sent."""
    client.stop(JOB)
    client.stop(str(JOB))
    assert peer.servicer.stops == [JOB, JOB]
    for call in (client.stop, client.status, client.output):
        with pytest.raises(InvalidRequestError, match="not a job's id"):
            call("nonsense")


def test_what_protobuf_cannot_carry_is_told(client: Client, peer: Peer) -> None:
    """A lone surrogate, which a command line may hold, is a typed error."""
    for command, args in (("\udcff", []), ("x", ["ok", "\udcff"])):
        with pytest.raises(InvalidRequestError, match="UTF-8"):
            client.start(command, args)
    assert not peer.servicer.starts


@pytest.mark.parametrize("stream", [Stream.STDERR, "stderr"])
def test_the_stream_is_asked_for_by_name(client: Client, peer: Peer, stream: Any) -> None:
    """A wrong name is an error, not another stream."""
    peer.servicer.on_output = lambda request, context: [pb.OutputType.Name(request.type).encode()]
    assert list(client.output(JOB, stream)) == [b"OUTPUT_TYPE_STDERR"]
    with pytest.raises(ValueError, match="both"):
        client.output(JOB, "both")  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize("number", pb.Status.values())
def test_every_state_is_known_by_name(client: Client, peer: Peer, number: int) -> None:
    """Each state of the contract has its own here; what the server never sends is an error."""
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse.FromString(
        bytes([8, number])
    )
    name = pb.Status.Name(pb.Status.ValueType(number)).removeprefix("STATUS_")
    if name == "UNSPECIFIED":
        with pytest.raises(InternalServerError):
            client.status(JOB)
    else:
        expected = "COMPLETED" if name == "COMPLETE" else name
        assert client.status(JOB) == Status(State[expected], None)


@pytest.mark.parametrize("number", pb.EndReason.values())
def test_every_reason_is_known_by_name(client: Client, peer: Peer, number: int) -> None:
    """Each reason of the contract has its own here; none is a running job's."""
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse.FromString(
        bytes([8, pb.STATUS_COMPLETE, 24, number])
    )
    name = pb.EndReason.Name(pb.EndReason.ValueType(number)).removeprefix("END_REASON_")
    expected = None if name == "UNSPECIFIED" else Reason[name]
    assert client.status(JOB).reason is expected


def test_a_reason_of_a_later_server_is_none_and_no_error(client: Client, peer: Peer) -> None:
    """A client does without what it doesn't know, and without a clock's nonsense."""
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse.FromString(
        bytes([8, pb.STATUS_COMPLETE, 24, 99, 48, *[0xFF] * 8, 0x7F])
    )
    assert client.status(JOB) == Status(State.COMPLETED)


def test_a_status_has_all_that_the_server_tells(client: Client, peer: Peer) -> None:
    """Times, sizes, usage, signal and who stopped it, in their units."""
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse(
        current_status=pb.STATUS_STOPPED,
        reason=pb.END_REASON_STOPPED,
        signal=9,
        stopped_by="CN=bob",
        started_at_us=1_700_000_000_000_001,
        ended_at_us=1_700_000_001_500_000,
        stdout_bytes=2**40,
        stderr_bytes=7,
        usage=pb.ResourceUsage(user_cpu_us=1_500_000, system_cpu_us=2, max_rss_bytes=4096),
    )
    start = datetime(2023, 11, 14, 22, 13, 20, 1, UTC)
    assert client.status(JOB) == Status(
        state=State.STOPPED,
        exit_code=None,
        reason=Reason.STOPPED,
        signal=9,
        stopped_by="CN=bob",
        started_at=start,
        ended_at=start.replace(second=21, microsecond=500_000),
        stdout_bytes=2**40,
        stderr_bytes=7,
        usage=Usage(1.5, 2e-06, 4096),
    )


KINDS = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "FAILED_PRECONDITION": PreconditionError,
    "RESOURCE_EXHAUSTED": LimitError,
    "DATA_LOSS": DataLossError,
    "INTERNAL": InternalServerError,
    "UNKNOWN": InternalServerError,
    "UNIMPLEMENTED": InternalServerError,
    "ALREADY_EXISTS": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "UNAVAILABLE": UnavailableError,
    "ABORTED": UnavailableError,
    "CANCELLED": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
    "UNAUTHENTICATED": RefusedError,
    "PERMISSION_DENIED": RefusedError,
}


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_every_status_is_a_typed_error(client: Client, peer: Peer, code: grpc.StatusCode) -> None:
    """Each status that gRPC has is an error of ours, in calls and in streams, with its words."""
    peer.servicer.on_status = peer.servicer.on_output = refuse(code, "the server's words")
    with pytest.raises(JobbyClientError, match="the server's words") as caught:
        client.status(JOB)
    assert type(caught.value) is KINDS[code.name]
    with pytest.raises(KINDS[code.name], match="the server's words"):
        next(client.output(JOB))


def test_a_start_that_is_not_possible_has_a_type_of_its_own(client: Client, peer: Peer) -> None:
    """FAILED_PRECONDITION of a start means that the command cannot be started."""
    peer.servicer.on_start = refuse(grpc.StatusCode.FAILED_PRECONDITION, "not there")
    with pytest.raises(CannotStartError, match="not there"):
        client.start("x")


def test_an_unknown_status_counts_as_the_servers_defect() -> None:
    """A status of a later gRPC is no KeyError."""
    assert errors.kind_of("TEAPOT") is InternalServerError


def test_a_call_has_a_deadline(ca: Authority, peer: Peer) -> None:
    """A server that doesn't answer is given up, and what may have happened is said."""
    go = threading.Event()

    def never(request: object, context: Any) -> Any:
        go.wait(DEADLINE_SECONDS)
        context.abort(grpc.StatusCode.INTERNAL, "too late")

    peer.servicer.on_start = peer.servicer.on_status = never
    with Client(peer.address, ca.credentials(), call_seconds=0.2) as client:
        with pytest.raises(UnavailableError, match=r"no answer within 0\.2 seconds"):
            client.status(JOB)
        with pytest.raises(UnknownStartError, match="whether the job was started is not known"):
            client.start("x")
    go.set()


def test_a_stream_has_no_deadline_but_signs_of_life(
    ca: Authority, peer: Peer, relay: Relay
) -> None:
    """A peer that vanishes is found although no deadline is set."""
    peer.servicer.on_output = held_after(b"x" * 10)
    with Client(relay.address, ca.credentials(), call_seconds=0.1) as client:
        stream = client.output(JOB, reconnect_seconds=0)
        assert next(stream) == b"x" * 10
        relay.freeze()
        with pytest.raises(BrokenStreamError, match="after 10 bytes") as caught:
            next(stream)
    assert caught.value.bytes_received == 10


def held_after(*chunks: bytes) -> Any:
    """Output that doesn't end before its reader goes."""

    def output(request: object, context: Any) -> Iterator[bytes]:
        over = threading.Event()
        context.add_callback(over.set)
        yield from chunks
        over.wait()

    return output


def test_a_broken_connection_is_no_end(ca: Authority, peer: Peer, relay: Relay) -> None:
    """A stream that breaks raises, and raises again; it is never just over."""
    peer.servicer.on_output = held_after(b"x" * 10)
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
    peer.servicer.on_output = held_after(b"x")
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
    peer.servicer.on_output = held_after(b"x")
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
    peer.servicer.on_output = held_after(b"x")
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
    peer.servicer.on_output = held_after(b"x")
    client = Client(relay.address, ca.credentials())
    stream = client.output(JOB, on_reconnect=lambda error: client.close())
    next(stream)
    relay.cut()
    with pytest.raises(StreamClosedError):
        next(stream)
    assert len(peer.servicer.outputs) == 1


def test_a_closed_client_says_so(client: Client, peer: Peer) -> None:
    """Each call after `close` is an error of ours, and the server hears nothing of it."""
    client.close()
    client.close()
    calls: list[Callable[[], object]] = [
        *(lambda: client.start("x"), lambda: client.stop(JOB)),
        *(lambda: client.status(JOB), lambda: client.output(JOB)),
    ]
    for call in calls:
        with pytest.raises(ClientClosedError, match="the client was closed"):
            call()
    servicer = peer.servicer
    assert servicer.starts + servicer.stops + servicer.outputs == []


def test_closing_the_client_ends_a_call_under_way(client: Client, peer: Peer) -> None:
    """Who waits for an answer is woken; a start that was sent may have happened, and that is so."""
    asked, go = threading.Event(), threading.Event()

    def hold(request: object, context: Any) -> Any:
        asked.set()
        go.wait(DEADLINE_SECONDS)
        context.abort(grpc.StatusCode.INTERNAL, "too late")

    peer.servicer.on_start = peer.servicer.on_status = hold
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        looking = pool.submit(client.status, JOB)
        assert asked.wait(DEADLINE_SECONDS)
        asked.clear()
        starting = pool.submit(client.start, "x", request_id=b"mine")
        assert asked.wait(DEADLINE_SECONDS)
        client.close()
        told = (looking.exception(DEADLINE_SECONDS), starting.exception(DEADLINE_SECONDS))
        go.set()
    assert type(told[0]) is ClientClosedError
    assert isinstance(told[1], UnknownStartError)
    assert told[1].request_id == b"mine"
    assert "the client was closed" in str(told[1])


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


def test_a_refusal_is_told_from_no_server(ca: Authority) -> None:
    """Another CA's certificate: refused; nobody there: unavailable."""
    stranger = Authority().leaf()
    with serving(ca) as peer:
        with Client(peer.address, ca.credentials(stranger)) as client:
            with pytest.raises(RefusedError, match="not signed by the CA in"):
                client.start("x")
            with pytest.raises(RefusedError):
                next(client.output(JOB))
        address = peer.address
    with Client(address, ca.credentials(stranger)) as client:
        with pytest.raises(UnavailableError, match="no server answers"):
            client.status(JOB)


def test_a_client_leaves_nothing_behind(ca: Authority, peer: Peer) -> None:
    """Descriptors and threads after it are those before it."""
    program = (
        "import os, sys, threading, time\n"
        "from jobby_client import Client, Credentials\n"
        "def held():\n"
        "    return len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task'))\n"
        "def use():\n"
        "    with Client(sys.argv[1], Credentials.from_files(*sys.argv[2:])) as client:\n"
        "        job = client.start('x')\n"
        "        list(client.output(job)); client.status(job); client.output(job).close()\n"
        "use()\n"
        "before = held()\n"
        "for _ in range(50): use()\n"
        # gRPC closes connections in its own time, in threads of its own.
        "end = time.monotonic() + 60\n"
        "while any(now > then for now, then in zip(held(), before)):\n"
        "    assert time.monotonic() < end, (before, held())\n"
        "    threading.Event().wait(0.01)\n"
    )
    leaf = ca.leaf()
    paths = []
    for name, content in (("ca", ca.pem), ("cert", leaf.cert), ("key", leaf.key)):
        fd = os.memfd_create(name, 0)
        os.fchmod(fd, 0o600)
        os.write(fd, content)
        paths.append(fd)
    subprocess.run(
        [sys.executable, "-c", program, peer.address, *(f"/proc/self/fd/{fd}" for fd in paths)],
        pass_fds=paths,
        check=True,
    )
    for fd in paths:
        os.close(fd)


@pytest.mark.parametrize("way", ["wrong bytes", "closed", "whole"])
def test_a_program_ends_whatever_a_stream_was_doing(ca: Authority, peer: Peer, way: str) -> None:
    """gRPC's own thread, still busy with a stream's last event, doesn't keep a program from ending,
    though it holds the lock that the stream's own end needs."""
    program = (
        "import sys, threading, uuid\n"
        "from jobby_client import Client, Credentials, DataLossError\n"
        "in_there, at_the_end = threading.Event(), threading.Event()\n"
        # It is slow with the last event, under the lock: seldom otherwise, on a busy machine.
        # Should the program come to its end meanwhile, it finds the thread in there for good. That
        # it doesn't come shows in nothing but time; it's given much less than it waits for gRPC.
        "def slow(frame, event, argument):\n"
        "    if (frame.f_code.co_name, event) != ('_handle_event', 'return'):\n"
        "        return\n"
        "    if not frame.f_locals['state'].due:\n"
        "        in_there.set()\n"
        "        if at_the_end.wait(0.2):\n"
        "            threading.Event().wait()\n"
        "threading.setprofile(slow)\n"
        "def read(client, way):\n"
        "    stream = client.output(uuid.UUID(int=1))\n"
        "    cycle = [stream]\n"
        "    cycle.append(cycle)\n"  # for the collector to find, when the interpreter ends
        "    next(stream)\n"
        "    if way == 'closed':\n"
        "        return stream.close()\n"
        "    try:\n"
        "        assert (way, list(stream)) == ('whole', [])\n"
        "    except DataLossError:\n"
        "        assert way == 'wrong bytes'\n"
        "pems = sys.stdin.buffer.read().split(b'|')\n"
        "with Client(sys.argv[1], Credentials(*pems)) as client:\n"
        "    read(client, sys.argv[2])\n"
        "assert in_there.wait(30)\n"
        "at_the_end.set()\n"
    )
    wrong = [pb.GetJobOutputResponse(data=b"ab"), pb.GetJobOutputResponse(data=b"d", offset=3)]
    right = [pb.GetJobOutputResponse(data=b"ab"), end_of(2)]
    peer.servicer.on_output = lambda request, context: wrong if way == "wrong bytes" else right
    leaf = ca.leaf()
    subprocess.run(
        [sys.executable, "-c", program, peer.address, way],
        input=b"|".join([ca.pem, leaf.cert, leaf.key]),
        check=True,
        timeout=DEADLINE_SECONDS,
    )


def test_the_environment_is_not_touched(ca: Authority, peer: Peer) -> None:
    """Importing and using the package changes nothing in the process's environment."""
    program = (
        "import os, sys\n"
        "before = dict(os.environ)\n"
        "from jobby_client import Client, Credentials, UnavailableError\n"
        "pems = sys.stdin.buffer.read().split(b'|')\n"
        "with Client(sys.argv[1], Credentials(*pems)) as client:\n"
        "    client.start('x')\n"
        "assert dict(os.environ) == before\n"
    )
    leaf = ca.leaf()
    subprocess.run(
        [sys.executable, "-c", program, peer.address],
        input=b"|".join([ca.pem, leaf.cert, leaf.key]),
        check=True,
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("localhost:50051", "localhost:50051"),
        ("Jobs.Example.ORG:1", "jobs.example.org:1"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0::1]:80", "[::1]:80"),
        ("unix:1", "unix:1"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    """HOST:PORT in one spelling, so that jobs are found again."""
    assert str(Address.parse(text)) == shown
    assert Address.parse(shown) == Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "localhost:", ":1", "x:0", "x:65536", "x:-1", "::1:80", "[x]:1"),
        *("a b:1", "http://x:1", "x:1/", "unix:/tmp/socket", "x:٣", "[::1%25eth0\n]:1"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    """A URL, a missing port, another scheme: refused with words."""
    with pytest.raises(ValueError, match=r"HOST:PORT|no port|not an IPv6"):
        Address.parse(text)


def test_a_client_shows_its_server(client: Client, peer: Peer) -> None:
    """A repr tells where it goes."""
    assert repr(client) == f"<Client of {peer.address}>"


def test_a_silent_server_is_given_up(
    silent: "concurrent.futures.Future[BaseException | None]",
) -> None:
    """A connection that is accepted and then nothing: unavailable, in words."""
    error = silent.result(DEADLINE_SECONDS)
    assert isinstance(error, UnavailableError)
    assert "doesn't answer as a TLS server does" in str(error)
