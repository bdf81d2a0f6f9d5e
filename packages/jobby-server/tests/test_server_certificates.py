"""The three files, looked over before anything serves."""

import contextlib
import dataclasses
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from server_authority import CLIENT, SERVER, Authority, Key, Leaf, key_pem
from server_process import Files

from jobby_server import certificates, identity
from jobby_server.certificates import Material
from jobby_server.errors import ConfigError

NOW = datetime.now(UTC)
CA = Authority.create("Jobby test CA")
KEY = ec.generate_private_key(ec.SECP256R1())


def server(**changes: object) -> Leaf:
    """Returns a server's certificate, different from a good one in what is named."""
    return CA.issue("localhost", **({"purposes": [SERVER]} | changes))  # type: ignore[arg-type]  # as issue has it


@dataclasses.dataclass
class Case:
    """What is written into the files, and what is said about it."""

    words: str
    leaf: Leaf = dataclasses.field(default_factory=server)
    ca: bytes = CA.pem
    key: bytes | None = None
    key_mode: int = 0o600


def encrypted() -> bytes:
    """Returns a key with a password."""
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def expired_ca() -> Authority:
    """Returns a CA whose certificate has run out."""
    return Authority.create("Old", not_after=NOW - timedelta(minutes=1))


NO_SIGNING = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
CASES: dict[str, Callable[[], Case]] = {
    "an empty CA bundle": lambda: Case("ca.crt: it is empty", ca=b"\n"),
    "a CA bundle that is no PEM": lambda: Case("no readable certificate", ca=b"junk"),
    "a damaged CA certificate": lambda: Case(
        "no readable certificate",
        ca=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ),
    "a leaf among the CAs": lambda: Case(
        "'CN=alice' is not a CA's", ca=CA.pem + CA.issue("alice").cert_pem
    ),
    "an expired CA": lambda: Case("as the CA bundle: it expired at", ca=expired_ca().pem),
    "a weak CA": lambda: Case(
        "RSA with 1024 bits",
        ca=Authority.create("Weak", key=rsa.generate_private_key(65537, 1024)).pem,
    ),
    "a certificate that is no PEM": lambda: Case("no readable certificate", Leaf(b"x", b"x")),
    "an empty certificate": lambda: Case("server.cert: it is empty", Leaf(b"", b"x")),
    "an expired certificate": lambda: Case(
        "server.cert: it expired at", server(not_after=NOW - timedelta(seconds=1))
    ),
    "a certificate of the future": lambda: Case(
        "it is not valid before", server(not_before=NOW + timedelta(days=1))
    ),
    "a client's certificate": lambda: Case("lacks serverAuth", server(purposes=[CLIENT])),
    "no digitalSignature": lambda: Case("lacks digitalSignature", server(usage=NO_SIGNING)),
    "an Ed25519 key": lambda: Case("(Ed25519)", server(key=ed25519.Ed25519PrivateKey.generate())),
    "a P-521 key": lambda: Case("(secp521r1)", server(key=ec.generate_private_key(ec.SECP521R1()))),
    "an RSA key of 1024 bits": lambda: Case(
        "RSA with 1024 bits", server(key=rsa.generate_private_key(65537, 1024))
    ),
    "a key that is no PEM": lambda: Case("no readable private key", key=b"junk"),
    "a key with a password": lambda: Case("it has a password", key=encrypted()),
    "another certificate's key": lambda: Case("is not that certificate's", key=key_pem(KEY)),
    "a key that the group may read": lambda: Case("mode 0640", key_mode=0o640),
    "a key that others may read": lambda: Case("mode 0604", key_mode=0o604),
}


def read(files: Files, samples: set[str] | None = None) -> Material:
    """Reads the files of a folder."""
    folder = files.folder
    paths = (folder / "ca.crt", folder / "server.cert", folder / "server.key")
    return certificates.read(*paths, samples=samples or set())


def write(files: Files, case: Case) -> None:
    """Writes what a case is about."""
    (files.folder / "ca.crt").write_bytes(case.ca)
    (files.folder / "server.cert").write_bytes(case.leaf.cert_pem)
    key = files.folder / "server.key"
    key.write_bytes(case.leaf.key_pem if case.key is None else case.key)
    key.chmod(case.key_mode)


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_cannot_serve_is_refused_in_words(files: Files, name: str) -> None:
    """What gRPC would start with, or fail on without a reason, is one sentence before that."""
    case = CASES[name]()
    write(files, case)
    with pytest.raises(ConfigError) as caught:
        read(files)
    assert case.words in str(caught.value)
    assert str(files.folder) in str(caught.value)


