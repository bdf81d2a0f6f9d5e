"""Promises about jobs that outlive who started them, and are found again."""

import json
import os
import signal
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    can_make_cgroups,
    is_running,
    parent_of,
    read_all,
    run_job_script,
    until,
)

from jobby_core import Job, JobArgs, Reason, RecordError, State, _cgroup

# Starts a job in folder/record, prints its pid, and is killed without a chance to clean up.
START_AND_DIE = """
from pathlib import Path
Path(f"{folder}/record").mkdir()
job = Job.start(JobArgs("sh", ["-c", sys.argv[2], "sh", *sys.argv[3:]],
    stdout_path=f"{folder}/out", stderr_path=f"{folder}/err", directory=f"{folder}/record",
    label="whose it is"))
print(job.pid, flush=True)
if os.fork() == 0:
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)
signal.pause()
"""


def start_and_die(spool: Spool, script: str, *args: str) -> tuple[Path, int]:
    """Starts a job from a process that is killed at once; returns the record and the pid."""
    import subprocess
    import sys

    from core_support import _JOB_SCRIPT

    done = subprocess.run(
        [sys.executable, "-c", _JOB_SCRIPT + START_AND_DIE, str(spool.folder), script, *args],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return spool.folder / "record", int(done.stdout)


def record_args(spool: Spool, script: str, *args: str) -> JobArgs:
    """Returns a shell job with a record, whose folder is made."""
    folder = spool.path(".record")
    folder.mkdir()
    return JobArgs(
        "sh",
        ["-c", script, "sh", *args],
        stdout_path=folder / "stdout",
        stderr_path=folder / "stderr",
        directory=folder,
    )


def test_a_job_outlives_who_started_it(spool: Spool) -> None:
    """Killed by SIGKILL in the middle: whoever attaches follows live, and knows the outcome."""
    gate = spool.gate()
    record, pid = start_and_die(spool, 'echo one; read _ < "$1"; echo two; exit 6', gate.path)
    job = Job.attach(record)
    assert (job.pid, job.status().state, job.args.label) == (pid, State.RUNNING, "whose it is")
    with job.stdout() as reader:
        assert reader.readline() == b"one\n"
        gate.open()
        assert reader.read() == b"two\n"
    status = job.wait(DEADLINE_SECONDS)
    assert (status.exit_code, status.reason) == (6, Reason.EXITED)
    assert status.ended_at is not None
    assert status.ended_at > status.started_at


def test_a_job_that_ended_meanwhile_shows_its_true_outcome(spool: Spool) -> None:
    """The exit code is on disk, for everybody, as often as asked."""
    record, pid = start_and_die(spool, "echo bye; exit 7")
    until((record / "outcome").exists, "it ended")
    for _ in range(2):
        job = Job.attach(record)
        assert (job.wait(DEADLINE_SECONDS).exit_code, job.pid) == (7, pid)
        assert read_all(job.stdout()) == b"bye\n"


def test_an_attached_job_can_be_stopped_whole(spool: Spool) -> None:
    """Its descendants too, wherever they went."""
    record, pid = start_and_die(spool, "setsid sleep 1000 & echo $!; sleep 1000")
    job = Job.attach(record)
    with job.stdout() as reader:
        stray = int(reader.readline())
    job.stop()
    assert (job.status().state, job.status().reason) == (State.STOPPED, Reason.STOPPED)
    assert not is_running(pid)
    assert not is_running(stray)


def test_many_may_attach_and_all_learn_the_end(spool: Spool) -> None:
    """Also beside the one that started it, which goes on as before."""
    gate = spool.gate()
    args = record_args(spool, 'read _ < "$1"; exit 3', gate.path)
    first = Job.start(args)
    others = [Job.attach(str(args.directory)) for _ in range(5)]
    gate.open()
    statuses = [job.wait(DEADLINE_SECONDS) for job in (first, *others)]
    assert {status.exit_code for status in statuses} == {3}
    # The record has microseconds, and so have they.
    assert len({(status.started_at, status.ended_at) for status in statuses}) == 1


def test_a_job_whose_launcher_was_killed_is_lost_to_whoever_comes_later(spool: Spool) -> None:
    """Its strays are found by their mark and killed; it stays lost for the next one."""
    record, pid = start_and_die(spool, "setsid sleep 1000 & echo $!; sleep 1000")
    with Job.attach(record).stdout() as reader:
        stray = int(reader.readline())
    launcher = parent_of(pid)
    os.kill(launcher, signal.SIGKILL)
    until(lambda: not is_running(launcher), "the launcher is gone")
    for _ in range(2):
        status = Job.attach(record).wait(DEADLINE_SECONDS)
        assert (status.state, status.reason, status.exit_code) == (
            State.COMPLETED,
            Reason.LOST,
            None,
        )
        assert not is_running(stray)


def test_who_kills_a_cgroup_waits_until_nothing_of_it_runs(spool: Spool) -> None:
    """Who is dying can't be found by its environment any more, and may be writing still."""
    if not can_make_cgroups():
        pytest.skip("this user can make no cgroup here")
    args = record_args(spool, "for i in $(seq 60); do (while :; do :; done) & done; echo all; wait")
    job = Job.start(args)
    spool.jobs.append(job)
    with job.stdout() as reader:
        assert reader.readline() == b"all\n"
    cgroup = json.loads(Path(str(args.directory), "job").read_text())["cgroup"]
    launcher = parent_of(job.pid)
    os.kill(launcher, signal.SIGSTOP)  # it would remove the cgroup before it was looked at
    try:
        _cgroup.kill(cgroup)
        assert "populated 0" in Path(cgroup, "cgroup.events").read_text()
    finally:
        os.kill(launcher, signal.SIGCONT)
    job.stop()
    assert not os.path.exists(cgroup)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "gone", "folder"])
