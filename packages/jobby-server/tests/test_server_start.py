"""A start happens once for a request id, all of it or nothing, and is on the disk first."""

import asyncio
import os
import sys
from pathlib import Path

import grpc
import pytest
from server_authority import Authority
from server_client import refused
from server_running import serving
from server_waiting import Fifo, busy_threads, run, until

from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode


def command(script: str, request_id: bytes = b"", **limits: int) -> pb.StartJobRequest:
    """Returns the request for a shell's script."""
    return pb.StartJobRequest(command="sh", args=["-c", script], request_id=request_id, **limits)


@pytest.fixture(params=["durable", "not durable"])
def place(request: pytest.FixtureRequest, state_dir: Path) -> Path | None:
    """Where the state is kept."""
    return state_dir if request.param == "durable" else None


def test_a_request_id_starts_one_job(ca: Authority, place: Path | None, tmp_path: Path) -> None:
    """However often it is sent, at once or later, also when the job has ended."""
    ran = tmp_path / "ran"

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            request = command(f"echo x >> {ran}", b"\x00" * 64)
            answers = await asyncio.gather(*(alice.start(request) for _ in range(20)))
            assert len({answer.job_id for answer in answers}) == 1
            await alice.wait(answers[0].job_id)
            assert (await alice.start(request)).job_id == answers[0].job_id
            assert ran.read_text() == "x\n"

    run(scenario())


def test_request_ids_are_each_owners_own(ca: Authority, place: Path | None) -> None:
    """The same id of somebody else is another one, and tells nothing of the first."""

    async def scenario() -> None:
        async with (
            serving(ca, state_dir=place) as running,
            running.client("alice") as alice,
            running.client("bob") as bob,
        ):
            hers = await alice.start(command("true", b"1"))
            his = await bob.start(command("false", b"1"))
            assert hers.job_id != his.job_id

    run(scenario())


def test_a_request_id_of_another_command_is_refused(
    ca: Authority, place: Path | None, fifo: Fifo
) -> None:
    """While the first is being started, while it runs, and when it has ended: nothing starts."""

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            first = asyncio.ensure_future(alice.start(command(f"read x < {fifo}", b"1")))
            await until(lambda: len(running.server._starter) or first.done())
            other = command("echo other", b"1")
            job_id = (await asyncio.gather(first, refused(alice.start(other))))[0].job_id
            code, text = await refused(alice.start(other))
            assert code is CODE.ALREADY_EXISTS
            assert "request_id" in text
            fifo.release()
            await alice.wait(job_id)
            assert (await refused(alice.start(other)))[0] is CODE.ALREADY_EXISTS
            assert len(list(running.spool.jobs.iterdir())) == 1

    run(scenario())


def test_a_start_that_failed_can_be_tried_again(
    ca: Authority, place: Path | None, tmp_path: Path
) -> None:
    """An error means that no job was created, so its request id is free."""
    program = tmp_path / "program"

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            request = pb.StartJobRequest(command=str(program), request_id=b"1")
            code, _ = await refused(alice.start(request))
            assert code is CODE.FAILED_PRECONDITION
            assert list(running.spool.jobs.iterdir()) == []
            program.write_text("#!/bin/sh\necho hi\n")
            program.chmod(0o700)
            assert await alice.read((await alice.start(request)).job_id) == b"hi\n"

    run(scenario())


