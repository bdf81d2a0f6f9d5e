"""Owns a CA made for a test, and the certificates it signs."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobby_server.certificates import Material

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def common_name(text: str) -> x509.Name:
    """Returns the subject CN=text."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_pem(key: Key) -> bytes:
    """Returns a private key as PEM, without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key."""

    cert_pem: bytes
    key_pem: bytes


@dataclass(frozen=True)
class Authority:
    """A CA made for a test."""

    cert: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.cert.public_bytes(Encoding.PEM)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        key: Key | None = None,
        issuer: "Authority | None" = None,
        pathlen: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime = FOREVER,
    ) -> Self:
        """Makes a root, or an intermediate of `issuer`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        signer = key if issuer is None else issuer.key
        builder = (
            _builder(common_name(name), key, signer, not_before=not_before, not_after=not_after)
            .issuer_name(common_name(name) if issuer is None else issuer.cert.subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=pathlen), critical=True)
            .add_extension(_usage(ca=True), critical=True)
        )
        return cls(builder.sign(signer, _hash(signer)), key)

    def issue(
        self,
        subject: str | x509.Name,
        *,
        purposes: Sequence[x509.ObjectIdentifier] = (CLIENT,),
        usage: x509.KeyUsage | None = None,
        bare: bool = False,
        is_ca: bool = False,
        names: bool = True,
        key: Key | None = None,
        not_before: datetime | None = None,
        not_after: datetime = FOREVER,
    ) -> Leaf:
        """Signs a certificate.

        Args:
            subject: a common name, or a whole name.
            purposes: its extended key usages.
            usage: its key usage; None is what TLS needs.
            bare: no usage of either kind.
            is_ca: whether it says that it is a CA's.
            names: whether a server's has alternative names: localhost and its addresses.
            key: its key; None makes a P-256 one.
            not_before: from when; None is an hour ago.
            not_after: until when.
        """
        name = common_name(subject) if isinstance(subject, str) else subject
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, key, self.key, not_before=not_before, not_after=not_after)
            .issuer_name(self.cert.subject)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not bare:
            builder = builder.add_extension(usage or _usage(ca=is_ca), critical=True)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
        if SERVER in purposes and names:
            local = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(local), critical=False)
        cert = builder.sign(self.key, _hash(self.key))
        return Leaf(cert.public_bytes(Encoding.PEM), key_pem(key))

    def material(self, *bundle: "Authority", server: Leaf | None = None) -> Material:
        """Returns what a server loads that trusts this CA and those of `bundle`."""
        leaf = server or self.issue("localhost", purposes=[SERVER])
        pem = b"".join(authority.pem for authority in (self, *bundle))
        return Material(pem, leaf.cert_pem, leaf.key_pem)


def _builder(
    name: x509.Name,
    key: Key,
    issuer: Key,
    *,
    not_before: datetime | None = None,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(not_after)
        # RFC 5280, 4.2.1.1 and 4.2.1.2; Python's ssl asks for them from 3.13 on.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _hash(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
