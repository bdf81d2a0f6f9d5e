"""Owns who is calling: a client certificate's bytes become a Principal. No I/O."""

import unicodedata
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CACHED_CERTIFICATES = 1024
MIN_RSA_BITS = 2048

# RFC 5280 (appendix A.1) and RFC 4519: what a subject may consist of. Another type's text
# has no agreed meaning, so nobody could tell whose name it is.
_KNOWN_TYPES = frozenset(
    {
        NameOID.COMMON_NAME,
        NameOID.COUNTRY_NAME,
        NameOID.DN_QUALIFIER,
        NameOID.DOMAIN_COMPONENT,
        NameOID.EMAIL_ADDRESS,
        NameOID.GENERATION_QUALIFIER,
        NameOID.GIVEN_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.PSEUDONYM,
        NameOID.SERIAL_NUMBER,
        NameOID.STATE_OR_PROVINCE_NAME,
        NameOID.STREET_ADDRESS,
        NameOID.SURNAME,
        NameOID.TITLE,
        NameOID.USER_ID,
    }
)
# Control, format, surrogate, private, unassigned, line separator, paragraph separator:
# invisible or without a meaning, so two names could look the same.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


_CA = "certificate of the CA that signed the client's"

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class IdentityError(Exception):
    """The certificate names nobody this server can serve; the text says why."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a job is.

    Attributes:
        name: the certificate's subject as RFC 4514 writes it. It may contain
            characters that `log.printable` has to escape.
        authority: SHA-256, in hex, of the public key of the CA that signed the
            certificate. The same name under another CA is somebody else; a new
            certificate for the same name under the same CA key is the same owner.
    """

    name: str
    authority: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and how long the certificate says so.

    Attributes:
        owner: who it is.
        groups: the subject's O and OU values.
        not_before: first valid moment of the certificate and of its CA.
        not_after: last valid moment of the certificate and of its CA.
        begins_with_ca: whether the first is its CA's alone.
        ends_with_ca: whether the last is its CA's alone.
    """

    owner: Owner
    groups: frozenset[str]
    not_before: datetime
    not_after: datetime
    begins_with_ca: bool = False
    ends_with_ca: bool = False

    def check_validity(self, now: datetime) -> None:
        """Checks the dates.

        gRPC looks at them in a full handshake only: a resumed session and an
        open connection outlive the certificate.

        Raises:
            IdentityError: the certificate is not valid at `now`.
        """
        if now < self.not_before:
            whose = _CA if self.begins_with_ca else "client certificate"
            raise IdentityError(f"the {whose} is valid only from {self.not_before} on")
        if now > self.not_after:
            raise expired(self)


def expired(principal: Principal) -> IdentityError:
    """Returns the error for a certificate that has run out."""
    whose, way_out = "client certificate", "get a new one with the same name"
    if principal.ends_with_ca:
        whose, way_out = _CA, "put its renewed one into the server's bundle"
    return IdentityError(f"the {whose} expired at {principal.not_after}; {way_out}")


class Authorities:
    """The CAs whose certificates this server takes, and the principals they vouch for.

    Args:
        bundle_pem: one or more CA certificates.

    Raises:
        ValueError: there is no certificate in it, or it cannot be parsed.
    """

    def __init__(self, bundle_pem: bytes) -> None:
        self._cas = [(ca, spki_sha256(ca)) for ca in x509.load_pem_x509_certificates(bundle_pem)]
        # Reading one certificate costs some 100 us, on every call of every client.
        self._cached = lru_cache(CACHED_CERTIFICATES)(self._identify)

    def identify(self, certificate_pem: bytes) -> Principal:
        """Returns whom a certificate names. TLS has checked already that the client has its key.

        Dates only choose between certificates of one CA: see `Principal.check_validity`.

        Raises:
            IdentityError: it names nobody, is not for clients, or none of the
                CAs signed it.
        """
        found, now = self._cached(certificate_pem), utc_now()
        # The same CA key under two certificates is a CA being renewed: the longer one counts,
        # but not before it begins. It may have been put there ahead of its date.
        begun = [each for each in found if each.not_before <= now]
        principal = max(begun or found, key=lambda each: each.not_after)
        for each in sorted(found, key=lambda each: each.not_before):
            if each.not_before <= principal.not_after < each.not_after:
                # That one takes over; who is following something by then need not be ended.
                principal = replace(
                    principal, not_after=each.not_after, ends_with_ca=each.ends_with_ca
                )
        return principal

    def _identify(self, certificate_pem: bytes) -> list[Principal]:
        """Returns whom a certificate names, once by each certificate of its CA."""
        try:
            # cryptography warns, with the offending value, about what is refused below.
            with warnings.catch_warnings(action="ignore"):
                leaf = x509.load_pem_x509_certificate(certificate_pem)
                name = _name(leaf.subject)
                _check_purpose(leaf)
                issuers = self._issuers(leaf)
        except IdentityError:
            raise
        except Exception as error:  # cryptography's parsers share no base class
            raise IdentityError("the client certificate cannot be parsed") from error
        return [
            Principal(
                owner=Owner(name, authority),
                groups=_groups(leaf.subject),
                not_before=max(leaf.not_valid_before_utc, ca.not_valid_before_utc),
                not_after=min(leaf.not_valid_after_utc, ca.not_valid_after_utc),
                begins_with_ca=leaf.not_valid_before_utc < ca.not_valid_before_utc,
                ends_with_ca=ca.not_valid_after_utc < leaf.not_valid_after_utc,
            )
            for ca, authority in issuers
        ]

    def _issuers(self, leaf: x509.Certificate) -> list[tuple[x509.Certificate, str]]:
        """Returns the certificates in the bundle of the CA that signed `leaf`, one at least.

        Only a direct issuer counts. gRPC also follows intermediates that the
        client sends, even under a CA that forbids them (pathlen 0).
        """
        found = [(ca, key) for ca, key in self._cas if _signed_by(leaf, ca)]
        if not found:
            raise IdentityError(
                "the client certificate was not signed by a CA in the server's bundle; "
                "an intermediate CA has to be in that bundle itself"
            )
        return found


def spki_sha256(holder: x509.Certificate) -> str:
    """Returns the SHA-256, in hex, of a certificate's public key (SubjectPublicKeyInfo)."""
    der = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


