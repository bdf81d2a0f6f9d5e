"""Each call of the contract, by clients generated from the RFD's text and the published one."""

import uuid

import grpc
import pytest

from support import calls
from support.calls import Client, Contract
from support.certificates import Authority
from support.server import Server

LIST_SERVICES = b"\x3a\x00"  # ServerReflectionRequest.list_services (field 7), empty
SERVING = b"\x08\x01"  # HealthCheckResponse.status (field 1): SERVING


def test_each_text_has_its_own_paths(contracts: dict[str, Contract]) -> None:
    """The RFD's methods have no package, the published ones jobby.v1."""
    for contract in contracts.values():
        service = contract.messages.DESCRIPTOR.services_by_name["Jobby"]
        assert service.full_name == contract.service


def test_a_job_from_start_to_end(either: Client) -> None:
    """A job runs with its arguments as they are, and both its outputs come back apart."""
    job = either.start("sh", "-c", 'printf "%s|" "$@"; echo oops >&2; exit 3', "sh", "a b", "", "*")
    assert len(job) == 16
    assert uuid.UUID(bytes=job).version == 4
    assert either.read(job) == b"a b||*|"
    assert either.read(job, "STDERR") == b"oops\n"
    assert either.status(job) == ("STATUS_COMPLETE", 3)


def test_a_running_job_is_stopped(either: Client) -> None:
    """A job is RUNNING until it is stopped, then STOPPED without an exit code, for ever."""
    job = either.start("sleep", "1000")
    assert either.status(job) == ("STATUS_RUNNING", None)
    either.stop(job)
    assert either.status(job) == ("STATUS_STOPPED", None)
    either.stop(job)
    assert either.status(job) == ("STATUS_STOPPED", None)


def test_stopping_what_has_ended_changes_nothing(either: Client) -> None:
    """A job that ended by itself stays COMPLETE when it is stopped afterwards."""
    job = either.start("true")
    assert either.ended(job) == ("STATUS_COMPLETE", 0)
    either.stop(job)
    assert either.status(job) == ("STATUS_COMPLETE", 0)


def test_a_job_killed_by_another_is_complete(either: Client) -> None:
    """A signal that is not StopJob's shows as 128 + its number."""
    job = either.start("sh", "-c", "kill -KILL $$")
    assert either.ended(job) == ("STATUS_COMPLETE", 137)


def test_an_id_may_be_text(either: Client) -> None:
    """The text form of an id is taken wherever its 16 bytes are."""
    job = either.start("echo", "hello")
    text = str(uuid.UUID(bytes=job)).encode()
    assert either.read(text) == b"hello\n"
    assert either.read(text.upper()) == b"hello\n"
    assert either.status(text) == ("STATUS_COMPLETE", 0)
    either.stop(text)


def test_both_texts_name_the_same_jobs(
    contracts: dict[str, Contract], authority: Authority, server: Server
) -> None:
    """A job started through one path is there through the other."""
    identity = authority.client("alice")
    with (
        calls.client(contracts["rfd"], server.address, identity) as old,
        calls.client(contracts["v1"], server.address, identity) as new,
    ):
        assert new.read(old.start("echo", "one")) == b"one\n"
        assert old.read(new.start("echo", "two")) == b"two\n"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 15, b"\0" * 17, b"d19af777", b"g" * 36, b"{%s}" % str(uuid.UUID(int=7)).encode()],
)
def test_a_malformed_id_is_named(either: Client, raw: bytes) -> None:
    """Whatever is no id is INVALID_ARGUMENT on every call that takes one, and says which field."""
    for attempt in (either.status, either.stop, either.read):
        failed = calls.failure(attempt, raw)
        assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
        assert failed.text.startswith("job_id: ")


@pytest.mark.parametrize("kind", [0, 3, -1, 2**31 - 1])
def test_an_unknown_output_type_is_named(either: Client, kind: int) -> None:
    """An output type that is unspecified or unknown is INVALID_ARGUMENT, and says which field."""
    job = either.start("true")
    request = either.contract.GetJobOutputRequest(job_id=job, type=kind)
    failed = calls.failure(list, either.stub.GetJobOutput(request))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.text.startswith("type: ")


@pytest.mark.parametrize(
    ("command", "arguments", "field"),
    [("", [], "command"), ("ec\0ho", [], "command"), ("echo", ["a", "b\0c"], "args[1]")],
)
def test_what_can_never_start_is_named(
    either: Client, command: str, arguments: list[str], field: str
) -> None:
    """An empty command and a NUL anywhere are INVALID_ARGUMENT, and say which field."""
    failed = calls.failure(either.start, command, *arguments)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in failed.text


def test_what_is_no_request_is_invalid(either: Client) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, not an accident."""
    path = f"/{either.contract.service}/StartJob"
    failed = calls.failure(calls.raw, either.channel, path, b"\xff\xff\xff")
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT


def test_fields_of_a_newer_client_are_ignored(either: Client) -> None:
    """A request with a field that this server doesn't know is served."""
    command, unknown = b"\x0a\x04true", b"\x7a\x03new"  # fields 1 and 15
    answer = calls.raw(either.channel, f"/{either.contract.service}/StartJob", command + unknown)
    job = either.contract.StartJobResponse.FromString(answer).job_id
    assert either.ended(job) == ("STATUS_COMPLETE", 0)


def test_an_unknown_method_is_unimplemented(either: Client) -> None:
    """A method that isn't in the contract is UNIMPLEMENTED."""
    path = f"/{either.contract.service}/Restart"
    failed = calls.failure(calls.raw, either.channel, path, b"")
    assert failed.code is grpc.StatusCode.UNIMPLEMENTED


def test_health_is_served(either: Client) -> None:
    """The standard health service answers for the server and for each name of the service."""
    name = either.contract.service.encode()
    for request in (b"", bytes([0x0A, len(name)]) + name):
        assert calls.raw(either.channel, "/grpc.health.v1.Health/Check", request) == SERVING


def test_reflection_is_served(either: Client) -> None:
    """The standard reflection service lists the contract."""
    # A stream of one message each way is a single call on the wire.
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    answer = calls.raw(either.channel, path, LIST_SERVICES)
    assert b"jobby.v1.Jobby" in answer
    assert b"grpc.health.v1.Health" in answer
