"""The translation between core and contract: every member, both ways."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobby_core
from jobby_core import JobbyError, Reason, State, Status, Stream, Usage
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import wire
from jobby_server.journal import Journal
from jobby_server.lifetime import shutting_down
from jobby_server.limits import Limits
from jobby_server.refusal import RefusedError
from jobby_server.servicer import JobbyServicer
from jobby_server.starter import Starter
from jobby_server.state_dir import StateDir
from jobby_server.store import Store

CODE = grpc.StatusCode
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@given(st.uuids())
def test_an_id_is_read_in_both_forms(job_id: uuid.UUID) -> None:
    """The 16 bytes and the text, in either case, are the same id."""
    text = str(job_id).encode()
    assert wire.job_id(job_id.bytes) == wire.job_id(text) == wire.job_id(text.upper()) == job_id


def is_uuid(raw: bytes) -> bool:
    """Whether bytes are a UUID's text: what uuid writes, in either case, and nothing else."""
    try:
        return str(uuid.UUID(raw.decode("ascii"))).encode() == raw.lower()
    except ValueError:
        return False


@given(st.binary(max_size=64).filter(lambda raw: len(raw) != 16))
def test_other_bytes_are_no_id(raw: bytes) -> None:
    """Whatever is neither form is INVALID_ARGUMENT, names the field, and never breaks."""
    if is_uuid(raw):
        assert str(wire.job_id(raw)).encode() == raw.lower()
        return
    with pytest.raises(RefusedError) as caught:
        wire.job_id(raw)
    assert caught.value.code is CODE.INVALID_ARGUMENT
    assert caught.value.text.startswith("job_id: ")


@given(st.integers(min_value=-(2**31), max_value=2**31 - 1))
def test_every_number_of_an_output_type_is_known_or_refused(number: int) -> None:
    """Enums are open on the wire: a number that nobody defined must not become a stream."""
    names = {v.name: v.number for v in pb.OutputType.DESCRIPTOR.values}
    known = {names["OUTPUT_TYPE_STDOUT"]: Stream.STDOUT, names["OUTPUT_TYPE_STDERR"]: Stream.STDERR}
    if number in known:
        assert wire.stream(number) is known[number]
    else:
        with pytest.raises(RefusedError, match="type: "):
            wire.stream(number)


def test_every_output_type_of_the_contract_is_decided() -> None:
    """Each member is a stream of the core, one to one, except the unspecified one."""
    members = {v.name: v.number for v in pb.OutputType.DESCRIPTOR.values}
    with pytest.raises(RefusedError, match="unspecified"):
        wire.stream(members.pop("OUTPUT_TYPE_UNSPECIFIED"))
    assert sorted(wire.stream(n).name for n in members.values()) == sorted(s.name for s in Stream)


def response_of(status: Status) -> pb.GetStatusResponse:
    """How a job without output is told."""
    return wire.status_response(status, stdout_bytes=0, stderr_bytes=0)


def test_every_state_has_a_status_of_its_own() -> None:
    """Each state of the core is told by its name, and each status of the contract is used."""
    told = {
        state: pb.Status.Name(response_of(Status(state, None, None, NOW, None)).current_status)
        for state in State
    }
    assert told == {
        State.RUNNING: "STATUS_RUNNING",
        State.COMPLETED: "STATUS_COMPLETE",
        State.STOPPED: "STATUS_STOPPED",
    }
    assert {*told.values(), "STATUS_UNSPECIFIED"} == set(pb.Status.keys())


@given(st.sampled_from(State), st.none() | st.integers(0, 255))
def test_the_exit_code_is_there_only_when_complete(state: State, exit_code: int | None) -> None:
    """0 and absent are different answers, and a stopped job has none."""
    response = response_of(Status(state, exit_code, None, NOW, NOW))
    wanted = exit_code if state is State.COMPLETED else None
    assert (response.exit_code if response.HasField("exit_code") else None) == wanted


def test_every_reason_of_the_core_has_one_of_its_own() -> None:
    """Each reason is told by its name; the contract's other two are a running and no job's."""
    told = {
        reason: pb.EndReason.Name(
            response_of(Status(State.COMPLETED, None, None, NOW, NOW, reason)).reason
        )
        for reason in Reason
    }
    assert told == {reason: f"END_REASON_{reason.name}" for reason in Reason}
    assert {*told.values(), "END_REASON_UNSPECIFIED", "END_REASON_NOT_STARTED"} == set(
        pb.EndReason.keys()
    )
    running = response_of(Status(State.RUNNING, None, None, NOW, None))
    assert running.reason == pb.END_REASON_UNSPECIFIED


moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have to be naive


