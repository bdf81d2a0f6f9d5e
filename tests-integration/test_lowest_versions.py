"""The oldest dependencies that our distributions declare are old ones that work."""

from pathlib import Path

from harness.environments import Installed
from support.certificates import Authority
from support.server import Server
from support.user import User


def test_a_job_runs_with_the_lowest_versions(
    lowest: Installed, authority: Authority, tmp_path: Path
) -> None:
    """Server and client, each on its oldest dependencies, run a job and bring back its output."""
    server = Server(lowest.server.bin("jobby-server"), authority.server(), tmp_path / "server")
    with server:
        jobby = lowest.client.bin("jobby")
        alice = User(jobby, tmp_path / "alice", authority.client("alice"), server.address)
        job = alice.start("sh", "-c", "printf 'to stdout'; printf 'to stderr' >&2; exit 3")
        assert alice.jobby("output", job).stdout == b"to stdout"
        assert alice.jobby("output", "--type", "stderr", job).stdout == b"to stderr"
        assert alice.jobby("status", job).stdout == b"Status: COMPLETED, ExitCode: 3\n"


def test_certificates_are_made_with_the_lowest_versions(lowest: Installed, tmp_path: Path) -> None:
    """`jobby certs` works with the oldest cryptography that its extra allows."""
    certs = lowest.certs.bin("jobby")
    operator = User(certs, tmp_path / "operator", Authority().client("operator"), "localhost:1")
    made = operator.jobby("certs", "init", "made")
    assert made.code == 0, made.stderr
    assert (operator.folder / "made" / "server.key").is_file()
