"""What hangs in the kernel holds up nobody but itself, and not the server's end either."""

import signal
import subprocess
import sys

import grpc
import grpc.aio
import pytest
from server_client import Client
from server_process import ANY_PORT, Files, server_command, server_environment, started
from server_waiting import DEADLINE_SECONDS, run

# A disk that hangs cannot be had for a test: what would read it waits for ever instead.
SERVER = """
import asyncio, sys, threading
from jobby_core import Job
from jobby_core._output import OutputFile
from jobby_server import main, recovery

main.STOP_SECONDS = 0.2
for_ever = threading.Event()

def not_cached(*_):
    raise BlockingIOError

def hang(*_):
    print("hangs", file=sys.stderr, flush=True)
    for_ever.wait()

async def hang_in_the_loop(_):
    print("hangs", file=sys.stderr, flush=True)
    await asyncio.Event().wait()

async def hang_in_a_thread(_):
    await asyncio.to_thread(hang)

{patch}
sys.exit(main.main(sys.argv[4:]))
"""


def patched(patch: str) -> list[str]:
    """Returns what runs a server so that something hangs in it."""
    return [sys.executable, "-c", SERVER.format(patch=patch)]


def test_a_read_that_hangs_does_not_hold_up_the_end(files: Files) -> None:
    """The server says that something hangs, and leaves, instead of saying that it has ended."""
    patch = "OutputFile.read_cached, OutputFile.read = not_cached, hang"
    with started(files, *ANY_PORT, wrapper=patched(patch)) as process:

        async def scenario() -> None:
            leaf = files.ca.issue("alice")
            credentials = grpc.ssl_channel_credentials(files.ca.pem, leaf.key_pem, leaf.cert_pem)
            async with grpc.aio.secure_channel(process.address, credentials) as channel:
                client = Client(channel, "jobby.v1.Jobby")
                stream = client.follow(await client.run_job("echo", "hello"))
                await stream.initial_metadata()
                assert process.popen.stderr is not None
                while process.popen.stderr.readline() != "hangs\n":
                    pass

        run(scenario())
        code, log = process.end(signal.SIGTERM)
    assert code == 70
    assert "leaving, though something hangs: a disk" in log
    assert "ended" not in log


@pytest.mark.parametrize(("where", "code"), [("the_loop", 0), ("a_thread", 70)])
def test_a_start_that_takes_long_can_be_ended(files: Files, where: str, code: int) -> None:
    """Taking up the jobs of the server before may wait for one that cannot die."""
    command = [
        *patched(f"recovery.Recovery.run = hang_in_{where}"),
        *server_command("--state-dir", "state", *ANY_PORT),
    ]
    with subprocess.Popen(
        command, cwd=files.folder, env=server_environment(), stderr=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stderr is not None
        try:
            while popen.stderr.readline() != "hangs\n":
                pass
            popen.send_signal(signal.SIGTERM)
            log = popen.stderr.read()
            assert popen.wait(DEADLINE_SECONDS) == code
        finally:
            popen.kill()
    assert "asked to end before it serves" in log
    assert "listening" not in log
