"""Ended jobs go by age, count and size; running ones and those being read never do."""

import asyncio
import uuid
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_authority import Authority
from server_client import Client, refused
from server_running import serving
from server_waiting import Fifo, run, until

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import jobs_table
from jobby_server.jobs_table import Ended
from jobby_server.limits import Keep, Limits
from jobby_server.retention import Excess

NOT_FOUND = grpc.StatusCode.NOT_FOUND
DAY = 86_400_000_000
LIMITS = st.none() | st.integers(0, 20)


def ended(count: int, size: int = 1, apart: int = DAY) -> list[Ended]:
    """Returns jobs that ended one after another, the first at 0."""
    return [Ended(n, uuid.uuid4(), n * apart, size) for n in range(count)]


@given(
    days=LIMITS,
    jobs=LIMITS,
    size=LIMITS,
    sizes=st.lists(st.integers(0, 5), max_size=20),
    now=st.integers(0, 30),
)
def test_what_stays_is_the_youngest_that_fit(
    days: int | None, jobs: int | None, size: int | None, sizes: list[int], now: int
) -> None:
    """Nothing that stays exceeds a limit, and one more would have."""
    rows = [Ended(n, uuid.uuid4(), n * DAY, each) for n, each in enumerate(sizes)]
    keep = Keep(days=days, jobs=jobs, bytes=size)
    going = Excess(keep, len(rows), sum(sizes)).choose(rows, now * DAY)
    assert going == rows[: len(going)]
    stay = rows[len(going) :]

    def fits(kept: list[Ended]) -> bool:
        return (
            (days is None or all(each.closed_us > (now - days) * DAY for each in kept))
            and (jobs is None or len(kept) <= jobs)
            and (size is None or sum(each.bytes for each in kept) <= size)
        )

    assert fits(stay)
    assert not going or not fits([going[-1], *stay])


def test_without_limits_everything_stays() -> None:
    """The default keeps all there is."""
    rows = ended(1000, size=1 << 40)
    assert Excess(Keep(), len(rows), 1000 << 40).choose(rows, 10**18) == []
    assert Excess(Keep(), 1, 1).seconds_left(rows[0], 0) is None


def test_a_job_may_stay_until_its_time_is_up() -> None:
    """The timer is set for that moment, and not for one in the past."""
    excess = Excess(Keep(days=2), 1, 1)
    (job,) = ended(1)
    assert excess.seconds_left(job, 0) == 2 * 86_400
    assert excess.seconds_left(job, 2 * DAY - 1_000_000) == 1
    assert excess.seconds_left(job, 3 * DAY) == 0


@pytest.fixture(params=["durable", "not durable"])
def place(request: pytest.FixtureRequest, state_dir: Path) -> Path | None:
    """Where the state is kept."""
    return state_dir if request.param == "durable" else None


async def known(client: Client, jobs: list[bytes]) -> list[bytes]:
    """Returns those of the jobs that the server knows."""
    requests = [client.status(pb.GetStatusRequest(job_id=job)) for job in jobs]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for each in answers:
        if isinstance(each, grpc.aio.AioRpcError):
            assert each.code() is NOT_FOUND
        else:
            assert isinstance(each, pb.GetStatusResponse)
    return [job for job, each in zip(jobs, answers, strict=True) if not isinstance(each, Exception)]


@pytest.mark.parametrize("keep", [Keep(jobs=3), Keep(bytes=3 * 7 + 1)])
def test_the_oldest_jobs_go_with_their_output(
    ca: Authority, place: Path | None, keep: Keep
) -> None:
    """By count or by size: what is forgotten is gone from the disk, the memory and the journal."""

    async def scenario() -> None:
        async with (
            serving(ca, state_dir=place, keep=keep) as running,
            running.client("alice") as alice,
        ):
            endless = await alice.run_job("sleep", "1000")
            jobs = []
            for _ in range(8):
                jobs.append(await alice.run_job("sh", "-c", "echo out; echo er >&2"))
                await alice.wait(jobs[-1])
                await until(lambda: running.server._retention._run is None)
                await until(lambda: len(running.server.store) == 1 or place is None)
            folders = running.spool.jobs
            await until(lambda: len(list(folders.iterdir())) == 4)
            assert await known(alice, [endless, *jobs]) == [endless, *jobs[-3:]]
            assert {path.name for path in folders.iterdir()} == {
                str(uuid.UUID(bytes=job)) for job in [endless, *jobs[-3:]]
            }
            assert running.server.store.ended_count == 3
            assert running.server.store.ended_bytes == 3 * 7
            assert await running.server._journal.read(jobs_table.totals) == (3, 21)
            await alice.stop(pb.StopJobRequest(job_id=endless))

    run(scenario())


def test_a_jobs_time_runs_out_by_itself(ca: Authority, place: Path | None) -> None:
    """Nothing has to happen on the server for it: a timer is set for the oldest job."""

    async def scenario() -> None:
        keep = Keep(days=0.1 / 86_400)
        async with (
            serving(ca, state_dir=place, keep=keep) as running,
            running.client("alice") as alice,
        ):
            await alice.run_job("true")
            await until(lambda: not list(running.spool.jobs.iterdir()))

    run(scenario())


