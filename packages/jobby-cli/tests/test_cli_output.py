import fcntl
import os
import random
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli_authority import Authority
from cli_command import Cli
from cli_peer import Peer, end_of, serving, when_over
from cli_relay import Relay
from cli_waiting import DEADLINE_SECONDS

from jobby_proto.v1 import jobby_pb2 as pb

JOB = str(uuid.uuid4())


class Held:
    """Output that comes when the test says so, and ends when the client goes away."""

    def __init__(self, peer: Peer, *chunks: bytes) -> None:
        self._chunks = chunks
        self._more: list[bytes] = []
        self._go = threading.Semaphore(0)
        self._gone = peer.servicer.ended
        self.asked = threading.Event()
        peer.servicer.on_output = self._stream

    def give(self, data: bytes) -> None:
        """Lets the job write."""
        self._more.append(data)
        self._go.release()

    def _stream(self, request: object, context: Any) -> Iterator[bytes]:
        when_over(context, self._go.release)
        self.asked.set()
        yield from self._chunks
        while self._go.acquire() and self._more and not self._gone.is_set():
            yield self._more.pop(0)


def test_bytes_pass_through_untouched(jobby: Cli, peer: Peer) -> None:
    """20 MB of all there is arrive unchanged: nothing is decoded, translated or lost."""
    chunks = [random.Random(i).randbytes(200_000) for i in range(100)]
    peer.servicer.on_output = lambda request, context: chunks
    done = jobby("output", JOB)
    assert (done.code, done.err) == (0, "")
    assert sha256(done.out).digest() == sha256(b"".join(chunks)).digest()


def test_a_pipe_that_takes_only_some_at_a_time_gets_all(jobby: Cli, peer: Peer) -> None:
    """A non-blocking pipe, as some programs leave theirs: no byte is skipped or doubled."""
    data = random.Random(7).randbytes(400_000)
    peer.servicer.on_output = lambda request, context: [data[:199_999], data[199_999:]]
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    with jobby.spawn("output", JOB, stdout=write) as running:
        os.close(write)
        with open(read, "rb", buffering=0) as pipe:
            arrived = b"".join(iter(lambda: pipe.read(500), b""))
        assert running.end().code == 0
    assert arrived == data


def test_each_chunk_is_written_when_it_comes(jobby: Cli, peer: Peer) -> None:
    """A line without its end is seen while the job still runs: nothing is held back."""
    held = Held(peer, b"first")
    with jobby.spawn("output", JOB) as running:
        assert running.out
        running.out.until(b"^first$")
        held.give(b" second")
        running.out.until(b"^first second$")


@pytest.mark.parametrize("end", [["head", "-c", "3"], ["grep", "-m1", "x"]])
def test_a_reader_that_has_seen_enough_ends_it_quietly(
    jobby: Cli, peer: Peer, end: list[str]
) -> None:
    """`| head` ends the command at once, without a word, though the job is quiet from then on."""
    Held(peer, b"xyz\n")
    read, write = os.pipe()
    with jobby.spawn("output", JOB, stdout=write) as running:
        os.close(write)
        subprocess.run(end, stdin=read, stdout=subprocess.DEVNULL, check=True)
        os.close(read)
        done = running.end()
    assert (done.code, done.err) == (0, "")
    assert peer.servicer.ended.wait(DEADLINE_SECONDS), "the server is told"


def test_a_reader_that_leaves_a_flood_ends_it_quietly(jobby: Cli, peer: Peer) -> None:
    """The same while output keeps coming, so that it shows in a write."""

    def flood(request: object, context: Any) -> Iterator[bytes]:
        while context.is_active():
            yield b"y\n" * 50_000

    peer.servicer.on_output = flood
    read, write = os.pipe()
    with jobby.spawn("output", JOB, stdout=write) as running:
        os.close(write)
        os.read(read, 10)
        os.close(read)
        done = running.end()
    assert (done.code, done.err) == (0, "")


def test_ctrl_c_detaches_and_the_job_runs_on(jobby: Cli, peer: Peer) -> None:
    """Ctrl-c on a terminal: 130, how to come back on stderr, the stream let go, no stop sent."""
    Held(peer, b"working\n")
    with jobby.on_terminal("--server", peer.address, "output", "--type", "stderr", JOB) as (
        running,
        keyboard,
    ):
        assert running.out
        running.out.until(b"working")
        os.write(keyboard, b"\x03")
        done = running.end()
    assert done.code == 130
    assert done.err == (
        "jobby: detached, the job itself is left alone; to come back: "
        f"jobby --server {peer.address} output --type stderr {JOB}\n"
    )
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)
    assert not peer.servicer.stops


