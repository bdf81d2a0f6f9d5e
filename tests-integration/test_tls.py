"""Who gets in: TLS 1.3 and a right client certificate, or nothing, on every call there is."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.x509.oid import NameOID
from grpc.experimental import session_cache

from harness.environments import Installed
from support import calls
from support.calls import Contract, Failure
from support.certificates import SERVER, Authority, Credentials, common_name, from_now
from support.server import Server
from support.user import User
from support.waiting import DEADLINE_SECONDS

CALLS = (
    *("StartJob", "StopJob", "GetStatus", "GetJobOutput"),
    *("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/no.such.Service/Call",
)
SETTINGS_FRAME = 4  # the first frame of each HTTP/2 server (RFC 9113, section 3.4)


def unknown_authority(authority: Authority) -> Credentials:
    """A certificate from a CA of the same name that the server doesn't know."""
    theirs = Authority("Test CA").client("alice")
    return Credentials(ca=authority.pem, cert=theirs.cert, key=theirs.key)


# Refused in the handshake: gRPC tells the client nothing.
BY_TLS: dict[str, Callable[[Authority], Credentials | None]] = {
    "none": lambda authority: None,
    "another CA": unknown_authority,
    "expired": lambda ca: ca.leaf(common_name("alice"), not_after=from_now(seconds=-2)),
    "not yet valid": lambda ca: ca.leaf(common_name("alice"), not_before=from_now(hours=1)),
    "for servers": lambda ca: ca.leaf(common_name("alice"), purposes=[SERVER]),
}
# Let in by gRPC, refused by Jobby: with a part of the reason that it has to give.
BY_NAME: dict[str, tuple[Callable[[Authority], Credentials], str]] = {
    "no name": (lambda ca: ca.leaf([]), "empty"),
    "two CNs": (
        lambda ca: ca.leaf([*common_name("alice"), *common_name("bob")]),
        "exactly one common name",
    ),
    "no CN": (
        lambda ca: ca.leaf([(NameOID.ORGANIZATION_NAME, "alice")]),
        "exactly one common name",
    ),
    "NUL in the CN": (lambda ca: ca.client("alice\0evil"), "U+0000"),
    "space at the end": (lambda ca: ca.client("alice "), "space"),
    "another normal form": (lambda ca: ca.client("ame\u0301lie"), "normal form"),
    "no purpose": (lambda ca: ca.leaf(common_name("alice"), purposes=[]), "clientAuth"),
}


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that the refused commands would make; it must not be there at the end."""
    path = tmp_path / "made"
    yield path
    assert not path.exists()


def attempt(contract: Contract, channel: grpc.Channel, method: str, marker: Path) -> Failure:
    """Make one call that has to fail; returns how it did."""
    start = contract.StartJobRequest(command="touch", args=[str(marker)])
    request = start.SerializeToString() if method == "StartJob" else b""
    path = method if method.startswith("/") else f"/{contract.service}/{method}"
    # On the wire a refused stream is the same as a refused single call.
    return calls.failure(calls.raw, channel, path, request)


@pytest.mark.parametrize("kind", BY_TLS)
def test_a_wrong_certificate_gets_no_connection(
    contracts: dict[str, Contract], authority: Authority, server: Server, marker: Path, kind: str
) -> None:
    """Without a certificate, or with one that is not for it, no call arrives."""
    before = server.log()
    identity = BY_TLS[kind](authority)
    for contract in contracts.values():
        with calls.channel(server.address, authority.pem, identity) as channel:
            for method in CALLS:
                error = attempt(contract, channel, method, marker)
                assert error.code is grpc.StatusCode.UNAVAILABLE, (method, error)
    assert server.log() == before
    assert server.jobs() == frozenset()


@pytest.mark.parametrize("kind", BY_NAME)
def test_a_certificate_that_names_nobody_is_refused(
    contracts: dict[str, Contract], authority: Authority, server: Server, marker: Path, kind: str
) -> None:
    """A certificate of the right CA that names no single user is refused in words, always."""
    make, reason = BY_NAME[kind]
    for contract in contracts.values():
        with calls.channel(server.address, authority.pem, make(authority)) as channel:
            for method in CALLS:
                error = attempt(contract, channel, method, marker)
                assert error.code is grpc.StatusCode.UNAUTHENTICATED, (method, error)
                assert reason in error.text
    assert server.jobs() == frozenset()


def test_a_server_that_another_ca_signed_is_not_talked_to(
    rfd: Contract, authority: Authority, server: Server, marker: Path
) -> None:
    """A client that doesn't trust the server's CA sends it nothing."""
    identity = authority.client("alice")
    with calls.channel(server.address, Authority("Test CA").pem, identity) as channel:
        error = attempt(rfd, channel, "StartJob", marker)
        assert error.code is grpc.StatusCode.UNAVAILABLE


def first_frame(
    server: Server, identity: Credentials, folder: Path, version: ssl.TLSVersion
) -> bytes:
    """Connect with exactly one TLS version; returns the head of the server's first frame.

    Raises:
        ssl.SSLError: the server refused.
    """
    identity.for_client(folder)
    context = ssl.create_default_context(cafile=folder / "ca.cert")
    # Not Python's defaults but all that this OpenSSL can: the server has to be the one who refuses.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "client.cert", folder / "client.key")
    context.minimum_version = context.maximum_version = version
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.recv(9)


def test_tls_1_2_is_refused(authority: Authority, server: Server, tmp_path: Path) -> None:
    """With the right certificates, TLS 1.3 is served and TLS 1.2 is refused."""
    alice = authority.client("alice")
    assert first_frame(server, alice, tmp_path, ssl.TLSVersion.TLSv1_3)[3] == SETTINGS_FRAME
    with pytest.raises(ssl.SSLError):
        first_frame(server, alice, tmp_path, ssl.TLSVersion.TLSv1_2)


def test_a_resumed_session_needs_a_certificate_that_is_valid_now(
    installed: Installed,
    rfd: Contract,
    authority: Authority,
    server: Server,
    marker: Path,
    tmp_path: Path,
) -> None:
    """An expired certificate opens nothing: no call on an old connection, none on a resumed
    session, and a stream that is open ends when the certificate does, with the reason."""
    named = server.address.replace("127.0.0.1", "localhost")
    command = installed.client.bin("jobby")
    with calls.client(rfd, server.address, authority.client("alice")) as owner:
        job = owner.start("sh", "-c", "echo first; exec sleep 1000")
        for seconds in (5, 20, 60):  # a busy machine may take longer until all is under way
            until = from_now(seconds=seconds)
            brief = authority.leaf(common_name("alice"), not_after=until)
            cache = session_cache.ssl_session_cache_lru(8)  # type: ignore[no-untyped-call]  # gRPC's own
            resuming = [("grpc.ssl_session_cache", cache)]
            with calls.client(rfd, server.address, brief) as first, ExitStack() as stack:
                try:
                    messages = first.output(job)
                    assert next(messages).data == b"first\n"
                    # Sessions are kept by the server's name, and an address is none.
                    with calls.client(rfd, named, brief, resuming) as second:
                        assert second.status(job) == ("STATUS_RUNNING", None)
                    user = User(command, tmp_path / f"alice-{seconds}", brief, server.address)
                    output = stack.enter_context(user.begin("output", calls.as_text(job)))
                    output.stdout.until("first\n")
                except (grpc.RpcError, EOFError):
                    if datetime.now(UTC) < until.replace(microsecond=0):
                        raise
                    continue
                ended = calls.failure(list, messages)
                assert datetime.now(UTC) >= until.replace(microsecond=0)
                assert ended.code is grpc.StatusCode.UNAUTHENTICATED
                assert "expired" in ended.text
                assert output.wait() == 77
                assert b"expired" in output.stderr.all()

                old = attempt(rfd, first.channel, "StartJob", marker)
                assert old.code is grpc.StatusCode.UNAUTHENTICATED
                with calls.client(rfd, named, brief, resuming) as third:
                    resumed = attempt(rfd, third.channel, "StartJob", marker)
                    assert resumed.code is grpc.StatusCode.UNAUTHENTICATED
                with calls.client(rfd, server.address, brief) as fourth:
                    fresh = attempt(rfd, fourth.channel, "StartJob", marker)
                    assert fresh.code is grpc.StatusCode.UNAVAILABLE
                break
        else:
            raise AssertionError("this machine is too slow for a certificate that expires")
        assert owner.status(job) == ("STATUS_RUNNING", None)
        owner.stop(job)
