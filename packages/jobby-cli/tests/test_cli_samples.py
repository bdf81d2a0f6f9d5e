"""The certificates in certs/ work as they lie there, and are known for what they are."""

import uuid
from hashlib import sha256
from pathlib import Path

import cli_authority
from cli_authority import Leaf
from cli_command import Cli
from cli_files import contents, load
from cli_peer import serving
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from jobby_client.samples import SAMPLE_SHA256

ROOT = Path(__file__).resolve().parents[3]


class TestSamples:
    """The certificates in certs/, ready for use."""

    folder = ROOT / "certs"

    def test_they_never_expire(self) -> None:
        """A newcomer finds them valid, whenever that is."""
        for name in ("ca.crt", "ca.cert", "server.cert", "client.cert", "bob.cert"):
            assert load(self.folder / name).not_valid_after_utc.year == 9999

    def test_they_belong_together(self) -> None:
        """One CA signed all of them, and each key is its certificate's."""
        ca = load(self.folder / "ca.crt")
        for name in ("server", "client", "bob"):
            leaf = load(self.folder / f"{name}.cert")
            leaf.verify_directly_issued_by(ca)
            key = load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
            assert key.public_key() == leaf.public_key()

    def test_they_are_known_as_samples(self) -> None:
        """The client knows the certificates, and the page beside them tells the keys' digests."""
        found = {
            load(self.folder / name).fingerprint(hashes.SHA256()).hex()
            for name in ("client.cert", "bob.cert")
        }
        assert found == SAMPLE_SHA256
        page = (self.folder / "README.md").read_text()
        for name in ("ca.crt", "server.cert"):
            key = load(self.folder / name).public_key()
            der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert sha256(der).hexdigest() in page

    def test_they_are_two_users(self) -> None:
        """client.cert and bob.cert are different people."""
        subjects = {load(self.folder / f"{n}.cert").subject for n in ("client", "bob")}
        assert len(subjects) == 2

    def test_the_command_takes_them_from_a_checkout_and_says_so(
        self, bare: Cli, tmp_path: Path
    ) -> None:
        """Their keys are 0644 in a checkout: used all the same, with a warning each time."""
        files = contents(self.folder)
        for name, as_ in (
            ("ca.cert", "ca.cert"),
            ("bob.cert", "client.cert"),
            ("bob.key", "client.key"),
        ):
            (bare.folder / as_).write_bytes(files[name])
            (bare.folder / as_).chmod(0o644)
        ca = cli_authority.Authority()
        ca.pem = files["ca.crt"]
        with serving(ca, Leaf(files["server.cert"], files["server.key"])) as peer:
            done = bare("--server", peer.address, "status", str(uuid.uuid4()))
        assert (done.code, done.out) == (0, b"Status: COMPLETED, ExitCode: 0\n")
        assert "published sample" in done.err
