"""Promises about records and outcomes that are damaged, or not to be read."""

import os
import re
from pathlib import Path

import pytest
from core_records import record_args
from core_support import DEADLINE_SECONDS, Spool, parent_of, read_all, run_job_script

from jobby_core import Job, Reason, RecordError, UnreachableJobError


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


def write_number(file: Path, field: str, number: str) -> None:
    """Puts `number`, as it stands there, into a field of a record or an outcome."""
    damaged, count = re.subn(rf'("{field}"): *\d+', rf"\1:{number}", file.read_text())
    assert count == 1
    file.write_text(damaged)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-1", str(10**30), "true", "1.5", '"1"'])
@pytest.mark.parametrize(
    "field", ["code", "signal", "elapsed_us", "user_us", "system_us", "max_rss_kib", "stdout_bytes"]
)
def test_a_number_that_cannot_be_is_damage_too(spool: Spool, field: str, number: str) -> None:
    """JSON has numbers that no launcher writes, and that nothing after it can hold."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    write_number(Path(str(args.directory), "outcome"), field, number)
    status = Job.attach(str(args.directory)).status()
    assert (status.reason, status.exit_code) == (Reason.LOST, None)


def test_an_outcome_that_was_written_counts_whatever_its_name(spool: Spool) -> None:
    """Also where its launcher was killed before it could rename it."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    outcome = Path(str(args.directory), "outcome")
    outcome.rename(outcome.with_name("outcome.new"))
    assert Job.attach(str(args.directory)).status().exit_code == 3


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"version": 2}', ""])
def test_a_damaged_record_is_an_error_that_names_the_folder(spool: Spool, damage: str) -> None:
    """What was started cannot be told any more."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    Path(str(args.directory), "job").write_text(damage)
    with pytest.raises(RecordError, match="its record is damaged") as caught:
        Job.attach(str(args.directory))
    assert str(args.directory) in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "NaN", str(10**30)])
def test_a_start_at_no_time_is_damage_too(spool: Spool, number: str) -> None:
    """JSON has numbers that no clock shows."""
    args = record_args(spool, "exit 3")
    Job.start(args).wait(DEADLINE_SECONDS)
    write_number(Path(str(args.directory), "job"), "started_us", number)
    with pytest.raises(RecordError, match="its record is damaged"):
        Job.attach(str(args.directory))


def test_a_job_that_runs_under_a_damaged_record_is_told_as_one_that_runs(spool: Spool) -> None:
    """With the process to end, and the record can be restored."""
    args = record_args(spool, "exec sleep 1000")
    job = Job.start(args)
    spool.jobs.append(job)
    record = Path(str(args.directory), "job")
    content = record.read_text()
    launcher = parent_of(job.pid)
    record.write_text("{")
    with pytest.raises(UnreachableJobError, match=f"it runs, its launcher is process {launcher};"):
        Job.attach(str(args.directory))
    record.write_text(content)
    assert Job.attach(str(args.directory)).pid == job.pid


def test_a_record_that_may_not_be_read_tells_of_no_end(two_users: Path) -> None:
    """Its job may run: that is another error than one of a record that is damaged."""
    script = """
from jobby_core import UnreachableJobError
with open(f"{folder}/job", "w", opener=lambda name, flags: os.open(name, flags, 0o600)):
    pass
os.setresuid(65534, 65534, 65534)
try:
    Job.attach(folder)
except UnreachableJobError as error:
    print(error.cause)
"""
    assert run_job_script(script, two_users) == "Permission denied\n"


def test_a_folder_without_a_job_is_an_error(spool: Spool) -> None:
    """Both of a folder that is not there and of an empty one."""
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder)
    with pytest.raises(RecordError, match="it holds no job"):
        Job.attach(spool.folder / "nowhere")
