"""Promises about jobs that outlive who started them, and are found again."""

import json
import os
import shutil
from pathlib import Path

import pytest
from core_records import record_args, start_and_die
from core_support import DEADLINE_SECONDS, Spool, is_running, read_all, until

from jobby_core import Job, JobArgs, OutputTruncatedError, Reason, State


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


def test_a_copy_of_a_folder_is_no_job_of_its_own(spool: Spool) -> None:
    """A backup that is looked at beside the original: it is lost, and the original runs on."""
    args = record_args(spool, "echo out; exec sleep 1000")
    job = Job.start(args)
    spool.jobs.append(job)
    with job.stdout() as reader:
        assert reader.readline() == b"out\n"
    copy = spool.path(".copy")
    shutil.copytree(str(args.directory), copy)
    found = Job.attach(copy)
    assert found.status().reason is Reason.LOST
    assert is_running(job.pid)
    assert job.status().state is State.RUNNING


def test_a_folder_may_be_moved_with_its_outputs(spool: Spool) -> None:
    """To a larger disk, say: what lies in it is found in it, and nothing of where it was."""
    args, moved = record_args(spool, "echo out; echo err >&2; exit 3"), spool.path(".moved")
    Job.start(args).wait(DEADLINE_SECONDS)
    Path(str(args.directory)).rename(moved)
    job = Job.attach(moved)
    assert (job.status().exit_code, job.args.stdout_path) == (3, str(moved / "stdout"))
    assert (read_all(job.stdout()), read_all(job.stderr())) == (b"out\n", b"err\n")


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


@pytest.mark.parametrize("known", [True, False])
def test_an_output_that_was_cut_before_anybody_read_it_is_an_error(
    spool: Spool, known: bool
) -> None:
    """The outcome tells how long it was; one of an older launcher does not: it is read as it is."""
    args = record_args(spool, "printf 12345; printf 123 >&2")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    if not known:
        fields = json.loads(outcome.read_bytes())
        assert (fields.pop("stdout_bytes"), fields.pop("stderr_bytes")) == (5, 3)
        outcome.write_text(json.dumps(fields))
    os.truncate(args.stdout_path, 2)
    job = Job.attach(str(args.directory))
    assert job.status().exit_code == 0
    assert read_all(job.stderr()) == b"123"
    if known:
        with pytest.raises(OutputTruncatedError, match="it had 5 bytes when the job ended"):
            read_all(job.stdout())
    else:
        assert read_all(job.stdout()) == b"12"


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
