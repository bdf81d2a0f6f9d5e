"""A status tells all that the server does, by the client's own names."""

from datetime import UTC, datetime

import pytest
from cli_peer import JOB, Peer

from jobby_client import (
    Client,
    InternalServerError,
    Reason,
    State,
    Status,
    Usage,
)
from jobby_proto.v1 import jobby_pb2 as pb


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
