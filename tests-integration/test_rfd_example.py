"""The RFD's own use of the command line, to the letter, and the forms around it."""

import re
import uuid
from pathlib import Path

import pytest

from support import calls
from support.calls import Client
from support.gate import Gate
from support.server import Server
from support.user import JOB_ID, User

USAGE, CANNOT_START, NO_SUCH_JOB = 64, 65, 66
STARTED = re.compile(rf"Job Started! Id: ({JOB_ID})\n")


def started(user: User, *words: str) -> str:
    """Run `jobby start` with `words`; returns the id that it printed."""
    done = user.jobby("start", *words)
    assert (done.code, done.stderr) == (0, "")
    match = STARTED.fullmatch(done.stdout.decode())
    assert match is not None, done.stdout
    return match[1]


def test_to_the_letter(alice: User, caller: Client) -> None:
    """The example's three commands print the example's three answers."""
    job = started(alice, "echo", "-a", "hello")
    caller.ended(uuid.UUID(job).bytes)

    status = alice.jobby("status", job)
    assert (status.code, status.stdout, status.stderr) == (
        *(0, b"Status: COMPLETED, ExitCode: 0\n"),
        "",
    )

    output = alice.jobby("output", "--type", "stdout")
    assert (output.code, output.stdout) == (0, b"hello\n")
    # Which job was meant, said where it doesn't disturb.
    assert job in output.stderr
    assert len(output.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["-a", "hello", "echo"], b"hello\n"),
        (["echo", "-a", "one", "--arg", "two", "--arg=three"], b"one two three\n"),
        (["echo", "--arg=-n", "-a", "hello"], b"hello"),
        (["-a", "a b", "echo", "-a", ""], b"a b \n"),
        (["echo", "hello", "world"], b"hello world\n"),
        (["--", "echo", "-a", "hello"], b"-a hello\n"),
        (["echo", "--", "-n", "hello"], b"hello"),
        (["--", "printf", "%s.", "--help", "--", "-a"], b"--help.--.-a."),
        (["--", "sh", "-c", "printf '%s|' \"$@\"", "sh", "", "é", "*"], "|é|*|".encode()),
    ],
)
def test_forms_of_start(alice: User, words: list[str], output: bytes) -> None:
    """-a stands before or after the command; plain words do too; after -- all is the command's."""
    job = started(alice, *words)
    assert alice.jobby("output", job).stdout == output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "command"),
        (["echo", "hello", "-a", "world"], "-a"),
        (["ls", "-la"], "--"),
        (["ls", "-al"], "jobby start -- ls"),
        (["ls", "-a", "-l"], "--arg=-l"),
        (["ls", "--color"], "--"),
        (["--", ""], "command"),
    ],
)
def test_wrong_forms_of_start(alice: User, server: Server, words: list[str], said: str) -> None:
    """What isn't clear is a usage error with the way out, and starts nothing."""
    before = server.jobs()
    done = alice.jobby("start", *words)
    assert (done.code, done.stdout) == (USAGE, b"")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert server.jobs() <= before


def test_each_status_in_the_same_form(alice: User, caller: Client, gate: Gate) -> None:
    """Running, stopped, failed and killed jobs show in the form of the example."""

    def shown(job: bytes) -> bytes:
        done = alice.jobby("status", calls.as_text(job))
        assert (done.code, done.stderr) == (0, "")
        return done.stdout

    failed = caller.start("sh", "-c", 'read -r _ < "$1"; exit 3', "sh", str(gate))
    assert shown(failed) == b"Status: RUNNING\n"
    gate.open()
    caller.ended(failed)
    assert shown(failed) == b"Status: COMPLETED, ExitCode: 3\n"

    killed = caller.start("sh", "-c", "kill -KILL $$")
    caller.ended(killed)
    assert shown(killed) == b"Status: COMPLETED, ExitCode: 137\n"

    stopped = caller.start("sleep", "1000")
    for _ in range(2):
        stop = alice.jobby("stop", calls.as_text(stopped))
        assert (stop.code, stop.stderr) == (0, "")
        assert shown(stopped) == b"Status: STOPPED\n"


