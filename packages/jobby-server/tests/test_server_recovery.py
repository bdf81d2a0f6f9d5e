"""A server that ends, however it does, costs no job, no byte and no exit code."""

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from server_authority import Authority
from server_client import refused
from server_once import edit, folder, once, request
from server_process import alive
from server_waiting import Fifo, run, until

from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode


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


@pytest.mark.parametrize("beginning", [{}, {"follow": False}, {"tail_lines": 1}])
def test_a_cut_output_is_data_loss_whatever_else_is_damaged(
    ca: Authority, state_dir: Path, beginning: dict[str, Any]
) -> None:
    """Its length is known from the journal where the outcome in its folder is gone, too."""

    async def scenario() -> None:
        async with once(ca, state_dir) as first:
            job = await first.alice.run_job("sh", "-c", "printf 12345; printf 123 >&2")
            await first.alice.wait(job)
            await until(lambda: first.running.server.store.ended_count)
        (folder(state_dir, job) / "outcome").unlink()
        os.truncate(folder(state_dir, job) / "stdout", 2)
        async with once(ca, state_dir) as second:
            code, text = await refused(second.alice.follow(job, **beginning))
            assert (code, "had 5 bytes when" in text) == (CODE.DATA_LOSS, True)
            assert await second.alice.read(job, pb.OUTPUT_TYPE_STDERR) == b"123"

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
