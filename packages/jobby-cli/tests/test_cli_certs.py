import ipaddress
import os
import stat
import unicodedata
import uuid
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import cli_authority
import click
import pytest
from cli_authority import Leaf
from cli_command import Cli
from cli_peer import serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

import jobby_cli
import jobby_client
from jobby_cli import names
from jobby_cli.certificates import Authority, Pair, end_after
from jobby_client import Credentials
from jobby_client.samples import SAMPLE_SHA256

ROOT = Path(__file__).resolve().parents[3]
MADE = {"ca.crt", "ca.cert", "ca.key", "server.cert", "server.key", "client.cert", "client.key"}


def load(path: Path) -> x509.Certificate:
    """The certificate in a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    """All that is in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_init_makes_the_files_under_their_names(bare: Cli) -> None:
    """`certs init` makes the seven files, the CA's under both names, and nothing else."""
    done = bare("certs", "init")
    assert (done.code, done.err) == (0, "")
    assert set(contents(bare.folder)) == MADE
    assert contents(bare.folder)["ca.crt"] == contents(bare.folder)["ca.cert"]
    for name in MADE:
        assert name in done.out.decode()


def test_what_init_makes_works_at_once(bare: Cli) -> None:
    """A server and the command accept each other with the files as they are."""
    assert bare("certs", "init").code == 0
    files = contents(bare.folder)
    ca = cli_authority.Authority()
    ca.pem = files["ca.crt"]
    with serving(ca, Leaf(files["server.cert"], files["server.key"])) as peer:
        for host in ("localhost", "127.0.0.1"):
            done = bare("--server", f"{host}:{peer.port}", "start", "x")
            assert (done.code, done.err) == (0, "")


def test_keys_are_their_owners_alone(bare: Cli) -> None:
    """Keys are 0600, whatever the umask."""
    before = os.umask(0)
    try:
        assert bare("certs", "init").code == 0
        assert bare("certs", "client", "bob").code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bare.folder.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        name for name in modes if name.endswith(".key")
    }


def test_a_key_is_never_readable_by_others_while_it_is_made(bare: Cli) -> None:
    """A key file is created anew, not opened: nobody has it open from before."""
    program = (
        "import os, sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda e, a: e == 'open' and str(a[0]).endswith('.key') and"
        " seen.append(a[2]))\n"
        "from jobby_cli.main import main\n"
        "code = main()\n"
        "assert len(seen) == 3 and all(f & os.O_EXCL and f & os.O_CREAT for f in seen), seen\n"
        "sys.exit(code)\n"
    )
    assert bare("certs", "init", python=("-c", program)).code == 0


def usage(certificate: x509.Certificate) -> x509.KeyUsage:
    """The critical key usage of a certificate."""
    found = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert found.critical
    return found.value


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """The critical extended key usages of a certificate."""
    found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert found.critical
    return list(found.value)


def alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The alternative names of a certificate."""
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_the_profile_of_the_ca(bare: Cli) -> None:
    """A CA: P-256, SHA-256, only for signing, no CA below it, no constraint on names."""
    assert bare("certs", "init").code == 0
    ca = load(bare.folder / "ca.crt")
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert isinstance(ca.signature_hash_algorithm, hashes.SHA256)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usage(ca).key_cert_sign
    assert not usage(ca).digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3600)


def test_the_profile_of_a_server(bare: Cli) -> None:
    """A server: for servers only, by DNS and IP names, localhost always among them."""
    assert bare("certs", "init", "--host", "jobs.example.org", "--host", "10.0.0.7").code == 0
    server = load(bare.folder / "server.cert")
    assert purposes(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usage(server).digital_signature
    assert not usage(server).key_cert_sign
    assert alternatives(server) == [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DNSName("jobs.example.org"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.7")),
    ]


def test_the_profile_of_a_client(bare: Cli) -> None:
    """A client: for clients only, one URI, the name as CN, groups as O and OU."""
    assert bare("certs", "init", "--client", "alice", "--org", "Example Inc").code == 0
    assert (
        bare("certs", "client", "Zoë B", "--unit", "ops", "--unit", "db", "--org", "Ex").code == 0
    )
    alice, zoe = load(bare.folder / "client.cert"), load(bare.folder / "Zoë B.cert")
    assert alice.subject.rfc4514_string() == "CN=alice,O=Example Inc"
    assert zoe.subject.rfc4514_string() == "CN=Zoë B,OU=db,OU=ops,O=Ex"
    assert alternatives(zoe) == [x509.UniformResourceIdentifier("jobby:client:Zo%C3%AB%20B")]
    for client in (alice, zoe):
        assert purposes(client) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert usage(client).digital_signature
        client.verify_directly_issued_by(load(bare.folder / "ca.crt"))
    assert alice.serial_number != zoe.serial_number


def test_the_profile_of_all_leaves(bare: Cli) -> None:
    """Server and clients: P-256, SHA-256, and critically no CA."""
    assert bare("certs", "init").code == 0
    assert bare("certs", "client", "bob").code == 0
    for name in ("server.cert", "client.cert", "bob.cert"):
        leaf = load(bare.folder / name)
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert isinstance(leaf.signature_hash_algorithm, hashes.SHA256)
        basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca) == (True, False)


def test_days_count_from_now_and_start_a_minute_ago(bare: Cli) -> None:
    """--days is the end; the start is a little back, for clocks that are behind."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert bare("certs", "init", "--days", "30").code == 0
    after = datetime.now(UTC)
    for name in ("server.cert", "client.cert"):
        certificate = load(bare.folder / name)
        assert before <= certificate.not_valid_after_utc - timedelta(days=30) <= after
        assert before <= certificate.not_valid_before_utc + timedelta(minutes=1) <= after


def test_no_expiry_is_what_rfc_5280_calls_so(bare: Cli) -> None:
    """--no-expiry: 9999-12-31, the CA too, and the command accepts it."""
    assert bare("certs", "init", "--no-expiry").code == 0
    for name in ("ca.crt", "server.cert", "client.cert"):
        end = load(bare.folder / name).not_valid_after_utc
        assert end == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    files = [bare.folder / name for name in ("ca.cert", "client.cert", "client.key")]
    assert Credentials.from_files(*files).check().not_after.year == 9999


def test_nothing_that_exists_is_overwritten(bare: Cli) -> None:
    """An existing file stops all of it before anything is written, and is named."""
    (bare.folder / "client.key").write_text("precious")
    (bare.folder / "ca.crt").symlink_to("nowhere")
    done = bare("certs", "init")
    assert done.code == 78
    assert "ca.crt and client.key" in done.err
    assert "--force" in done.err
    assert {path.name for path in bare.folder.iterdir()} == {"client.key", "ca.crt"}
    assert (bare.folder / "client.key").read_text() == "precious"
    bare("certs", "init", "made")
    before = contents(bare.folder / "made")
    assert bare("certs", "client", "client", "--dir", "made").code == 78
    assert contents(bare.folder / "made") == before


def test_force_replaces_everything(bare: Cli) -> None:
    """--force makes all of it anew, keys closed to others even where they were open."""
    assert bare("certs", "init").code == 0
    (bare.folder / "client.key").chmod(0o644)
    before = contents(bare.folder)
    assert bare("certs", "init", "--force").code == 0
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)
    assert stat.S_IMODE((bare.folder / "client.key").stat().st_mode) == 0o600


# Runs the command; as the server's new certificate goes to its place, `$MEANWHILE` happens.
EXCHANGING = (
    "-c",
    (
        "import os, signal, sys\n"
        "def meanwhile(event, args):\n"
        "    if event == 'os.rename' and str(args[1]).endswith('server.cert'):\n"
        "        exec(os.environ.pop('MEANWHILE', ''))\n"
        "sys.addaudithook(meanwhile)\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())\n"
    ),
)


@pytest.mark.parametrize(
    ("meanwhile", "code", "said"),
    [
        ("os.unlink(args[0])", 74, "No such file"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise SystemExit(143)", 143, ""),
    ],
)
def test_a_replacement_that_fails_midway_costs_nothing(
    bare: Cli, meanwhile: str, code: int, said: str
) -> None:
    """--force, and a later file cannot go to its place: all the old ones are there again."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": meanwhile})
    assert done.code == code
    assert said in done.err
    assert contents(bare.folder) == before


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_does_not_cut_a_replacement(bare: Cli, number: str, code: int) -> None:
    """A signal while files are being replaced is heard when all of them are new."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    kill = f"os.kill(os.getpid(), signal.{number})"
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": kill})
    assert done.code == code
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)