def test_a_damaged_outcome_is_lost_and_never_made_up(spool: Spool, damage: str) -> None:
    """The output is whole, and the exit code is not claimed to be known."""
    args = record_args(spool, "echo out; exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    content = outcome.read_bytes()
    outcome.unlink()
    match damage:
        case "cut":
            outcome.write_bytes(content[:40])
        case "garbage":
            outcome.write_bytes(os.urandom(512))
        case "empty":
            outcome.write_bytes(b"")
        case "folder":
            outcome.mkdir()
    job = Job.attach(str(args.directory))
    assert (job.status().reason, job.status().exit_code) == (Reason.LOST, None)
    assert read_all(job.stdout()) == b"out\n"


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"version": 2}', ""])
def test_a_damaged_record_is_an_error_that_names_the_folder(spool: Spool, damage: str) -> None:
    """What was started cannot be told any more."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    Path(str(args.directory), "job").write_text(damage)
    with pytest.raises(RecordError, match="its record is damaged") as caught:
        Job.attach(str(args.directory))
    assert str(args.directory) in str(caught.value)


def test_a_folder_without_a_job_is_an_error(spool: Spool) -> None:
    """Both of a folder that is not there and of an empty one."""
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder)
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder / "nowhere")


def test_a_second_job_in_the_same_folder_is_refused(spool: Spool) -> None:
    """The first one's record stays as it is, and nothing of the second is left."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    before = {p: p.read_bytes() for p in Path(str(args.directory)).iterdir()}
    again = JobArgs(
        "true",
        stdout_path=spool.path(".out"),
        stderr_path=spool.path(".err"),
        directory=args.directory,
    )
    with pytest.raises(RecordError, match="it holds a job already"):
        Job.start(again)
    assert {p: p.read_bytes() for p in Path(str(args.directory)).iterdir()} == before
    assert not os.path.exists(again.stdout_path)


