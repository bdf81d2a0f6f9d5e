"""Owns the soak: jobs without a pause for as long as told, and what the server gains an hour."""

import time
from dataclasses import dataclass

from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene
from support import procfs

_BATCH, _AT_ONCE = 200, 20


@dataclass(frozen=True)
class Sample:
    """What the server held at one moment."""

    hours: float
    bytes: float
    descriptors: float


def soak(scene: Scene, losses: Losses, seconds: float) -> str:
    """Run short jobs beside streams that stay; returns what the server gains an hour, in words."""
    host = scene.host("--keep-jobs", "1000").serve()
    agent, stayers = scene.agent(host.address), PacedJobs(scene, count=20, parts=3)
    ids = [start.value("job") for start in stayers.start(agent)]
    reads = [agent.follow(job) for job in ids]
    stayers.advance()
    began, samples = time.monotonic(), list[Sample]()
    count = 0
    while time.monotonic() - began < seconds:
        done = agent.do("crowd", count=_BATCH, at_once=_AT_ONCE)
        for words in done.value("wrong"):
            losses.bytes += 1
            losses.words.append(words)
        count += _BATCH
        held = procfs.holdings(host.program.pid)
        now = (time.monotonic() - began) / 3600
        resident = procfs.resident_bytes(host.program.pid)
        samples.append(Sample(now, resident, held.descriptors.total()))
    stayers.advance(2)
    stayers.check(losses, agent, ids, reads)
    losses.left(host.orphans())
    # The first quarter fills caches, pools and the thousand jobs that are kept.
    steady = samples[len(samples) // 4 :]
    if len(steady) < 3:
        return f"soak: {count} jobs in {seconds:g} s: too short to tell a slope"
    memory = _slope([(each.hours, each.bytes) for each in steady]) / (1 << 20)
    descriptors = _slope([(each.hours, each.descriptors) for each in steady])
    last = samples[-1]
    return (
        f"soak: {count} jobs in {seconds:g} s beside {len(ids)} streams; the server has "
        f"{last.bytes / (1 << 20):.1f} MiB and {last.descriptors:g} descriptors; an hour adds "
        f"{memory:+.2f} MiB and {descriptors:+.2f} descriptors"
    )


def _slope(points: list[tuple[float, float]]) -> float:
    """The slope of the line that is nearest to the points (least squares)."""
    x = sum(at for at, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    across = sum((at - x) ** 2 for at, _ in points)
    return sum((at - x) * (value - y) for at, value in points) / across