def test_an_old_file_that_cannot_return_is_named(bare: Cli) -> None:
    """Somebody puts a folder into a file's place: the old file is kept, and where is said."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    env = {"MEANWHILE": "os.mkdir(args[1])"}
    done = bare("certs", "init", "--force", python=EXCHANGING, env=env)
    assert done.code == 74
    (bare.folder / "server.cert").rmdir()
    after = contents(bare.folder)
    (aside,) = after.keys() - MADE
    assert aside in done.err
    assert after.pop(aside) == before.pop("server.cert")
    assert after == before


def test_an_old_file_that_cannot_go_is_named(bare: Cli) -> None:
    """All is new, but an old file is still there: that it is has to be known, and where."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    swap = "import glob; (old,) = glob.glob('ca.key.*.old'); os.remove(old); os.mkdir(old)"
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": swap})
    assert done.code == 74
    (old,) = bare.folder.glob("*.old")
    assert f"remove {old.name}" in done.err
    old.rmdir()
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_everything_as_it_was(bare: Cli, force: bool) -> None:
    """All or nothing: when a later file cannot be written, the earlier ones go, too."""
    if force:
        assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    limited = (
        "-c",
        # No file may get longer: the certificates and keys fit, but not the server's with its
        # longer list of names, which comes after the CA's.
        (
            "import resource, signal, sys\n"
            "from jobby_cli import certificates, main\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "sys.exit(main.main())\n"
        ),
    )
    hosts = [word for n in range(9) for word in ("--host", f"{'h' * 60}{n}")]
    done = bare("certs", "init", *(["--force"] if force else []), *hosts, python=limited)
    assert done.code == 74
    assert "nothing was left there" in done.err
    assert contents(bare.folder) == before


def test_a_folder_that_is_made_for_it(bare: Cli) -> None:
    """DIR is made, with the folders above it; one that cannot be made is told."""
    assert bare("certs", "init", "a/b").code == 0
    assert set(contents(bare.folder / "a/b")) == MADE
    (bare.folder / "file").touch()
    done = bare("certs", "init", "file/x")
    assert done.code == 74
    assert "Not a directory" in done.err


def test_a_folder_of_any_name_is_told(bare: Cli) -> None:
    """A folder's name that is not UTF-8, or holds control characters, is shown escaped."""
    for name, shown in ((b"caf\xe9", "caf\\udce9"), (b"\x1b[31m", "\\x1b[31m")):
        done = bare("certs", "init", name)
        assert (done.code, done.err) == (0, "")
        assert f"/{shown}:\n" in done.out.decode()
        done = bare("certs", "client", "bob", "--dir", name)
        assert (done.code, done.err) == (0, "")
        assert f"/{shown}: bob.cert and bob.key\n" in done.out.decode()


def test_a_client_needs_the_ca(bare: Cli) -> None:
    """Without a usable CA in the folder: 78, which file, and the way out."""
    done = bare("certs", "client", "bob")
    assert done.code == 78
    assert "ca.crt" in done.err
    assert bare("certs", "init").code == 0
    (bare.folder / "ca.key").write_bytes((bare.folder / "client.key").read_bytes())
    done = bare("certs", "client", "bob")
    assert done.code == 78
    assert "don't belong together" in done.err
    assert not (bare.folder / "bob.key").exists()


def test_no_certificate_outlives_its_ca() -> None:
    """A CA knows its end, so that nothing is signed beyond it."""
    authority = Authority.make(10)
    assert authority.not_after - datetime.now(UTC) > timedelta(days=3640)