def test_both_streams(alice: User, caller: Client) -> None:
    """--type chooses one; without it, it is standard output."""
    job = calls.as_text(caller.start("sh", "-c", "echo out; echo err >&2"))
    assert alice.jobby("output", job).stdout == b"out\n"
    assert alice.jobby("output", "--type", "stdout", job).stdout == b"out\n"
    assert alice.jobby("output", job, "--type", "stderr").stdout == b"err\n"
    wrong = alice.jobby("output", job, "--type", "both")
    assert wrong.code == USAGE
    assert "both" in wrong.stderr


def test_without_an_id_the_last_one_counts(alice: User, bob: User) -> None:
    """`output` and `status` take the job this user started last, and say which; `stop` doesn't."""
    for verb in ("output", "status"):
        none = alice.jobby(verb)
        assert (none.code, none.stdout) == (USAGE, b"")
    alice.start("echo", "first")
    last = alice.start("echo", "second")
    bob.start("echo", "somebody else's")
    output = alice.jobby("output")
    assert (output.code, output.stdout) == (0, b"second\n")
    assert last in output.stderr
    status = alice.jobby("status")
    assert (status.code, status.stdout) == (0, b"Status: COMPLETED, ExitCode: 0\n")
    assert last in status.stderr
    stop = alice.jobby("stop")
    assert (stop.code, stop.stdout) == (USAGE, b"")


def test_ids_may_be_shortened(alice: User, bob: User, caller: Client) -> None:
    """A beginning that fits one of this user's own jobs from here is enough; others are unknown."""
    job = alice.start("sleep", "1000")
    assert alice.jobby("status", job[:8]).stdout == b"Status: RUNNING\n"
    assert alice.jobby("status", job.upper()).stdout == b"Status: RUNNING\n"
    # Not started from here: only the whole id is known.
    elsewhere = calls.as_text(caller.start("true"))
    assert alice.jobby("status", elsewhere[:20]).code == NO_SUCH_JOB
    assert alice.jobby("output", elsewhere).code == 0
    assert bob.jobby("status", job[:8]).code == NO_SUCH_JOB
    assert alice.jobby("stop", job[:8]).code == 0
    assert alice.jobby("status", job[:8]).stdout == b"Status: STOPPED\n"
    assert alice.jobby("stop", "").code == USAGE


def test_an_ambiguous_beginning_stops_nothing(alice: User, caller: Client) -> None:
    """A beginning that fits two jobs is a usage error that names them."""
    jobs: dict[str, str] = {}
    # At the latest the seventeenth id begins with the digit of another.
    while True:
        job = alice.start("sleep", "1000")
        if job[0] in jobs:
            break
        jobs[job[0]] = job
    done = alice.jobby("stop", job[0])
    assert (done.code, done.stdout) == (USAGE, b"")
    assert {job, jobs[job[0]]} <= set(re.findall(JOB_ID, done.stderr))
    assert caller.status(job.encode()) == ("STATUS_RUNNING", None)


def test_the_servers_name_of_the_ca_is_taken(alice: User) -> None:
    """A working directory with ca.crt in place of ca.cert works."""
    (alice.folder / "ca.cert").rename(alice.folder / "ca.crt")
    assert STARTED.fullmatch(alice.jobby("start", "true").stdout.decode())


def test_the_folder_is_left_as_it_was(alice: User) -> None:
    """Commands write nothing into the working directory."""
    before = files(alice.folder)
    job = alice.start("echo", "hello")
    alice.jobby("output", job)
    new = files(alice.folder) - before
    assert {path.parts[0] for path in new} <= {".local"}


def files(folder: Path) -> set[Path]:
    """All files below a folder."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
