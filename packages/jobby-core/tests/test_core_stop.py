"""Promises about stopping and ending: all of the job, once, with a true outcome."""

import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    background,
    digest,
    is_running,
    read_all,
    until,
    until_waiting,
)

from jobby_core import Job, State, Status
from jobby_core._output import OutputFile

pytestmark = pytest.mark.usefixtures("both_ways")


def outcome(status: Status) -> tuple[State, int | None, int | None]:
    """Returns what a status says about the end."""
    return status.state, status.exit_code, status.signal


def printed_pids(job: Job, count: int) -> list[int]:
    """Returns the process ids that a job prints, a line each."""
    with job.stdout() as reader:
        return [int(reader.readline()) for _ in range(count)]


STOPPED_BY_KILL = (State.STOPPED, None, signal.SIGKILL)


def test_stop_kills_the_whole_group_and_knows_the_outcome(spool: Spool) -> None:
    """When `stop` returns, every process of the group is gone and the status is final."""
    job = spool.shell("sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & echo $!; wait")
    pids = printed_pids(job, 3)
    assert all(map(is_running, [job.pid, *pids]))
    job.stop()
    assert not any(map(is_running, [job.pid, *pids]))
    status = job.status()
    assert outcome(status) == STOPPED_BY_KILL
    assert status.ended_at is not None
    assert job.wait(0) == status


def test_stop_again_changes_nothing(spool: Spool) -> None:
    """Stopping is idempotent; the first outcome stays."""
    job = spool.start("sleep", "1000")
    job.stop()
    status = job.status()
    job.stop()
    job.stop(grace_seconds=1000)
    assert job.status() == status


def test_stop_after_the_end_changes_nothing(spool: Spool) -> None:
    """A job that ended by itself stays COMPLETED, with its exit code."""
    job = spool.shell("exit 3")
    status = job.wait(DEADLINE_SECONDS)
    job.stop()
    job.stop(grace_seconds=1000)
    assert job.status() == status
    assert outcome(status) == (State.COMPLETED, 3, None)


def test_stop_from_many_threads_at_once(spool: Spool) -> None:
    """All of them return, and agree on the outcome."""
    for _ in range(5):
        job = spool.start("sleep", "1000")
        for stopping in [background(job.stop) for _ in range(8)]:
            stopping.result(DEADLINE_SECONDS)
        assert outcome(job.status()) == STOPPED_BY_KILL


def test_stop_against_an_end_of_its_own_is_one_or_the_other(spool: Spool) -> None:
    """Whoever is first wins: STOPPED by the kill, or COMPLETED with the exit code; no mixture."""
    for _ in range(40):
        job = spool.shell("exit 7")
        job.stop()
        assert outcome(job.status()) in (STOPPED_BY_KILL, (State.COMPLETED, 7, None))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", (State.COMPLETED, 0, None)),
        ("exit 255", (State.COMPLETED, 255, None)),
        ("kill -TERM $$", (State.COMPLETED, 143, signal.SIGTERM)),
        ("kill -KILL $$", (State.COMPLETED, 137, signal.SIGKILL)),
        ("ulimit -c 0; kill -SEGV $$", (State.COMPLETED, 139, signal.SIGSEGV)),
    ],
)
def test_an_end_that_was_not_stops_doing_is_completed(
    spool: Spool, script: str, expected: tuple[State, int, int | None]
) -> None:
    """By itself or by somebody else's signal n, which shows as exit code 128 + n."""
    assert outcome(spool.shell(script).wait(DEADLINE_SECONDS)) == expected


def test_somebody_elses_kill_is_not_stops(spool: Spool) -> None:
    """A signal from outside completes the job, and a stop that comes later doesn't change it."""
    job = spool.start("sleep", "1000")
    os.kill(job.pid, signal.SIGKILL)
    job.wait(DEADLINE_SECONDS)
    job.stop()
    assert outcome(job.status()) == (State.COMPLETED, 137, signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # By the signal itself, in its own way, or whatever it says as it goes. A shell hears a
        # signal in `wait` whenever it comes; right before a `read` blocks, it would be too late.
        ("echo ready; read _ < $1", (State.STOPPED, None, signal.SIGTERM)),
        ("sleep 1000 & trap 'exit 0' TERM; echo ready; wait", (State.STOPPED, None, None)),
        ("sleep 1000 & trap 'exit 5' TERM; echo ready; wait", (State.STOPPED, None, None)),
    ],
)
def test_with_grace_a_job_ends_in_its_own_way(
    spool: Spool, script: str, expected: tuple[State, int | None, int | None]
) -> None:
    """SIGTERM comes first; who heeds it is STOPPED, and `stop` doesn't wait for the grace's end."""
    job = spool.shell(script, spool.gate().path)
    with job.stdout() as reader:
        assert reader.readline() == b"ready\n"
    background(job.stop, grace_seconds=1000).result(DEADLINE_SECONDS)
    assert outcome(job.status()) == expected