def test_a_reader_keeps_what_it_reads(ca: Authority, place: Path | None, fifo: Fifo) -> None:
    """It gets every byte; when it has gone, the job goes, too."""

    async def scenario() -> None:
        async with (
            serving(ca, state_dir=place, keep=Keep(jobs=0)) as running,
            # A window that doesn't grow: the reader takes what it is given, and no more.
            running.client("alice", options=[("grpc.http2.bdp_probe", 0)]) as alice,
        ):
            script = f"head -c 3000000 /dev/zero; read x < {fifo}"
            job = await alice.run_job("sh", "-c", script)
            stream = aiter(alice.follow(job))
            size = len((await anext(stream)).data)
            fifo.release()
            await until(lambda: running.server.store.ended_count)
            await until(lambda: running.server._retention._run is None)
            assert await known(alice, [job]) == [job]
            size += sum([len(message.data) async for message in stream])
            assert size == 3_000_000
            await until(lambda: not list(running.spool.jobs.iterdir()))
            assert await known(alice, [job]) == []

    run(scenario())


def test_a_reader_may_come_again(ca: Authority, place: Path | None) -> None:
    """Whose stream broke finds the job still there, for as long as it takes to connect anew."""

    async def scenario() -> None:
        limits = Limits(resume_seconds=3600)
        async with (
            serving(ca, state_dir=place, keep=Keep(jobs=0), limits=limits) as running,
            running.client("alice") as alice,
        ):
            running.server._retention._begin()  # durable, it waits for earlier readers at first
            readers = running.server.store.readers
            gone = readers.end
            ends: list[bool] = []

            def end(job_id: uuid.UUID, *, comes_again: bool = False) -> None:
                ends.append(comes_again)
                gone(job_id, comes_again=comes_again)

            readers.end = end  # type: ignore[method-assign]  # spied
            job = await alice.run_job("sleep", "1000")
            call = alice.follow(job)
            await call.initial_metadata()
            call.cancel()
            await until(lambda: ends)
            await alice.stop(pb.StopJobRequest(job_id=job))
            await until(lambda: running.server.store.ended_count)
            await until(lambda: running.server._retention._run is None)
            assert await known(alice, [job]) == [job]
            # A stranger, or who asks for what isn't there, keeps nothing.
            assert (await refused(alice.follow(uuid.uuid4().bytes)))[0] is NOT_FOUND
            assert ends == [True, False]
            gone(uuid.UUID(bytes=job))  # as if the hour were over
            await until(lambda: not list(running.spool.jobs.iterdir()))

    run(scenario())


def test_a_reader_may_come_again_to_the_next_server(ca: Authority, state_dir: Path) -> None:
    """What is too much stays for a while after a start: its reader is on the way."""

    async def scenario() -> None:
        async with serving(ca, state_dir=state_dir) as running, running.client("alice") as alice:
            job = await alice.run_job("true")
            await until(lambda: running.server.store.ended_count)
        limits = Limits(resume_seconds=3600)
        async with (
            serving(ca, state_dir=state_dir, keep=Keep(jobs=0), limits=limits) as running,
            running.client("alice") as alice,
        ):
            running.server._retention.consider()  # as at the end of any other job
            assert running.server._retention._run is None
            assert await known(alice, [job]) == [job]
            running.server._retention._begin()  # as if the hour were over
            await until(lambda: not list(running.spool.jobs.iterdir()))

    run(scenario())


def test_what_is_too_much_goes_at_the_start(ca: Authority, state_dir: Path) -> None:
    """A server that is told to keep less forgets the rest at once, in however many pages."""

    async def scenario() -> None:
        async with serving(ca, state_dir=state_dir) as running, running.client("alice") as alice:
            jobs = [await alice.run_job("true") for _ in range(20)]
            await until(lambda: running.server.store.ended_count == 20)
        async with (
            serving(ca, state_dir=state_dir, keep=Keep(jobs=2)) as running,
            running.client("alice") as alice,
        ):
            await until(lambda: len(list(running.spool.jobs.iterdir())) == 2)
            await until(lambda: running.server._retention._run is None)
            assert len(await known(alice, jobs)) == 2

    run(scenario())


def test_forgetting_and_finding_do_not_cross(ca: Authority, place: Path | None) -> None:
    """A job that is being forgotten is found whole or not at all."""

    async def scenario() -> None:
        async with (
            serving(ca, state_dir=place, keep=Keep(jobs=0)) as running,
            running.client("alice") as alice,
        ):
            for _ in range(20):
                job = await alice.run_job("echo", "hi")
                seen = await asyncio.gather(
                    *(alice.read(job) for _ in range(3)), return_exceptions=True
                )
                for each in seen:
                    if isinstance(each, grpc.aio.AioRpcError):
                        assert each.code() is NOT_FOUND
                    else:
                        assert each == b"hi\n"
            await until(lambda: not list(running.spool.jobs.iterdir()))
            assert (await refused(alice.follow(job)))[0] is NOT_FOUND

    run(scenario())
