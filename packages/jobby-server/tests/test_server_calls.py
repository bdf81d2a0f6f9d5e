"""The four calls, from the client's side, over real TLS."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from server_authority import Authority
from server_client import Client, refused
from server_running import Running, serving
from server_waiting import Fifo, run

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import wire

CODE = grpc.StatusCode


@pytest.mark.parametrize("service", wire.SERVICE_NAMES)
def test_the_whole_life_of_a_job_under_both_names(ca: Authority, fifo: Fifo, service: str) -> None:
    """A client generated from either text of the contract can start, follow, look and stop."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice", service) as alice:
            job = await alice.run_job(
                "sh", "-c", f"echo out; echo err >&2; read x < {fifo}; exit 3"
            )
            assert len(job) == 16
            stream = aiter(alice.follow(job))
            assert (await anext(stream)).data == b"out\n"
            status = await alice.status(pb.GetStatusRequest(job_id=job))
            assert status.current_status == pb.STATUS_RUNNING
            assert not status.HasField("exit_code")
            fifo.release()
            assert [m.data async for m in stream] == [b""]
            status = await alice.status(pb.GetStatusRequest(job_id=job))
            assert (status.current_status, status.exit_code) == (pb.STATUS_COMPLETE, 3)
            assert await alice.read(job, pb.OUTPUT_TYPE_STDERR) == b"err\n"

            endless = await alice.run_job("sleep", "1000")
            await alice.stop(pb.StopJobRequest(job_id=endless))
            status = await alice.status(pb.GetStatusRequest(job_id=endless))
            assert status.current_status == pb.STATUS_STOPPED
            assert not status.HasField("exit_code")
            await alice.stop(pb.StopJobRequest(job_id=endless))  # again is no error

    run(scenario())


def test_a_job_is_known_under_both_names_and_by_both_forms_of_its_id(ca: Authority) -> None:
    """The two services are one; a job's id may be given as bytes or as text."""

    async def scenario() -> None:
        async with (
            serving(ca) as running,
            running.client("alice", "jobby.v1.Jobby") as new,
            running.client("alice", "Jobby") as old,
        ):
            job = await new.run_job("echo", "hi")
            text = str(uuid.UUID(bytes=job)).encode()
            assert await old.read(text) == b"hi\n"
            assert await new.read(text.upper()) == b"hi\n"

    run(scenario())


Seen = tuple[grpc.StatusCode, str, tuple[object, ...], tuple[object, ...]]


async def every_call(client: Client, job_id: bytes) -> list[tuple[str, Seen]]:
    """Makes every call that names a job; returns all that a client can see of the refusals."""
    seen: list[tuple[str, Seen]] = []
    for name, call in {
        "stop": client.stop(pb.StopJobRequest(job_id=job_id)),
        "status": client.status(pb.GetStatusRequest(job_id=job_id)),
        "stdout": client.follow(job_id, pb.OUTPUT_TYPE_STDOUT),
        "stderr": client.follow(job_id, pb.OUTPUT_TYPE_STDERR),
    }.items():
        code, text = await refused(call)
        initial = tuple(await call.initial_metadata())
        trailing = tuple(await call.trailing_metadata())
        seen.append((name, (code, text, initial, trailing)))
    return seen


@pytest.mark.parametrize("service", wire.SERVICE_NAMES)
def test_somebody_elses_job_looks_like_no_job_on_every_call(ca: Authority, service: str) -> None:
    """Code, message and metadata are the same for not-yours and not-there; nothing is touched."""

    async def scenario() -> None:
        async with (
            serving(ca) as running,
            running.client("alice", service) as alice,
            running.client("bob", service) as bob,
        ):
            job = await alice.run_job("sleep", "1000")
            foreign = await every_call(bob, job)
            absent = await every_call(bob, uuid.uuid4().bytes)
            assert foreign == absent
            for _, (code, text, _, _) in foreign:
                assert (code, text) == (CODE.NOT_FOUND, "no such job")
            # The stop of a stranger sent no signal.
            status = await alice.status(pb.GetStatusRequest(job_id=job))
            assert status.current_status == pb.STATUS_RUNNING

    run(scenario())


def test_the_same_name_under_another_ca_is_somebody_else(ca: Authority) -> None:
    """Ownership is scoped by the CA: two CAs that both sign alice made two alices."""

    async def scenario() -> None:
        other = Authority.create("Another CA")
        async with (
            serving(ca, material=ca.material(other)) as running,
            running.client(ca.issue("alice")) as alice,
            running.client(other.issue("alice")) as impostor,
        ):
            job = await alice.run_job("sleep", "1000")
            assert (await refused(impostor.status(pb.GetStatusRequest(job_id=job))))[0] is (
                CODE.NOT_FOUND
            )

    run(scenario())


