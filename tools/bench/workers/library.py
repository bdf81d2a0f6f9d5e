"""Owns the measuring of the library beside plain `subprocess`: starting, following, being followed.

Runs in an environment that has jobby-core; the parts that measure `subprocess` don't import it.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.spread import quantile
from bench.stamps import late
from bench.workers.process import rss_kib

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
_BLOCK = 131_072  # as cat(1) has it


def _cpu() -> tuple[float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


def _starts(count: int, begin: Callable[[int], Callable[[], object]]) -> dict[str, float]:
    """Start and wait, one after another: `begin` starts and returns what waits."""
    for index in range(10):
        begin(-1 - index)()
    calls = []
    own, children = _cpu()
    at = time.perf_counter()
    for index in range(count):
        called = time.perf_counter()
        wait = begin(index)
        calls.append(time.perf_counter() - called)
        wait()
    seconds = time.perf_counter() - at
    own_now, children_now = _cpu()
    return {
        "rate": count / seconds,
        "call_us": quantile(calls, 0.5) * 1e6,
        "cpu_us": (own_now - own) / count * 1e6,
        "children_cpu_us": (children_now - children) / count * 1e6,
    }


def start(folder: str, count: int) -> dict[str, float]:
    """Job.start and Job.wait."""
    from jobby_core import Job, JobArgs

    def begin(index: int) -> Callable[[], object]:
        out, err = f"{folder}/{index}.out", f"{folder}/{index}.err"
        return Job.start(JobArgs("/bin/true", stdout_path=out, stderr_path=err)).wait

    return _starts(count, begin)


def popen(folder: str, count: int) -> dict[str, float]:
    """The same with subprocess: a session of its own, and output in two new files."""

    def begin(index: int) -> Callable[[], object]:
        out = os.open(f"{folder}/{index}.out", _CREATE, 0o600)
        err = os.open(f"{folder}/{index}.err", _CREATE, 0o600)
        try:
            return subprocess.Popen(
                ["/bin/true"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            ).wait
        finally:
            os.close(out)
            os.close(err)

    return _starts(count, begin)


def _job(folder: str, command: str, *arguments: str) -> Any:
    from jobby_core import Job, JobArgs

    out, err = f"{folder}/out", f"{folder}/err"
    return Job.start(JobArgs(command, arguments, stdout_path=out, stderr_path=err))


def _warm(path: Path) -> None:
    """Read a file once: the first to read a page pays for its place among those in use."""
    with path.open("rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass


def follow(folder: str, size: int) -> dict[str, float]:
    """One reader, from the page cache to /dev/null, as `cat` does it."""
    job = _job(folder, "head", "-c", str(size), "/dev/zero")
    job.wait()
    _warm(Path(folder, "out"))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    buffer = memoryview(bytearray(_BLOCK))
    total = 0
    cpu, begin = time.process_time(), time.perf_counter()
    with job.stdout() as reader:
        while count := reader.readinto(buffer):
            total += os.write(nowhere, buffer[:count])
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    assert total == size
    return {"rate": size / seconds / (1 << 20), "cpu_s": cpu * (1 << 30) / size}


def cat(folder: str, size: int) -> dict[str, float]:
    """cat(1) on a file of that size in the page cache."""
    path = Path(folder, "out")
    with path.open("wb") as file:
        subprocess.run(["head", "-c", str(size), "/dev/zero"], stdout=file, check=True)
    _warm(path)
    _, children = _cpu()
    begin = time.perf_counter()
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - begin
    return {
        "rate": size / seconds / (1 << 20),
        "cpu_s": (_cpu()[1] - children) * (1 << 30) / size,
    }


def latency(folder: str, emit: str, stamps: int, every_ms: int) -> dict[str, float]:
    """One blocking reader: how late it hears of what is written."""
    gate = Path(folder, "gate")
    job = _job(folder, emit, "stamps", str(stamps), str(every_ms), str(gate))
    with job.stdout() as reader:
        found = late(iter(lambda: reader.read(_BLOCK), b""), stamps, gate.touch)
    return {"p50_ms": quantile(found, 0.5), "p99_ms": quantile(found, 0.99)}


def readers(folder: str, emit: str, count: int, stamps: int) -> dict[str, float]:
    """Many followers of one job on one event loop: memory, CPU, and how late they hear of it."""
    return asyncio.run(_readers(folder, emit, count, stamps))


async def _readers(folder: str, emit: str, count: int, stamps: int) -> dict[str, float]:
    from jobby_core import Stream

    gate = Path(folder, "gate")
    every_ms = max(50, count // 10)  # more readers take longer to be told
    job = _job(folder, emit, "stamps", str(stamps), str(every_ms), str(gate))
    delays: list[float] = []
    waiting = 0
    all_wait = asyncio.Event()

    async def read() -> None:
        nonlocal waiting
        part = b""
        async with job.follow(Stream.STDOUT) as follower:
            async for chunk in follower:
                now = time.time_ns()
                *lines, part = (part + chunk).split(b"\n")
                waiting += lines[:1] == [b"ready"]
                if waiting == count:
                    all_wait.set()
                delays.extend((now - int(line)) / 1e6 for line in lines if line != b"ready")

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each holds the file open
    before = rss_kib(os.getpid())
    tasks = [asyncio.create_task(read()) for _ in range(count)]
    async with asyncio.timeout(60):
        await all_wait.wait()
    memory = (rss_kib(os.getpid()) - before) / count
    cpu = time.process_time()
    os.close(os.open(gate, os.O_CREAT))
    await asyncio.gather(*tasks)
    cpu = time.process_time() - cpu
    return {
        "kib": memory,
        "p50_ms": quantile(delays, 0.5),
        "p99_ms": quantile(delays, 0.99),
        "cpu_us": cpu / (count * stamps) * 1e6,
    }


def written(folder: str, emit: str, count: int, followed: bool) -> dict[str, float]:
    """What a job that writes tiny lines as fast as it can uses, with and without a reader."""
    gate = Path(folder, "gate")
    job = _job(folder, emit, "lines", str(count), "0", str(gate))
    size = 0

    def read() -> None:
        nonlocal size
        with job.stdout() as reader:
            while chunk := reader.read(_BLOCK):
                size += len(chunk)

    thread = threading.Thread(target=read)
    if followed:
        thread.start()
        while not size:
            time.sleep(0.001)  # before anything is measured: until the reader is there
    cpu = time.process_time()
    gate.touch()
    job.wait()
    if followed:
        thread.join()
        assert size == 16 * count + len("ready\n")
    cpu = time.process_time() - cpu
    writer_cpu, _ = map(int, Path(folder, "err").read_bytes().split())
    return {"writer_cpu_s": writer_cpu / 1e9, "reader_cpu_s": cpu}


def main() -> None:
    """Do the work that is named."""
    work = {each.__name__: each for each in (start, popen, follow, cat, latency, readers, written)}
    print(json.dumps(work[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
