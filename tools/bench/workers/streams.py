"""Owns the measuring of output streams: how fast, how soon, and at what cost."""

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeAlias

import grpc

from bench.spread import quantile
from bench.workers.client import DEADLINE_SECONDS, Calls, Server, data_size, main, reason
from bench.workers.process import cpu_seconds, rss_kib
from jobby_proto.v1 import jobby_pb2 as pb2

GIB = 1 << 30


def stream(server: Server, size: int, clients: int, live: bool) -> dict[str, float]:
    """A file of `size` bytes to some clients, each with a connection of its own."""
    channels = [server.channel() for _ in range(clients)]
    calls = [Calls(channel) for channel in channels]
    small = calls[0].run("/bin/true")
    for each in calls:
        each.finish(small)  # so that all are connected
    job = b""
    if not live:
        job = calls[0].run("head", "-c", str(size), "/dev/zero")
        calls[0].finish(job)  # and what has to be read once was
    totals, messages = [0] * clients, [0] * clients

    def read(index: int) -> None:
        for message in calls[index].output(job):
            totals[index] += data_size(message)
            messages[index] += 1

    before, begin = cpu_seconds(server.pid), time.monotonic()
    if live:
        job = calls[0].run("head", "-c", str(size), "/dev/zero")
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(read, range(clients)))
    seconds, cpu = time.monotonic() - begin, cpu_seconds(server.pid) - before
    for channel in channels:
        channel.close()
    if totals != [size] * clients:
        raise SystemExit(f"{totals} of {size} bytes have come")
    everything = size * clients
    return {
        "rate": everything / seconds / (1 << 20),
        "cpu_s": cpu * GIB / everything,
        "message_kib": everything / sum(messages) / 1024,
    }


