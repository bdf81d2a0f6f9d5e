"""The end of a server: nothing is left running, and no stream looks complete that is not."""

import asyncio
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from server_authority import Authority
from server_client import health, refused
from server_process import alive
from server_running import Running, serving
from server_waiting import DEADLINE_SECONDS, busy_threads, run, until

from jobby_core import _poller
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import stops
from jobby_server.limits import Limits
from jobby_server.server import JobbyServer

CODE = grpc.StatusCode
PTRACE_SEIZE, WALL = 0x4206, 0x40000000


def pids(server: JobbyServer) -> list[int]:
    """Returns the jobs' main processes."""
    return [record.job.pid for _, record in server.store]


def listening(running: Running) -> bool:
    """Whether the server still takes connections."""
    with socket.socket() as trial:
        return trial.connect_ex((running.address.host, running.address.port)) == 0


def test_a_drain_ends_streams_with_unavailable_and_kills_all_jobs(
    ca: Authority, tmp_path: Path
) -> None:
    """A stream that was cut can be told from a complete one; jobs end with what they started."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            complete = await alice.read(await alice.run_job("echo", "all"))
            assert complete == b"all\n"
            child = tmp_path / "child"
            job = await alice.run_job("sh", "-c", f"sleep 1000 & echo $! > {child}; echo on; wait")
            stubborn = await alice.run_job("sh", "-c", "trap '' TERM INT HUP; echo on; sleep 1000")
            streams = [aiter(alice.follow(job)), aiter(alice.follow(stubborn))]
            for stream in streams:
                assert (await anext(stream)).data == b"on\n"
            watch = aiter(health(alice.channel).Watch(health_pb2.HealthCheckRequest()))
            serving_ = health_pb2.HealthCheckResponse.SERVING
            assert (await anext(watch)).status == serving_
            processes = [*pids(running.server), int(child.read_text())]

            assert await running.server.drain()

            for stream in (*streams, watch):
                code, text = await refused(stream)
                assert code is CODE.UNAVAILABLE
                assert "shutting down" in text
            await until(lambda: not any(map(alive, processes)))
            assert (await refused(alice.start(pb.StartJobRequest(command="true"))))[0] is (
                CODE.UNAVAILABLE
            )
            assert len(running.server.lifetimes) == 0

    run(scenario())


def test_a_second_signal_does_not_wait_for_calls_under_way(ca: Authority) -> None:
    """A reader that takes nothing would hold up an orderly end; hurried, it is cut off."""

    async def scenario() -> None:
        limits = Limits(drain_seconds=1_000_000, stall_seconds=0.1)
        async with (
            serving(ca, limits=limits) as running,
            # A window that doesn't grow: what it holds back stays held back.
            running.client("alice", options=[("grpc.http2.bdp_probe", 0)]) as lazy,
        ):
            job = await lazy.run_job("head", "-c", "100000000", "/dev/zero")
            call = lazy.follow(job)
            await call.initial_metadata()
            await until(lambda: not len(running.server.lifetimes))  # it has stalled
            hurry = asyncio.Event()
            draining = asyncio.create_task(running.server.drain(hurry))
            await until(lambda: not listening(running))  # the drain is under way
            assert not draining.done()
            hurry.set()
            assert await draining
            # RST_STREAM: whatever it is called, it is not the end of the output.
            assert (await refused(call))[0] is not CODE.OK

    run(scenario())


def test_a_disk_that_hangs_holds_up_neither_a_stop_nor_the_end(
    ca: Authority, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are killed all the same, and the drain says that not all has ended."""
    monkeypatch.setattr(stops, "_NOTE_SECONDS", 0.1)  # or the test takes as long
    release = threading.Event()

    async def scenario() -> None:
        limits = Limits(drain_seconds=0.1, stop_seconds=1)
        async with serving(ca, limits=limits, state_dir=state_dir, stop_jobs=True) as running:
            async with running.client("alice") as alice:
                await alice.run_job("sleep", "1000")
                processes = pids(running.server)
                hung = running.server._journal.write(lambda connection: release.wait())
                assert not await running.server.drain()
                await until(lambda: not any(map(alive, processes)))
            release.set()
            await hung

    try:
        run(scenario())
    finally:
        release.set()


@contextmanager
def undying(pid: int) -> Iterator[threading.Event]:
    """Traces a job's main process, so that stopping the job takes until the end of the context.

    A zombie that is traced is nobody's until its tracer has waited for it (ptrace(2)). Yields an
    event that is set if it was let go at the deadline: who blocks the loop cannot be helped from
    the loop.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    seized, let_go, too_late = threading.Event(), threading.Event(), threading.Event()
    refused: list[str] = []

    def trace() -> None:
        if libc.ptrace(PTRACE_SEIZE, pid, None, None):
            refused.append(os.strerror(ctypes.get_errno()))
        seized.set()
        if not refused:
            if not let_go.wait(DEADLINE_SECONDS / 3):
                too_late.set()
            os.waitpid(pid, WALL)

    tracer = threading.Thread(target=trace, name="tracer")
    tracer.start()
    seized.wait()
    if refused:
        pytest.skip(f"no process may be traced here: {refused[0]}")
    try:
        yield too_late
    finally:
        os.kill(pid, signal.SIGKILL)
        let_go.set()
        tracer.join()


def test_jobs_that_cannot_be_killed_hold_no_others_stop_up(ca: Authority) -> None:
    """However many there are: the kill of another job is sent at once, and seen through."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            with ExitStack() as stack:
                for _ in range(40):
                    await alice.run_job("sleep", "1000")
                late = [stack.enter_context(undying(pid)) for pid in pids(running.server)]
                jobs = [job_id.bytes for job_id, _ in running.server.store]
                stopping = [
                    asyncio.ensure_future(alice.stop(pb.StopJobRequest(job_id=job))) for job in jobs
                ]
                await until(lambda: not any(map(alive, pids(running.server))))
                other = await alice.run_job("sleep", "1000")
                await alice.stop(pb.StopJobRequest(job_id=other))
                assert not any(each.is_set() for each in late)
                assert not any(stop.done() for stop in stopping)
            await asyncio.gather(*stopping)

    run(scenario())


