"""Owns the fault of numbers: thousands of short jobs, very many at a time."""

from contextlib import suppress
from functools import partial

from faults.agent import Agent
from faults.host import Host
from faults.losses import Losses
from faults.scene import Scene
from support import procfs
from support.waiting import eventually

_MEMORY_BYTES = 48 << 20
_PATIENCE_SECONDS = 900.0
_THREADS = 40  # a server's pools, which grow to what was asked of them at once


def crowd(scene: Scene, losses: Losses) -> None:
    """Short jobs: all of them recorded, no orphan, and the server holds what it held before."""
    count, at_once = scene.size((300, 50), (10_000, 1_000))
    host = scene.host().serve()
    agent = scene.agent(host.address)
    jobs = _run(agent, at_once, at_once, losses)  # its pools grow to what is asked of them
    eventually(partial(_is_idle, host), what="no job is left in memory")
    before, memory = procfs.holdings(host.program.pid), procfs.resident_bytes(host.program.pid)
    jobs |= _run(agent, count, at_once, losses)
    with suppress(TimeoutError):
        eventually(partial(_as_before, host, before), what="it holds what it held")
    after = procfs.holdings(host.program.pid)
    losses.expect(_as_before(host, before), f"it holds what it held: {before}, {after}")
    losses.expect(after.threads - before.threads < _THREADS, f"threads: {before}, {after}")
    grown = procfs.resident_bytes(host.program.pid) - memory
    losses.expect(grown < _MEMORY_BYTES, f"its memory is back, and not {grown} bytes more")
    losses.left(host.orphans())
    host.restart()  # what is told now is what is on the disk
    ends = agent.do("ends", jobs=list(jobs)).value("ends", _PATIENCE_SECONDS)
    losses.expect(len(ends) == count + at_once, f"{count + at_once} jobs, not {len(ends)}")
    for job, number in jobs.items():
        losses.end(f"job {job} of the crowd", ends[job], ["EXITED", number])


def _run(agent: Agent, count: int, at_once: int, losses: Losses) -> dict[str, int]:
    """Run jobs; returns with which exit code each should have ended."""
    done = agent.do("crowd", count=count, at_once=at_once)
    for words in done.value("wrong", _PATIENCE_SECONDS):
        losses.bytes += 1
        losses.words.append(words)
    jobs: dict[str, int] = done.value("jobs")
    return jobs


def _is_idle(host: Host) -> bool:
    return not procfs.children(host.program.pid)


def _as_before(host: Host, before: procfs.Holdings) -> bool:
    now = procfs.holdings(host.program.pid)
    return now.descriptors <= before.descriptors and now.children <= before.children
