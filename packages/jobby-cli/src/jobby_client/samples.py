"""Owns the list of certificates that the whole world has the keys of: the checked-in samples."""

from typing import Final

SAMPLE_SHA256: Final[frozenset[str]] = frozenset(
    {
        "3c4e8504708b488580827e6c7b26e479b1fa3dc54f77e7739a28738c061a3e5f",  # client.cert
        "5a4480f41562b6591fe80b4ac72757be78e097777c0857a842d0f9d7d91cb41a",  # bob.cert
    }
)
"""SHA-256, in hex, of the sample client certificates (DER)."""
