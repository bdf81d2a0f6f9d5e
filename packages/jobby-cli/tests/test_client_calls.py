"""Each call of the client does what it says, and each failure of one is a typed error."""

import concurrent.futures
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli_authority import Authority
from cli_files import write_files
from cli_peer import JOB, Peer, refuse, serving
from cli_waiting import DEADLINE_SECONDS

from jobby_client import (
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
    RefusedError,
    State,
    Status,
    UnavailableError,
    UnknownStartError,
    errors,
)
from jobby_proto.v1 import jobby_pb2 as pb


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


def test_a_client_shows_its_server(client: Client, peer: Peer) -> None:
    """A repr tells where it goes."""
    assert repr(client) == f"<Client of {peer.address}>"
