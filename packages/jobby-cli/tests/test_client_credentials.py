import os
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_authority import SERVER, Authority, Key, Leaf, pem_of
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from jobby_client import Credentials, CredentialsError, _pem

NOW = datetime.now(UTC)


def complaint(credentials: Credentials) -> CredentialsError:
    """What `check` says."""
    with pytest.raises(CredentialsError) as caught:
        credentials.check()
    return caught.value


def test_good_credentials_tell_who_they_are_for(ca: Authority) -> None:
    """The subject and the dates come out as they are in the certificate."""
    leaf = ca.leaf("alice")
    info = ca.credentials(leaf).check()
    certificate = x509.load_pem_x509_certificate(leaf.cert)
    assert info.subject == "commonName=alice"
    assert info.not_before == certificate.not_valid_before_utc
    assert info.not_after == certificate.not_valid_after_utc


def test_different_subjects_look_different(ca: Authority) -> None:
    """No name can be written so that it passes for another with more parts."""
    names = ["a", "a,commonName=b", "a\\", "a\\,commonName=b", "a+b=c", "ä", "A"]
    subjects = [ca.credentials(ca.leaf(name)).check().subject for name in names]
    assert len(set(subjects)) == len(names)


def test_a_renewed_certificate_is_the_same_subject(ca: Authority) -> None:
    """Another key and serial, the same name: jobs that were started before are still known."""
    assert len({ca.credentials(ca.leaf("alice")).check().subject for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("kind", "fine"),
    [
        *(("P-256", True), ("P-384", True), ("RSA-2048", True)),
        *(("P-521", False), ("Ed25519", False), ("RSA-1024", False)),
    ],
)
def test_kinds_of_keys(ca: Authority, kind: str, fine: bool) -> None:
    """What gRPC takes is fine; what it cannot use, or what is too weak, is told beforehand."""
    makers: dict[str, Callable[[], Key]] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
        "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    credentials = ca.credentials(ca.leaf(key=makers[kind]()))
    if fine:
        assert credentials.check().subject == "commonName=alice"
        return
    error = complaint(credentials)
    assert error.role == "cert"
    assert kind.startswith("RSA") or kind in str(error)


def test_an_old_certificate_is_told_with_its_date(ca: Authority) -> None:
    """Expired and not yet valid: the date is in the error."""
    end, start = NOW - timedelta(days=1), NOW + timedelta(days=2)
    assert f"{end:%Y-%m-%d %H:%M}" in str(complaint(ca.credentials(ca.leaf(end=end))))
    assert f"{start:%Y-%m-%d %H:%M}" in str(complaint(ca.credentials(ca.leaf(start=start))))


def test_a_servers_certificate_is_not_for_clients(ca: Authority) -> None:
    """Mixed up files are told as what they are."""
    error = complaint(ca.credentials(ca.leaf(purpose=SERVER)))
    assert "not for clients" in str(error)


@pytest.mark.parametrize("kind", ["same", "other"])
def test_a_foreign_key_is_told(ca: Authority, kind: str) -> None:
    """The key of another certificate, of the same kind or of another."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "same":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    error = complaint(ca.credentials(Leaf(ca.leaf().cert, pem_of(key))))
    assert (error.role, "is not the key of" in str(error)) == ("key", True)


def test_an_expired_ca_is_told(ca: Authority) -> None:
    """No server of such a CA could be trusted; one good CA in the bundle is enough."""
    old = Authority(not_after=NOW - timedelta(days=1))
    leaf = ca.leaf()
    error = complaint(Credentials(old.pem, leaf.cert, leaf.key))
    assert (error.role, "expired" in str(error)) == ("ca", True)
    Credentials(old.pem + ca.pem, leaf.cert, leaf.key).check()


def test_whose_ca_signed_it_is_no_mistake_but_known(ca: Authority) -> None:
    """Client and server may have different CAs, so this is told only when it explains a refusal."""
    other = Authority()
    mixed = Credentials(ca.pem, other.leaf().cert, other.leaf().key)
    leaf = other.leaf()
    mixed = Credentials(ca.pem, leaf.cert, leaf.key)
    mixed.check()
    assert not mixed.signed_by_own_ca()
    assert ca.credentials().signed_by_own_ca()
    assert ca.credentials(ca.leaf(end=NOW - timedelta(days=1))).signed_by_own_ca()


def test_an_encrypted_key_is_told(ca: Authority) -> None:
    """The way out is in the error."""
    leaf = ca.leaf()
    key = load_pem_private_key(leaf.key, None)
    for format_ in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        locked = key.private_bytes(Encoding.PEM, format_, BestAvailableEncryption(b"x"))
        error = complaint(ca.credentials(Leaf(leaf.cert, locked)))
        assert (error.role, "password" in str(error)) == ("key", True)


def test_the_usual_spellings_of_pem_are_read(ca: Authority) -> None:
    """Comments, other line ends, a chain behind the leaf, a key in the traditional form."""
    leaf = ca.leaf()
    key = load_pem_private_key(leaf.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    comment = "subject=CN = Zoë\n".encode("latin-1")
    credentials = Credentials(
        comment + ca.pem.replace(b"\n", b"\r\n"), comment + leaf.cert + ca.pem, traditional
    )
    assert credentials.check().subject == "commonName=alice"
    assert credentials.signed_by_own_ca()


@pytest.mark.parametrize(
    "junk", [b"", b" \n", b"junk", b"\xff\x00", b"-----BEGIN CERTIFICATE-----"]
)
@pytest.mark.parametrize("role", ["ca", "cert", "key"])
def test_junk_is_told_for_what_it_is(ca: Authority, role: str, junk: bytes) -> None:
    """Whatever is in a file, it is a sentence that names the file, never another exception."""
    leaf = ca.leaf()
    pems = {"ca": ca.pem, "cert": leaf.cert, "key": leaf.key} | {role: junk}
    error = complaint(Credentials(pems["ca"], pems["cert"], pems["key"]))
    assert error.role == role


def test_damaged_base64_is_told(ca: Authority) -> None:
    """A certificate or key that was cut or changed inside."""
    leaf = ca.leaf()
    damages: list[Callable[[bytes], bytes]] = [
        lambda pem: pem[:60] + pem[80:],
        lambda pem: pem.replace(b"M", b"N"),
    ]
    for damage in damages:
        assert complaint(Credentials(damage(ca.pem), leaf.cert, leaf.key)).role == "ca"
        assert complaint(Credentials(ca.pem, damage(leaf.cert), leaf.key)).role == "cert"
        assert complaint(Credentials(ca.pem, leaf.cert, damage(leaf.key))).role == "key"


def write(folder: Path, ca: Authority, mode: int = 0o600) -> tuple[Path, Path, Path]:
    """Writes three files; returns their paths."""
    leaf = ca.leaf()
    paths = (folder / "ca", folder / "cert", folder / "key")
    for path, content in zip(paths, (ca.pem, leaf.cert, leaf.key), strict=True):
        path.write_bytes(content)
    paths[2].chmod(mode)
    return paths


def test_files_are_named_in_errors(ca: Authority, tmp_path: Path) -> None:
    """A missing file, a folder, a wrong content: its path and role are in the error."""
    for index, role in enumerate(("ca", "cert", "key")):
        for spoil in ("missing", "folder", "content"):
            paths = write(tmp_path, ca)
            paths[index].unlink()
            if spoil == "folder":
                paths[index].mkdir()
            elif spoil == "content":
                paths[index].write_text("junk")
                paths[index].chmod(0o600)
            with pytest.raises(CredentialsError, match=str(paths[index])) as caught:
                Credentials.from_files(*paths)
            assert (caught.value.role, caught.value.path) == (role, paths[index])
            if spoil == "folder":
                paths[index].rmdir()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_key_of_its_owner_is_fine(ca: Authority, tmp_path: Path, mode: int) -> None:
    """Nobody else may read it."""
    Credentials.from_files(*write(tmp_path, ca, mode)).check()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_key_open_to_others_is_refused(ca: Authority, tmp_path: Path, mode: int) -> None:
    """A key that others may read or replace is no proof of anything."""
    with pytest.raises(CredentialsError, match=f"{mode:04o}"):
        Credentials.from_files(*write(tmp_path, ca, mode))


def test_a_file_without_end_is_told(ca: Authority, tmp_path: Path) -> None:
    """As a device, or the image of a disk: it is not read until the memory is full."""
    files = write(tmp_path, ca)
    for role in range(3):
        given = [*files]
        given[role] = Path("/dev/zero")
        with pytest.raises(CredentialsError, match="/dev/zero: it has more than 8388608 bytes; "):
            Credentials.from_files(*given)


def test_nothing_of_a_key_is_shown(ca: Authority) -> None:
    """A repr, which ends up in logs, holds no key."""
    credentials = ca.credentials()
    assert b"PRIVATE" in credentials.key_pem
    assert "PRIVATE" not in repr(credentials)
    assert "PRIVATE" not in str(credentials)


def test_a_look_leaves_nothing_open(ca: Authority) -> None:
    """Good or bad, a check gives back every descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    ca.credentials().check()
    complaint(ca.credentials(ca.leaf(end=NOW - timedelta(days=1))))
    complaint(ca.credentials(Leaf(ca.leaf().cert, ca.leaf().key)))
    assert set(os.listdir("/proc/self/fd")) <= before  # others' threads may close something
    assert stat.S_ISDIR(os.stat("/proc/self/fd").st_mode), "the key was in memory only"


def test_the_marks_of_unusable_keys_are_where_they_are_sought(ca: Authority) -> None:
    """An Ed25519 CA signs what gRPC can use: only the certificate's own key counts."""
    signer = ed25519.Ed25519PrivateKey.generate()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(signer, None)
    )
    assert _pem.unusable_key(certificate.public_bytes(Encoding.DER)) is None
    assert _pem.unusable_key(ssl.PEM_cert_to_DER_cert(ca.leaf(key=signer).cert.decode())) == (
        "Ed25519"
    )
