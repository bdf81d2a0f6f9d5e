"""Owns the list of keys that the whole world has: those of the checked-in sample certificates."""

from typing import Final

SAMPLE_SPKI_SHA256: Final[frozenset[str]] = frozenset(
    {
        "d22f6c24e01937e6d6c11b7b338270756d1390e6a33596277c6f06568ab79d70",  # ca.crt
        "5ad6e693d8f97d257fe2c7c49dff0e9ceab0f213cb43c0896393073f5922c814",  # server.cert
    }
)
"""SHA-256, in hex, of the DER SubjectPublicKeyInfo of the sample CA and of the sample server
key (RFC 7469, section 2.4, says why the key and not the certificate: it survives a renewal)."""