def test_with_grace_the_whole_group_is_asked(spool: Spool) -> None:
    """SIGTERM reaches what the main process started, too, so that it can clean up."""
    child = "sleep 1000 & trap 'echo asked; exit' TERM; echo ready; wait"
    job = spool.shell('trap : TERM; sh -c "$1" & wait; wait', child)
    with job.stdout() as reader:
        assert reader.readline() == b"ready\n"
        background(job.stop, grace_seconds=1000).result(DEADLINE_SECONDS)
        assert reader.read() == b"asked\n"
    assert outcome(job.status()) == (State.STOPPED, None, None)


def test_who_ignores_the_request_is_killed_after_the_grace(spool: Spool) -> None:
    """SIGTERM is a request, SIGKILL isn't."""
    job = spool.shell("trap '' TERM; echo ready; while :; do read _ < $1; done", spool.gate().path)
    with job.stdout() as reader:
        assert reader.readline() == b"ready\n"
    background(job.stop, grace_seconds=0.05).result(DEADLINE_SECONDS)
    assert outcome(job.status()) == STOPPED_BY_KILL


def test_who_ignores_the_request_in_the_group_dies_with_the_leader(spool: Spool) -> None:
    """The main process decides: when it heeds SIGTERM, what is left of its group is killed."""
    job = spool.shell("(trap '' TERM; echo ready; exec sleep 1000) & echo $!; wait $!")
    with job.stdout() as reader:
        child = int(
            next(line for line in [reader.readline() for _ in range(2)] if line != b"ready\n")
        )
    background(job.stop, grace_seconds=1000).result(DEADLINE_SECONDS)
    assert outcome(job.status()) == (State.STOPPED, None, signal.SIGTERM)
    assert not is_running(child)


def test_a_long_grace_holds_up_nobody(spool: Spool) -> None:
    """While one thread grants a grace, others see the status, read, and may stop at once."""
    job = spool.shell(
        "trap '' TERM; sleep 1000 & trap 'echo term' TERM; echo ready; while :; do wait; done"
    )
    with job.stdout() as reader:
        assert reader.readline() == b"ready\n"
        granting = [background(job.stop, grace_seconds=1000) for _ in range(2)]
        assert reader.readline() == b"term\n"
        assert job.status().state is State.RUNNING
        with pytest.raises(TimeoutError):
            job.wait(0)
        assert repr(job) == f"<Job 'sh' running pid={job.pid}>"
        background(job.stop).result(DEADLINE_SECONDS)
        for each in granting:
            each.result(DEADLINE_SECONDS)
    assert outcome(job.status()) == STOPPED_BY_KILL


def test_a_suspended_job_can_be_stopped(spool: Spool) -> None:
    """SIGSTOP holds off everything but the kill."""
    job = spool.start("sleep", "1000")
    os.kill(job.pid, signal.SIGSTOP)
    background(job.stop).result(DEADLINE_SECONDS)
    assert outcome(job.status()) == STOPPED_BY_KILL


def test_kill_does_what_stop_does_and_waits_for_nothing(spool: Spool) -> None:
    """The end is told by `wait`, and by callbacks; a second kill changes nothing."""
    job = spool.shell("sleep 1000 & echo $!; wait")
    (child,) = printed_pids(job, 1)
    job.kill()
    status = job.wait(DEADLINE_SECONDS)
    assert outcome(status) == STOPPED_BY_KILL
    assert not is_running(child)
    job.kill()
    assert job.status() == status


def test_what_the_main_process_leaves_behind_is_killed_before_the_end_of_output(
    spool: Spool,
) -> None:
    """A background process writes until it is killed; who read to the end has read all of it."""
    for _ in range(8):
        job = spool.shell(
            '(while :; do echo "still here"; done) & (while :; do echo "me too" >&2; done) &'
            " echo $!; echo started; exit 4"
        )
        reading = [background(read_all, job.stdout()), background(read_all, job.stderr())]
        out, err = (each.result(DEADLINE_SECONDS) for each in reading)
        assert digest(out) == digest(Path(job.args.stdout_path).read_bytes())
        assert digest(err) == digest(Path(job.args.stderr_path).read_bytes())
        assert b"started\n" in out
        assert outcome(job.status()) == (State.COMPLETED, 4, None), "published before the end"


def test_a_silent_background_process_does_not_keep_the_job_from_ending(spool: Spool) -> None:
    """Done means that the main process has ended, whoever still holds its output open."""
    job = spool.shell("sleep 1000 & echo $!; exit 0")
    (child,) = printed_pids(job, 1)
    assert outcome(job.wait(DEADLINE_SECONDS)) == (State.COMPLETED, 0, None)
    assert not is_running(child)