def test_a_renewed_certificate_still_owns_its_jobs(ca: Authority) -> None:
    """New key, new serial, same name, same CA: the same owner."""

    async def scenario() -> None:
        async with (
            serving(ca) as running,
            running.client(ca.issue("alice")) as before,
            running.client(ca.issue("alice")) as after,
        ):
            job = await before.run_job("sleep", "1000")
            await after.stop(pb.StopJobRequest(job_id=job))

    run(scenario())


def test_identity_in_metadata_is_ignored(ca: Authority) -> None:
    """Only the certificate says who calls; what a client writes beside it says nothing."""

    async def scenario() -> None:
        async with (
            serving(ca) as running,
            running.client("alice") as alice,
            running.client("bob") as bob,
        ):
            job = await alice.run_job("sleep", "1000")
            request = pb.GetStatusRequest(job_id=job)
            for key in ("user", "owner", "x-user", "authorization", "x-forwarded-client-cert"):
                call = bob.status(request, metadata=((key, "CN=alice"),))
                assert (await refused(call))[0] is CODE.NOT_FOUND

    run(scenario())


UNKNOWN_TYPE: Any = 7
SOME_ID = uuid.uuid4().bytes
INVALID = {
    "an empty command": ("start", pb.StartJobRequest(), "command"),
    "a command with NUL": ("start", pb.StartJobRequest(command="a\0b"), "command"),
    "an argument with NUL": ("start", pb.StartJobRequest(command="true", args=["a\0"]), "args[0]"),
    "no id to stop": ("stop", pb.StopJobRequest(), "job_id"),
    "no id to look at": ("status", pb.GetStatusRequest(), "job_id"),
    "no id to follow": ("output", pb.GetJobOutputRequest(type=pb.OUTPUT_TYPE_STDOUT), "job_id"),
    "a short id": ("status", pb.GetStatusRequest(job_id=b"x" * 15), "job_id"),
    "a long id": ("status", pb.GetStatusRequest(job_id=b"x" * 17), "job_id"),
    "36 bytes of no UUID": ("status", pb.GetStatusRequest(job_id=b"g" * 36), "job_id"),
    "a UUID in braces": (
        "status",
        pb.GetStatusRequest(job_id=b"{d19af777-cfa4-40a3-b835-244365b5a697}"),
        "job_id",
    ),
    "a UUID and a newline": (
        "status",
        pb.GetStatusRequest(job_id=b"d19af777-cfa4-40a3-b835-244365b5a697\n"),
        "job_id",
    ),
    "no output type": ("output", pb.GetJobOutputRequest(job_id=SOME_ID), "type"),
    "an unknown output type": (
        "output",
        pb.GetJobOutputRequest(job_id=SOME_ID, type=UNKNOWN_TYPE),
        "type",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_unusable_field_is_named(ca: Authority, case: str) -> None:
    """A malformed request is INVALID_ARGUMENT, says which field, and starts nothing."""
    method, request, field = INVALID[case]

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            code, text = await refused(getattr(alice, method)(request))
            assert code is CODE.INVALID_ARGUMENT
            assert field in text
            nothing_is_left(running)

    run(scenario())


def nothing_is_left(running: Running) -> None:
    """Checks that no job exists: not in the store, not on disk, not as a process."""
    assert len(running.server.store) == 0
    assert list(running.spool.path.iterdir()) == []
    assert launchers() == []


def launchers() -> list[str]:
    """The launchers that this process has started, whatever thread did."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread, or the child, has ended
            for pid in children.read_text().split():
                found += [pid] * ("jobby_core" in Path(f"/proc/{pid}/cmdline").read_text())
    return found


def write(path: Path, text: str, mode: int) -> str:
    """Writes a file with a mode; returns its path."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_command_that_cannot_be_started_leaves_nothing_behind(
    ca: Authority, tmp_path: Path
) -> None:
    """Each reason the system has is told apart in words; no job, file or process remains."""
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    cases: dict[str, tuple[pb.StartJobRequest, grpc.StatusCode, str]] = {
        "a missing name": (
            pb.StartJobRequest(command="no-such-command-here"),
            CODE.FAILED_PRECONDITION,
            "not in the job's PATH",
        ),
        "a missing path": (
            pb.StartJobRequest(command=str(tmp_path / "missing")),
            CODE.FAILED_PRECONDITION,
            "no such file",
        ),
        "a directory": (
            pb.StartJobRequest(command=str(tmp_path)),
            CODE.FAILED_PRECONDITION,
            "directory",
        ),
        "no x bit": (
            pb.StartJobRequest(command=write(tmp_path / "plain", "#!/bin/sh\n", 0o600)),
            CODE.FAILED_PRECONDITION,
            "x bit",
        ),
        "no shebang": (
            pb.StartJobRequest(command=write(tmp_path / "bare", "echo hi\n", 0o700)),
            CODE.FAILED_PRECONDITION,
            "#!/bin/sh",
        ),
        "an empty file": (
            pb.StartJobRequest(command=write(tmp_path / "empty", "", 0o700)),
            CODE.FAILED_PRECONDITION,
            "#!/bin/sh",
        ),
        "a missing interpreter": (
            pb.StartJobRequest(command=write(tmp_path / "odd", "#!/no/such/thing\n", 0o700)),
            CODE.FAILED_PRECONDITION,
            "interpreter",
        ),
        "CRLF in the shebang": (
            pb.StartJobRequest(command=write(tmp_path / "dos", "#!/bin/sh\r\n", 0o700)),
            CODE.FAILED_PRECONDITION,
            "CRLF",
        ),
        "one argument too long": (
            pb.StartJobRequest(command="true", args=["x" * 131_072]),
            CODE.INVALID_ARGUMENT,
            "too long",
        ),
        "3 MB of arguments": (
            pb.StartJobRequest(command="true", args=["x" * 100_000] * 30),
            CODE.INVALID_ARGUMENT,
            "too long",
        ),
    }

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            for case, (request, wanted, words) in cases.items():
                code, text = await refused(alice.start(request))
                assert code is wanted, (case, code, text)
                assert words in text, (case, text)
                assert str(running.spool.path) not in text
                nothing_is_left(running)

    run(scenario())


def test_an_error_about_a_huge_command_still_reaches_the_client(ca: Authority) -> None:
    """A status travels in a header of a few KiB: the text is cut rather than lost."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            code, text = await refused(alice.start(pb.StartJobRequest(command="/x" * 30_000)))
            assert code is CODE.FAILED_PRECONDITION
            assert len(text) == 3000 + len("…")
            assert text.startswith("cannot start '/x/x")
            assert text.endswith(": File name too long; check the file")
            # What isn't ASCII takes three bytes for one there.
            for command in ("/" + "💥" * 1000, "/" + "漢" * 3000, "/" + "%" * 3000):
                code, text = await refused(alice.start(pb.StartJobRequest(command=command)))
                assert code is CODE.FAILED_PRECONDITION
                assert "…" in text
                assert text.endswith(": File name too long; check the file")

    run(scenario())


def test_an_error_about_what_is_not_utf_8_reaches_the_client(ca: Authority, tmp_path: Path) -> None:
    """Escaped, as a status has to be UTF-8."""
    script = tmp_path / "script"
    script.write_bytes(b"#!/no/such/B\xfcro\n")
    script.chmod(0o700)

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            code, text = await refused(alice.start(pb.StartJobRequest(command=str(script))))
            assert code is CODE.FAILED_PRECONDITION
            assert r"/no/such/B\udcfcro" in text

    run(scenario())


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("timeout_ms", pb.StartJobRequest(command="true", timeout_ms=5000)),
        ("max_output_bytes", pb.StartJobRequest(command="true", max_output_bytes=5000)),
    ],
)
def test_a_limit_that_cannot_be_kept_is_named(
    ca: Authority, monkeypatch: pytest.MonkeyPatch, name: str, start: pb.StartJobRequest
) -> None:
    """Without a launcher there are no limits: the job is not started without its own."""
    monkeypatch.setenv("JOBBY_LAUNCHER", "none")

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            code, text = await refused(alice.start(start))
            assert code is CODE.FAILED_PRECONDITION
            assert text.startswith(f"{name}: this server has no launcher")
            nothing_is_left(running)

    run(scenario())


def test_a_request_that_is_too_large_is_refused(ca: Authority) -> None:
    """A request of more than a few MiB is not taken into memory."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            huge = pb.StartJobRequest(command="true", args=["x" * 1_000_000] * 6)
            code, _ = await refused(alice.start(huge))
            assert code is CODE.RESOURCE_EXHAUSTED

    run(scenario())


def test_a_field_of_a_newer_contract_is_ignored(ca: Authority) -> None:
    """A client that knows more fields than the server is served all the same."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            newer = pb.StartJobRequest(command="true").SerializeToString() + b"\x7a\x03new"
            raw = alice.channel.unary_unary("/jobby.v1.Jobby/StartJob")
            job = pb.StartJobResponse.FromString(await raw(newer)).job_id
            assert (await alice.wait(job)).current_status == pb.STATUS_COMPLETE

    run(scenario())


def test_a_killed_process_completed_with_its_signal(ca: Authority) -> None:
    """Killed by somebody else is not stopped: the exit code is 128 and the signal's number."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            status = await alice.wait(await alice.run_job("sh", "-c", "kill -9 $$"))
            assert (status.current_status, status.exit_code) == (pb.STATUS_COMPLETE, 137)

    run(scenario())