@pytest.mark.parametrize("name", ["ca.crt", "server.cert", "server.key"])
@pytest.mark.parametrize("kind", ["missing", "a folder", "a FIFO", "a dangling link"])
def test_a_file_that_cannot_be_read_is_told(files: Files, name: str, kind: str) -> None:
    """Each file by its path; a FIFO is refused and not waited for."""
    path = files.folder / name
    path.unlink()
    match kind:
        case "a folder":
            path.mkdir()
        case "a FIFO":
            os.mkfifo(path)
        case "a dangling link":
            path.symlink_to(files.folder / "nowhere")
    with pytest.raises(ConfigError, match=f"cannot read .*{name}: "):
        read(files)


@pytest.mark.parametrize("name", ["ca.crt", "server.cert"])
def test_a_damaged_certificate_is_never_a_traceback(files: Files, name: str) -> None:
    """Whichever byte it is: refused in words, or taken, where only the signature is wrong."""
    path = files.folder / name
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    for position in range(len(der)):
        damaged = bytearray(der)
        damaged[position] ^= 1 << position % 8
        path.write_text(ssl.DER_cert_to_PEM_cert(bytes(damaged)))
        with contextlib.suppress(ConfigError):
            assert read(files).cert_pem


def good_keys() -> list[Key]:
    """Returns a key of each type that gRPC takes."""
    return [
        KEY,
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ]


@pytest.mark.parametrize("key", good_keys())
def test_good_files_are_taken_without_a_word(files: Files, key: Key) -> None:
    """Each type of key that gRPC takes, and a CA of a type that it takes only from CAs."""
    ca = Authority.create("By Ed25519", key=ed25519.Ed25519PrivateKey.generate())
    leaf = server(key=key)
    write(files, Case("", leaf, ca=CA.pem + ca.pem))
    material = read(files)
    assert material == Material(CA.pem + ca.pem, leaf.cert_pem, leaf.key_pem, False, ())


def test_a_certificate_without_usages_may_serve(files: Files) -> None:
    """RFC 5280, 4.2.1.12: without an extended key usage a certificate is for any purpose."""
    write(files, Case("", server(bare=True)))
    assert read(files).warnings == ()


def test_an_expired_ca_among_good_ones_is_a_warning(files: Files) -> None:
    """A bundle in rotation must not keep the server from starting."""
    write(files, Case("", ca=expired_ca().pem + CA.pem))
    (warning,) = read(files).warnings
    assert "'CN=Old': it expired at" in warning


def test_a_certificate_that_expires_soon_is_a_warning(files: Files) -> None:
    """The operator hears of it two weeks before nobody can connect."""
    write(files, Case("", server(not_after=NOW + timedelta(days=13))))
    (warning,) = read(files).warnings
    assert "renew it" in warning


def spki(pem: bytes) -> str:
    """Returns the SHA-256 of a certificate's public key."""
    return identity.spki_sha256(x509.load_pem_x509_certificate(pem))


@pytest.mark.parametrize("which", ["the CA", "the server"])
def test_samples_are_known_by_their_keys(files: Files, which: str) -> None:
    """One sample key is enough, and a renewed certificate of it does not hide it."""
    own = (files.folder / "server.cert").read_bytes()
    known = {spki(files.ca.pem if which == "the CA" else own)}
    assert not read(files).sample
    assert read(files, known).sample
    renewed = dataclasses.replace(files, ca=Authority.create("Jobby test CA", key=files.ca.key))
    (files.folder / "ca.crt").write_bytes(renewed.ca.pem)
    assert read(renewed, known).sample


def test_a_sample_key_may_be_readable_by_others(files: Files) -> None:
    """A checkout makes it so, and it is no secret; under the sample CA one's own key is."""
    own = (files.folder / "server.cert").read_bytes()
    (files.folder / "server.key").chmod(0o644)
    (warning,) = read(files, {spki(own)}).warnings
    assert "mode 0644" in warning
    with pytest.raises(ConfigError, match="mode 0644"):
        read(files, {spki(files.ca.pem)})


def test_the_key_is_not_in_the_repr(files: Files) -> None:
    """A log line or a traceback that shows the material shows no key."""
    material = read(files)
    assert "PRIVATE" not in repr(material)
    assert material.key_pem.decode() not in repr(material)


def test_the_samples_of_the_repository_are_listed() -> None:
    """Every sample CA and server key of the checkout is known to the server as a sample."""
    from jobby_server.samples import SAMPLE_SPKI_SHA256

    folder = Path(__file__).parents[3] / "certs"
    pems = [folder / "ca.crt", folder / "server.cert"]
    assert {spki(pem.read_bytes()) for pem in pems} == SAMPLE_SPKI_SHA256