AMID_A_WAIT = """
import os, signal, sys
from jobby_cli.entry import main

def interrupt(frame, event, what):
    if event == "c_call" and what.__name__ == "_acquire_restore":
        while frame and "grpc" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.Signals[os.environ["WITH"]])

sys.setprofile(interrupt)
main()
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGINT", 130, "detached, the job itself is left alone"), ("SIGTERM", 143, "")],
)
def test_a_signal_is_heard_amid_grpcs_waiting(
    jobby: Cli, peer: Peer, name: str, code: int, said: str
) -> None:
    """Where Python makes a RuntimeError of it: before a lock is taken again, after a wait."""
    Held(peer)
    done = jobby("output", JOB, python=("-c", AMID_A_WAIT), env={"WITH": name})
    assert (done.code, done.out) == (code, b"")
    assert said in done.err
    assert len(done.err.splitlines()) == len(said.splitlines())


def test_ctrl_c_works_while_the_reader_stands_still(jobby: Cli, peer: Peer) -> None:
    """Ctrl-c is heard in a write that blocks, too."""
    held = Held(peer, b"z" * 300_000)
    read, write = os.pipe()
    with jobby.spawn("output", JOB, stdout=write) as running:
        os.close(write)
        assert held.asked.wait(DEADLINE_SECONDS)
        os.read(read, 1)  # the pipe is full from here on, and stays so
        running.send(signal.SIGINT)
        done = running.end()
        os.close(read)
    assert done.code == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_the_job_runs_on(
    jobby: Cli, peer: Peer, number: signal.Signals, code: int
) -> None:
    """The exit code is as shells have it, no traceback, the stream let go, no stop sent."""
    Held(peer, b"working\n")
    with jobby.spawn("output", JOB) as running:
        assert running.out
        running.out.until(b"working")
        running.send(number)
        done = running.end()
    assert (done.code, done.err) == (code, "")
    assert peer.servicer.ended.wait(DEADLINE_SECONDS)
    assert not peer.servicer.stops


@pytest.mark.parametrize("verb", [["output", JOB], ["status", JOB], ["--help"], ["--version"]])
def test_a_full_disk_is_told(jobby: Cli, verb: list[str]) -> None:
    """Output that cannot be written is exit code 74 and a sentence, never half a success."""
    with open("/dev/full", "wb") as full:
        done = jobby(*verb, stdout=full.fileno())
    assert done.code == 74
    assert "No space left on device" in done.err
    assert done.err.count("\n") == 1


def test_a_start_that_cannot_print_its_id_says_it(jobby: Cli, peer: Peer) -> None:
    """The job runs, though its id cannot be written: the error has it, and it is remembered."""
    peer.servicer.on_start = lambda request, context: pb.StartJobResponse(
        job_id=uuid.UUID(JOB).bytes
    )
    for words in (["start", "x"], ["start", "--json", "x"]):
        with open("/dev/full", "wb") as full:
            done = jobby(*words, stdout=full.fileno())
        assert done.code == 74
        assert f"the job runs, and its id is {JOB}" in done.err
        assert "No space left on device" in done.err
        assert done.err.count("\n") == 1
    assert JOB in jobby.recent.read_text()


def test_a_closed_stdout_is_told(jobby: Cli) -> None:
    """`>&-`: no other file of the process gets the output in its place."""
    for verb in ("output", "status"):
        done = jobby(
            *(verb, JOB),
            python=(
                "-c",
                (
                    "import os, sys; os.close(1);"
                    "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
                ),
            ),
        )
        assert done.code == 74
        assert "cannot write to the standard output: Bad file descriptor" in done.err


def test_a_broken_stream_is_never_a_success(jobby: Cli, peer: Peer, relay: Relay) -> None:
    """A connection that breaks: 69, how many bytes arrived, and those are all written."""
    Held(peer, b"x" * 1234)
    with jobby.spawn("--server", relay.address, "output", "--reconnect", "0", JOB) as running:
        assert running.out
        running.out.until(b"x{1234}")
        relay.cut()
        done = running.end()
    assert done.code == 69
    assert done.out == b"x" * 1234
    assert "broke off after 1234 bytes" in done.err
    assert done.err.count("\n") == 1


def test_a_break_before_the_first_byte_is_no_success_either(
    jobby: Cli, peer: Peer, relay: Relay
) -> None:
    """The same for a job that has written nothing yet."""
    held = Held(peer)
    with jobby.spawn("--server", relay.address, "output", "--reconnect", "0", JOB) as running:
        assert held.asked.wait(DEADLINE_SECONDS)
        relay.cut()
        done = running.end()
    assert (done.code, done.out) == (69, b"")
    assert "after 0 bytes" in done.err


def test_a_connection_that_comes_back_is_one_line_on_stderr(
    jobby: Cli, peer: Peer, relay: Relay
) -> None:
    """The output goes on at its byte, says that it was cut, and is a success in the end."""
    first, then = b"x" * 1234, b"y" * 99
    over = threading.Event()

    def output(request: pb.GetJobOutputRequest, context: Any) -> Iterator[bytes]:
        when_over(context, over.set)
        yield first
        if not request.offset:
            over.wait()
        yield then

    peer.servicer.on_output = output
    with jobby.spawn("--server", relay.address, "output", JOB) as running:
        assert running.out
        running.out.until(b"x{1234}")
        relay.cut()
        done = running.end()
    assert (done.code, done.out) == (0, first + then)
    assert done.err == "jobby: connection lost after 1234 bytes; reconnecting …\n"


def test_what_the_server_said_at_the_end_is_told(jobby: Cli, peer: Peer) -> None:
    """A server that ends says what becomes of its jobs, which nobody else could tell then."""

    def output(request: pb.GetJobOutputRequest, context: Any) -> Iterator[bytes]:
        yield b"x" * 12
        if not request.offset:
            context.abort(grpc.StatusCode.UNAVAILABLE, "its jobs end with it")

    peer.servicer.on_output = output
    done = jobby("output", JOB)
    assert (done.code, done.out) == (0, b"x" * 12)
    said = "jobby: connection lost after 12 bytes; reconnecting … (its jobs end with it)\n"
    assert done.err == said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_server_at_once(
    jobby: Cli, ca: Authority, number: signal.Signals
) -> None:
    """Ctrl-c while it tries to reconnect detaches as it does otherwise."""
    with serving(ca) as peer:
        Held(peer, b"x")
        running = jobby.spawn("--server", peer.address, "output", "--reconnect", "1d", JOB)
        assert running.out
        running.out.until(b"x")
    with running:
        running.err.until(b"reconnecting")
        running.send(number)
        done = running.end()
    assert (done.code, done.out) == (128 + number, b"x")
    assert ("detached, the job itself is left alone" in done.err) is (number is signal.SIGINT)


def test_a_reader_that_leaves_ends_the_wait_for_a_server(jobby: Cli, ca: Authority) -> None:
    """`| head` doesn't hang while the server is away."""
    read, write = os.pipe()
    with serving(ca) as peer:
        Held(peer, b"xyz\n")
        arguments = ("--server", peer.address, "output", "--reconnect", "1d", JOB)
        running = jobby.spawn(*arguments, stdout=write)
        os.close(write)
        assert os.read(read, 4) == b"xyz\n"
    with running:
        running.err.until(b"reconnecting")
        os.close(read)
        assert running.end().code == 0


