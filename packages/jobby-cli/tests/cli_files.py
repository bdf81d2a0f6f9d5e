"""Owns a client's files in a folder."""

from pathlib import Path

from cli_authority import Leaf


def write_files(folder: Path, ca: bytes, leaf: Leaf) -> None:
    """Writes a client's files under the names it looks for by itself."""
    (folder / "ca.cert").write_bytes(ca)
    (folder / "client.cert").write_bytes(leaf.cert)
    (folder / "client.key").touch(mode=0o600)
    (folder / "client.key").write_bytes(leaf.key)
