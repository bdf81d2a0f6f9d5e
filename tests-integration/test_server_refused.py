"""A server that cannot start says why in one sentence, exits with a code, and leaves nothing."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.cache import ROOT
from harness.environments import Installed
from support.certificates import CLIENT, Authority, common_name
from support.server import Server, environment
from support.user import User
from support.waiting import DEADLINE_SECONDS

FREE = ("--listen", "127.0.0.1:0")
FILES = ("ca.crt", "server.cert", "server.key")
USAGE, UNAVAILABLE, CONFIG = 64, 69, 78

Fail = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    """A working directory with all that a server needs."""
    return authority.server().for_server(tmp_path / "server")


@pytest.fixture
def fail(installed: Installed, folder: Path) -> Fail:
    """Starts a server that has to end by itself; returns its exit code and its last words."""

    def start(*options: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        variables = environment(folder, env)
        before = sorted(folder.rglob("*"))
        done = subprocess.run(
            [installed.server.bin("jobby-server"), *options],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,  # it fails, which is what is looked at
        )
        said = done.stderr.decode()
        assert done.stdout == b""
        assert said.count("\n") == 1, said
        assert said.startswith("jobby-server: ")
        assert "Traceback" not in said
        assert sorted(folder.rglob("*")) == before
        return done.returncode, said

    return start


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(fail: Fail, folder: Path, name: str) -> None:
    """The file is named, and how to make one."""
    (folder / name).unlink()
    code, said = fail(*FREE)
    assert code == CONFIG
    assert f"{name}: there is no such file" in said
    assert "jobby certs init" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [*((name, b"nonsense\n") for name in FILES), ("ca.crt", b""), ("server.key", b"\xff\xfe\x00")],
)
def test_an_unusable_file(fail: Fail, folder: Path, name: str, content: bytes) -> None:
    """The file that is empty or no PEM is named."""
    (folder / name).write_bytes(content)
    code, said = fail(*FREE)
    assert code == CONFIG
    assert name in said


def test_a_folder_in_place_of_a_file(fail: Fail, folder: Path) -> None:
    """A folder by a file's name is named."""
    (folder / "server.key").unlink()
    (folder / "server.key").mkdir()
    code, said = fail(*FREE)
    assert code == CONFIG
    assert "server.key" in said


def test_a_key_of_another_certificate(fail: Fail, folder: Path, authority: Authority) -> None:
    """Both files are named when they don't belong together."""
    (folder / "server.key").write_bytes(authority.server().key)
    code, said = fail(*FREE)
    assert code == CONFIG
    assert "server.key" in said
    assert "server.cert" in said


def test_a_key_that_others_may_read(fail: Fail, folder: Path) -> None:
    """A private key that isn't private is refused, with the way out."""
    (folder / "server.key").chmod(0o644)
    code, said = fail(*FREE)
    assert code == CONFIG
    assert "chmod 600" in said


def test_a_clients_certificate(fail: Fail, folder: Path, authority: Authority) -> None:
    """A certificate that is not for servers is refused before a client could complain."""
    authority.leaf(common_name("x"), purposes=[CLIENT], local=True).for_server(folder)
    code, said = fail(*FREE)
    assert code == CONFIG
    assert "serverAuth" in said


def test_a_busy_port(
    fail: Fail, authority: Authority, installed: Installed, tmp_path: Path
) -> None:
    """A second server on the same port is refused; the first one goes on."""
    command = installed.server.bin("jobby-server")
    with Server(command, authority.server(), tmp_path / "first") as first:
        code, said = fail("--listen", first.address)
        assert code == UNAVAILABLE
        assert f"cannot listen on {first.address}: the address is in use" in said
        assert first.program.running()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--listen", "localhost"], "--listen"),
        (["--listen", "127.0.0.1:70000"], "--listen"),
        (["--listen", "no..name:0"], "no..name"),
        (["--listen", "192.0.2.1:0"], "192.0.2.1"),
        ([*FREE, "--log-level", "loud"], "--log-level"),
        ([*FREE, "--output-dir", "missing"], "missing"),
        ([*FREE, "--config", "missing.toml"], "missing.toml"),
    ],
)
def test_an_unusable_option(fail: Fail, options: list[str], named: str) -> None:
    """The option or what it names is named."""
    code, said = fail(*options)
    assert code == CONFIG
    assert named in said


def test_an_unusable_variable(fail: Fail) -> None:
    """A variable is named, too, and so is a mistake in the file."""
    code, said = fail(env={"JOBBY_LISTEN": "nowhere"})
    assert code == CONFIG
    assert "JOBBY_LISTEN" in said


@pytest.mark.parametrize("content", ["listen = 5", "listne = 'x'", "listen = "])
def test_an_unusable_config_file(fail: Fail, folder: Path, content: str) -> None:
    """The file is named."""
    (folder / "jobby.toml").write_text(content)
    code, said = fail("--config", "jobby.toml")
    assert code == CONFIG
    assert "jobby.toml" in said


def test_an_unknown_option(fail: Fail) -> None:
    """A misspelt option is a usage error."""
    code, said = fail("--lsten", "127.0.0.1:0")
    assert code == USAGE
    assert "--lsten" in said


@pytest.mark.parametrize("writable", [0o777, 0o775])
def test_an_output_folder_that_others_may_change(fail: Fail, folder: Path, writable: int) -> None:
    """Output is not kept where others could replace it."""
    output = folder / "output"
    output.mkdir()
    output.chmod(writable)
    code, said = fail(*FREE, "--output-dir", "output")
    assert code == CONFIG
    assert "chmod go-w" in said


@pytest.fixture
def samples(folder: Path) -> Path:
    """The working directory with the checked-in samples in place of its own files."""
    for name in FILES:
        (folder / name).write_bytes((ROOT / "certs" / name).read_bytes())
    return folder


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_samples_stay_on_loopback(fail: Fail, samples: Path, address: str) -> None:
    """With the sample certificates it serves no other machine."""
    code, said = fail("--listen", address)
    assert code == CONFIG
    assert "sample certificates" in said
    assert "jobby certs init" in said


def test_a_sample_key_among_own_files_counts(
    fail: Fail, folder: Path, authority: Authority
) -> None:
    """One sample is enough: a client CA whose key everybody has lets everybody in."""
    (folder / "ca.crt").write_bytes(authority.pem + (ROOT / "certs" / "ca.crt").read_bytes())
    code, said = fail("--listen", "0.0.0.0:0")
    assert code == CONFIG
    assert "sample certificates" in said


def test_samples_work_on_loopback_and_say_so(installed: Installed, tmp_path: Path) -> None:
    """On loopback the samples work as they are checked out, for both programs, and each is loud
    about them."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "certs", folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    with Server(installed.server.bin("jobby-server"), None, folder) as server:
        assert "SAMPLE CERTIFICATES" in server.log()
        newcomer = User(installed.client.bin("jobby"), folder, None, server.address)
        assert newcomer.jobby("start", "echo", "hello").code == 0
        output = newcomer.jobby("output")
        assert output.stdout == b"hello\n"
        assert "sample" in output.stderr
