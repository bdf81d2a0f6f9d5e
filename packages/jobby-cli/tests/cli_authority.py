"""Owns a CA of a test's own, and the certificates it signs, right or wrong in one chosen way."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobby_client import Credentials

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def pem_of(key: Key) -> bytes:
    """A private key as its file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes


class Authority:
    """A CA of the test's own, and leaves that are right or wrong in one chosen way."""

    def __init__(self, *, not_after: datetime | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        now = datetime.now(UTC)
        certificate = (
            self._builder(self._name, self._key, now - timedelta(days=9), not_after)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: Key, start: datetime, end: datetime | None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end or datetime.now(UTC) + timedelta(days=9))
        )

    def leaf(
        self,
        name: str = "alice",
        *,
        purpose: x509.ObjectIdentifier = CLIENT,
        key: Key | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        hosts: Iterable[str] = (),
    ) -> Leaf:
        """A certificate for CN=`name`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = start or datetime.now(UTC) - timedelta(days=8)
        builder = self._builder(subject, key, start, end).add_extension(
            x509.ExtendedKeyUsage([purpose]), critical=True
        )
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        if names:
            alternative = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Leaf(certificate.public_bytes(Encoding.PEM), pem_of(key))

    def server(self) -> Leaf:
        """A right certificate for a server on this machine."""
        return self.leaf("server", purpose=SERVER, hosts=["localhost", "127.0.0.1"])

    def credentials(self, leaf: Leaf | None = None) -> Credentials:
        """What a client of a server with this CA holds."""
        leaf = leaf or self.leaf()
        return Credentials(self.pem, leaf.cert, leaf.key)
