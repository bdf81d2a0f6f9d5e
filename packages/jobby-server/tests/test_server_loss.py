"""What a killed server or a damaged state took is told as lost; all else is found again."""

import os
import signal
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from server_authority import Authority
from server_client import refused
from server_once import edit, folder, once, request
from server_process import alive, parent_of
from server_waiting import Fifo, run, until

from jobby_core import Job, JobArgs
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import jobs_table, row
from jobby_server.boot import boot_id
from jobby_server.identity import Authorities, Owner
from jobby_server.state_dir import StateDir

CODE = grpc.StatusCode


async def row_of_a_start(ca: Authority, state_dir: Path, script: str) -> bytes:
    """Leaves what a server does that was killed before it started the process: row and folder."""
    async with once(ca, state_dir) as first:
        job: bytes = (await first.alice.start(request(script, b"1"))).job_id
        await first.alice.stop(pb.StopJobRequest(job_id=job))
        await until(lambda: first.running.server.store.ended_count)
    for file in folder(state_dir, job).iterdir():
        file.unlink()
    edit(
        state_dir,
        "UPDATE jobs SET state = 'running', reason = NULL, signal = NULL, ended_us = NULL, "
        "closed_us = NULL, stopped_by = ''",
    )
    return job


def test_a_job_that_never_ran_is_none(ca: Authority, state_dir: Path) -> None:
    """The server was killed between the row and the process: a retry really starts it."""

    async def scenario() -> None:
        job = await row_of_a_start(ca, state_dir, "echo ran")
        async with once(ca, state_dir) as second:
            code, _ = await refused(second.alice.status(pb.GetStatusRequest(job_id=job)))
            assert code is CODE.NOT_FOUND
            assert not folder(state_dir, job).exists()
            retry = (await second.alice.start(request("echo ran", b"1"))).job_id
            assert retry != job
            assert await second.alice.read(retry) == b"ran\n"

    run(scenario())


