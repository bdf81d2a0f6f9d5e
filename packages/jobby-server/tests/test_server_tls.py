"""TLS 1.3 and nothing else, and only clients with a certificate of a trusted CA."""

import asyncio
import socket
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from server_authority import SERVER, Authority, Key, Leaf, key_pem
from server_client import Client, refused
from server_process import Files, run_out, started
from server_running import Running, serving
from server_waiting import DEADLINE_SECONDS, run

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import tls
from jobby_server.certificates import Material
from jobby_server.errors import TlsPolicyError

KEYS: list[Key] = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    rsa.generate_private_key(65537, 2048),
]


def handshake(
    port: int, ca: Authority, leaf: Leaf, folder: Path, version: ssl.TLSVersion
) -> str | None:
    """Shakes hands as a client that speaks one version; returns the version agreed on."""
    (folder / "client.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
    context = ssl.create_default_context(cadata=ca.pem.decode())
    context.load_cert_chain(folder / "client.pem")
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            return connection.version()


@pytest.mark.parametrize("key", KEYS)
def test_tls_1_2_is_refused_and_1_3_is_spoken(ca: Authority, tmp_path: Path, key: Key) -> None:
    """A client with a good certificate gets in with TLS 1.3 only, whatever the server's key is."""

    async def scenario() -> None:
        material = ca.material(server=ca.issue("localhost", purposes=[SERVER], key=key))
        await tls.prove_tls13_only(material)
        async with serving(ca, material=material) as running:
            args = (running.address.port, ca, ca.issue("alice"), tmp_path)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(handshake, *args, ssl.TLSVersion.TLSv1_2)
            agreed = await asyncio.to_thread(handshake, *args, ssl.TLSVersion.TLSv1_3)
            assert agreed == "TLSv1.3"

    run(scenario())


def program(text: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Runs a Python program of its own; returns its exit code and what it said."""
    done = run_out([sys.executable, "-c", text, *arguments], **variables)
    return done.returncode, done.stdout + done.stderr


SELF_CHECK = """
import asyncio, pathlib, sys
import grpc, grpc.aio
from jobby_server import tls
from jobby_server.errors import TlsPolicyError
from jobby_server.certificates import Material
from jobby_server.errors import TlsPolicyError
files = [pathlib.Path(sys.argv[1], n).read_bytes() for n in ("ca.crt", "server.cert", "server.key")]
try:
    asyncio.run(tls.prove_tls13_only(Material(*files)))
except TlsPolicyError as error:
    sys.exit(f"refused: {error}")
"""


def test_the_self_check_fails_without_the_policy(files: Files) -> None:
    """Should the policy not reach gRPC one day, the server doesn't serve TLS 1.2: it ends."""
    code, said = program(SELF_CHECK, str(files.folder))
    assert code == 1
    assert "refused: cannot serve: the TLS library would accept TLS 1.2" in said


def test_the_self_check_passes_with_the_policy(files: Files) -> None:
    """The same program, with the policy in place, is the positive control."""
    policy = {"GRPC_SSL_CIPHER_SUITES": "ECDHE-PSK-CHACHA20-POLY1305"}
    assert program(SELF_CHECK, str(files.folder), **policy)[0] == 0


def test_a_policy_of_tls_1_3_suites_keeps_grpc_from_listening(files: Files) -> None:
    """That list has nothing to say of them: one of nothing else is empty to gRPC."""
    policy = {"GRPC_SSL_CIPHER_SUITES": "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"}
    code, said = program(SELF_CHECK, str(files.folder), **policy)
    assert code == 1
    assert "refused: cannot serve: gRPC does not take these certificates" in said


def test_the_self_check_fails_with_a_key_that_does_not_match(ca: Authority) -> None:
    """Where gRPC cannot even listen with the certificates, that is said in words."""

    async def scenario() -> None:
        leaf = ca.issue("localhost", purposes=[SERVER])
        broken = ca.material(server=Leaf(leaf.cert_pem, ca.issue("x").key_pem))
        with pytest.raises(TlsPolicyError, match="gRPC does not take these certificates"):
            await tls.prove_tls13_only(broken)

    run(scenario())


@pytest.mark.parametrize("old", [None, 0x15])
def test_a_refused_hello_is_an_alert_or_silence(old: int | None) -> None:
    """Both mean that TLS 1.2 is refused, given that TLS 1.3 is answered."""
    tls.judge(0x16, old)


@pytest.mark.parametrize(
    ("new", "old"), [(None, None), (0x15, 0x15), (0x16, 0x16), (0x16, 0x48), (None, 0x16)]
)
def test_everything_else_is_no_proof(new: int | None, old: int | None) -> None:
    """A dead listener refuses TLS 1.2 too, and an answer that is no TLS proves nothing."""
    with pytest.raises(TlsPolicyError, match="cannot serve"):
        tls.judge(new, old)


def test_the_policy_cannot_come_too_late() -> None:
    """Importing grpc first is an error at once: the policy would silently have no effect."""
    code, said = program("import grpc, jobby_server.environment")
    assert code == 1
    assert "grpc was imported before jobby_server.environment" in said


def test_an_operators_cipher_list_does_not_weaken_the_policy(files: Files, tmp_path: Path) -> None:
    """GRPC_SSL_CIPHER_SUITES in the server's environment is not what gRPC gets."""
    weak = {"GRPC_SSL_CIPHER_SUITES": "ECDHE-ECDSA-AES128-GCM-SHA256"}
    with started(files, "--listen", "127.0.0.1:0", **weak) as process:
        port = int(process.address.rpartition(":")[2])
        leaf = files.ca.issue("alice")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(port, files.ca, leaf, tmp_path, ssl.TLSVersion.TLSv1_2)
        assert handshake(port, files.ca, leaf, tmp_path, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


PAST = datetime.now(UTC) - timedelta(minutes=1)
EXPIRED = Authority.create("Old CA", not_after=PAST)
ODD = Authority.create("Ed25519 CA", key=ed25519.Ed25519PrivateKey.generate())


def stranger(ca: Authority, kind: str) -> Leaf | None:
    """Returns a certificate that TLS itself is to refuse."""
    match kind:
        case "none":
            return None
        case "another CA's":
            return Authority.create("Other").issue("alice")
        case "another CA's of the same name":
            return Authority.create("Jobby test CA").issue("alice")
        case "expired":
            return ca.issue("alice", not_after=PAST)
        case "of an expired CA":
            return EXPIRED.issue("alice")
        case "for servers only":
            return ca.issue("alice", purposes=[SERVER])
        case "with an Ed25519 key":
            return ca.issue("alice", key=ed25519.Ed25519PrivateKey.generate())
        case "with a P-521 key":
            return ca.issue("alice", key=ec.generate_private_key(ec.SECP521R1()))
        case "the CA's own":
            return Leaf(ca.pem, key_pem(ca.key))
        case "another CA's of this CA":
            return ca.issue("alice", is_ca=True)
        case _:
            leaf = ca.issue("alice")
            issuer = Authority(ca.cert, KEYS[0])
            signed = issuer.issue("mallory")  # by a key that is not the CA's
            return Leaf(signed.cert_pem + leaf.cert_pem, signed.key_pem)


async def connect(
    running: Running, leaf: Leaf | None, host: str = "127.0.0.1"
) -> tuple[grpc.StatusCode, str]:
    """Asks for a job that is not there; returns what the call fails with."""
    own = (leaf.key_pem, leaf.cert_pem) if leaf else (None, None)
    credentials = grpc.ssl_channel_credentials(running.ca.pem, *own)
    async with grpc.aio.secure_channel(f"{host}:{running.address.port}", credentials) as channel:
        client = Client(channel, "jobby.v1.Jobby")
        return await refused(client.status(pb.GetStatusRequest(job_id=b"x" * 16)))


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "another CA's",
        "another CA's of the same name",
        "expired",
        "of an expired CA",
        "for servers only",
        "with an Ed25519 key",
        "with a P-521 key",
        "the CA's own",
        "another CA's of this CA",
        "signed by a leaf",
    ],
)
def test_a_certificate_that_proves_nothing_gets_no_connection(ca: Authority, kind: str) -> None:
    """The handshake fails: no call of a stranger reaches the server's code."""

    async def scenario() -> None:
        async with serving(ca, material=ca.material(EXPIRED)) as running:
            code, _ = await connect(running, stranger(ca, kind))
            assert code is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def first_byte(port: int, ca: Authority, leaf: Leaf, folder: Path) -> bytes:
    """Connects as OpenSSL does; returns the first byte of HTTP/2, or nothing of a closed end."""
    (folder / "client.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
    context = ssl.create_default_context(cadata=ca.pem.decode())
    context.load_cert_chain(folder / "client.pem")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            # In TLS 1.3 a client learns of the refusal when it reads (RFC 8446, 4.4.2.4).
            return connection.recv(1)


@pytest.mark.parametrize(
    "kind",
    ["with an Ed25519 key", "with a P-521 key", "the CA's own", "another CA's of this CA"],
)
def test_a_client_that_minds_nothing_is_refused_by_the_server(
    ca: Authority, tmp_path: Path, kind: str
) -> None:
    """gRPC's own client stumbles over some of these by itself; OpenSSL sends them."""

    async def scenario() -> None:
        async with serving(ca) as running:
            args = (running.address.port, ca)
            assert await asyncio.to_thread(first_byte, *args, ca.issue("alice"), tmp_path) == b"\0"
            leaf = stranger(ca, kind)
            assert leaf is not None
            try:
                found = await asyncio.to_thread(first_byte, *args, leaf, tmp_path)
            except (ssl.SSLError, ConnectionError):
                found = b""
            assert found == b""

    run(scenario())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("of", ["a P-256 CA", "an Ed25519 CA"])
def test_a_certificate_of_each_good_kind_gets_in(ca: Authority, key: Key, of: str) -> None:
    """P-256, P-384 and RSA-2048; Ed25519 only in the hand of who signed them."""
    authority = ODD if of == "an Ed25519 CA" else ca

    async def scenario() -> None:
        async with serving(ca, material=ca.material(ODD)) as running:
            code, _ = await connect(running, authority.issue("alice", key=key))
            assert code is grpc.StatusCode.NOT_FOUND

    run(scenario())


def servers(ca: Authority, kind: str) -> Leaf:
    """Returns a certificate that a server cannot be known by."""
    match kind:
        case "for clients only":
            return ca.issue("localhost")
        case "with an Ed25519 key":
            key: Key = ed25519.Ed25519PrivateKey.generate()
        case _:
            key = ec.generate_private_key(ec.SECP521R1())
    return ca.issue("localhost", purposes=[SERVER], key=key)


@pytest.mark.parametrize("kind", ["for clients only", "with an Ed25519 key", "with a P-521 key"])
def test_a_server_with_such_a_certificate_is_talked_to_by_nobody(ca: Authority, kind: str) -> None:
    """Were one to serve with what `certificates` refuses, its clients would not take it."""

    async def scenario() -> None:
        async with serving(ca, material=ca.material(server=servers(ca, kind))) as running:
            code, _ = await connect(running, ca.issue("alice"), "localhost")
            assert code is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def test_a_server_certificate_without_alternative_names_is_known_by_its_name(
    ca: Authority,
) -> None:
    """gRPC's clients fall back to the CN for a name, and to nothing for an address."""

    async def scenario() -> None:
        leaf = ca.issue("localhost", purposes=[SERVER], names=False)
        async with serving(ca, material=ca.material(server=leaf)) as running:
            alice = ca.issue("alice")
            assert (await connect(running, alice, "localhost"))[0] is grpc.StatusCode.NOT_FOUND
            assert (await connect(running, alice, "127.0.0.1"))[0] is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def test_an_empty_bundle_lets_nobody_in(ca: Authority) -> None:
    """gRPC serves with it all the same; `certificates` refuses it before that."""

    async def scenario() -> None:
        leaf = ca.issue("localhost", purposes=[SERVER])
        server = grpc.aio.server()
        material = Material(b"", leaf.cert_pem, leaf.key_pem)
        port = server.add_secure_port("127.0.0.1:0", tls.credentials(material))
        await server.start()
        alice = ca.issue("alice")
        credentials = grpc.ssl_channel_credentials(ca.pem, alice.key_pem, alice.cert_pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            client = Client(channel, "jobby.v1.Jobby")
            code, _ = await refused(client.status(pb.GetStatusRequest(job_id=b"x" * 16)))
            assert code is grpc.StatusCode.UNAVAILABLE
        await server.stop(None)

    run(scenario())