def test_a_client_cannot_outlive_the_ca(bare: Cli) -> None:
    """Asking for more days than the CA has: 78, with its end."""
    assert bare("certs", "init").code == 0
    done = bare("certs", "client", "bob", "--days", "4000")
    assert done.code == 78
    assert "the CA itself ends at" in done.err
    assert bare("certs", "client", "bob", "--no-expiry").code == 78


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["client", ""], "empty"),
        (["client", " x"], "space"),
        (["client", "a\x1b[31m"], "U+001B"),
        (["client", "a\u200bb"], "U+200B"),
        (["client", "e\u0301"], "normal form C"),
        (["client", "x" * 65], "64"),
        (["client", "𝒩" * 17], "64"),
        (["client", "../x"], "leave out /"),
        (["client", "--", "-x"], "leave out /"),
        (["client", "ca"], "files would be those of the ca"),
        (["client", "server"], "files would be those of the server"),
        (["client", "x", "--org", ""], "empty"),
        (["client", "x", "--unit", "a\n"], "space"),
        (["init", "--client", "\u202ex"], "U+202E"),
        (["init", "--host", "not a host"], "neither an IP address nor"),
        (["init", "--host", "ünï.example"], "punycode"),
        (["init", "--days", "0"], "range"),
    ],
)
def test_a_name_no_server_would_take_is_refused(bare: Cli, arguments: list[str], said: str) -> None:
    """Names are held to the server's rules when they are given out: 64, and nothing is made."""
    bare("certs", "init", "there")
    done = bare("certs", *arguments, *(["--dir", "there"] if arguments[0] == "client" else []))
    if "--" in arguments:
        done = bare("certs", "client", "--dir", "there", "--", "-x")
    assert done.code == 64
    assert said in done.err
    assert done.err[:-1].isprintable()
    assert set(contents(bare.folder / "there")) == MADE
    assert [path.name for path in bare.folder.iterdir()] == ["there"]


@given(st.text(max_size=70))
def test_an_accepted_name_has_no_look_alike(name: str) -> None:
    """What is accepted is visible, normalized, trimmed, and short enough for a subject."""
    try:
        names.check_name(name)
    except ValueError:
        return
    assert 0 < len(name.encode()) <= 64
    assert name == name.strip()
    assert unicodedata.normalize("NFC", name) == name
    assert not any(unicodedata.category(c)[0] == "C" for c in name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    assert subject.rfc4514_string()


def test_without_cryptography_the_way_out_is_named(bare: Cli, tmp_path: Path) -> None:
    """The extra isn't installed: 78 and the command that installs it; all else works."""
    site = tmp_path / "site"
    site.mkdir()
    for module in (click, jobby_cli, jobby_client):
        assert module.__file__
        source = Path(module.__file__).parent
        (site / source.name).symlink_to(source)
    program = f"import sys; sys.path.insert(0, {str(site)!r})\nfrom jobby_cli.main import main\n"
    # -S: no site-packages, so nothing that isn't linked is there.
    done = bare("certs", "init", python=("-S", "-c", program + "sys.exit(main())"))
    assert done.code == 78
    assert "pip install 'jobby-cli[certs]'" in done.err
    assert bare("--help", python=("-S", "-c", program + "sys.exit(main())")).code == 0
    assert contents(bare.folder) == {}


@pytest.mark.parametrize("spoil", ["certificate", "key", "other", "leaf"])
def test_a_ca_that_cannot_be_one_is_told(spoil: str) -> None:
    """A junk certificate, a junk key, another's key, a leaf: each has its own words."""
    pair, other = Authority.make(1).pair, Authority.make(1).pair
    leaf = Authority.load(pair).client("x", (), (), end_after(1))
    broken, said = {
        "certificate": (Pair(b"junk", pair.key), "certificate cannot be read"),
        "key": (Pair(pair.certificate, b"junk"), "key cannot be read"),
        "other": (Pair(pair.certificate, other.key), "don't belong together"),
        "leaf": (leaf, "not a CA's"),
    }[spoil]
    with pytest.raises(ValueError, match=said):
        Authority.load(broken)


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


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_nothing_behind(bare: Cli, number: str, code: int) -> None:
    """A signal between two files: those that were written go again, also if it comes twice."""
    program = (
        "import os, signal, sys\n"
        "def stop(event, args):\n"
        "    file = str(args[0]) if args else ''\n"
        "    made = event == 'open' and file.endswith('server.key') and args[2] & os.O_CREAT\n"
        "    if made or (event == 'os.remove' and file.endswith('ca.key')):\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "sys.addaudithook(stop)\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())\n"
    )
    done = bare("certs", "init", python=("-c", program))
    assert (done.code, done.err) == (code, "")
    assert contents(bare.folder) == {}
