"""Owns the form of the files: finds the certificates and the key in PEM text, or says what it is.

PEM is RFC 7468; what stands between the blocks is comment.
"""

import binascii
import re
import ssl
from typing import Final

_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)
_KEY: Final = re.compile(rb"-----BEGIN (?:EC |RSA )?PRIVATE KEY-----")
# How such a public key is written in a certificate: the OID of Ed25519 with the head of the 32
# bytes that follow (RFC 8410, section 4); the OID of the curve P-521 (RFC 5480, section 2.1.1.1).
_UNUSABLE_KEYS: Final = {
    "Ed25519": bytes.fromhex("300506032b6570032100"),
    "P-521": bytes.fromhex("06052b81040023"),
}


def certificates(pem: bytes) -> list[bytes]:
    """Returns the certificates, each as DER.

    Raises:
        ValueError: there is none, or one that cannot be parsed; the text says which.
    """
    if not pem.strip():
        raise ValueError("it is empty")
    try:
        found = [
            ssl.PEM_cert_to_DER_cert(block.decode("ascii")) for block in _CERTIFICATE.findall(pem)
        ]
        if found:
            # The standard library's only parser of certificates.
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trial.load_verify_locations(cadata=b"".join(found))
            return found
    except (binascii.Error, ssl.SSLError):
        pass
    raise ValueError("it holds no readable certificate in PEM form (-----BEGIN CERTIFICATE-----)")


def check_key(pem: bytes) -> None:
    """Checks that the text looks like a private key that needs no password.

    Raises:
        ValueError: it doesn't; the text says why.
    """
    if not pem.strip():
        raise ValueError("it is empty")
    if b"ENCRYPTED" in pem:
        raise ValueError("it has a password, which gRPC cannot ask for")
    if not _KEY.search(pem):
        raise ValueError("it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")


def unusable_key(der: bytes) -> str | None:
    """Returns the kind of a certificate's key if TLS in gRPC can't use it, otherwise None."""
    return next((kind for kind, mark in _UNUSABLE_KEYS.items() if mark in der), None)
