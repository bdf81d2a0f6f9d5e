import json
import re
import uuid
from typing import Any

import pytest
from cli_command import Cli
from cli_peer import Peer

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


REASONS = {
    "UNSPECIFIED": "Status: STOPPED",
    "EXITED": "Status: COMPLETED, ExitCode: 3",
    "SIGNALED": "Status: COMPLETED, ExitCode: 139",
    "STOPPED": "Status: STOPPED",
    "TIMED_OUT": "Status: STOPPED, Reason: TIMED_OUT (it ran longer than it was allowed to)",
    "OUTPUT_LIMIT": "Status: STOPPED, Reason: OUTPUT_LIMIT (it wrote more than it was allowed to)",
    "DISK_FULL": "Status: COMPLETED, ExitCode: 3, Reason: DISK_FULL "
    "(the disk with its output was full, so output may be missing)",
    "LOST": "Status: COMPLETED, Reason: LOST "
    "(how it ended is not known; nothing of it runs any more)",
    "NOT_STARTED": "Status: STOPPED, Reason: NOT_STARTED "
    "(the server was ended before it could start it)",
}


@pytest.mark.parametrize("name", pb.EndReason.keys())
def test_a_reason_is_told_where_the_state_does_not_say_it(
    jobby: Cli, peer: Peer, name: str
) -> None:
    """Every reason of the contract has its line; the RFD's lines stay as they are."""
    line = REASONS[name.removeprefix("END_REASON_")]
    code = re.search(r"ExitCode: (\d+)", line)
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse(
        current_status=pb.STATUS_STOPPED if "STOPPED," in line + "," else pb.STATUS_COMPLETE,
        exit_code=int(code[1]) if code else None,
        reason=pb.EndReason.Value(name),
        stopped_by="CN=alice" if name.endswith("_STOPPED") else "",
    )
    assert jobby("status", str(uuid.uuid4())).out.decode() == f"{line}\n"


def test_a_job_that_the_server_stopped_is_told_so(jobby: Cli, peer: Peer) -> None:
    """Who didn't stop it learns that nobody did, but the server's end."""
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse(
        current_status=pb.STATUS_STOPPED, reason=pb.END_REASON_STOPPED, stopped_by="server"
    )
    line = "Status: STOPPED, Reason: STOPPED (the server stopped it as it ended)\n"
    assert jobby("status", str(uuid.uuid4())).out.decode() == line


def test_limits_are_sent_as_they_were_typed(jobby: Cli, peer: Peer) -> None:
    """--max-output, --timeout and --request-id arrive; without them: an id, and no limit."""
    started(jobby, "--max-output", "10M", "--timeout", "1h30m", "--request-id", "büild-7", "make")
    request = peer.servicer.starts[0]
    assert (request.max_output_bytes, request.timeout_ms) == (10 << 20, 5_400_000)
    assert request.request_id == "büild-7".encode()
    started(jobby, "make")
    started(jobby, "make")
    one, two = peer.servicer.starts[1:]
    assert (one.max_output_bytes, one.timeout_ms) == (0, 0)
    assert len({one.request_id, two.request_id, b""}) == 3


def test_a_part_of_the_output_is_asked_for(jobby: Cli, peer: Peer) -> None:
    """--offset, --tail and --no-follow arrive; without them it is all, and followed."""
    job_id = str(uuid.uuid4())
    assert jobby("output", job_id).out == b"hello\n"
    assert jobby("output", "--offset", "2", job_id).out == b"llo\n"
    jobby("output", "--tail", "0", "--no-follow", job_id)
    whole, rest, tail = peer.servicer.outputs
    assert (whole.offset, whole.HasField("tail_lines"), whole.follow) == (0, False, True)
    assert (rest.offset, rest.HasField("tail_lines"), rest.follow) == (2, False, True)
    assert (tail.offset, tail.HasField("tail_lines"), tail.follow) == (0, True, False)
    assert tail.tail_lines == 0


def test_json_is_one_object(jobby: Cli, peer: Peer) -> None:
    """--json of start and status is for programs; what is absent is null."""
    job_id = json.loads(jobby("start", "--json", "true").out)["job_id"]
    assert json.loads(jobby("status", "--json", job_id).out) == {
        "job_id": job_id,
        "status": "COMPLETED",
        "exit_code": 0,
        **dict.fromkeys(["reason", "signal", "stopped_by", "started_at", "ended_at", "usage"]),
        "stdout_bytes": 0,
        "stderr_bytes": 0,
    }
    peer.servicer.on_status = lambda request, context: pb.GetStatusResponse(
        current_status=pb.STATUS_STOPPED,
        reason=pb.END_REASON_OUTPUT_LIMIT,
        signal=9,
        stopped_by="CN=bob",
        started_at_us=1_700_000_000_000_001,
        ended_at_us=1_700_000_001_500_000,
        stdout_bytes=2**40,
        stderr_bytes=7,
        usage=pb.ResourceUsage(user_cpu_us=1_500_000, system_cpu_us=1, max_rss_bytes=4096),
    )
    assert json.loads(jobby("status", "--json", job_id).out) == {
        "job_id": job_id,
        "status": "STOPPED",
        "exit_code": None,
        "reason": "OUTPUT_LIMIT",
        "signal": 9,
        "stopped_by": "CN=bob",
        "started_at": "2023-11-14T22:13:20.000001Z",
        "ended_at": "2023-11-14T22:13:21.500000Z",
        "stdout_bytes": 2**40,
        "stderr_bytes": 7,
        "usage": {"user_seconds": 1.5, "system_seconds": 1e-06, "max_rss_bytes": 4096},
    }


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
        (["completion"], "Choose from: bash, zsh, fish; see jobby completion --help"),
        (["stop", "nonsense"], "not a job's id"),
        (["status", "--server", "x:1"], "before the verb"),
        (["status", "one", "two"], "unexpected extra argument"),
        (["output", "--type", "both"], "'stdout', 'stderr'"),
        (["output", "--tail", "1", "--offset", "0"], "choose one beginning"),
        (["output", "--offset", "-1"], "not in the range"),
        (
            ["output", "--offset", str(2**64), "d19af777-cfa4-40a3-b835-244365b5a697"],
            "out of range",
        ),
        (["output", "--reconnect", "soon"], "not a duration"),
        (["start", "--timeout", "0", "x"], "no time at all"),
        (["start", "--max-output", "much", "x"], "not a size"),
        (["start", "--request-id", "x" * 65, "x"], "1 to 64 bytes"),
        (["start", "--request-id", "", "x"], "1 to 64 bytes"),
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
