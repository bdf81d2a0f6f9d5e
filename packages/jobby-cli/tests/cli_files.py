"""Owns certificates and keys as files: what `certs` makes, and what a client looks for."""

from pathlib import Path

from cli_authority import Leaf
from cryptography import x509

MADE = {"ca.crt", "ca.cert", "ca.key", "server.cert", "server.key", "client.cert", "client.key"}
"""What `certs init` makes."""


def write_files(folder: Path, ca: bytes, leaf: Leaf) -> None:
    """Writes a client's files under the names it looks for by itself."""
    (folder / "ca.cert").write_bytes(ca)
    (folder / "client.cert").write_bytes(leaf.cert)
    (folder / "client.key").touch(mode=0o600)
    (folder / "client.key").write_bytes(leaf.key)


def load(path: Path) -> x509.Certificate:
    """The certificate in a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    """All that is in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
