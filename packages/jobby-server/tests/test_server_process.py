"""The server as an operator runs it: a process, its files, its signals and its jobs."""

import asyncio
import re
import signal
import socket
import stat
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest
from server_client import refused
from server_process import (
    ANY_PORT,
    Files,
    alive,
    connect,
    started,
)
from server_waiting import run, until

from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode


def test_without_options_it_serves_what_lies_in_its_working_directory(files: Files) -> None:
    """ca.crt, server.cert and server.key, and the bound address in the log."""
    with started(files, JOBBY_LISTEN="127.0.0.1:0") as process:
        assert re.fullmatch(r"127\.0\.0\.1:[1-9][0-9]*", process.address)

        async def scenario() -> None:
            client = connect(files, process.address)
            job = await client.run_job("echo", "hi")
            assert await client.read(job) == b"hi\n"
            await client.channel.close()

        run(scenario())
        code, _ = process.end(signal.SIGTERM)
        assert code == 0


def test_the_cas_other_name_is_found_too(files: Files) -> None:
    """ca.cert is what a client calls the same file."""
    (files.folder / "ca.crt").rename(files.folder / "ca.cert")
    with started(files, *ANY_PORT) as process:
        assert process.end(signal.SIGTERM)[0] == 0


def test_it_listens_on_ipv6_and_says_so_in_brackets(files: Files) -> None:
    """The logged address can be given to a client as it is."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: ::1 cannot be bound: {error}")
    with started(files, "--listen", "[::1]:0") as process:
        assert re.fullmatch(r"\[::1\]:[1-9][0-9]*", process.address)

        async def scenario() -> None:
            client = connect(files, process.address)
            assert await client.read(await client.run_job("echo", "hi")) == b"hi\n"
            await client.channel.close()

        run(scenario())
        process.end(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_everything_it_started(files: Files, number: int) -> None:
    """Exit code 0, streams cut with UNAVAILABLE, jobs and their children dead, output gone."""
    with started(files, *ANY_PORT) as process:

        async def scenario() -> tuple[int, str]:
            client = connect(files, process.address)
            child = files.folder / "child"
            command = f"trap '' TERM INT HUP; sleep 1000 & echo $! > {child}; echo on; wait"
            job = await client.run_job("sh", "-c", command)
            stream = aiter(client.follow(job))
            assert (await anext(stream)).data == b"on\n"
            ended = asyncio.to_thread(process.end, number)
            (code, text), found = await asyncio.gather(refused(stream), ended)
            assert code is CODE.UNAVAILABLE
            assert "shutting down" in text
            await until(lambda: not alive(int(child.read_text())))
            await client.channel.close()
            return found

        code, log = run(scenario())
        assert code == 0
        folder = re.search(r"output is held in (\S+)", log)
        assert folder is not None
        assert not Path(folder[1]).exists()


def ignoring(number: signal.Signals) -> tuple[str, ...]:
    """Returns a command in front of another that starts it with a signal ignored."""
    program = f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_IGN); "
    return (sys.executable, "-c", program + "os.execv(sys.argv[1], sys.argv[1:])")


def test_nohup_is_respected(files: Files) -> None:
    """Started with SIGHUP ignored, as nohup(1) does, a closed terminal doesn't end the server."""
    with started(files, *ANY_PORT, wrapper=ignoring(signal.SIGHUP)) as process:
        # proc_pid_status(5): one bit a signal, the lowest for number 1.
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1
        assert process.end(signal.SIGTERM)[0] == 0


def test_named_output_is_kept_private_and_stays(files: Files, tmp_path: Path) -> None:
    """With --output-dir the files are there after the end, in a folder that only the user opens."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with started(files, *ANY_PORT, "--output-dir", str(spool)) as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            await client.wait(await client.run_job("sh", "-c", "echo out; echo err >&2"))
            await refused(client.start(pb.StartJobRequest(command="no-such-command")))
            await client.channel.close()

        run(scenario())
        (folder,) = spool.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        process.end(signal.SIGTERM)
    (job,) = folder.iterdir()
    assert stat.S_IMODE(job.stat().st_mode) == 0o700
    assert {path.name: path.read_text() for path in job.iterdir()} == {
        "stdout": "out\n",
        "stderr": "err\n",
    }


def test_a_job_gets_the_servers_environment_without_the_servers_own(files: Files) -> None:
    """What Jobby sets for gRPC, and where its key lies, is not for jobs; the rest is."""
    variables = {
        "JOBBY_LISTEN": "127.0.0.1:0",
        "JOBBY_KEY": str(files.folder / "server.key"),
        "JOBBY_SERVER": "kept.example:1",
        "GRPC_VERBOSITY": "ERROR",
        "HELLO": "world",
    }
    with started(files, **variables) as process:

        async def scenario() -> bytes:
            client = connect(files, process.address)
            output = await client.read(await client.run_job("env", "-0"))
            await client.channel.close()
            return output

        lines = [line for line in run(scenario()).decode().split("\0") if line]
        process.end(signal.SIGTERM)
    found = dict(line.split("=", 1) for line in lines)
    assert found["HELLO"] == "world"
    assert found["GRPC_VERBOSITY"] == "ERROR"  # the operator's, not Jobby's
    own = {name for name in found if name.startswith(("JOBBY_", "GRPC_"))}
    assert own == {"JOBBY_SERVER", "GRPC_VERBOSITY", "JOBBY_JOB"}  # the last marks the job


def test_a_job_inherits_no_descriptor_of_the_server(files: Files) -> None:
    """Neither the server's sockets nor other jobs' output are open in a job."""
    with started(files, *ANY_PORT) as process:

        async def scenario() -> bytes:
            client = connect(files, process.address)
            busy = await client.run_job("sh", "-c", "echo on; sleep 1000")
            await anext(aiter(client.follow(busy)))
            output = await client.read(await client.run_job("ls", "/proc/self/fd"))
            await client.channel.close()
            return output

        # 3 is the folder that ls itself reads.
        assert run(scenario()).split() == [b"0", b"1", b"2", b"3"]
        process.end(signal.SIGTERM)


def test_an_ignored_sigchld_does_not_cost_the_outcomes(files: Files) -> None:
    """Some parents start their children so; the kernel would then discard exit codes (wait(2))."""
    with started(files, *ANY_PORT, wrapper=ignoring(signal.SIGCHLD)) as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            status = await client.wait(await client.run_job("sh", "-c", "exit 7"))
            assert status.exit_code == 7
            await client.channel.close()

        run(scenario())
        process.end(signal.SIGTERM)
