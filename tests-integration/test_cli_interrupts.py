"""Who leaves an output early: by ctrl-c, by closing the pipe, by a signal. The job stays."""

import signal

import pytest

from support import calls
from support.calls import Client
from support.gate import Gate
from support.terminal import INTERRUPT
from support.user import User

RUNNING = ("STATUS_RUNNING", None)


@pytest.fixture
def job(caller: Client, gate: Gate) -> bytes:
    """A job of Alice's that writes one line at once, and another when the gate opens."""
    script = 'echo first; read -r _ < "$1"; echo second'
    return caller.start("sh", "-c", script, "sh", str(gate))


def test_ctrl_c_detaches(alice: User, caller: Client, job: bytes, gate: Gate) -> None:
    """ctrl-c at a terminal ends the output with 130 and a word about it; the job runs on, and can
    be followed again from its beginning."""
    with alice.at_terminal("output", calls.as_text(job)) as terminal:
        terminal.screen.until("first\r\n")
        terminal.press(INTERRUPT)
        assert terminal.program.wait() == 130
        said = terminal.program.stderr.all().decode()
    assert "the job" in said
    assert calls.as_text(job) in said
    assert "Traceback" not in said
    assert caller.status(job) == RUNNING
    with alice.begin("output", calls.as_text(job)) as again:
        again.stdout.until("first\n")
        gate.open()
        assert again.wait() == 0
        assert again.stdout.all() == b"first\nsecond\n"
    assert caller.status(job) == ("STATUS_COMPLETE", 0)


def test_ctrl_c_before_the_first_byte(alice: User, caller: Client) -> None:
    """ctrl-c while the job is silent ends the output just the same."""
    job = alice.start("sleep", "1000")
    with alice.at_terminal("output") as terminal:
        # It says which job it takes, and then waits for output that doesn't come.
        terminal.program.stderr.until(job)
        terminal.press(INTERRUPT)
        assert terminal.program.wait() == 130
        assert b"Traceback" not in terminal.program.stderr.all()
    assert caller.status(job.encode()) == RUNNING
    caller.stop(job.encode())


def test_sigterm_detaches_too(alice: User, caller: Client, job: bytes) -> None:
    """SIGTERM ends the output at once, as a shell expects, and not the job."""
    with alice.begin("output", calls.as_text(job)) as output:
        output.stdout.until("first\n")
        output.send(signal.SIGTERM)
        assert output.wait() == 128 + signal.SIGTERM
        assert b"Traceback" not in output.stderr.all()
    assert caller.status(job) == RUNNING


def test_sigkill_leaves_the_job(alice: User, caller: Client, job: bytes, gate: Gate) -> None:
    """SIGKILL of the client harms neither the job nor later readers."""
    with alice.begin("output", calls.as_text(job)) as output:
        output.stdout.until("first\n")
        output.send(signal.SIGKILL)
        output.wait()
    assert caller.status(job) == RUNNING
    gate.open()
    assert caller.read(job) == b"first\nsecond\n"


def test_head_ends_it_quietly(alice: User, caller: Client) -> None:
    """`| head -n 1` of an endless output ends both, without a word."""
    job = caller.start("yes")
    done = alice.shell('jobby output "$1" | head -n 1', calls.as_text(job))
    assert (done.stdout, done.stderr) == (b"y\n", "")
    assert done.code == 0  # of both: `shell` sets pipefail
    assert caller.status(job) == RUNNING
    caller.stop(job)


def test_a_reader_that_leaves_a_silent_job(alice: User, job: bytes) -> None:
    """`| grep -m 1` ends when grep has what it wants, though the job writes no more."""
    done = alice.shell('jobby output "$1" | grep -m 1 first', calls.as_text(job))
    assert (done.stdout, done.stderr) == (b"first\n", "")


def test_a_full_disk_is_told(alice: User, job: bytes) -> None:
    """Output that cannot be written is an error that says so, not a short file."""
    done = alice.shell('jobby output "$1" > /dev/full', calls.as_text(job))
    assert done.code == 74
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


def test_a_closed_output_is_told(alice: User, job: bytes) -> None:
    """Without a standard output, nothing is written into whatever has its number."""
    done = alice.shell('jobby output "$1" >&-', calls.as_text(job))
    assert done.code == 74
    assert "Traceback" not in done.stderr


def test_it_holds_nothing_back(alice: User, job: bytes, gate: Gate) -> None:
    """In a pipe the first line is there before the job writes the second."""
    with alice.begin("output", calls.as_text(job)) as output:
        output.stdout.until(r"\Afirst\n\Z")
        gate.open()
        assert output.wait() == 0
        assert output.stdout.all() == b"first\nsecond\n"
