"""Promises about the callbacks at a job's end."""

import asyncio

import pytest
from core_support import DEADLINE_SECONDS, Spool, until

from jobby_core import Job


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
def test_callbacks_come_once_and_one_that_fails_keeps_none_from_it(
    spool: Spool, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """Whether they were added before the end or after it; and other jobs still end."""
    gate = spool.gate()
    job = spool.shell('read _ < "$1"; exit 2', gate.path)
    called: list[tuple[str, int | None]] = []

    def fail(_: Job) -> None:
        raise error("of the callback")

    job.add_done_callback(fail)
    job.add_done_callback(lambda j: called.append(("before", j.status().exit_code)))
    gate.open()
    job.wait(DEADLINE_SECONDS)
    until(lambda: called == [("before", 2)], "it was called")
    job.add_done_callback(lambda j: called.append(("after", j.status().exit_code)))
    assert called == [("before", 2), ("after", 2)]
    assert "of the callback" in caplog.text
    assert spool.shell("exit 3").wait(DEADLINE_SECONDS).exit_code == 3


def test_an_exit_in_a_callback_at_once_is_the_callers_own(spool: Spool) -> None:
    """A job that has ended calls back in the caller's thread, whose exit or ctrl-c is not lost."""
    job = spool.shell("exit 0")
    job.wait(DEADLINE_SECONDS)

    def leave(_: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.add_done_callback(leave)