def test_a_server_that_does_not_come_back_is_told(jobby: Cli, ca: Authority) -> None:
    """After --reconnect: 69, what arrived, why, and where to read on."""
    with serving(ca) as peer:
        Held(peer, b"xyz\n")
        running = jobby.spawn("--server", peer.address, "output", "--reconnect", "500ms", JOB)
        assert running.out
        running.out.until(b"xyz")
    with running:
        done = running.end()
    assert (done.code, done.out) == (69, b"xyz\n")
    lost, told = done.err.splitlines()
    assert "connection lost after 4 bytes" in lost
    assert "no server answers" in told
    assert "read on from byte 4" in told


def test_no_end_is_no_success(jobby: Cli, peer: Peer) -> None:
    """A server that closes the stream without its end: 69."""
    peer.servicer.on_output = lambda request, context: [pb.GetJobOutputResponse(data=b"some")]
    done = jobby("output", JOB)
    assert (done.code, done.out) == (69, b"some")
    assert "it has no end" in done.err


@pytest.mark.parametrize("reason", pb.EndReason.values())
def test_output_that_a_full_disk_may_have_cost_is_no_success(
    jobby: Cli, peer: Peer, reason: pb.EndReason.ValueType
) -> None:
    """What there is comes first. No other end of a job makes its output less than whole."""
    end = end_of(4, reason=reason, sha256=sha256(b"some").digest())
    peer.servicer.on_output = lambda request, context: [b"some", end]
    done = jobby("output", JOB)
    assert done.out == b"some"
    if reason == pb.END_REASON_DISK_FULL:
        assert (done.code, "output may be missing; free space" in done.err) == (74, True)
    else:
        assert (done.code, done.err) == (0, "")


def test_a_reader_that_stands_still_costs_no_memory(jobby: Cli, peer: Peer) -> None:
    """Output isn't gathered for a slow reader: the server has to wait."""
    sent = threading.Semaphore(0)

    def flood(request: object, context: Any) -> Iterator[bytes]:
        while context.is_active():
            sent.release()
            yield b"y" * 100_000

    peer.servicer.on_output = flood
    read, write = os.pipe()
    with jobby.spawn("output", JOB, stdout=write) as running:
        os.close(write)
        assert os.read(read, 1)
        chunks = 0
        # Nothing for a second: the server stands still too. (Were this machine that slow, the
        # test would be mild, not wrong.)
        while chunks < 3000 and sent.acquire(timeout=1):
            chunks += 1
        status = Path(f"/proc/{running.pid}/status").read_text()
        running.process.kill()
        os.close(read)
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)
    assert chunks < 1000, "100 MB were taken from the server, and nobody had read them"
    assert peak_kib < 200 << 10
