"""A server with a state folder, as an operator runs it: killed, ended, doubled, read-only."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest
from server_client import Client, refused
from server_process import ANY_PORT, Files, Process, alive, failing, server_environment, started
from server_waiting import DEADLINE_SECONDS, Fifo, run, until

from jobby_proto.v1 import jobby_pb2 as pb

CODE = grpc.StatusCode


def connect(files: Files, process: Process, subject: str = "alice") -> Client:
    """Returns a client of a server in another process."""
    leaf = files.ca.issue(subject)
    credentials = grpc.ssl_channel_credentials(files.ca.pem, leaf.key_pem, leaf.cert_pem)
    return Client(grpc.aio.secure_channel(process.address, credentials), "jobby.v1.Jobby")


def test_a_kill_in_the_middle_of_streams_costs_nothing(
    files: Files, state_dir: Path, fifo: Fifo
) -> None:
    """Each job has its exit code and each byte once; every start that was answered is known."""
    arguments = (*ANY_PORT, "--state-dir", str(state_dir))
    lines = 20_000

    async def before(process: Process) -> list[bytes]:
        client = connect(files, process)
        loop = f"i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); done"
        script = f"{loop}; read x < {fifo}; echo end; exit 5"
        jobs = [await client.run_job("sh", "-c", script) for _ in range(5)]
        streams = [aiter(client.follow(job)) for job in jobs]
        for stream in streams:
            await anext(stream)
        starts = [asyncio.ensure_future(client.run_job("sh", "-c", "exit 6")) for _ in range(200)]
        await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
        process.popen.kill()
        for stream in streams:
            assert (await refused(stream))[0] is not CODE.OK
        answered = await asyncio.gather(*starts, return_exceptions=True)
        await client.channel.close()
        return jobs + [each for each in answered if isinstance(each, bytes)]

    async def after(process: Process, jobs: Sequence[bytes]) -> None:
        client = connect(files, process)
        whole = b"".join(b"%d\n" % i for i in range(lines)) + b"end\n"
        for _ in range(5):
            fifo.release()
        for job in jobs[:5]:
            assert await client.read(job) == whole
        for number, job in enumerate(jobs):
            assert (await client.wait(job)).exit_code == (5 if number < 5 else 6)
        await client.channel.close()

    with started(files, *arguments) as process:
        jobs = run(before(process))
    assert len(jobs) > 5
    with started(files, *arguments) as process:
        run(after(process, jobs))
        process.end(signal.SIGTERM)


def test_a_signal_leaves_the_jobs_running(files: Files, state_dir: Path, fifo: Fifo) -> None:
    """Exit code 0, and the log says how many; the next server's log says so, too."""
    arguments = (*ANY_PORT, "--state-dir", str(state_dir))

    async def before(process: Process) -> tuple[bytes, int]:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", f"echo $$; read x < {fifo}; exit 5")
        pid = int((await anext(aiter(client.follow(job)))).data)
        await client.channel.close()
        return job, pid

    async def after(process: Process, job: bytes) -> None:
        client = connect(files, process)
        fifo.release()
        assert (await client.wait(job)).exit_code == 5
        await client.channel.close()

    with started(files, *arguments) as process:
        job, pid = run(before(process))
        code, log = process.end(signal.SIGTERM)
        assert code == 0
        assert f"jobs are kept in {state_dir}" in log
        assert "INFO 1 jobs run on\n" in log
    assert alive(pid)
    with started(files, *arguments) as process:
        run(after(process, job))
        assert "jobs of the server before: 1 running" in process.end(signal.SIGTERM)[1]


def test_a_job_that_runs_under_a_damaged_record_is_never_an_ended_one(
    files: Files, state_dir: Path, fifo: Fifo
) -> None:
    """The next server says why it does not start; once the record is restored, the job goes on."""
    arguments = (*ANY_PORT, "--state-dir", str(state_dir))

    async def before(process: Process) -> bytes:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", f"read x < {fifo}; exit 5")
        await client.channel.close()
        return job

    async def after(process: Process, job: bytes) -> None:
        client = connect(files, process)
        fifo.release()
        assert (await client.wait(job)).exit_code == 5
        await client.channel.close()

    with started(files, *arguments) as process:
        job = run(before(process))
        process.end(signal.SIGTERM)
    record = state_dir / "jobs" / str(uuid.UUID(bytes=job)) / "job"
    content = record.read_bytes()
    record.write_bytes(content[:20])
    code, said = failing(files, *arguments)
    assert code == 70
    assert "it runs, its launcher is process" in said
    record.write_bytes(content)
    with started(files, *arguments) as process:
        run(after(process, job))
        process.end(signal.SIGTERM)


