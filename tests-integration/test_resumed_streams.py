"""An output over a bad network is the output: nothing missing, nothing twice, and never a hang."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Client, Contract
from support.certificates import Authority
from support.data import IN_TWO_PARTS, Data
from support.gate import Gate
from support.program import Program
from support.proxy import Proxy
from support.server import Begin, Server
from support.user import User
from support.waiting import eventually

# What both sides promise: 5 s until they ask for a sign of life, 3 s for the answer, and some.
DEAD_PEER_SECONDS = 10.0
LOST = r"connection lost after (\d+) bytes; reconnecting"

Behind = Callable[..., tuple[Proxy, User]]


@pytest.fixture
def behind(
    installed: Installed, authority: Authority, server: Server, tmp_path: Path
) -> Iterator[Behind]:
    """Puts a proxy in front of the server, and somebody who knows no other way to it."""
    with ExitStack() as stack:

        def make(*cuts: int) -> tuple[Proxy, User]:
            proxy = stack.enter_context(Proxy(server.address, cuts))
            command = installed.client.bin("jobby")
            identity = authority.client("alice")
            return proxy, User(command, tmp_path / "behind", identity, proxy.address)

        yield make


def longer(file: Path, size: int) -> bool:
    """Whether a file has more than `size` bytes."""
    return file.stat().st_size > size


def losses(program: Program) -> list[int]:
    """After how many bytes each of the breaks came that a finished `jobby output` told of."""
    lines = program.stderr.all().decode().splitlines()
    found = [line.partition("connection lost after ")[2].split()[0] for line in lines]
    return [int(number) for number in found]


@pytest.mark.parametrize("seed", [1, 2])
def test_cuts_at_random_bytes_leave_no_trace(
    behind: Behind, caller: Client, two_files: tuple[Data, Data], tmp_path: Path, seed: int
) -> None:
    """The connection is reset after random numbers of bytes, within handshakes, messages and
    anywhere: what arrives has the digest of what was written, and each break is told once."""
    chance = random.Random(seed)
    # The first one is heard; from then on, anything from a byte to a megabyte.
    cuts = [30_000, *(int(10 ** chance.uniform(0, 6)) for _ in range(9))]
    proxy, alice = behind(*cuts)
    job = caller.start("cat", str(two_files[0].path))
    taken = tmp_path / "taken"
    with (
        taken.open("wb") as sink,
        alice.begin("output", calls.as_text(job), stdout=sink.fileno()) as output,
    ):
        assert output.wait() == 0, output.stderr.now()
        told = losses(output)
    assert sha256(taken.read_bytes()).hexdigest() == two_files[0].sha256
    # A look at why the first one broke may have taken one of the cuts, and ended before it.
    assert proxy.broken in (len(cuts) - 1, len(cuts))
    assert 0 < len(told) <= len(cuts)
    assert told == sorted(told)


def test_cuts_while_the_job_runs(
    behind: Behind, caller: Client, gate: Gate, tmp_path: Path
) -> None:
    """What a job writes while its reader is cut off arrives when the reader is back."""
    proxy, alice = behind()
    script = 'for i in 1 2 3 4 5; do echo "line $i"; read -r _ < "$1"; done'
    job = calls.as_text(caller.start("sh", "-c", script, "sh", str(gate)))
    with alice.begin("output", job) as output:
        for number in range(1, 6):
            output.stdout.until(f"line {number}\n")
            proxy.cut()
            gate.open()
        assert output.wait() == 0
        assert output.stdout.all() == b"".join(b"line %d\n" % n for n in range(1, 6))
        assert losses(output)[0] == len("line 1\n")


def streamed(server: Server) -> list[str]:
    """The outputs that a server has open for somebody."""
    names = procfs.holdings(server.pid).descriptors
    return [name for name in names if name.endswith(("/stdout", "/stderr"))]


def test_a_stall_is_found_and_survived(
    behind: Behind, caller: Client, server: Server, gate: Gate, two_files: tuple[Data, Data]
) -> None:
    """A network that passes nothing on, and closes nothing, is found by both sides in time, though
    the job is silent; when it works again, the output goes on."""
    file, half = two_files[0], 1_000_000
    arguments = (str(gate), str(file.path), str(half))
    job = calls.as_text(caller.start("sh", "-c", IN_TWO_PARTS, "sh", *arguments))
    proxy, alice = behind()
    watches = procfs.holdings(server.pid).watches
    with (
        alice.begin("output", "--type", "stderr", job) as silent,
        alice.begin("output", job) as output,
    ):
        gate.open()
        eventually(lambda: len(output.stdout.now()) == half, what="the first half")
        eventually(
            lambda: procfs.holdings(server.pid).watches == watches + 2,
            what="two that wait for more",
        )
        proxy.stall()
        stalled = time.monotonic()
        for each in (output, silent):
            each.stderr.until(LOST)
        noticed = time.monotonic() - stalled
        eventually(lambda: not streamed(server), what="the server has let them go")
        let_go = time.monotonic() - stalled
        gate.open()  # it writes the rest, and ends, while nobody can hear it
        proxy.resume()
        assert (output.wait(), silent.wait()) == (0, 0)
        assert sha256(output.stdout.all()).hexdigest() == file.sha256
        assert silent.stdout.all() == b""
        assert (losses(output), losses(silent)) == ([half], [0])
    assert noticed < DEAD_PEER_SECONDS
    assert let_go < DEAD_PEER_SECONDS


def test_a_frozen_client_is_let_go_in_time(
    alice: User, caller: Client, server: Server, gate: Gate
) -> None:
    """A client that was stopped by SIGSTOP costs the server nothing for long; continued, it
    finds its connection broken, and reads on."""
    job = caller.start("sh", "-c", 'echo first; read -r _ < "$1"; echo second', "sh", str(gate))
    with alice.begin("output", calls.as_text(job)) as frozen:
        frozen.stdout.until("first\n")
        assert streamed(server)
        frozen.send(signal.SIGSTOP)
        began = time.monotonic()
        eventually(lambda: not streamed(server), what="the server has let it go")
        assert time.monotonic() - began < DEAD_PEER_SECONDS
        gate.open()
        frozen.send(signal.SIGCONT)
        assert frozen.wait() == 0
        assert frozen.stdout.all() == b"first\nsecond\n"


def test_half_closed_and_slow_connections(
    behind: Behind, caller: Client, two_files: tuple[Data, Data], tmp_path: Path
) -> None:
    """A connection that is closed in one direction, and one over which everything takes its time,
    leave no trace either."""
    proxy, alice = behind()
    proxy.delay(0.005)
    job = calls.as_text(caller.start("cat", str(two_files[1].path)))
    taken = tmp_path / "taken"
    with (
        taken.open("wb") as sink,
        alice.begin("output", job, stdout=sink.fileno()) as output,
    ):
        for part in range(1, 5):
            eventually(partial(longer, taken, part * 3_000_000), what=f"part {part}")
            proxy.half_close()
        assert output.wait() == 0
        assert len(losses(output)) == 4
    assert sha256(taken.read_bytes()).hexdigest() == two_files[1].sha256


def test_the_wait_for_a_server_has_an_end(behind: Behind, caller: Client, gate: Gate) -> None:
    """While nobody answers it tries again; when somebody does in time, all is well; otherwise
    it says what arrived, and where to read on, and exits with 69."""
    job = calls.as_text(
        caller.start("sh", "-c", 'echo first; read -r _ < "$1"; echo second', "sh", str(gate))
    )
    proxy, alice = behind()
    with (
        alice.begin("output", job) as patient,
        alice.begin("output", "--reconnect", "500ms", job) as hasty,
        alice.begin("output", "--reconnect", "0", job) as never,
    ):
        for each in (patient, hasty, never):
            each.stdout.until("first\n")
        proxy.refuse()
        proxy.cut()
        assert never.wait() == 69
        assert hasty.wait() == 69
        patient.stderr.until(LOST)
        proxy.accept()
        gate.open()
        assert patient.wait() == 0
        assert patient.stdout.all() == b"first\nsecond\n"
        assert len(never.stderr.all().decode().splitlines()) == 1
        lost, told = hasty.stderr.all().decode().splitlines()
    assert "connection lost after 6 bytes" in lost
    assert "no server answers" in told
    assert "read on from byte 6" in told


def test_a_server_that_forgot_the_job_is_no_end(
    begin: Begin, installed: Installed, authority: Authority, tmp_path: Path
) -> None:
    """A server without the job, where the old one was: 69 and words, never a success."""
    command = installed.client.bin("jobby")
    old, new = begin(), begin()
    with Proxy(old.address) as proxy:
        alice = User(command, tmp_path / "alice", authority.client("alice"), proxy.address)
        job = alice.start("sh", "-c", "echo first; exec sleep 1000")
        with alice.begin("output", job) as output:
            output.stdout.until("first\n")
            proxy.redirect(new.address)
            proxy.cut()
            assert output.wait() == 69
            assert output.stdout.all() == b"first\n"
            told = output.stderr.all().decode().splitlines()[-1]
    assert "the server doesn't know the job any more" in told


@pytest.mark.parametrize("messages", ["none", "without an end", "with a gap"])
def test_a_server_that_ends_without_an_end(
    contracts: dict[str, Contract],
    installed: Installed,
    authority: Authority,
    tmp_path: Path,
    messages: str,
) -> None:
    """A stream that closes with OK and had no end, or skipped a byte, is an error."""
    contract = contracts["v1"]
    answers = {
        "none": [],
        "without an end": [contract.GetJobOutputResponse(data=b"all\n")],
        "with a gap": [
            contract.GetJobOutputResponse(data=b"all\n"),
            contract.GetJobOutputResponse(data=b"more\n", offset=5),
        ],
    }[messages]

    base: Any = contract.stubs.JobbyServicer

    class Liar(base):  # type: ignore[misc]  # it is generated as the tests run
        def GetJobOutput(self, request: Any, context: Any) -> Iterator[Any]:
            yield from answers

    identity = authority.server()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        contract.stubs.add_JobbyServicer_to_server(Liar(), server)
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.cert)], identity.ca, require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        command, client = installed.client.bin("jobby"), authority.client("alice")
        alice = User(command, tmp_path / "alice", client, f"127.0.0.1:{port}")
        done = alice.jobby("output", calls.as_text(bytes(16)))
        server.stop(None).wait()
    assert done.code == (74 if messages == "with a gap" else 69)
    assert done.stdout == (b"" if messages == "none" else b"all\n")
    assert len(done.stderr.splitlines()) == 1


def test_parts_of_an_output(alice: User, caller: Client, gate: Gate) -> None:
    """--offset, --tail and --no-follow give the part that they say, of a live job."""
    script = 'printf "one\\ntwo\\nthree\\n"; read -r _ < "$1"; echo four'
    job = calls.as_text(caller.start("sh", "-c", script, "sh", str(gate)))
    with alice.begin("output", "--tail", "1", job) as live:
        with alice.begin("output", job) as first:
            first.stdout.until("three\n")
        for options, part in (
            (["--no-follow"], b"one\ntwo\nthree\n"),
            (["--no-follow", "--offset", "4"], b"two\nthree\n"),
            (["--no-follow", "--offset", "14"], b""),
            (["--no-follow", "--tail", "2"], b"two\nthree\n"),
            (["--no-follow", "--tail", "0"], b""),
        ):
            done = alice.jobby("output", *options, job)
            assert (done.code, done.stdout, done.stderr) == (0, part, "")
        beyond = alice.jobby("output", "--offset", "15", job)
        assert (beyond.code, beyond.stdout) == (64, b"")
        assert "beyond the 14 bytes" in beyond.stderr
        gate.open()
        assert live.wait() == 0
        assert live.stdout.all().endswith(b"three\nfour\n")
    assert alice.jobby("output", "--tail", "1", job).stdout == b"four\n"
