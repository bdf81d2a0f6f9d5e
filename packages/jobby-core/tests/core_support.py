"""Owns what the library's tests share: jobs with fresh paths, gates, and waiting on a condition."""

import contextlib
import gc
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from jobby_core import Job, JobArgs, OutputReader, Status, Stream, _inotify, _poller

DEADLINE_SECONDS = 30.0
"""Nothing here takes a second; a busy machine may take its time, a hang may not."""

P = ParamSpec("P")
T = TypeVar("T")


def until(condition: Callable[[], object], what: str) -> None:
    """Waits until `condition` holds; fails with `what` at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        pause.wait(0.002)


def background(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
    """Runs `call` in a thread that cannot keep the tests from ending."""
    future: Future[T] = Future()

    def run() -> None:
        nonlocal call, args, kwargs
        try:
            result = call(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        else:
            # Before anybody is told: this thread is to keep nothing alive after that.
            del call, args, kwargs
            future.set_result(result)

    threading.Thread(target=run, name="test-background", daemon=True).start()
    return future


def digest(data: bytes) -> str:
    """Returns the SHA-256 of `data`; a failed comparison prints one line, not megabytes."""
    return hashlib.sha256(data).hexdigest()


def read_all(reader: OutputReader) -> bytes:
    """Reads a reader to its end and closes it."""
    with reader:
        return reader.read()


async def follow_all(job: Job, stream: Stream, offset: int = 0) -> bytes:
    """Follows an output to its end."""
    async with job.follow(stream, offset=offset) as follower:
        return b"".join([chunk async for chunk in follower])


class Gate:
    """Something a job waits for, with `read _ < PATH`, until the test opens it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        # Both ends: then neither the job's open nor the test's write can block.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open(self) -> None:
        """Lets one waiting job go on."""
        os.write(self._fd, b"\n")

    def wait(self) -> None:
        """Waits for a job's `echo > PATH`: the same thing in the other direction."""
        assert background(os.read, self._fd, 1).result(DEADLINE_SECONDS) == b"\n"

    def close(self) -> None:
        """Frees the descriptor."""
        os.close(self._fd)


