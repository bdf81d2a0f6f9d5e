"""Help and version need nothing, and are told or are an error."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from server_authority import Authority
from server_process import Files, failing, server_command, server_environment


def test_help_and_version_need_nothing(tmp_path: Path, ca: Authority) -> None:
    """No certificates, no grpc, and exit code 0; each option is described."""
    nothing = Files(tmp_path, ca)
    code, said = failing(nothing, "--version")
    assert (code, said) == (0, f"jobby-server {version('jobby-server')}\n")
    code, said = failing(nothing, "--help")
    assert code == 0
    for option in (
        "--listen",
        "--ca",
        "--cert",
        "--key",
        "--output-dir",
        "--log-level",
        "--config",
    ):
        assert option in said
    program = "import sys, jobby_server.main; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_cannot_be_told_is_an_error(tmp_path: Path, ca: Authority, option: str) -> None:
    """A full disk under the standard output is said in words, and is no success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            server_command(option),
            cwd=Files(tmp_path, ca).folder,
            env=server_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,  # failing is what it is to do
        )
    assert done.returncode == 74
    assert done.stderr == (
        "jobby-server: cannot write to the standard output: No space left on device; "
        "write elsewhere\n"
    )


def test_what_cannot_be_told_for_want_of_an_output_is_an_error(
    tmp_path: Path, ca: Authority
) -> None:
    """As after >&- in a shell: in words, too."""
    code, said = failing(
        Files(tmp_path, ca), "--version", wrapper=("sh", "-c", 'exec "$@" >&-', "sh")
    )
    assert code == 74
    assert "cannot write to the standard output: it is closed" in said
