"""Promises about the library's one background thread."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from core_support import DEADLINE_SECONDS, Spool, background, run_script, until, until_waiting

from jobby_core import _inotify, _poller
from jobby_core._poller import Poller


class Flag:
    """A descriptor that is readable once raised, with a callback that counts."""

    def __init__(self, poller: Poller, *, raised: bool = False) -> None:
        self.fd = os.eventfd(int(raised), os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.called = threading.Event()
        self._poller = poller

    def call(self) -> None:
        """Ends its own watching, as the reaper does."""
        self._poller.remove(self.fd)
        self.called.set()

    def add(self) -> None:
        """Has the poller watch it."""
        self._poller.add(self.fd, self.call)


@pytest.fixture
def poller() -> Iterator[Poller]:
    """A poller of the test's own; fails if its thread or descriptors stay."""
    poller = Poller()
    yield poller
    until(lambda: poller._epoll is None, "the poller ends after its last descriptor")


def test_it_calls_back_for_what_is_readable_and_ends_after_the_last(poller: Poller) -> None:
    """One thread serves all descriptors; it is gone soon after the last was removed."""
    flags = [Flag(poller, raised=True) for _ in range(50)]
    for flag in flags:
        flag.add()
    for flag in flags:
        assert flag.called.wait(DEADLINE_SECONDS)
        os.close(flag.fd)
    until(lambda: poller._epoll is None, "the thread ends by itself")
    again = Flag(poller, raised=True)
    again.add()
    assert again.called.wait(DEADLINE_SECONDS), "and it starts again"
    os.close(again.fd)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_failing_callback_stops_nobody_elses(
    poller: Poller, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """The thread serves every job: one callback's exception is logged, and the next is called."""

    class Failing(Flag):
        def call(self) -> None:
            super().call()
            raise error("on purpose")

    failing, fine = Failing(poller, raised=True), Flag(poller, raised=True)
    failing.add()
    assert failing.called.wait(DEADLINE_SECONDS)
    fine.add()
    assert fine.called.wait(DEADLINE_SECONDS)
    assert f"the callback for descriptor {failing.fd} failed" in caplog.text
    os.close(failing.fd)
    os.close(fine.fd)


def test_a_number_given_anew_is_not_taken_for_the_old_descriptor(poller: Poller) -> None:
    """Between epoll's report and the call, a number may be closed and opened as something else.

    Such a report would have the reaper take a running job for ended.
    """

    class Blocking(Flag):
        go_on = threading.Event()

        def call(self) -> None:
            self.called.set()
            assert self.go_on.wait(DEADLINE_SECONDS)
            self._poller.remove(self.fd)

    class BlockingToo(Blocking):
        go_on = threading.Event()

    class Wrong(Flag):
        def call(self) -> None:
            raise AssertionError("removed before its turn")

    busy = Blocking(poller, raised=True)
    busy.add()
    assert busy.called.wait(DEADLINE_SECONDS)
    # The thread is busy, so the next poll reports these two together, in this order.
    first, second = BlockingToo(poller, raised=True), Wrong(poller, raised=True)
    first.add()
    second.add()
    busy.go_on.set()
    assert first.called.wait(DEADLINE_SECONDS)
    poller.remove(second.fd)
    anew = Flag(poller)
    os.dup2(anew.fd, second.fd, inheritable=False)
    poller.add(second.fd, anew.called.set)
    first.go_on.set()

    later = Flag(poller, raised=True)
    later.add()
    assert later.called.wait(DEADLINE_SECONDS)
    assert not anew.called.is_set(), "nothing was written to it"
    os.eventfd_write(anew.fd, 1)
    assert anew.called.wait(DEADLINE_SECONDS)
    poller.remove(second.fd)
    for fd in (busy.fd, first.fd, second.fd, anew.fd, later.fd):
        os.close(fd)


def test_the_last_one_may_be_removed_just_before_the_thread_waits(poller: Poller) -> None:
    """By the garbage collector, which runs in that thread, too: it looks again all the same."""

    class Meanwhile(set[int]):
        def clear(self) -> None:
            super().clear()
            if other.called.is_set() and not last.called.is_set():
                last.call()

    last, other = Flag(poller), Flag(poller, raised=True)
    poller._removed = Meanwhile()
    last.add()
    other.add()
    assert last.called.wait(DEADLINE_SECONDS)
    for flag in (last, other):
        os.close(flag.fd)


def test_the_garbage_collector_may_close_a_reader_at_any_moment(spool: Spool) -> None:
    """It runs in whatever thread allocates, also in one that holds the library's locks."""
    feed = spool.feed()
    reader = feed.job.stdout()
    chunk = background(reader.read, 10)
    until_waiting(1)  # so the reader uses the notifier
    feed.write(b"x")
    assert chunk.result(DEADLINE_SECONDS) == b"x"
    notifier = _inotify.shared._notifier
    assert notifier is not None

    def collect() -> None:
        with _poller.poller._lock, notifier._lock, _inotify.shared._lock:
            gc.collect()

    gc.disable()
    try:
        abandoned: list[object] = [reader]
        abandoned.append(abandoned)
        del abandoned, reader, chunk
        background(collect).result(DEADLINE_SECONDS)
    finally:
        gc.enable()
    assert _inotify.shared._notifier is None, "the abandoned reader was the last"


def test_no_job_is_started_that_nobody_could_watch(tmp_path: Path) -> None:
    """If the thread cannot be started, every start fails as a whole, however many run at once."""
    script = """
import concurrent.futures, os, sys, threading
from jobby_core import Job, JobArgs, LimitError
folder = sys.argv[1]
pool = concurrent.futures.ThreadPoolExecutor(8)
barrier = threading.Barrier(8)

def start(number):
    barrier.wait()
    path = f"{folder}/{number}"
    args = JobArgs("true", stdout_path=f"{path}.out", stderr_path=f"{path}.err")
    try:
        Job.start(args)
    except LimitError as error:
        return error.limit
    return "started"

list(pool.map(lambda _: barrier.wait(), range(8)))  # all of its threads run
before = sorted(os.listdir("/proc/self/fd"))
threading.stack_size(1 << 46)  # from here on clone(2) fails
limits = [limit for _ in range(20) for limit in pool.map(start, range(8))]
assert set(limits) == {"RLIMIT_NPROC"}, limits
assert os.listdir(folder) == []
assert sorted(os.listdir("/proc/self/fd")) == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nothing left")
"""
    assert run_script(script, str(tmp_path)) == "nothing left\n"
