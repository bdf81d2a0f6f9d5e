"""`jobby certs` makes certificates that work at once, and refuses what no server would take."""

import os
import stat
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cli_authority
import click
import pytest
from cli_authority import Leaf
from cli_command import Cli
from cli_files import MADE, contents
from cli_peer import serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

import jobby_cli
import jobby_client
from jobby_cli import names
from jobby_cli.certificates import Authority, Pair, end_after


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


def test_a_servers_certificate_is_renewed(bare: Cli) -> None:
    """`certs server` takes the CA that is there: who had a certificate goes on using it."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    refused = bare("certs", "server")
    assert refused.code == 78
    assert "--force" in refused.err
    assert contents(bare.folder) == before
    done = bare("certs", "server", "--host", "jobs.example.org", "--force")
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().endswith(", for localhost, 127.0.0.1, ::1, jobs.example.org\n")
    after = contents(bare.folder)
    assert {name for name in MADE if after[name] != before[name]} == {"server.cert", "server.key"}
    names = x509.load_pem_x509_certificate(after["server.cert"]).extensions
    hosts = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "jobs.example.org" in hosts.get_values_for_type(x509.DNSName)
    ca = cli_authority.Authority()
    ca.pem = after["ca.crt"]
    with serving(ca, Leaf(after["server.cert"], after["server.key"])) as peer:
        done = bare("--server", f"localhost:{peer.port}", "start", "x")
        assert (done.code, done.err) == (0, "")


def authority_of_another_tool(days: int, key_identifier: bytes) -> Authority:
    """A CA that names its key otherwise than `jobby certs init` does (RFC 7093)."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier), critical=False)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def test_another_tools_ca_accepts_what_it_signs(bare: Cli) -> None:
    """Whatever it calls its key by, a client's certificate leads to it."""
    pair = authority_of_another_tool(100, b"anything").pair
    for name, content in {"ca.cert": pair.certificate, "ca.key": pair.key}.items():
        (bare.folder / name).write_bytes(content)
    (bare.folder / "ca.key").chmod(0o600)
    done = bare("certs", "client", "bob", "--days", "9")
    assert (done.code, done.err) == (0, "")
    files = (bare.folder / name for name in ("ca.cert", "bob.cert", "bob.key"))
    assert jobby_client.Credentials.from_files(*files).signed_by_own_ca()


@pytest.mark.parametrize("verb", [("client", "bob"), ("server",)])
@pytest.mark.parametrize(
    ("until", "ca_days", "said"),
    [
        (("--days", "200"), 100, "the CA itself ends at"),
        (("--no-expiry",), 36500, "the CA itself ends at"),
        (("--days", "1"), -1, "make a new one"),
        (("--days", "1"), 0, "make a new one"),
    ],
)
def test_nothing_outlives_its_ca(
    bare: Cli, verb: tuple[str, ...], until: tuple[str, ...], ca_days: int, said: str
) -> None:
    """What would be valid longer than the CA is not signed, and nothing by one that has ended."""
    pair = authority_of_another_tool(ca_days, b"x").pair
    (bare.folder / "ca.crt").write_bytes(pair.certificate)
    (bare.folder / "ca.key").write_bytes(pair.key)
    done = bare("certs", *verb, *until)
    assert (done.code, done.out) == (78, b"")
    assert said in done.err
    assert set(contents(bare.folder)) == {"ca.crt", "ca.key"}


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
        (["init", "--host", "256.1.1.1"], "neither an IP address nor"),
        (["server", "--host", "not a host"], "neither an IP address nor"),
        (["init", "--days", "0"], "range"),
    ],
)
def test_a_name_no_server_would_take_is_refused(bare: Cli, arguments: list[str], said: str) -> None:
    """Names are held to the server's rules when they are given out: 64, and nothing is made."""
    bare("certs", "init", "there")
    done = bare("certs", *arguments, *(["--dir", "there"] if arguments[0] != "init" else []))
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
    for verb in (("init",), ("server",), ("client", "bob")):
        done = bare("certs", *verb, python=("-S", "-c", program + "sys.exit(main())"))
        assert done.code == 78
        assert "pip install 'jobby-cli[certs]'" in done.err
    assert bare("--help", python=("-S", "-c", program + "sys.exit(main())")).code == 0
    assert contents(bare.folder) == {}


def test_a_ca_key_that_others_may_read_is_told(bare: Cli) -> None:
    """Whoever has it can be anybody."""
    assert bare("certs", "init").code == 0
    (bare.folder / "ca.key").chmod(0o644)
    done = bare("certs", "client", "bob")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "others may read or change ca.key (mode 0644)" in done.err


@pytest.mark.parametrize("spoil", ["certificate", "key", "other", "leaf"])
def test_a_ca_that_cannot_be_one_is_told(spoil: str) -> None:
    """A junk certificate, a junk key, another's key, a leaf: each has its own words."""
    pair, other = Authority.make(1).pair, Authority.make(1).pair
    leaf = Authority.load(pair).client("x", (), (), end_after(1))
    broken, said = {
        "certificate": (Pair(b"junk", pair.key), "certificate is none in PEM"),
        "key": (Pair(pair.certificate, b"junk"), "no private key in PEM"),
        "other": (Pair(pair.certificate, other.key), "don't belong together"),
        "leaf": (leaf, "not a CA's"),
    }[spoil]
    with pytest.raises(ValueError, match=said):
        Authority.load(broken)