def test_a_request_id_has_64_bytes_at_most(ca: Authority) -> None:
    """The field is named, and nothing is started."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            code, text = await refused(alice.start(command("true", b"x" * 65)))
            assert code is CODE.INVALID_ARGUMENT
            assert text.startswith("request_id: ")
            assert len(running.server.store) == 0

    run(scenario())


def test_a_cancelled_start_with_a_request_id_goes_on(
    ca: Authority, place: Path | None, fifo: Fifo, tmp_path: Path
) -> None:
    """Whoever lost the answer asks again, and the command has run once."""
    ran = tmp_path / "ran"
    request = command(f"echo x >> {ran}; read x < {fifo}", b"1")

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            with busy_threads() as release:  # so that no answer is faster
                call = alice.start(request)
                done = asyncio.ensure_future(refused(call))
                await until(lambda: len(running.server._starter))
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await done
                release()
                await until(lambda: not len(running.server._starter))
            job_id = (await alice.start(request)).job_id
            status = await alice.status(pb.GetStatusRequest(job_id=job_id))
            assert status.current_status == pb.STATUS_RUNNING
            fifo.release()
            await alice.wait(job_id)
            assert ran.read_text() == "x\n"

    run(scenario())


def test_limits_reach_the_job(ca: Authority, place: Path | None) -> None:
    """Too much output or too long: it is stopped, and no later limit overflows."""

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            loud = await alice.start(command("yes", max_output_bytes=1000))
            slow = await alice.start(command("sleep 1000", timeout_ms=50))
            for job in (loud, slow):
                status = await alice.wait(job.job_id)
                assert status.current_status == pb.STATUS_STOPPED
                assert status.stopped_by == ""
            none = command("true", max_output_bytes=2**64 - 1, timeout_ms=2**64 - 1)
            status = await alice.wait((await alice.start(none)).job_id)
            assert status.current_status == pb.STATUS_COMPLETE

    run(scenario())


def test_a_start_that_cannot_be_recorded_starts_nothing(
    ca: Authority, place: Path | None, tmp_path: Path
) -> None:
    """A full disk is told in words; what runs goes on, and afterwards starts work again."""
    ran = tmp_path / "ran"

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            before = await alice.run_job("sleep", "1000")
            journal = running.server._journal
            limit = "PRAGMA max_page_count = 1"  # SQLite keeps the pages there are
            await journal.read(lambda connection: connection.execute(limit).fetchone())
            big = pb.StartJobRequest(command="touch", args=[str(ran), *["x" * 100_000] * 9])
            code, text = await refused(alice.start(big))
            assert code is CODE.RESOURCE_EXHAUSTED
            assert "full" in text
            assert not ran.exists()
            assert len(list(running.spool.jobs.iterdir())) == 1
            status = await alice.status(pb.GetStatusRequest(job_id=before))
            assert status.current_status == pb.STATUS_RUNNING
            limit = "PRAGMA max_page_count = 1000000"
            await journal.read(lambda connection: connection.execute(limit).fetchone())
            await alice.wait(await alice.run_job("true"))
            await alice.stop(pb.StopJobRequest(job_id=before))

    run(scenario())


def test_status_tells_sizes_and_who_stopped(ca: Authority, place: Path | None, fifo: Fifo) -> None:
    """While it runs and afterwards; a job that ended by itself was stopped by nobody."""

    async def scenario() -> None:
        async with serving(ca, state_dir=place) as running, running.client("alice") as alice:
            job = await alice.run_job("sh", "-c", f"printf 12345; printf 1 >&2; read x < {fifo}")
            stream = aiter(alice.follow(job))
            await anext(stream)
            stderr = aiter(alice.follow(job, pb.OUTPUT_TYPE_STDERR))
            await anext(stderr)
            request = pb.GetStatusRequest(job_id=job)
            status = await alice.status(request)
            assert (status.stdout_bytes, status.stderr_bytes, status.stopped_by) == (5, 1, "")
            await alice.stop(pb.StopJobRequest(job_id=job))
            status = await alice.status(request)
            assert (status.stdout_bytes, status.stderr_bytes) == (5, 1)
            assert status.stopped_by == "CN=alice"

    run(scenario())


def test_a_row_is_on_the_disk_before_the_process_runs(ca: Authority, state_dir: Path) -> None:
    """The job itself looks: its id is in the database that another process would read."""
    query = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]); "
        "print(connection.execute('SELECT count(*) FROM jobs').fetchone()[0])"
    )

    async def scenario() -> None:
        async with serving(ca, state_dir=state_dir) as running, running.client("alice") as alice:
            database = str(running.spool.database)
            job = await alice.run_job(sys.executable, "-c", query, database)
            assert await alice.read(job) == b"1\n", os.listdir(state_dir)

    run(scenario())