def test_a_start_that_failed_stays_failed_whatever_happens(
    ca: Authority, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row could not be deleted, and the server ended: the next one knows that it never ran."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def scenario() -> None:
        start = pb.StartJobRequest(command="/no/such/command", request_id=b"1")
        async with once(ca, state_dir) as first:
            with monkeypatch.context() as patch:
                patch.setattr(jobs_table, "delete", full)  # it has room for what comes before
                told = await refused(first.alice.start(start))
        assert len(list((state_dir / "jobs").iterdir())) == 1
        async with once(ca, state_dir) as second:
            assert list((state_dir / "jobs").iterdir()) == []
            assert await refused(second.alice.start(start)) == told
            assert second.running.server.store.ended_count == 0

    run(scenario())


LOSSES: dict[str, Callable[[Path, bytes], object]] = {
    "its folder is gone": lambda state_dir, job: folder(state_dir, job).rmdir(),
    "its record is damaged": lambda state_dir, job: (folder(state_dir, job) / "job").write_text(
        "{"
    ),
    "the machine went down": lambda state_dir, job: edit(
        state_dir, "UPDATE jobs SET boot_id = 'another'"
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_may_have_run_is_lost_and_never_started_again(
    ca: Authority, state_dir: Path, loss: str
) -> None:
    """Not a success, not a new start: its owner is told that nobody knows."""

    async def scenario() -> None:
        job = await row_of_a_start(ca, state_dir, "echo ran")
        LOSSES[loss](state_dir, job)
        async with once(ca, state_dir) as second:
            status = await second.status(job)
            assert status.current_status == pb.STATUS_COMPLETE
            assert not status.HasField("exit_code")
            assert (await second.alice.start(request("echo ran", b"1"))).job_id == job
            assert (await refused(second.alice.follow(job)))[0] is CODE.DATA_LOSS

    run(scenario())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "overwritten": lambda database: database.write_bytes(os.urandom(100_000)),
    "removed": lambda database: database.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_database_is_rebuilt_from_the_folders(
    ca: Authority, state_dir: Path, fifo: Fifo, damage: str
) -> None:
    """Owners, request ids, outcomes and running jobs: each folder tells of its own."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            done = (await first.alice.start(request("echo out; exit 3", b"1"))).job_id
            await first.alice.wait(done)
            running = (await first.alice.start(request(f"read x < {fifo}; exit 4", b"2"))).job_id
            his = await first.bob.run_job("true")
            await first.bob.wait(his)
            await until(lambda: first.running.server.store.ended_count == 2)
        DAMAGES[damage](state_dir / "jobs.sqlite")
        async with once(ca, state_dir) as second:
            status = await second.status(done)
            assert (status.exit_code, status.stdout_bytes) == (3, 4)
            assert await second.alice.read(done) == b"out\n"
            code, _ = await refused(second.alice.status(pb.GetStatusRequest(job_id=his)))
            assert code is CODE.NOT_FOUND
            assert await second.bob.read(his) == b""
            assert (await second.alice.start(request("echo out; exit 3", b"1"))).job_id == done
            assert (await second.status(running)).current_status == pb.STATUS_RUNNING
            fifo.release()
            assert (await second.alice.wait(running)).exit_code == 4
            await until(lambda: second.running.server.store.ended_count == 3)
        aside = [name for name in os.listdir(state_dir) if ".corrupt-" in name]
        assert len(aside) == (damage == "overwritten")
        async with once(ca, state_dir) as third:
            assert (await third.status(running)).exit_code == 4

    run(scenario())


def test_a_job_that_only_its_folder_knows_is_taken_up(ca: Authority, state_dir: Path) -> None:
    """Also if its request id stands for another job by now."""
    owner = Owner("CN=alice", Authorities(ca.pem)._cas[0][1])

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = (await first.alice.start(request("true", b"1"))).job_id
            await first.alice.wait(job)
            await until(lambda: first.running.server.store.ended_count)
        state = StateDir.named(state_dir)
        orphan = uuid.uuid4()
        path = state.make_folder(orphan)
        kept = row.Row(
            id=orphan,
            owner=owner,
            groups=frozenset(),
            request_id=b"1",
            boot_id=boot_id(),
            created_us=1,
            status=Job.attach(folder(state_dir, job)).status(),
        )
        Job.start(
            JobArgs(
                *("sleep", ["1000"]),
                stdout_path=path / "stdout",
                stderr_path=path / "stderr",
                directory=path,
                label=row.label(kept),
            )
        )
        state.close()
        async with once(ca, state_dir) as second:
            assert (await second.status(orphan.bytes)).current_status == pb.STATUS_RUNNING
            assert (await second.alice.start(request("true", b"1"))).job_id == job

    run(scenario())


def test_what_nobody_can_read_is_left_alone_and_what_is_empty_goes(
    ca: Authority, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder without a job was made by a server that was killed then; a damaged one is said."""

    async def scenario() -> None:
        async with once(ca, state_dir):
            pass
        jobs = state_dir / "jobs"
        empty, half, damaged, strange, foreign = (jobs / str(uuid.uuid4()) for _ in range(5))
        for path in (empty, half, damaged, strange, foreign, jobs / "notes"):
            path.mkdir()
        for name in ("stdout", "stderr", "outcome.new", "job.new"):
            (half / name).touch()
        (foreign / "results.csv").touch()
        file, link = jobs / str(uuid.uuid4()), jobs / str(uuid.uuid4())
        file.touch()
        link.symlink_to("nowhere")
        (damaged / "job").write_text("{")
        out, err = strange / "stdout", strange / "stderr"
        Job.start(JobArgs("true", stdout_path=out, stderr_path=err, directory=strange)).wait()
        async with once(ca, state_dir) as second:
            left = {path.name for path in jobs.iterdir()}
            kept = (damaged, strange, foreign, file, link)
            assert left == {"notes", *(path.name for path in kept)}
            assert (foreign / "results.csv").exists()
            assert len(second.running.server.store) == 0
        for path in kept:
            assert f"nobody knows whose job {path.name} is" in caplog.text

    run(scenario())


def test_a_killed_launcher_is_a_lost_job(ca: Authority, state_dir: Path) -> None:
    """Found by the next server: not running, no exit code, and nothing of it is left."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sh", "-c", "echo $$; exec sleep 1000")
            pid = int((await anext(aiter(first.alice.follow(job)))).data)
        launcher = parent_of(pid)
        os.kill(launcher, signal.SIGKILL)
        await until(lambda: not alive(pid))
        async with once(ca, state_dir) as second:
            status = await second.status(job)
            assert status.current_status == pb.STATUS_COMPLETE
            assert not status.HasField("exit_code")

    run(scenario())