@given(moments, st.none() | moments, st.none() | st.integers(1, 64), st.integers(0, 2**63))
def test_a_status_is_told_to_the_microsecond_and_byte(
    start: datetime, end: datetime | None, signal: int | None, size: int
) -> None:
    """Times, sizes, the signal and who stopped it arrive as they are; what is absent is zero."""
    status = Status(State.STOPPED, None, signal, start, end, Reason.STOPPED)
    response = wire.status_response(
        status, stopped_by="CN=bob", stdout_bytes=size, stderr_bytes=size + 1
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch + timedelta(microseconds=response.started_at_us) == start
    if end is None:
        assert response.ended_at_us == 0
    else:
        assert epoch + timedelta(microseconds=response.ended_at_us) == end
    assert response.signal == (signal or 0)
    assert response.stopped_by == "CN=bob"
    assert (response.stdout_bytes, response.stderr_bytes) == (size, size + 1)
    assert not response.HasField("usage")


def test_usage_is_told_in_its_units() -> None:
    """Seconds become microseconds, and bytes stay bytes."""
    status = Status(State.COMPLETED, 0, None, NOW, NOW, Reason.EXITED, Usage(1.5, 0.000_002, 4096))
    usage = response_of(status).usage
    assert (usage.user_cpu_us, usage.system_cpu_us) == (1_500_000, 2)
    assert usage.max_rss_bytes == 4096


@given(
    st.binary(min_size=1, max_size=70_000) | st.sampled_from([127, 128, 16_383, 16_384]).map(bytes),
    st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 127, 128]),
)
def test_a_chunk_written_by_hand_is_what_protobuf_writes(data: bytes, offset: int) -> None:
    """The shortcut for output is byte for byte the message of the contract."""
    message = pb.GetJobOutputResponse(data=data, offset=offset)
    assert wire.encode_chunk(data, offset) == message.SerializeToString()


def test_the_end_of_a_stream_tells_how_the_job_stands() -> None:
    """Total, status, exit code, reason and digest are those of the status and of the output."""
    status = Status(State.COMPLETED, 3, None, NOW, NOW, Reason.EXITED)
    message = pb.GetJobOutputResponse.FromString(wire.encode_end(status, 7, b"d" * 32))
    assert message == pb.GetJobOutputResponse(
        offset=7,
        end=pb.OutputEnd(
            total_bytes=7,
            status=pb.STATUS_COMPLETE,
            exit_code=3,
            reason=pb.END_REASON_EXITED,
            sha256=b"d" * 32,
        ),
    )
    stopped = Status(State.STOPPED, None, 9, NOW, NOW, Reason.STOPPED)
    end = pb.GetJobOutputResponse.FromString(wire.encode_end(stopped, 0, b"")).end
    assert not end.HasField("exit_code")
    assert end.status == pb.STATUS_STOPPED


def test_one_beginning_is_asked_for() -> None:
    """Offset and tail together are refused by name; absent fields mean all of it, followed."""
    request = pb.GetJobOutputRequest(type=pb.OUTPUT_TYPE_STDERR)
    assert wire.output_wanted(request) == wire.OutputWanted(Stream.STDERR, 0, None, True)
    request.follow = False
    request.tail_lines = 0
    assert wire.output_wanted(request) == wire.OutputWanted(Stream.STDERR, 0, 0, False)
    request.offset = 1
    with pytest.raises(RefusedError, match="INVALID_ARGUMENT: tail_lines: ") as caught:
        wire.output_wanted(request)
    assert caught.value.code is CODE.INVALID_ARGUMENT


ERRORS = {
    "ArgumentsTooLongError": CODE.INVALID_ARGUMENT,
    "CommandNotExecutableError": CODE.FAILED_PRECONDITION,
    "CommandNotFoundError": CODE.FAILED_PRECONDITION,
    "IllegalMoveError": None,
    "InvalidJobError": CODE.INVALID_ARGUMENT,
    "JobbyError": None,
    "LauncherError": None,
    "LimitError": CODE.RESOURCE_EXHAUSTED,
    "NotStartedError": None,
    "OutputError": None,
    "OutputExistsError": None,
    "OutputMissingError": CODE.DATA_LOSS,
    "OutputTruncatedError": CODE.DATA_LOSS,
    "ReaderBusyError": None,
    "ReaderClosedError": None,
    "RecordError": None,
    "StartError": None,
    "StopError": CODE.FAILED_PRECONDITION,
    "UnreachableJobError": None,
    "WorkingDirectoryError": CODE.FAILED_PRECONDITION,
}


def core_errors() -> set[str]:
    """Returns the name of every error that the core publishes."""
    public = {name: getattr(jobby_core, name) for name in jobby_core.__all__}
    return {
        name
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, JobbyError)
    }


def test_every_error_of_the_core_is_decided() -> None:
    """A new error in the core makes this test fail until somebody says what clients get."""
    assert core_errors() == set(ERRORS)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_becomes_its_status_without_the_servers_paths(kind: str) -> None:
    """What the client can act on keeps its words; the rest is for the log alone."""
    error = getattr(jobby_core, kind)("do it", "it broke", "mend it", path="/srv/secret")
    refused = wire.refusal(error)
    if ERRORS[kind] is None:
        assert refused is None
        return
    assert refused is not None
    assert refused.code is ERRORS[kind]
    assert "it broke" in refused.text
    assert "mend it" in refused.text
    assert "/srv/secret" not in refused.text


def test_every_method_of_the_contract_has_a_handler(tmp_path: Path) -> None:
    """No method is forgotten, and each has the cardinality that the contract gives it."""
    state = StateDir.temporary(tmp_path)
    store = Store(Journal(None), state, resume_seconds=0)
    servicer = JobbyServicer(store, Starter(store, state, shutting_down), Limits())
    handlers = servicer.handlers()
    methods = pb.DESCRIPTOR.services_by_name["Jobby"].methods_by_name
    assert set(handlers) == set(methods)
    for name, method in methods.items():
        assert handlers[name].request_streaming == method.client_streaming
        assert handlers[name].response_streaming == method.server_streaming