def test_the_setting_stops_the_jobs_with_the_server(files: Files, state_dir: Path) -> None:
    """--stop-jobs-on-exit: as without a state folder, and the next server says who did it."""

    async def before(process: Process) -> tuple[bytes, int]:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", "echo $$; exec sleep 1000")
        pid = int((await anext(aiter(client.follow(job)))).data)
        await client.channel.close()
        return job, pid

    async def after(process: Process, job: bytes) -> None:
        client = connect(files, process)
        status = await client.status(pb.GetStatusRequest(job_id=job))
        assert (status.current_status, status.stopped_by) == (pb.STATUS_STOPPED, "server")
        await client.channel.close()

    arguments = (*ANY_PORT, "--state-dir", str(state_dir), "--stop-jobs-on-exit")
    with started(files, *arguments) as process:
        job, pid = run(before(process))
        code, log = process.end(signal.SIGTERM)
        assert code == 0
        assert "run on" not in log
    assert not alive(pid)
    with started(files, *arguments) as process:
        run(after(process, job))
        process.end(signal.SIGTERM)


# Takes up the jobs of the server before only when its standard input has ended.
SLOW = """
import asyncio, sys
from jobby_server import main, recovery
run = recovery.Recovery.run

async def slow(self):
    print("begins", file=sys.stderr, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return await run(self)

recovery.Recovery.run = slow
sys.exit(main.main(sys.argv[1:]))
"""


def test_the_setting_holds_for_a_server_that_is_ended_before_it_serves(
    files: Files, state_dir: Path
) -> None:
    """What ran under the server before is taken up first, and then ended."""

    async def start(process: Process) -> int:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", "echo $$; exec sleep 1000")
        pid = int((await anext(aiter(client.follow(job)))).data)
        await client.channel.close()
        return pid

    arguments = (*ANY_PORT, "--state-dir", str(state_dir))
    with started(files, *arguments) as process:
        pid = run(start(process))
        process.popen.kill()
        process.popen.wait()
    assert alive(pid)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments, "--stop-jobs-on-exit"],
        cwd=files.folder,
        env=server_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stderr is not None
            assert any(line == "begins\n" for line in popen.stderr)
            popen.send_signal(signal.SIGTERM)
            assert any("taken up first" in line for line in popen.stderr)
            _, log = popen.communicate(timeout=DEADLINE_SECONDS)
            assert popen.returncode == 0
        finally:
            popen.kill()
    assert not alive(pid)
    assert "run on" not in log


def test_a_second_server_on_the_same_state_does_not_start(files: Files, state_dir: Path) -> None:
    """One line that names the folder, and an exit code of its own."""
    with started(files, *ANY_PORT, "--state-dir", str(state_dir)) as process:
        code, said = failing(files, *ANY_PORT, "--state-dir", str(state_dir))
        assert code == 69
        assert f"cannot keep the jobs' state in {state_dir}: another jobby-server uses it" in said
        assert said.count("\n") == 1
        process.end(signal.SIGTERM)


def test_state_and_output_in_two_places_is_a_usage_error(files: Files, state_dir: Path) -> None:
    """One line, with the way out."""
    code, said = failing(files, "--state-dir", str(state_dir), "--output-dir", str(files.folder))
    assert code == 64
    assert "leave --output-dir" in said
    assert said.count("\n") == 1


def unshared(script: str, place: Path) -> list[str]:
    """Returns a command in front of another that mounts what nobody else sees; $0 is `place`."""
    return ["unshare", "--map-root-user", "--mount", "sh", "-ec", script, str(place)]


needs_mounts = pytest.mark.skipif(
    subprocess.run(
        unshared('mount -t tmpfs none "$0"', Path("/mnt")), check=False, capture_output=True
    ).returncode
    != 0,
    reason="this system doesn't let its users mount things in a namespace of their own",
)


@needs_mounts
@pytest.mark.parametrize(
    ("option", "action"),
    [("--state-dir", "keep the jobs' state in"), ("--output-dir", "keep output in")],
)
def test_a_read_only_folder_is_refused_by_name(
    files: Files, state_dir: Path, option: str, action: str
) -> None:
    """At the start, in words, and not at the first job."""
    (state_dir / "jobs").mkdir(parents=True, mode=0o700)
    state_dir.chmod(0o700)
    script = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
    code, said = failing(
        files, *ANY_PORT, option, str(state_dir), wrapper=unshared(script, state_dir)
    )
    assert code == 78
    assert f"cannot {action} {state_dir}: it is read-only; " in said
    assert said.count("\n") == 1