class _Follower:
    """One stream, and when what was stamped has arrived."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.ready = asyncio.Event()
        self.latencies: list[float] = []
        self.messages = 0

    async def follow(self) -> None:
        """Read to the end."""
        part = b""
        async for message in self._call:
            now = time.time_ns()
            self.messages += 1
            part += pb2.GetJobOutputResponse.FromString(message).data
            *lines, part = part.split(b"\n")
            for line in lines:
                if line == b"ready":
                    self.ready.set()
                else:
                    self.latencies.append((now - int(line)) / 1e6)


def latency(server: Server, stamps: int, every_ms: int, followers: int) -> dict[str, float]:
    """How long what a job writes takes to each of its followers."""
    return asyncio.run(_latency(server, stamps, every_ms, followers))


def growth(server: Server, sizes: list[int], stamps: int) -> dict[str, float]:
    """The latency with ever more followers, each time of a new job, as far as the server goes."""
    values: dict[str, float] = {}
    for size in sizes:
        at = replace(server, gate=f"{server.gate}-{size}")
        try:
            found = latency(at, stamps, max(20, size // 2), size)
        except grpc.RpcError as error:
            if not values:
                raise
            print(f"not with {size} followers: {reason(error)}", file=sys.stderr)
            break
        values |= {f"{name}{size}": value for name, value in found.items()}
    return values


async def _followed(calls: Calls, server: Server, stamps: int, every_ms: int) -> bytes:
    arguments = ("stamps", str(stamps), str(every_ms), server.gate)
    request = pb2.StartJobRequest(command=server.emit, args=arguments)
    return bytes((await calls.start(request)).job_id)


_Ends: TypeAlias = asyncio.Future[list[None]]


async def _joined(calls: Calls, job: bytes, count: int) -> tuple[list[_Follower], _Ends]:
    """Followers that have each heard the first line or failed before it, and their end."""
    followers = [_Follower(calls.output(job)) for _ in range(count)]
    tasks = [asyncio.create_task(each.follow()) for each in followers]
    everybody = asyncio.gather(*tasks)
    async with asyncio.timeout(DEADLINE_SECONDS):
        for each, task in zip(followers, tasks, strict=True):
            heard = asyncio.create_task(each.ready.wait())
            await asyncio.wait([heard, task], return_when=asyncio.FIRST_COMPLETED)
            heard.cancel()
    return followers, everybody


async def _latency(server: Server, stamps: int, every_ms: int, count: int) -> dict[str, float]:
    async with server.aio_channel() as channel:
        calls = Calls(channel)
        job = await _followed(calls, server, stamps, every_ms)
        followers, everybody = await _joined(calls, job, count)
        if everybody.done():
            everybody.result()
        memory = rss_kib(server.pid)
        cpu = cpu_seconds(server.pid)
        server.open_gate()
        await everybody
        cpu = cpu_seconds(server.pid) - cpu
    late = [each for follower in followers for each in follower.latencies[stamps // 20 :]]
    return {
        "p50_ms": quantile(late, 0.5),
        "p99_ms": quantile(late, 0.99),
        "cpu_us": cpu / (count * stamps) * 1e6,
        "rss_mib": memory / 1024,
    }


def idle_followers(server: Server, count: int, seconds: float, starts: int) -> dict[str, float]:
    """Followers of a silent job: how many, memory, CPU, and whether others are still served."""
    return asyncio.run(_idle_followers(server, count, seconds, starts))


async def _idle_followers(
    server: Server, count: int, seconds: float, starts: int
) -> dict[str, float]:
    first = 10  # with them comes what is allocated once
    async with server.aio_channel() as channel:
        calls = Calls(channel)
        job = await _followed(calls, server, 1, 0)
        few, their_end = await _joined(calls, job, first)
        before = rss_kib(server.pid)
        others, others_end = await _joined(calls, job, count - first)
        values: dict[str, float] = {"served": sum(each.ready.is_set() for each in few + others)}
        if values["served"] < count:  # among fewer, the rest would be another figure
            server.open_gate()
            ends = await asyncio.gather(their_end, others_end, return_exceptions=True)
            failed = [reason(end) for end in ends if isinstance(end, grpc.RpcError)]
            why = failed[0] if failed else "the others heard nothing in time"
            print(f"{values['served']} of {count} followers: {why}", file=sys.stderr)
            return values
        await asyncio.sleep(1)  # what the starts left to do
        values["kib"] = (rss_kib(server.pid) - before) / (count - first)
        cpu, begin = cpu_seconds(server.pid), time.monotonic()
        await asyncio.sleep(seconds)  # this is what is measured
        used = cpu_seconds(server.pid) - cpu
        values["cpu_percent"] = 100 * used / (time.monotonic() - begin)
        latencies = []
        for _ in range(starts):
            at = time.perf_counter()
            await calls.start(pb2.StartJobRequest(command="/bin/true"))
            latencies.append((time.perf_counter() - at) * 1e3)
        values["start_p99_ms"] = quantile(latencies, 0.99)
        server.open_gate()
        await asyncio.gather(their_end, others_end)
    return values


def lines(server: Server, count: int, rate: int, followed: bool) -> dict[str, float]:
    """Tiny lines, so many a second, 0 for as fast as can be: what writer and server use."""
    with server.channel() as channel:
        calls = Calls(channel)
        job = calls.run(server.emit, "lines", str(count), str(rate), server.gate)
        before = cpu_seconds(server.pid)
        size = messages = 0
        if followed:
            for message in calls.output(job):
                size += data_size(message)
                messages += 1
                if messages == 1:
                    server.open_gate()
            if size != 16 * count + len("ready\n"):
                raise SystemExit(f"{size} bytes of {count} lines have come")
        else:
            server.open_gate()
            while calls.status(pb2.GetStatusRequest(job_id=job)).current_status < 2:
                time.sleep(0.05)
        cpu = cpu_seconds(server.pid) - before
        told = b"".join(
            pb2.GetJobOutputResponse.FromString(message).data
            for message in calls.output(job, pb2.OUTPUT_TYPE_STDERR)
        )
    writer_cpu, took = map(int, told.split())
    return {
        "rate": count / took * 1e9,
        "writer_cpu_s": writer_cpu / 1e9,
        "server_cpu_s": cpu,
        "messages": messages,
    }


if __name__ == "__main__":
    main(stream, latency, growth, idle_followers, lines)
