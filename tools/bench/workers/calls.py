"""Owns the measuring of single calls: StartJob and GetStatus, and what jobs cost the server."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.spread import quantile
from bench.workers.client import DEADLINE_SECONDS, Calls, Server, main
from bench.workers.process import children_cpu_seconds, cpu_seconds, rss_kib
from jobby_proto.v1 import jobby_pb2 as pb2

TRUE = pb2.StartJobRequest(command="/bin/true")


class _Watch:
    """What a server uses while something is done."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu, self._children = cpu_seconds(pid), children_cpu_seconds(pid)
        self._begin = time.monotonic()

    def values(self, latencies: list[float]) -> dict[str, float]:
        """The figures of calls that have ended now."""
        seconds, count = time.monotonic() - self._begin, len(latencies)
        children = children_cpu_seconds(self._pid) - self._children
        return {
            "rate": count / seconds,
            "p50_ms": quantile(latencies, 0.5) * 1e3,
            "p99_ms": quantile(latencies, 0.99) * 1e3,
            "cpu_ms": (cpu_seconds(self._pid) - self._cpu) / count * 1e3,
            "children_cpu_ms": children / count * 1e3,
        }


def _one_by_one(count: int, call: Callable[[], Any]) -> list[float]:
    latencies = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - begin)
    return latencies


def start(server: Server, count: int) -> dict[str, float]:
    """StartJob, one at a time."""
    with server.channel() as channel:
        calls = Calls(channel)
        _one_by_one(20, lambda: calls.start(TRUE, timeout=DEADLINE_SECONDS))
        watch = _Watch(server.pid)
        return watch.values(_one_by_one(count, lambda: calls.start(TRUE)))


@contextmanager
def _ended_job(server: Server) -> Iterator[tuple[Calls, pb2.GetStatusRequest]]:
    """A connection, and what asks for a job that has ended, some times asked already."""
    with server.channel() as channel:
        calls = Calls(channel)
        job = calls.run("/bin/true")
        calls.finish(job)
        request = pb2.GetStatusRequest(job_id=job)
        _one_by_one(20, lambda: calls.status(request))
        yield calls, request


def status(server: Server, count: int) -> dict[str, float]:
    """GetStatus of a job that has ended, one at a time."""
    with _ended_job(server) as (calls, request):
        watch = _Watch(server.pid)
        return watch.values(_one_by_one(count, lambda: calls.status(request)))


def start_many(server: Server, count: int, at_once: int) -> dict[str, float]:
    """StartJob, `at_once` at a time over one connection."""
    return asyncio.run(_start_many(server, count, at_once))


async def _start_many(server: Server, count: int, at_once: int) -> dict[str, float]:
    async with server.aio_channel() as channel:
        calls = Calls(channel)
        await calls.start(TRUE, timeout=DEADLINE_SECONDS)
        latencies: list[float] = []
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                begin = time.perf_counter()
                await calls.start(TRUE, timeout=DEADLINE_SECONDS)
                latencies.append(time.perf_counter() - begin)

        watch = _Watch(server.pid)
        await asyncio.gather(*(work() for _ in range(at_once)))
        return watch.values(latencies)


def ended_jobs(server: Server, count: int) -> dict[str, float]:
    """How much memory the server keeps for a job that has ended."""
    asyncio.run(_start_many(server, 200, 20))  # what is allocated once
    time.sleep(1)  # the last ones end
    before = rss_kib(server.pid)
    asyncio.run(_start_many(server, count, 20))
    time.sleep(2)  # the last ones end
    return {"kib": (rss_kib(server.pid) - before) / count}


def growth(server: Server, sizes: list[int]) -> dict[str, float]:
    """What calls take, and how large the server is, among ever more jobs that have ended."""
    values, there = {}, 1
    with _ended_job(server) as (calls, request):
        for size in sizes:
            if size > there:
                asyncio.run(_start_many(server, size - there - 1, 20))  # and one before those
                time.sleep(1)  # the last ones end
            values[f"rss_mib{size}"] = rss_kib(server.pid) / 1024
            took = _one_by_one(50, lambda: calls.status(request))
            values[f"status_ms{size}"] = quantile(took, 0.5) * 1e3
            starts = min(20, 4 * size)  # few among few: they count, too
            took = _one_by_one(starts, lambda: calls.start(TRUE))
            values[f"start_ms{size}"] = quantile(took, 0.5) * 1e3
            there = size + starts
    return values


def idle(server: Server, jobs: int, seconds: float) -> dict[str, float]:
    """What a server uses that has nothing to do: without a job, and with idle ones."""
    alone = rss_kib(server.pid)
    with server.channel() as channel:
        calls = Calls(channel)
        ids = [calls.run("sleep", "3600") for _ in range(jobs)]
        time.sleep(1)  # what the starts left to do
        before, begin = cpu_seconds(server.pid), time.monotonic()
        time.sleep(seconds)  # this is what is measured
        percent = 100 * (cpu_seconds(server.pid) - before) / (time.monotonic() - begin)
        among = rss_kib(server.pid)
        for each in ids:
            calls.stop(pb2.StopJobRequest(job_id=each))
    return {
        "rss_mib": alone / 1024,
        "rss_jobs_mib": among / 1024,
        "job_kib": (among - alone) / jobs,
        "cpu_percent": percent,
    }


if __name__ == "__main__":
    main(start, status, start_many, ended_jobs, growth, idle)
