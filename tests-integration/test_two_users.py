"""Two users: to each, the other's jobs are not there, whatever the call."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.x509.oid import NameOID

from harness.environments import Installed
from support import calls
from support.calls import Client, Contract, Failure
from support.certificates import Authority, Credentials
from support.gate import Gate
from support.server import Server
from support.user import User

# Says "signalled" for every signal that can be caught, and ends when it reads from its FIFO.
WATCHFUL = """
trap 'echo signalled' HUP INT QUIT TERM USR1 USR2 CONT
echo ready
until read -r line < "$1"; do :; done
echo "$line"
"""
CALLS = ("StopJob", "GetStatus", "GetJobOutput")


@pytest.fixture
def stranger(rfd: Contract, authority: Authority, server: Server) -> Iterator[Client]:
    """Bob through a client generated from the RFD."""
    with calls.client(rfd, server.address, authority.client("bob")) as made:
        yield made


def outcome(client: Client, method: str, job_id: bytes) -> Failure:
    """How a call that has to fail fails."""
    attempts: dict[str, Callable[[bytes], object]] = {
        "StopJob": client.stop,
        "GetStatus": client.status,
        "GetJobOutput": client.read,
    }
    return calls.failure(attempts[method], job_id)


@pytest.mark.parametrize("service", ["rfd", "v1"])
@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("state", ["running", "ended"])
def test_not_yours_and_not_there_look_the_same(
    contracts: dict[str, Contract],
    authority: Authority,
    server: Server,
    service: str,
    method: str,
    state: str,
) -> None:
    """Code, message and metadata are the same for a stranger's job and for one that never was."""
    contract = contracts[service]
    with (
        calls.client(contract, server.address, authority.client("alice")) as owner,
        calls.client(contract, server.address, authority.client("bob")) as stranger,
    ):
        job = owner.start("sleep", "1000") if state == "running" else owner.start("true")
        if state == "ended":
            owner.ended(job)
        for form in (lambda raw: raw, lambda raw: str(uuid.UUID(bytes=raw)).encode()):
            not_yours = outcome(stranger, method, form(job))
            not_there = outcome(stranger, method, form(uuid.uuid4().bytes))
            assert not_yours == not_there
            assert not_yours.code is grpc.StatusCode.NOT_FOUND
        owner.stop(job)


def test_a_strangers_stop_sends_no_signal(caller: Client, stranger: Client, gate: Gate) -> None:
    """A job that would tell of any signal tells of none, and runs on to its own end."""
    job = caller.start("sh", "-c", WATCHFUL, "sh", str(gate))
    output = caller.output(job)
    assert next(output).data == b"ready\n"
    calls.failure(stranger.stop, job)
    assert caller.status(job) == ("STATUS_RUNNING", None)
    gate.open("done")
    assert b"".join(message.data for message in output) == b"done\n"
    assert caller.status(job) == ("STATUS_COMPLETE", 0)


def test_no_metadata_makes_somebody_else(caller: Client, stranger: Client) -> None:
    """Whatever a client writes beside its request, its name is the certificate's."""
    job = caller.start("true")
    claims = [
        (name, value)
        for name in (
            "user",
            "x-user",
            "owner",
            "x-forwarded-user",
            "x-ssl-client-s-dn",
            "authorization",
        )
        for value in ("alice", "CN=alice")
    ]
    request = stranger.contract.GetStatusRequest(job_id=job)
    failed = calls.failure(lambda: stranger.stub.GetStatus(request, metadata=claims))
    assert failed.code is grpc.StatusCode.NOT_FOUND


def test_through_the_command_line_too(caller: Client, bob: User) -> None:
    """`jobby` tells a stranger the same of somebody's job as of one that never was."""
    alices = caller.start("sleep", "1000")
    job, never = calls.as_text(alices), str(uuid.uuid4())
    for verb in ("status", "output", "stop"):
        not_yours, not_there = bob.jobby(verb, job), bob.jobby(verb, never)
        assert not_yours.code == not_there.code == 66
        assert not_yours.stdout == not_there.stdout == b""
        assert not_yours.stderr.replace(job, "ID") == not_there.stderr.replace(never, "ID")
        assert len(not_yours.stderr.splitlines()) == 1
    assert caller.status(alices) == ("STATUS_RUNNING", None)
    caller.stop(alices)


def test_the_whole_name_counts(rfd: Contract, authority: Authority, server: Server) -> None:
    """The same CN under another organisation, or in other letters, is somebody else."""
    company, unit = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
    alice = [(company, "one"), (unit, "two"), (NameOID.COMMON_NAME, "alice")]
    others = (
        [(company, "two"), (unit, "one"), (NameOID.COMMON_NAME, "alice")],
        [(unit, "two"), (company, "one"), (NameOID.COMMON_NAME, "alice")],
        [(company, "one"), (NameOID.COMMON_NAME, "alice")],
        [(company, "one"), (unit, "two"), (NameOID.COMMON_NAME, "Alice")],
    )
    with calls.client(rfd, server.address, authority.leaf(alice)) as owner:
        job = owner.start("true")
        for subject in others:
            with calls.client(rfd, server.address, authority.leaf(subject)) as other:
                assert outcome(other, "GetStatus", job).code is grpc.StatusCode.NOT_FOUND
        # A renewed certificate: another key, another serial number, the same name.
        with calls.client(rfd, server.address, authority.leaf(alice)) as renewed:
            assert renewed.ended(job) == ("STATUS_COMPLETE", 0)


def test_the_same_name_under_another_ca_is_somebody_else(
    installed: Installed, rfd: Contract, authority: Authority, tmp_path: Path
) -> None:
    """A server that trusts two CAs keeps their users apart, though they share a name."""
    second = Authority("Test CA")
    own = authority.server()
    credentials = Credentials(ca=authority.pem + second.pem, cert=own.cert, key=own.key)
    # Both clients have to trust the server's own CA.
    theirs = second.client("alice")
    impostor = Credentials(ca=authority.pem, cert=theirs.cert, key=theirs.key)
    command = installed.server.bin("jobby-server")
    with Server(command, credentials, tmp_path) as server:
        with calls.client(rfd, server.address, authority.client("alice")) as owner:
            job = owner.start("true")
            assert owner.ended(job) == ("STATUS_COMPLETE", 0)
        with calls.client(rfd, server.address, impostor) as other:
            assert outcome(other, "GetStatus", job).code is grpc.StatusCode.NOT_FOUND
            assert other.ended(other.start("true")) == ("STATUS_COMPLETE", 0)
