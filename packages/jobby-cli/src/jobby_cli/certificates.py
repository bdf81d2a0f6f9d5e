"""Owns the making of certificates: one profile for the CA, one for servers, one for clients.

The only module that needs cryptography, which is an extra of this package.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NO_EXPIRY: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, section 4.1.2.5: what a certificate says that has no well-defined end."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

_CA_DAYS: Final = 3650
# Another machine's clock may be a little behind.
_BACKDATED: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A CA: its certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def make(cls, days: int | None) -> Self:
        """Makes a new one that outlives certificates of `days`; None for no end."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name([(NameOID.COMMON_NAME, "Jobby CA")])
        until = NO_EXPIRY if days is None else end_after(max(days, _CA_DAYS))
        builder = (
            _builder(name, name, key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, pair: Pair) -> Self:
        """Reads one that was made before.

        Raises:
            ValueError: it isn't one; the text says why.
        """
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate)
        except ValueError:
            raise ValueError("its certificate is none in PEM form") from None
        if not _is_ca(certificate):
            raise ValueError("its certificate is not a CA's")
        try:
            key = load_pem_private_key(pair.key, password=None)
        except TypeError:
            raise ValueError("its key has a password") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("its key is no private key in PEM form") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("its key is not one of those that `jobby certs init` makes")
        if key.public_key() != certificate.public_key():
            raise ValueError("certificate and key don't belong together")
        return cls(certificate, key)

    @property
    def not_after(self) -> datetime:
        """Its last valid moment; what it signs should not outlive it."""
        return self._certificate.not_valid_after_utc

    @property
    def pair(self) -> Pair:
        """What goes into its files."""
        return _pair(self._certificate, self._key)

    def server(self, hosts: Iterable[str], until: datetime) -> Pair:
        """Makes a server's certificate.

        Args:
            hosts: the names and IP addresses that clients call it by, besides `LOCAL_HOSTS`.
            until: its last valid moment.
        """
        names = [_general_name(host) for host in dict.fromkeys((*LOCAL_HOSTS, *hosts))]
        subject = _name([(NameOID.COMMON_NAME, "jobby-server")])
        return self._leaf(subject, ExtendedKeyUsageOID.SERVER_AUTH, names, until)

    def client(self, name: str, orgs: Sequence[str], units: Sequence[str], until: datetime) -> Pair:
        """Makes a client's certificate; its subject is who the client is to a server.

        Args:
            name: the CN: the user.
            orgs: the O values, and
            units: the OU values: the user's groups.
            until: its last valid moment.
        """
        subject = _name(
            [
                *((NameOID.ORGANIZATION_NAME, org) for org in orgs),
                *((NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units),
                (NameOID.COMMON_NAME, name),
            ]
        )
        # With a name of its own kind, the certificate stands for no host by its CN.
        uri = x509.UniformResourceIdentifier(f"jobby:client:{quote(name, safe='')}")
        return self._leaf(subject, ExtendedKeyUsageOID.CLIENT_AUTH, [uri], until)

    def _leaf(
        self,
        subject: x509.Name,
        purpose: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
        until: datetime,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        return _pair(builder.sign(self._key, hashes.SHA256()), key)

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        # By it OpenSSL finds the issuer. Another tool's CA may name its key as it likes (RFC 7093).
        extensions = self._certificate.extensions
        try:
            named = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def end_after(days: int) -> datetime:
    """Returns the moment that many days from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC).replace(microsecond=0) - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(parts: Iterable[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