@needs_mounts
def test_a_full_disk_costs_no_job_that_runs(files: Files, tmp_path: Path, fifo: Fifo) -> None:
    """Starts are refused in words; what runs goes on; with room again all is as it was."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    script = 'mount -t tmpfs -o size=1m,mode=700 none "$0"; exec "$@"'

    async def scenario(process: Process) -> None:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", f"echo on; read x < {fifo}; exit 5")
        assert (await anext(aiter(client.follow(job)))).data == b"on\n"
        # From inside its namespace: the server's own view of the folder.
        filler = f"/proc/{process.popen.pid}/root{place}/filler"
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(fd, b"x" * 4096)
        os.close(fd)
        # Some room may be left in what SQLite has allocated already.
        big = pb.StartJobRequest(command="true", args=["x" * 1000])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await client.start(big)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        status = await client.status(pb.GetStatusRequest(job_id=job))
        assert status.current_status == pb.STATUS_RUNNING
        os.unlink(filler)
        fifo.release()
        assert (await client.wait(job)).exit_code == 5
        assert (await client.wait(await client.run_job("true"))).exit_code == 0
        await client.channel.close()

    with started(
        files,
        *ANY_PORT,
        "--state-dir",
        str(place / "state"),
        "--stop-jobs-on-exit",
        wrapper=unshared(script, place),
    ) as process:
        run(scenario(process))
        assert process.end(signal.SIGTERM)[0] == 0


@needs_mounts
def test_a_disk_that_becomes_read_only_costs_no_job_that_runs(
    files: Files, tmp_path: Path, fifo: Fifo
) -> None:
    """Starts are refused in words; output and outcome of what runs arrive all the same."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    jobs = place / "state" / "jobs"

    async def scenario(process: Process) -> None:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", f"echo on; read x < {fifo}; exit 5")
        stream = aiter(client.follow(job))
        assert (await anext(stream)).data == b"on\n"
        inside = ("nsenter", "--preserve-credentials", "--user", "--mount")
        # A mount of its own over the jobs: no file is open in it that would keep it writable.
        freeze = ("sh", "-ec", 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', str(jobs))
        await asyncio.to_thread(
            subprocess.run,
            [*inside, "--target", str(process.popen.pid), *freeze],
            check=True,
        )
        code, text = await refused(client.start(pb.StartJobRequest(command="true")))
        assert code is CODE.RESOURCE_EXHAUSTED
        assert "read-only" in text
        status = await client.status(pb.GetStatusRequest(job_id=job))
        assert status.current_status == pb.STATUS_RUNNING
        fifo.release()
        assert b"".join([message.data async for message in stream]) == b""
        status = await client.status(pb.GetStatusRequest(job_id=job))
        assert status.exit_code == 5
        await client.channel.close()

    arguments = (*ANY_PORT, "--state-dir", str(place / "state"), "--stop-jobs-on-exit")
    with started(files, *arguments, wrapper=unshared('exec "$@"', place)) as process:
        run(scenario(process))
        assert process.end(signal.SIGTERM)[0] == 0


def test_a_corrupt_database_is_said_loudly(files: Files, state_dir: Path) -> None:
    """The server starts, says what it did, and the jobs are known as before."""
    arguments = (*ANY_PORT, "--state-dir", str(state_dir))

    async def before(process: Process) -> bytes:
        client = connect(files, process)
        job = await client.run_job("sh", "-c", "exit 5")
        await client.wait(job)
        await client.channel.close()
        return job

    async def after(process: Process, job: bytes) -> None:
        client = connect(files, process)
        assert (await client.status(pb.GetStatusRequest(job_id=job))).exit_code == 5
        await client.channel.close()

    with started(files, *arguments) as process:
        job = run(before(process))
        process.end(signal.SIGTERM)
    (state_dir / "jobs.sqlite").write_bytes(b"garbage" * 1000)
    with started(files, *arguments) as process:
        run(after(process, job))
        log = process.end(signal.SIGTERM)[1]
    assert "ERROR" in log
    assert "jobs.sqlite IS CORRUPT" in log
    assert "1 found in their folders" in log


def test_the_next_server_finds_what_a_drain_had_no_time_for(files: Files, state_dir: Path) -> None:
    """Ended in every way at once: whatever the journal has, the outcome is the folder's."""
    arguments = (*ANY_PORT, "--state-dir", str(state_dir))

    async def before(process: Process) -> list[bytes]:
        client = connect(files, process)
        jobs = [await client.run_job("sh", "-c", f"exit {number}") for number in range(20)]
        await client.channel.close()
        return jobs

    async def after(process: Process, jobs: Sequence[bytes]) -> None:
        client = connect(files, process)
        for number, job in enumerate(jobs):
            assert (await client.wait(job)).exit_code == number
        await client.channel.close()

    with started(files, *arguments) as process:
        jobs = run(before(process))
        assert process.end(signal.SIGTERM, signal.SIGTERM)[0] == 0
    for job in jobs:
        outcome = state_dir / "jobs" / str(uuid.UUID(bytes=job)) / "outcome"
        run(until(outcome.exists))
    with started(files, *arguments) as process:
        run(after(process, jobs))
        process.end(signal.SIGTERM)
