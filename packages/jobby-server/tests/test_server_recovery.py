"""A server that ends, however it does, costs no job, no byte and no exit code."""

import asyncio
import os
import signal
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from server_authority import Authority
from server_client import Client, refused
from server_process import alive, parent_of
from server_running import Running, serving
from server_waiting import Fifo, run, until

from jobby_core import Job, JobArgs
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import jobs_table, row
from jobby_server.boot import boot_id
from jobby_server.identity import Authorities, Owner
from jobby_server.state_dir import StateDir

CODE = grpc.StatusCode


@dataclass(frozen=True)
class Once:
    """A server for a while, and two clients of it."""

    running: Running
    alice: Client
    bob: Client

    async def status(self, job: bytes) -> pb.GetStatusResponse:
        """Returns what alice is told."""
        answer: pb.GetStatusResponse = await self.alice.status(pb.GetStatusRequest(job_id=job))
        return answer


@asynccontextmanager
async def once(ca: Authority, state_dir: Path, **options: Any) -> AsyncIterator[Once]:
    """Runs a server on a state that others had before and will have after it."""
    async with (
        serving(ca, state_dir=state_dir, **options) as running,
        running.client("alice") as alice,
        running.client("bob") as bob,
    ):
        yield Once(running, alice, bob)


def folder(state_dir: Path, job: bytes) -> Path:
    """Returns where a job's files lie."""
    return state_dir / "jobs" / str(uuid.UUID(bytes=job))


def edit(state_dir: Path, statement: str, *values: object) -> None:
    """Changes the journal, while no server uses it."""
    connection = sqlite3.connect(state_dir / "jobs.sqlite")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def request(script: str, request_id: bytes = b"") -> pb.StartJobRequest:
    """Returns the request for a shell's script."""
    return pb.StartJobRequest(command="sh", args=["-c", script], request_id=request_id)


def test_a_job_goes_on_over_a_restart(ca: Authority, state_dir: Path, fifo: Fifo) -> None:
    """Its streams are told to read on; owner, status and output are what they were."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            script = f"echo one; read x < {fifo}; echo two; echo err >&2; exit 7"
            job = await first.alice.run_job("sh", "-c", script)
            stream = aiter(first.alice.follow(job))
            assert (await anext(stream)).data == b"one\n"
            before = await first.status(job)
            assert await first.running.server.drain()
            code, text = await refused(stream)
            assert (code, text) == (
                CODE.UNAVAILABLE,
                "the server is restarting; its jobs go on, so read on from where you are",
            )
        async with once(ca, state_dir) as second:
            assert await second.status(job) == before
            assert (await refused(second.bob.follow(job)))[0] is CODE.NOT_FOUND
            stream = aiter(second.alice.follow(job))
            assert (await anext(stream)).data == b"one\n"
            fifo.release()
            assert b"".join([message.data async for message in stream]) == b"two\n"
            status = await second.status(job)
            assert (status.current_status, status.exit_code) == (pb.STATUS_COMPLETE, 7)
            assert (status.stdout_bytes, status.stderr_bytes) == (8, 4)
            await until(lambda: second.running.server.store.ended_count)
        async with once(ca, state_dir) as third:
            assert (await third.status(job)).exit_code == 7
            assert await third.alice.read(job) == b"one\ntwo\n"
            assert await third.alice.read(job, pb.OUTPUT_TYPE_STDERR) == b"err\n"
            await third.alice.stop(pb.StopJobRequest(job_id=job))  # it has ended: no error
            assert (await third.status(job)).exit_code == 7

    run(scenario())


def test_an_end_that_was_seen_stays_what_it_was(ca: Authority, state_dir: Path) -> None:
    """An outcome that is damaged later changes neither the status nor the end of a stream."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sh", "-c", "echo out; exit 9")
            await first.alice.wait(job)
            await until(lambda: first.running.server.store.ended_count)
        (folder(state_dir, job) / "outcome").unlink()
        async with once(ca, state_dir) as second:
            messages = [message async for message in second.alice.follow(job)]
            status = await second.status(job)
            end = messages[-1].end
            assert (end.reason, end.exit_code) == (status.reason, status.exit_code)
            assert (end.reason, end.exit_code) == (pb.END_REASON_EXITED, 9)
            assert b"".join(message.data for message in messages) == b"out\n"

    run(scenario())


