"""Owns the tests' certificates: a CA, and leaves that are right or wrong in one chosen way."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

Subject = Sequence[tuple[x509.ObjectIdentifier, str]]


def from_now(**offset: float) -> datetime:
    """A moment, counted from now: `from_now(seconds=-2)`."""
    return datetime.now(UTC) + timedelta(**offset)


def common_name(name: str) -> Subject:
    """A subject that consists of a CN."""
    return [(NameOID.COMMON_NAME, name)]


@dataclass(frozen=True)
class Credentials:
    """One side's three files: PEM."""

    ca: bytes
    cert: bytes
    key: bytes

    def write(self, folder: Path, *, ca: str, cert: str, key: str) -> Path:
        """Write them into `folder`, which is made if it isn't there."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ca).write_bytes(self.ca)
        (folder / cert).write_bytes(self.cert)
        (folder / key).touch(mode=0o600)
        (folder / key).write_bytes(self.key)
        return folder

    def for_server(self, folder: Path) -> Path:
        """Write them under the names that a server looks for by itself."""
        return self.write(folder, ca="ca.crt", cert="server.cert", key="server.key")

    def for_client(self, folder: Path) -> Path:
        """Write them under the names that a client looks for by itself."""
        return self.write(folder, ca="ca.cert", cert="client.cert", key="client.key")


class Authority:
    """A certificate authority of the test's own.

    Attributes:
        pem: its certificate.
    """

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common_name(name))
        # By it a verifier tells two CAs of one name apart (RFC 5280, section 4.2.1.1).
        self._id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        now = datetime.now(UTC)
        builder = (
            _builder(self._name, self._name, self._key, now - timedelta(days=2), _later(now))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(self._id, critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = certificate.public_bytes(Encoding.PEM)

    def server(self) -> Credentials:
        """A right server certificate for localhost and 127.0.0.1."""
        return self.leaf(common_name("jobby test server"), purposes=[SERVER], local=True)

    def client(self, name: str) -> Credentials:
        """A right client certificate for CN=`name`; another key each time."""
        return self.leaf(common_name(name))

    def leaf(
        self,
        subject: Subject,
        *,
        purposes: Iterable[x509.ObjectIdentifier] = (CLIENT,),
        local: bool = False,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Credentials:
        """Whatever certificate is wanted, right or wrong.

        Args:
            subject: the parts of its subject, in order; may be empty.
            purposes: its extended key usages; none leaves the extension out.
            local: whether it names localhost and 127.0.0.1.
            not_before: None is an hour ago.
            not_after: None is in some years.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        start = not_before or now - timedelta(hours=1)
        builder = _builder(_name(subject), self._name, key, start, not_after or _later(now))
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._id)
        builder = builder.add_extension(issuer, critical=False)
        if purposes := list(purposes):
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
        if local:
            loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            names = x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback])
            builder = builder.add_extension(names, critical=False)
        return Credentials(
            ca=self.pem,
            cert=builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM),
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


def _name(subject: Subject) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])


def _later(now: datetime) -> datetime:
    return now + timedelta(days=3650)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
