"""What keeps the server from starting is told in a sentence, and nothing is left of the start."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest
from server_client import refused
from server_process import (
    ANY_PORT,
    Files,
    connect,
    failing,
    run_out,
    server_command,
    started,
)
from server_waiting import run

INTERRUPTED = """
import os, signal, sys
from jobby_server.main import main

def interrupt(event, arguments):
    if event == "import" and arguments[0] == "grpc":
        os.kill(os.getpid(), int(sys.argv[1]))

sys.addaudithook(interrupt)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_in_order(
    files: Files, tmp_path: Path, number: int
) -> None:
    """Exit code 0, no traceback, and nothing is left, though nothing was served yet."""
    done = run_out(
        [sys.executable, "-c", INTERRUPTED, str(int(number)), *ANY_PORT],
        files.folder,
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("INFO ended")
    assert nothing_made(tmp_path)


def nothing_made(folder: Path) -> bool:
    """Whether a start that failed left no folder for output, and none for state."""
    return not [*folder.glob("jobby-server-*"), *folder.glob("state")]


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_busy_port_is_one_sentence(files: Files, tmp_path: Path, reuse_port: bool) -> None:
    """Even beside a listener that would share its port: two servers never split the calls."""
    with socket.socket() as taken:
        if reuse_port:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for options in ([], ["--state-dir", str(tmp_path / "state")]):
            code, said = failing(files, "--listen", address, *options, TMPDIR=str(tmp_path))
            assert code == 69
            assert said.startswith(f"jobby-server: cannot listen on {address}: the address is in ")
            assert said.count("\n") == 1
            assert nothing_made(tmp_path)


def test_a_second_server_on_the_same_port_does_not_start(files: Files) -> None:
    """gRPC would let it, and give it half of the connections."""
    with started(files, *ANY_PORT) as process:
        code, said = failing(files, "--listen", process.address)
        assert code == 69
        assert "the address is in use" in said
        process.end(signal.SIGTERM)


def test_it_can_be_started_anew_on_its_port_at_once(files: Files) -> None:
    """Connections that the server before it closed may linger (TIME_WAIT); the port is free."""
    with started(files, *ANY_PORT) as process:
        address = process.address

        async def scenario() -> None:
            client = connect(files, address)
            stream = client.follow(await client.run_job("sleep", "1000"))
            await stream.initial_metadata()
            ended = asyncio.to_thread(process.end, signal.SIGTERM)
            await asyncio.gather(refused(stream), ended)
            await client.channel.close()

        run(scenario())
    with started(files, "--listen", address) as process:
        assert process.end(signal.SIGTERM)[0] == 0


FAILURES = {
    "a bad value": (["--listen", "x"], 78, "cannot use --listen 'x'"),
    "usage": (["--no-such-option"], 64, "--no-such-option"),
    "a missing file": (["--ca", "none.crt"], 78, "cannot read the CA bundle none.crt"),
    "a missing folder": (["--output-dir", "none"], 78, "cannot keep output in none"),
    "an address of nobody": (["--listen", "192.0.2.1:0"], 78, "no such address"),
    "a host of nobody": (["--listen", "no-such-host.invalid:0"], 78, "no name resolves"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_keeps_it_from_starting_is_one_line(files: Files, tmp_path: Path, case: str) -> None:
    """An exit code, a sentence, no traceback, and nothing made."""
    arguments, code, words = FAILURES[case]
    found, said = failing(files, *ANY_PORT, *arguments, TMPDIR=str(tmp_path))
    assert found == code
    assert words in said
    assert said.count("\n") == 1
    assert nothing_made(tmp_path)


def test_too_few_descriptors_are_said_by_name(files: Files) -> None:
    """A server that could hold nothing open doesn't start, and says which limit it is."""
    done = run_out(["prlimit", "--nofile=40:", *server_command(*ANY_PORT)], files.folder)
    assert done.returncode == 78
    (said,) = done.stderr.splitlines()
    assert "40 open files (RLIMIT_NOFILE)" in said
    assert "ulimit -n" in said


TOO_EARLY = """
import os, signal, sys
from jobby_server.entry import main

def interrupt(event, arguments):
    if event == "import" and arguments[0] == "argparse":
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
sys.exit(main())
"""


def test_ctrl_c_is_no_traceback_however_early(files: Files, tmp_path: Path) -> None:
    """Amid the server's own imports the signal ends it, in silence."""
    done = run_out([sys.executable, "-c", TOO_EARLY, *ANY_PORT], files.folder, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


TOO_LATE = """
import os, sys
import grpc, grpc.aio
os.environ |= {"GRPC_SSL_CIPHER_SUITES": sys.argv[1], "GRPC_ENABLE_FORK_SUPPORT": "0"}
from jobby_server import main
sys.exit(main.main(sys.argv[2:]))
"""


def test_it_does_not_serve_when_the_tls_policy_has_no_effect(files: Files, tmp_path: Path) -> None:
    """The policy is in the environment, but gRPC hasn't seen it: the self-check ends the start."""
    suites = "ECDHE-PSK-CHACHA20-POLY1305"
    done = run_out(
        [sys.executable, "-c", TOO_LATE, suites, *ANY_PORT], files.folder, TMPDIR=str(tmp_path)
    )
    assert done.returncode == 70
    assert "jobby-server: cannot serve: the TLS library would accept TLS 1.2" in done.stderr
    assert "listening" not in done.stderr
    assert nothing_made(tmp_path)