class Feed:
    """A job that writes exactly what the test says, when it says so; it ends with `close`."""

    def __init__(self, job: Job, path: str) -> None:
        self.job = job
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # blocks until the job opens its end

    def write(self, data: bytes) -> None:
        """Has the job write `data`, in as many writes as cat(1) likes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Ends the job; again is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def end(self) -> Status:
        """Ends the job and waits for its outcome."""
        self.close()
        return self.job.wait(DEADLINE_SECONDS)


class Spool:
    """Starts jobs with fresh output paths in one folder, and ends every one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[Job] = []
        self._closing = contextlib.ExitStack()
        self._names = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In another thread: should it hang, the test fails instead.
        background(self._stop).result(2 * DEADLINE_SECONDS)
        self._closing.close()

    def _stop(self) -> None:
        for job in self.jobs:
            job.stop()

    def path(self, suffix: str = "") -> Path:
        """Returns a path in the folder that nobody used yet."""
        self._names += 1
        return self.folder / f"{self._names}{suffix}"

    def args(
        self,
        command: str,
        *args: str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> JobArgs:
        """Returns what to start, with output paths of its own."""
        return JobArgs(
            command,
            args,
            stdout_path=self.path(".out"),
            stderr_path=self.path(".err"),
            cwd=cwd,
            env=env,
        )

    def start(
        self,
        command: str,
        *args: str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Job:
        """Starts a job."""
        job = Job.start(self.args(command, *args, cwd=cwd, env=env))
        self.jobs.append(job)
        return job

    def shell(self, script: str, *args: str) -> Job:
        """Starts a shell script; `args` are its $1, $2 and so on."""
        return self.start("sh", "-c", script, "sh", *args)

    def python(self, script: str, *args: str) -> Job:
        """Starts a Python script, for writes that a shell cannot make."""
        return self.start(sys.executable, "-I", "-S", "-c", script, *args)

    def gate(self) -> Gate:
        """Makes a gate."""
        gate = Gate(self.path(".gate"))
        self._closing.callback(gate.close)
        return gate

    def feed(self, stream: Stream = Stream.STDOUT) -> Feed:
        """Starts a job that writes to `stream` what it is fed."""
        path = str(self.path(".feed"))
        os.mkfifo(path)
        target = "" if stream is Stream.STDOUT else " >&2"
        feed = Feed(self.shell(f'exec cat "$1"{target}', path), path)
        self._closing.callback(feed.close)
        return feed

    def file(self, data: bytes) -> str:
        """Writes a file for a job to read, and returns its path."""
        path = self.path(".data")
        path.write_bytes(data)
        return str(path)


def waiting() -> int:
    """Returns how many readers and followers of this process wait for a file to change."""
    notifier = _inotify.shared._notifier
    if notifier is None:
        return 0
    with notifier._lock:
        return sum(len(hub.waiters) for hub in notifier._hubs._by_key.values())


def until_waiting(count: int) -> None:
    """Waits until exactly `count` readers and followers wait for a file to change."""
    until(lambda: waiting() == count, f"{count} readers wait")


def descriptors() -> dict[int, str]:
    """Returns this process's open descriptors and what each is, but for the poller's two.

    The poller's thread lingers for a moment after its last descriptor; that it
    ends is a test of its own.
    """
    poller = _poller.poller
    found = {}
    with poller._lock:
        lingering = set() if poller._epoll is None else {poller._epoll.fileno(), poller._wake_fd}
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # listdir's own
                if int(name) not in lingering:
                    found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def inotify_instances() -> list[int]:
    """Returns this process's inotify descriptors."""
    return [fd for fd, what in descriptors().items() if what == "anon_inode:inotify"]


def kernel_watches() -> int:
    """Returns how many inotify watches the kernel holds for this process (proc_pid_fdinfo(5))."""
    count = 0
    for fd in inotify_instances():
        with contextlib.suppress(FileNotFoundError):
            info = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
            count += sum(line.startswith("inotify wd:") for line in info.splitlines())
    return count


def has_children() -> bool:
    """Tells whether this process has a child, running or not yet waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def threads() -> set[str]:
    """Returns the names of this process's threads, but for the poller's, which lingers."""
    return {thread.name for thread in threading.enumerate()} - {"jobby-poller"}


_GRPCS = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "socket:")
"""What gRPC closes in its own time, after other packages' tests that ran in this process."""


class Holdings:
    """What this process holds at one moment: descriptors, threads and children."""

    def __init__(self) -> None:
        self._descriptors = descriptors()
        self._threads = threads()

    def descriptors_given_back(self) -> bool:
        """Tells whether no descriptor is held that was not, and none was taken from others."""
        now, before = descriptors().items(), self._descriptors.items()
        return now <= before and all(what.startswith(_GRPCS) for _, what in before - now)

    def check_given_back(self) -> None:
        """Waits until nothing more is held than at that moment."""
        if not self.descriptors_given_back():
            gc.collect()  # an exception that a test looked at may still hold a reader
        until(
            self.descriptors_given_back,
            f"descriptors {descriptors()} are again {self._descriptors}",
        )
        until(lambda: threads() <= self._threads, f"threads {threads()} are {self._threads}")
        until(lambda: not has_children(), "no child is left")
        assert _inotify.shared._users == 0
        assert not _poller.poller._callbacks


def run_script(script: str, *args: str, before: Sequence[str] = ()) -> str:
    """Runs a Python script in a process of its own, and returns what it printed.

    Args:
        script: must end well, and write nothing to standard error.
        args: its `sys.argv[1:]`.
        before: a command to run it under, such as `unshare`.
    """
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", "-c", script, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout


JOB_SCRIPT = """
import ctypes, logging, os, signal, subprocess, sys, threading, time, traceback, warnings
from jobby_core import Job, JobArgs, State, StartError, StopError, Stream
from jobby_core._poller import poller

# What it says where there is no launcher is no error.
logging.getLogger("jobby_core").addHandler(logging.NullHandler())
folder = sys.argv[1]
names = iter(range(1000))

def args(command, *arguments):
    path = f"{folder}/{next(names)}"
    return JobArgs(command, arguments, stdout_path=f"{path}.out", stderr_path=f"{path}.err")

def shell(script):
    return Job.start(args("sh", "-c", script))

def read_line(job):
    with job.stdout() as reader:
        return reader.readline().decode().strip()

def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False

class Hold:
    \"\"\"Keeps the library's background thread busy, so that somebody else is first.\"\"\"

    def __enter__(self):
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.fd = os.eventfd(1)
        poller.add(self.fd, self.call)
        assert self.busy.wait(30)

    def call(self):
        poller.remove(self.fd)
        self.busy.set()
        assert self.go_on.wait(30)

    def __exit__(self, *_):
        self.go_on.set()
        os.close(self.fd)
"""


def run_job_script(script: str, folder: Path, *args: str, before: Sequence[str] = ()) -> str:
    """Does what `run_script` does, with jobs whose outputs lie in `folder`.

    The script finds the library's names imported, and a few helpers; see `JOB_SCRIPT`.
    Its `sys.argv[1:]` are `folder` and `args`.
    """
    return run_script(JOB_SCRIPT + script, str(folder), *args, before=before)


def forget_pages(path: str | os.PathLike[str]) -> None:
    """Asks the kernel to forget a file's pages, so that reading it goes to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # what is not written yet is not forgotten
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def is_running(pid: int) -> bool:
    """Tells whether a process exists and is no zombie (proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def parent_of(pid: int) -> int:
    """Returns the id of a process's parent (proc_pid_stat(5)); of a job's, that's its launcher."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def can_make_cgroups() -> bool:
    """Tells whether this user may make a v2 cgroup below its own and move a child there: by trying.

    Which one is its own is told by who is in it, and not as the library finds it.
    """
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    own = next(
        (
            Path(folder)
            for _, point, kind, *_ in mounts
            if kind == "cgroup2"
            for folder, _, _ in os.walk(point)
            if str(os.getpid()) in _members(Path(folder))
        ),
        None,
    )
    if own is None:
        return False
    group = own / f"jobby-test-{os.urandom(8).hex()}"
    try:
        group.mkdir()
    except OSError:
        return False
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        try:
            (group / "cgroup.procs").write_text(str(child.pid))
        except OSError:
            movable = False
        else:
            movable = True
    group.rmdir()
    return movable


def _members(group: Path) -> list[str]:
    try:
        return (group / "cgroup.procs").read_text().split()
    except OSError:  # of a test beside this one, and gone by now; or of threads
        return []