def test_a_start_that_fails_leaves_no_record(spool: Spool) -> None:
    """The folder is as empty as before, and can be used again."""
    args = record_args(spool, "exit 3")
    missing = JobArgs(
        "/nowhere/command",
        stdout_path=args.stdout_path,
        stderr_path=args.stderr_path,
        directory=args.directory,
    )
    with pytest.raises(Exception, match="there is no such file"):
        Job.start(missing)
    assert list(Path(str(args.directory)).iterdir()) == []
    assert Job.start(args).wait(DEADLINE_SECONDS).exit_code == 3


def test_a_start_that_was_cut_short_never_happens(spool: Spool) -> None:
    """Who finds the record of a job that no launcher took makes sure that none ever will."""
    args = record_args(spool, "exit 3")
    script = """
from contextlib import ExitStack
from datetime import UTC, datetime
from jobby_core import _launcher, _record
directory = sys.argv[2]
# As far as a start gets before the launcher: then it was killed.
args = JobArgs("touch", [f"{folder}/it-ran"], stdout_path=f"{directory}/stdout",
               stderr_path=f"{directory}/stderr", directory=directory)
with ExitStack() as close:
    record = _record.Record(args, "mark", None, datetime.now(UTC))
    files = _record.create(record, close)
    from jobby_core import NotStartedError
    attaching = subprocess.run([sys.executable, "-c",
        "import sys, jobby_core\\ntry: jobby_core.Job.attach(sys.argv[1])\\n"
        "except jobby_core.NotStartedError as e: print('never')", directory],
        capture_output=True, text=True, check=True)
    print(attaching.stdout.strip())
    # The launcher comes too late.
    report, told = os.pipe()
    out = os.open("/dev/null", os.O_WRONLY)
    inherited = (told, files.record, files.folder, files.outcome, files.folder, -1)
    child = _launcher._spawn(_launcher.path(), record, (out, out), inherited, close)
    step, error, pid = _launcher._read_report(report)
    print(step.name, os.strerror(error))
    os.waitpid(child, 0)
print(os.path.exists(f"{folder}/it-ran"))
"""
    assert run_job_script(script, spool.folder, str(args.directory)) == (
        "never\nRECORD_LOCK Stale file handle\nFalse\n"
    )


def test_an_output_that_was_removed_is_told_when_it_is_read(spool: Spool) -> None:
    """The status is known all the same."""
    args = record_args(spool, "echo out; exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    os.unlink(args.stdout_path)
    job = Job.attach(str(args.directory))
    assert job.status().exit_code == 3
    with pytest.raises(Exception, match="it was removed after the job was started"):
        job.stdout()
    assert read_all(job.stderr()) == b""


def test_the_record_keeps_no_secret_of_the_environment(spool: Spool) -> None:
    """The arguments are in it, for its user's eyes alone; the environment is not."""
    args = record_args(spool, "exit 0")
    job = Job.start(
        JobArgs(
            args.command,
            args.args,
            stdout_path=args.stdout_path,
            stderr_path=args.stderr_path,
            directory=args.directory,
            env={"PATH": os.environ["PATH"], "SECRET": "hunter2"},
        )
    )
    job.wait(DEADLINE_SECONDS)
    for path in Path(str(args.directory)).iterdir():
        assert b"hunter2" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(Path(str(args.directory), "job").read_bytes())["command"] == "sh"


def test_callbacks_come_once_and_one_that_fails_keeps_none_from_it(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether they were added before the end or after it."""
    gate = spool.gate()
    job = spool.shell('read _ < "$1"; exit 2', gate.path)
    called: list[tuple[str, int | None]] = []

    def fail(_: Job) -> None:
        raise RuntimeError("of the callback")

    job.add_done_callback(fail)
    job.add_done_callback(lambda j: called.append(("before", j.status().exit_code)))
    gate.open()
    job.wait(DEADLINE_SECONDS)
    until(lambda: called == [("before", 2)], "it was called")
    job.add_done_callback(lambda j: called.append(("after", j.status().exit_code)))
    assert called == [("before", 2), ("after", 2)]
    assert "of the callback" in caplog.text
