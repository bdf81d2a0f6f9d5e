import json
import re
import uuid
from typing import Any

import pytest
from cli_kit import Cli, Peer

from jobby_proto.v1 import jobby_pb2 as pb


def started(jobby: Cli, *arguments: str) -> str:
    """Starts a job; returns its id."""
    done = jobby("start", *arguments)
    assert (done.code, done.err) == (0, "")
    match = re.fullmatch(
        rb"Job Started! Id: ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\n", done.out
    )
    assert match
    return match[1].decode()


def test_the_three_lines_of_the_example_work_to_the_letter(jobby: Cli, peer: Peer) -> None:
    """Start, status and output print just what the RFD shows."""
    job_id = started(jobby, "echo", "-a", "hello")
    assert (peer.servicer.starts[0].command, list(peer.servicer.starts[0].args)) == (
        "echo",
        ["hello"],
    )
    assert jobby("status", job_id).out == b"Status: COMPLETED, ExitCode: 0\n"
    done = jobby("output", "--type", "stdout")
    assert (done.code, done.out) == (0, b"hello\n")
    assert job_id in done.err, "which job it took is said on stderr"


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (pb.GetStatusResponse(current_status=pb.STATUS_RUNNING), "Status: RUNNING"),
        (pb.GetStatusResponse(current_status=pb.STATUS_STOPPED), "Status: STOPPED"),
        (
            pb.GetStatusResponse(current_status=pb.STATUS_COMPLETE, exit_code=137),
            "Status: COMPLETED, ExitCode: 137",
        ),
    ],
)
def test_every_state_has_its_line(
    jobby: Cli, peer: Peer, response: pb.GetStatusResponse, line: str
) -> None:
    """A running, a stopped and a killed job are told in the RFD's form; exit code 0."""
    peer.servicer.on_status = lambda request, context: response
    done = jobby("status", str(uuid.uuid4()))
    assert (done.code, done.out.decode(), done.err) == (0, f"{line}\n", "")


def test_json_is_one_object(jobby: Cli, peer: Peer) -> None:
    """--json of start and status is for programs; what is absent is null."""
    job_id = json.loads(jobby("start", "--json", "true").out)["job_id"]
    assert json.loads(jobby("status", "--json", job_id).out) == {
        "job_id": job_id,
        "status": "COMPLETED",
        "exit_code": 0,
    }
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse(
        current_status=pb.STATUS_RUNNING
    )
    assert json.loads(jobby("status", "--json", job_id).out)["exit_code"] is None


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["echo", "-a", "hello", "--arg", "you"], ["echo", "hello", "you"]),
        (["-a", "hello", "echo"], ["echo", "hello"]),
        (["-a", "1", "echo", "-a", "2"], ["echo", "1", "2"]),
        (["echo", "--arg=-n"], ["echo", "-n"]),
        (["echo", "-a", ""], ["echo", ""]),
        (["echo", "hello", "you"], ["echo", "hello", "you"]),
        (["--", "ls", "-la", "--json", "-a", "x"], ["ls", "-la", "--json", "-a", "x"]),
        (["ls", "--", "-la"], ["ls", "-la"]),
        (["--", "env", "--", "x"], ["env", "--", "x"]),
        (["--", "-odd-name"], ["-odd-name"]),
        (["echo", "ünï", "a b", "$HOME", "*"], ["echo", "ünï", "a b", "$HOME", "*"]),
    ],
)
def test_the_command_arrives_as_it_was_typed(
    jobby: Cli, peer: Peer, arguments: list[str], sent: list[str]
) -> None:
    """Each form of `start` sends the command and its arguments, and nothing of its own."""
    started(jobby, *arguments)
    request = peer.servicer.starts[0]
    assert [request.command, *request.args] == sent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "ls", "-la"], "put -- first"),
        (["start", "df", "-h"], "put -- first"),
        (["start", "x", "--colour"], "put -- first"),
        (["start", "x", "--key", "k"], "put -- first"),
        (["start", "x", "--server", "k"], "before the verb"),
        (["start", "x", "-a"], "put -- first"),
        (["start", "echo", "-a", "1", "2"], "use one form"),
        (["start", "-a", "1", "--", "echo", "2"], "use one form"),
        (["start", "-a", "1"], "no command"),
        (["start"], "no command"),
        (["start", b"x\xff"], "UTF-8"),
        (["stop"], "Missing argument"),
        (["stop", "nonsense"], "not a job's id"),
        (["status", "--server", "x:1"], "before the verb"),
        (["status", "one", "two"], "unexpected extra argument"),
        (["output", "--type", "both"], "'stdout', 'stderr'"),
        (["output"], "no job was started from here"),
        (["status"], "no job was started from here"),
        (["--server", "nowhere", "status", "0"], "HOST:PORT"),
        (["sttaus"], "No such command"),
        (["--nonsense"], "No such option"),
        ([], "Usage:"),
    ],
)
def test_a_wrong_command_line_is_told_so(
    jobby: Cli, peer: Peer, arguments: list[Any], said: str
) -> None:
    """A usage error is exit code 64 and words on stderr, and nothing is sent."""
    done = jobby(*arguments)
    assert (done.code, done.out) == (64, b"")
    assert said in done.err
    assert not peer.servicer.starts
    assert not peer.servicer.stops


def test_stop_stops_the_job_that_is_named(jobby: Cli, peer: Peer) -> None:
    """`stop` takes a whole id or a beginning, says nothing, and never chooses by itself."""
    first, second = started(jobby, "sleep", "9"), started(jobby, "sleep", "9")
    done = jobby("stop", first)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert jobby("stop", second[:20]).code == 0
    assert peer.servicer.stops == [uuid.UUID(first), uuid.UUID(second)]


def test_a_beginning_of_an_id_is_enough(jobby: Cli, peer: Peer) -> None:
    """A beginning means the one job that this user started from here; otherwise it is told."""
    ids = ["d19af777-cfa4-40a3-b835-244365b5a697", "d19b0000-0000-4000-8000-000000000000"]
    answers = iter(ids)
    peer.servicer.on_start = lambda request, context: pb.StartJobResponse(
        job_id=uuid.UUID(next(answers)).bytes
    )
    asked: list[uuid.UUID] = []

    def status(request: pb.GetStatusRequest, context: object) -> pb.GetStatusResponse:
        asked.append(uuid.UUID(bytes=request.job_id))
        return pb.GetStatusResponse(current_status=pb.STATUS_RUNNING)

    peer.servicer.on_status = status
    started(jobby, "a")
    started(jobby, "b")
    assert jobby("status", "d19a").code == 0
    assert jobby("status", "D19B-00").code == 0
    assert asked == [uuid.UUID(each) for each in ids]
    both = jobby("status", "d19")
    assert both.code == 64
    assert ids[0] in both.err
    none = jobby("stop", "e")
    assert none.code == 66
    assert "give the whole id" in none.err
    assert not peer.servicer.stops


def test_output_of_stderr_is_asked_for_by_type(jobby: Cli, peer: Peer) -> None:
    """--type chooses the stream."""
    peer.servicer.on_output = lambda request, context: [pb.OutputType.Name(request.type).encode()]
    job_id = str(uuid.uuid4())
    assert jobby("output", job_id).out == b"OUTPUT_TYPE_STDOUT"
    assert jobby("output", "--type", "stderr", job_id).out == b"OUTPUT_TYPE_STDERR"