def test_a_stop_that_takes_long_keeps_nobody_else_waiting(ca: Authority) -> None:
    """While one job is being ended, other calls are served: that job's own status, and a start."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("sleep", "1000")
            ((_, record),) = running.server.store
            with undying(record.job.pid) as too_late:
                stopping = asyncio.ensure_future(alice.stop(pb.StopJobRequest(job_id=job)))
                await until(lambda: not alive(record.job.pid))
                status = await alice.status(pb.GetStatusRequest(job_id=job))
                other = await alice.wait(await alice.run_job("true"))
                assert not too_late.is_set(), "the loop was blocked until the stop was through"
                assert status.current_status == pb.STATUS_RUNNING
                assert other.exit_code == 0
                assert not stopping.done()
            await stopping
            assert (await alice.wait(job)).current_status == pb.STATUS_STOPPED

    run(scenario())


def test_a_job_that_cannot_be_killed_holds_no_thread_that_others_need(ca: Authority) -> None:
    """However often its stop is asked for: it is under way once, beside all else."""

    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with serving(ca) as running, running.client("alice") as alice:
            job = await alice.run_job("sleep", "1000")
            ((_, record),) = running.server.store
            with undying(record.job.pid) as too_late:
                stop = pb.StopJobRequest(job_id=job)
                stopping = [asyncio.ensure_future(alice.stop(stop)) for _ in range(3)]
                await until(lambda: not alive(record.job.pid))
                assert (await alice.wait(await alice.run_job("true"))).exit_code == 0
                assert not too_late.is_set(), "the start waited until the stop was through"
                assert len(running.server.store.stops) == 1
            await asyncio.gather(*stopping)

    run(scenario())


def nothing_started(running: Running) -> None:
    """Checks that no job and no folder exists."""
    assert len(running.server.store) == 0
    assert list(running.spool.path.iterdir()) == []


def test_a_start_that_is_cancelled_leaves_no_job(ca: Authority, tmp_path: Path) -> None:
    """Nobody would learn the id, so the job that a thread starts afterwards is stopped again."""
    ran = tmp_path / "ran"

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            starting = running.server._starter._tasks
            command = pb.StartJobRequest(
                command="sh", args=["-c", f"echo $$ > {ran}.new; mv {ran}.new {ran}; sleep 1000"]
            )
            with busy_threads() as release:
                call = alice.start(command)
                done = asyncio.ensure_future(refused(call))
                await until(lambda: len(starting) == 1)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await done
                await until(lambda: len(starting) == 2)  # the start, and its undoing
                release()
                await until(lambda: not starting)
            nothing_started(running)
            await until(lambda: not running.server.store._tasks)
            assert (running.server.store.ended_count, running.server.store.ended_bytes) == (0, 0)
            if ran.exists():
                assert not alive(int(ran.read_text()))

    run(scenario())


def test_a_start_during_the_drain_leaves_no_job(ca: Authority) -> None:
    """The thread that starts a job cannot be interrupted; the drain waits and undoes it."""

    async def scenario() -> None:
        async with (
            serving(ca, limits=Limits(drain_seconds=0.1)) as running,
            running.client("alice") as alice,
        ):
            starting = running.server._starter._tasks
            with busy_threads() as release:
                command = pb.StartJobRequest(command="sleep", args=["1000"])
                call = asyncio.ensure_future(refused(alice.start(command)))
                await until(lambda: len(starting) == 1)
                draining = asyncio.create_task(running.server.drain())
                await call
                assert not draining.done()
                release()
                assert await draining
            nothing_started(running)

    run(scenario())


def resources() -> tuple[int, set[str]]:
    """Returns what a leak would change: descriptors, and the threads that are not gRPC's own.

    Without the library's poller, whose thread and two descriptors stay for a moment.
    """
    poller = _poller.poller
    with poller._lock:
        count = len(os.listdir("/proc/self/fd")) - 2 * (poller._epoll is not None)
    names = {
        thread.name
        for thread in threading.enumerate()
        if not thread.name.startswith(("asyncio_", "jobby-poller"))
    }
    return count, names


def has_no_more_than(before: tuple[int, set[str]]) -> bool:
    """Whether nothing is held that was not then."""
    count, names = resources()
    return count <= before[0] and names <= before[1]


def test_a_server_that_ended_holds_nothing(ca: Authority) -> None:
    """Descriptors, threads, tasks: after a busy life they are what they were before."""

    async def life() -> None:
        async with serving(ca) as running:
            async with running.client("alice") as alice, running.client("bob") as bob:
                jobs = [await alice.run_job("sh", "-c", "echo x; sleep 1000") for _ in range(10)]
                calls = [aiter(alice.follow(job)) for job in jobs for _ in range(3)]
                for call in calls:
                    await anext(call)
                await refused(bob.follow(jobs[0]))
                await refused(alice.start(pb.StartJobRequest(command="no-such-command")))
                for job in jobs[:5]:
                    await alice.stop(pb.StopJobRequest(job_id=job))
        await until(lambda: len(asyncio.all_tasks()) <= 2)  # this one, and the deadline's

    async def scenario() -> None:
        await life()  # what gRPC makes once and keeps
        before = resources()
        for _ in range(3):
            await life()
        await until(lambda: has_no_more_than(before))

    run(scenario())
