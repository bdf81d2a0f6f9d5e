"""`jobby certs` makes certificates that work at once, and refuses what no server would take."""

import os
import stat
import unicodedata
from pathlib import Path

import cli_authority
import click
import pytest
from cli_authority import Leaf
from cli_command import Cli
from cli_files import MADE, contents
from cli_peer import serving
from cryptography import x509
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