def test_a_process_that_left_the_group_dies_if_there_is_a_launcher(
    spool: Spool, both_ways: str
) -> None:
    """setsid(2) leaves the group, but not the launcher's family; without one, it is not reached."""
    job = spool.shell(
        "setsid sh -c 'echo $$; exec sleep 1000' & read _ < \"$1\"", spool.gate().path
    )
    (stray,) = printed_pids(job, 1)
    try:
        job.stop()
        assert outcome(job.status()) == STOPPED_BY_KILL
        assert is_running(stray) is (both_ways == "direct")
    finally:
        with suppress(ProcessLookupError):
            os.kill(stray, signal.SIGKILL)


def test_stop_leaves_the_output_to_its_readers(spool: Spool) -> None:
    """Who follows a job that is stopped gets all that was written, and then the end."""
    gate = spool.gate()
    job = spool.shell('echo before; echo > "$1"; echo after; sleep 1000', gate.path)
    reading = background(read_all, job.stdout())
    gate.wait()
    until(lambda: Path(job.args.stdout_path).read_bytes() == b"before\nafter\n", "it wrote both")
    job.stop()
    assert reading.result(DEADLINE_SECONDS) == b"before\nafter\n"
    assert read_all(job.stdout()) == b"before\nafter\n"


def test_waiting_has_a_limit_of_its_own(spool: Spool) -> None:
    """`wait` returns the final status, or raises TimeoutError and leaves the job alone."""
    feed = spool.feed()
    with pytest.raises(TimeoutError, match=r"the job still runs after 0.01 seconds"):
        feed.job.wait(0.01)
    waiting = background(feed.job.wait)
    assert feed.end() == waiting.result(DEADLINE_SECONDS) == feed.job.status()


def test_more_than_threading_can_wait_is_for_ever(spool: Spool) -> None:
    """An infinite grace, or time to wait, is no error."""
    job = spool.start("sleep", "1000")
    waiting = background(job.wait, math.inf)
    background(job.stop, grace_seconds=math.inf).result(DEADLINE_SECONDS)
    assert outcome(waiting.result(DEADLINE_SECONDS)) == (State.STOPPED, None, signal.SIGTERM)


@pytest.mark.parametrize("grace_seconds", [0.0, 1000.0])
def test_a_callback_that_waits_for_another_job_is_refused(
    spool: Spool, grace_seconds: float
) -> None:
    """It would wait for its own thread, and no job would ever end; a stop sends its signal."""
    feed = spool.feed()
    other = spool.start("sleep", "1000")
    seen: list[BaseException] = []

    def wait_for_other(ended: Job) -> None:
        calls: list[Callable[[], object]] = [
            lambda: other.wait(0),
            other.wait,
            lambda: other.wait(1000),
            lambda: other.stop(grace_seconds=grace_seconds),
            ended.wait,
            ended.stop,
        ]
        for call in calls:
            try:
                call()
            except (TimeoutError, RuntimeError) as error:
                seen.append(error)

    feed.job.add_done_callback(wait_for_other)
    feed.close()
    signum = signal.SIGTERM if grace_seconds else signal.SIGKILL
    assert outcome(other.wait(DEADLINE_SECONDS)) == (State.STOPPED, None, signum)
    assert [type(error) for error in seen] == [TimeoutError] + [RuntimeError] * 3
    assert "in a thread of your own" in str(seen[-1])


def test_the_end_of_output_comes_after_the_outcome(spool: Spool) -> None:
    """Whoever saw the end sees the final status, however quick they are."""
    for _ in range(30):
        gate = spool.gate()
        job = spool.shell('read _ < "$1"; exit 9', gate.path)
        reader = job.stderr()

        def read_then_ask(job: Job = job) -> Status:
            with job.stderr() as reader:
                assert reader.read() == b""
            return job.status()

        asking = background(read_then_ask)
        until_waiting(1)
        gate.open()
        assert outcome(asking.result(DEADLINE_SECONDS)) == (State.COMPLETED, 9, None)
        reader.close()


def test_the_outcome_is_published_before_the_output_is_finished(spool: Spool) -> None:
    """Whoever could see that nothing more will be written could see the final status, too."""
    feed = spool.feed()
    seen: list[State] = []

    class Asking(OutputFile):
        __slots__ = ()

        @property
        def finished(self) -> bool:
            """Never, so that nobody but the job is concerned."""
            return False

        @finished.setter
        def finished(self, value: bool) -> None:
            """Asks at the very moment."""
            if value:
                seen.append(feed.job.status().state)

    for stream, output in list(feed.job._outputs.items()):
        with open(output.path, "rb") as file:
            feed.job._outputs[stream] = Asking(output.path, file.fileno())
    feed.end()
    assert seen == [State.COMPLETED] * 2


def test_a_job_goes_on_when_nobody_holds_it(spool: Spool) -> None:
    """Dropping the object neither ends the job nor leaves a zombie."""
    gate = spool.gate()
    path = Path(spool.shell('read _ < "$1"; echo done', gate.path).args.stdout_path)
    spool.jobs.clear()
    gate.open()
    until(lambda: path.read_bytes() == b"done\n", "it goes on")  # and `spool` looks for children