def test_a_job_that_ended_meanwhile_has_its_true_outcome(
    ca: Authority, state_dir: Path, fifo: Fifo
) -> None:
    """Exit code, signal and sizes, though no server saw the end."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sh", "-c", f"read x < {fifo}; echo late; exit 9")
            other = await first.alice.run_job("sh", "-c", f"read x < {fifo}; kill -9 $$")
        fifo.release()
        fifo.release()
        await until((folder(state_dir, job) / "outcome").exists)
        await until((folder(state_dir, other) / "outcome").exists)
        async with once(ca, state_dir) as second:
            status = await second.status(job)
            assert (status.exit_code, status.stdout_bytes) == (9, 5)
            assert await second.alice.read(job) == b"late\n"
            assert (await second.status(other)).exit_code == 137
            await until(lambda: second.running.server.store.ended_count == 2)

    run(scenario())


def test_an_output_that_was_cut_before_anybody_read_it_is_data_loss(
    ca: Authority, state_dir: Path
) -> None:
    """By this server and by the next; never an end that looks whole. The other output is read."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sh", "-c", "printf 12345; printf 123 >&2")
            await first.alice.wait(job)
            await until(lambda: first.running.server.store.ended_count)
            os.truncate(folder(state_dir, job) / "stdout", 2)
            assert (await refused(first.alice.follow(job)))[0] is CODE.DATA_LOSS
        async with once(ca, state_dir) as second:
            code, text = await refused(second.alice.follow(job))
            assert (code, "truncated to 2 bytes" in text) == (CODE.DATA_LOSS, True)
            assert await second.alice.read(job, pb.OUTPUT_TYPE_STDERR) == b"123"
            assert (await second.status(job)).exit_code == 0

    run(scenario())


def test_a_request_id_counts_over_a_restart(ca: Authority, state_dir: Path, tmp_path: Path) -> None:
    """The same id never starts a second job, whether the first runs or has ended."""
    ran = tmp_path / "ran"

    async def scenario() -> None:
        quick = request(f"echo x >> {ran}", b"quick")
        slow = request("sleep 1000", b"slow")
        async with once(ca, state_dir) as first:
            jobs = [(await first.alice.start(each)).job_id for each in (quick, slow)]
            await first.alice.wait(jobs[0])
        async with once(ca, state_dir) as second:
            again = [(await second.alice.start(each)).job_id for each in (quick, slow)]
            assert again == jobs
            assert ran.read_text() == "x\n"
            code, _ = await refused(second.alice.start(request("other", b"slow")))
            assert code is CODE.ALREADY_EXISTS
            assert (await second.bob.start(quick)).job_id not in jobs

    run(scenario())


def test_a_stop_that_was_interrupted_is_finished(ca: Authority, state_dir: Path) -> None:
    """Who asked was on the disk before the kill; the next server sees to it."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sleep", "1000")
        edit(state_dir, "UPDATE jobs SET stopped_by = 'CN=alice'")
        async with once(ca, state_dir) as second:
            await second.alice.read(job)
            status = await second.status(job)
            assert (status.current_status, status.stopped_by) == (pb.STATUS_STOPPED, "CN=alice")

    run(scenario())


def test_jobs_are_stopped_on_exit_where_that_is_asked_for(ca: Authority, state_dir: Path) -> None:
    """As without a state: streams are told that the jobs end, and the server did it."""

    async def scenario() -> None:
        async with once(ca, state_dir, stop_jobs=True) as first:
            job = await first.alice.run_job("sh", "-c", "echo $$; exec sleep 1000")
            stream = aiter(first.alice.follow(job))
            pid = int((await anext(stream)).data)
            assert await first.running.server.drain()
            code, text = await refused(stream)
            assert code is CODE.UNAVAILABLE
            assert "its jobs end with it" in text
            assert not alive(pid)
        async with once(ca, state_dir) as second:
            status = await second.status(job)
            assert (status.current_status, status.stopped_by) == (pb.STATUS_STOPPED, "server")

    run(scenario())


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
                patch.setattr(jobs_table, "delete", full)
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


def test_a_server_holds_no_ended_job(ca: Authority, state_dir: Path) -> None:
    """However many it has run: what is in memory is what runs, also after a restart."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            for _ in range(10):
                jobs = await asyncio.gather(*(first.alice.run_job("true") for _ in range(10)))
            await until(lambda: first.running.server.store.ended_count == 100)
            assert len(first.running.server.store) == 0
            assert await first.alice.read(jobs[0]) == b""
        async with once(ca, state_dir) as second:
            assert len(second.running.server.store) == 0
            assert second.running.server.store.ended_count == 100

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


def test_no_server_keeps_jobs_without_a_launcher(
    ca: Authority, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would not survive it: refused by name rather than promised."""
    monkeypatch.setenv("JOBBY_LAUNCHER", "none")

    async def scenario() -> None:
        with pytest.raises(Exception, match="no launcher for this platform; leave --state-dir"):
            async with once(ca, state_dir):
                pass

    run(scenario())