def _signed_by(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_purpose(leaf: x509.Certificate) -> None:
    """Refuses what gRPC lets in: CAs, missing key usages, short RSA keys."""
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise IdentityError(
            f"the client certificate's RSA key has {key.key_size} bits; {MIN_RSA_BITS} are needed"
        )
    basic = extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise IdentityError("the client certificate is a CA's own; use one that the CA signed")
    usage = extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise IdentityError("the client certificate lacks the key usage digitalSignature")
    purposes = extension(leaf, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise IdentityError("the client certificate lacks the extended key usage clientAuth")


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Returns an extension of a certificate, or None if it has none of that kind."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _groups(subject: x509.Name) -> frozenset[str]:
    return frozenset(
        str(attribute.value)
        for attribute in subject
        if attribute.oid in (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    )


def _name(subject: x509.Name) -> str:
    """Returns the subject as text, if no other subject could be taken for it."""
    if not subject.rdns:
        raise IdentityError("the client certificate's subject is empty")
    for rdn in subject.rdns:
        attributes = list(rdn)
        if len(attributes) != 1:
            raise IdentityError("the client certificate's subject has a multi-valued part")
        _check_attribute(attributes[0])
    if len(subject.get_attributes_for_oid(NameOID.COMMON_NAME)) != 1:
        raise IdentityError("the client certificate's subject needs exactly one common name (CN)")
    return subject.rfc4514_string()


def _check_attribute(attribute: x509.NameAttribute[str | bytes]) -> None:
    kind, value = attribute.rfc4514_attribute_name, attribute.value
    start = f"the {kind} in the client certificate's subject"
    if attribute.oid not in _KNOWN_TYPES:
        raise IdentityError(f"{start} is of a type this server doesn't know")
    if not isinstance(value, str) or not value:
        raise IdentityError(f"{start} holds no text")
    if value != value.strip():
        raise IdentityError(f"{start} begins or ends with a space")
    if not unicodedata.is_normalized("NFC", value):
        raise IdentityError(f"{start} is not in Unicode normal form C")
    unseen = next((c for c in value if unicodedata.category(c) in _UNSEEN_CATEGORIES), None)
    if unseen is not None:
        raise IdentityError(f"{start} contains an invisible character (U+{ord(unseen):04X})")


def utc_now() -> datetime:
    """Returns the time by which certificates are judged."""
    return datetime.now(UTC)
