"""The sample certificates, whose keys everybody has, are served with a warning and on loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from server_process import Files, server_environment
from server_waiting import DEADLINE_SECONDS

SAMPLES = """
import sys
from jobby_server import certificates, identity, main
from cryptography import x509
ca = x509.load_pem_x509_certificate(open("ca.crt", "rb").read())
certificates.read.__kwdefaults__["samples"] = {identity.spki_sha256(ca)}
sys.exit(main.main(sys.argv[1:]))
"""


@contextmanager
def samples(files: Files, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Starts a server that takes the CA of its working directory for a sample."""
    with subprocess.Popen(
        [sys.executable, "-c", SAMPLES, *arguments],
        cwd=files.folder,
        env=server_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            yield popen
        finally:
            popen.kill()  # one that serves against the test's will must not go on


def test_samples_stay_on_loopback(files: Files) -> None:
    """Everybody has their keys: beyond loopback they are refused, with the way out."""
    with samples(files, "--listen", "0.0.0.0:0") as popen:
        _, said = popen.communicate(timeout=DEADLINE_SECONDS)
        assert popen.returncode == 78
        assert "everybody has their private keys" in said
        assert "--insecure-expose-sample-certificates" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "127.0.0.1:0"],
        ["--listen", "0.0.0.0:0", "--insecure-expose-sample-certificates"],
    ],
)
def test_samples_are_said_loudly(files: Files, arguments: list[str]) -> None:
    """On loopback, or where it was asked for by name, the server warns and serves."""
    with samples(files, *arguments) as popen:
        assert popen.stderr is not None
        log = []
        for line in popen.stderr:
            log.append(line)
            if "listening on" in line:
                break
        popen.send_signal(signal.SIGTERM)
        popen.communicate(timeout=DEADLINE_SECONDS)
        assert popen.returncode == 0
        (said,) = (line for line in log if "WARNING THE SAMPLE CERTIFICATES ARE IN USE" in line)
        address = log[-1].split()[-1]
        assert f"whoever reaches {address} can" in said
