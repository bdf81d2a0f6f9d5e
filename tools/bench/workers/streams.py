"""Owns the measuring of output streams: how fast, how soon, and at what cost."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from bench.spread import quantile
from bench.workers.client import Calls, Server, data_size, main
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
    """The latency with ever more followers, each time of a new job."""
    values: dict[str, float] = {}
    for size in sizes:
        at = replace(server, gate=f"{server.gate}-{size}")
        found = latency(at, stamps, max(20, size // 2), size)
        values |= {f"{name}{size}": value for name, value in found.items()}
    return values


async def _latency(server: Server, stamps: int, every_ms: int, count: int) -> dict[str, float]:
    async with server.aio_channel() as channel:
        calls = Calls(channel)
        arguments = ("stamps", str(stamps), str(every_ms), server.gate)
        request = pb2.StartJobRequest(command=server.emit, args=arguments)
        job = bytes((await calls.start(request)).job_id)
        followers = [_Follower(calls.output(job)) for _ in range(count)]
        # The first that fails ends the others: it would never be ready.
        tasks = [asyncio.create_task(each.follow()) for each in followers]
        everybody = asyncio.gather(*tasks)
        for each in followers:
            heard = asyncio.create_task(each.ready.wait())
            either: list[asyncio.Future[Any]] = [heard, everybody]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if everybody.done():
                everybody.result()
        cpu = cpu_seconds(server.pid)
        server.open_gate()
        await everybody
        cpu = cpu_seconds(server.pid) - cpu
    late = [each for follower in followers for each in follower.latencies[stamps // 20 :]]
    return {
        "p50_ms": quantile(late, 0.5),
        "p99_ms": quantile(late, 0.99),
        "cpu_us": cpu / (count * stamps) * 1e6,
    }


def idle_followers(server: Server, count: int, seconds: float, starts: int) -> dict[str, float]:
    """Followers of a silent job: memory, CPU, and whether others are still served."""
    return asyncio.run(_idle_followers(server, count, seconds, starts))


async def _idle_followers(
    server: Server, count: int, seconds: float, starts: int
) -> dict[str, float]:
    async with server.aio_channel() as channel:
        calls = Calls(channel)
        arguments = ("stamps", "1", "0", server.gate)
        request = pb2.StartJobRequest(command=server.emit, args=arguments)
        job = bytes((await calls.start(request)).job_id)

        async def join(count: int) -> list[asyncio.Task[None]]:
            followers = [_Follower(calls.output(job)) for _ in range(count)]
            tasks = [asyncio.create_task(each.follow()) for each in followers]
            async with asyncio.timeout(60):
                await asyncio.gather(*(each.ready.wait() for each in followers))
            return tasks

        tasks = await join(10)  # what is allocated once
        before = rss_kib(server.pid)
        tasks += await join(count)
        await asyncio.sleep(1)
        memory = (rss_kib(server.pid) - before) / count
        cpu, begin = cpu_seconds(server.pid), time.monotonic()
        await asyncio.sleep(seconds)
        percent = 100 * (cpu_seconds(server.pid) - cpu) / (time.monotonic() - begin)
        latencies = []
        for _ in range(starts):
            at = time.perf_counter()
            await calls.start(pb2.StartJobRequest(command="/bin/true"))
            latencies.append((time.perf_counter() - at) * 1e3)
        server.open_gate()
        await asyncio.gather(*tasks)
    return {"kib": memory, "cpu_percent": percent, "start_p99_ms": quantile(latencies, 0.99)}


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
        kind = pb2.OUTPUT_TYPE_STDERR
        request = pb2.GetJobOutputRequest(job_id=job, type=kind)
        output = channel.unary_stream(
            "/Jobby/GetJobOutput",
            pb2.GetJobOutputRequest.SerializeToString,
            pb2.GetJobOutputResponse.FromString,
        )
        told = b"".join(message.data for message in output(request))
    return {"writer_cpu_s": int(told) / 1e9, "server_cpu_s": cpu, "messages": messages}


if __name__ == "__main__":
    main(stream, latency, growth, idle_followers, lines)
