"""The server as an operator runs it: a process, its files, its signals and its log."""

import asyncio
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from server_authority import Authority
from server_client import Client, refused
from server_process import Files, alive, failing, server_command, server_environment, started
from server_waiting import DEADLINE_SECONDS, run, until

from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode
ANY_PORT = ("--listen", "127.0.0.1:0")


def connect(files: Files, address: str, subject: str | x509.Name = "alice") -> Client:
    """Returns a client of a server in another process; its channel is closed by its loop."""
    leaf = files.ca.issue(subject)
    credentials = grpc.ssl_channel_credentials(files.ca.pem, leaf.key_pem, leaf.cert_pem)
    return Client(grpc.aio.secure_channel(address, credentials), "jobby.v1.Jobby")


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
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(int(number)), *ANY_PORT],
        cwd=files.folder,
        env=server_environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # the exit code is looked at
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("INFO ended")
    assert nothing_made(tmp_path)


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


def test_a_name_or_a_command_cannot_forge_the_log(files: Files) -> None:
    """What clients choose appears escaped, each record on its own line."""
    evil = "x\n2026-01-01T00:00:00Z INFO listening on evil:1\x1b[2J"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "al\x1bice", _validate=False)])
    with started(files, *ANY_PORT) as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            command = files.folder / evil
            command.parent.mkdir(exist_ok=True)
            command.write_text("#!/bin/sh\n")
            command.chmod(0o700)
            await client.wait(await client.run_job(str(command)))
            await client.channel.close()
            stranger = connect(files, process.address, subject)
            call = stranger.status(pb.GetStatusRequest(job_id=b"x" * 16))
            assert (await refused(call))[0] is CODE.UNAUTHENTICATED
            await stranger.channel.close()

        run(scenario())
        _, log = process.end(signal.SIGTERM)
    assert "\\n2026-01-01" in log
    lines = log.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum("Z INFO listening on" in line and "\\n" not in line for line in lines) == 1
    assert any("refused a call" in line for line in lines)


def test_an_argument_is_not_logged(files: Files) -> None:
    """Arguments may hold passwords; the log has the command alone."""
    with started(files, *ANY_PORT, "--log-level", "debug") as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            await client.wait(await client.run_job("echo", "hunter2"))
            await client.channel.close()

        run(scenario())
        _, log = process.end(signal.SIGTERM)
    assert "started echo" in log
    assert "hunter2" not in log


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


def test_too_few_descriptors_are_said_by_name(files: Files) -> None:
    """A server that could hold nothing open doesn't start, and says which limit it is."""
    done = subprocess.run(
        ["prlimit", "--nofile=40:", *server_command(*ANY_PORT)],
        cwd=files.folder,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # the exit code is looked at
    )
    assert done.returncode == 78
    (said,) = done.stderr.splitlines()
    assert "40 open files (RLIMIT_NOFILE)" in said
    assert "ulimit -n" in said


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
    done = subprocess.run(
        [sys.executable, "-c", TOO_EARLY, *ANY_PORT],
        cwd=files.folder,
        env=server_environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # failing is what it is to do
    )
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
    done = subprocess.run(
        [sys.executable, "-c", TOO_LATE, suites, *ANY_PORT],
        cwd=files.folder,
        env=server_environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # failing is what it is to do
    )
    assert done.returncode == 70
    assert "jobby-server: cannot serve: the TLS library would accept TLS 1.2" in done.stderr
    assert "listening" not in done.stderr
    assert nothing_made(tmp_path)
