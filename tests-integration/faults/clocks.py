"""Owns the faults of the wall clock, which jumps under a server and its jobs."""

import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene

_SOURCE: Final = Path(__file__).with_name("clock.c")
_HOUR: Final = 3600


def _library(folder: Path) -> Path:
    """Compile what makes a wall clock jump; ziglang, as everywhere: a machine need not have a C
    compiler."""
    library = folder / "clock.so"
    options = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
    compiler = (sys.executable, "-m", "ziglang", "cc")
    subprocess.run([*compiler, *options, "-o", library, _SOURCE], check=True)
    return library


def clock_jumps(scene: Scene, losses: Losses) -> None:
    """The wall clock jumps an hour back and forth: among starts, streams, ends, over a restart."""
    clock = scene.path("clock")
    clock.write_bytes(bytes(8))

    def jump(seconds: int) -> None:
        with clock.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))

    preload = str(_library(scene.folder))
    host = scene.host(env={"LD_PRELOAD": preload, "FAULTS_CLOCK": str(clock)}).serve()
    agent = scene.agent(host.address)
    jobs = PacedJobs(scene, count=scene.size(5, 20), parts=6)
    starts = jobs.start(agent)
    jump(scene.chance.choice((-_HOUR, _HOUR)))
    ids = [start.value("job") for start in starts]
    reads = [agent.follow(job) for job in ids]
    jump(-_HOUR)
    early = agent.status(agent.started("true"))["started_at"]
    # The fault itself: without this, nothing would have been shown.
    losses.expect(abs(time.time() - _HOUR - early) < _HOUR / 2, "the server's clock jumps")
    limited = agent.started("sleep", host.nap, timeout_seconds=3600)
    for seconds in (-_HOUR, _HOUR, -_HOUR):
        jobs.advance()
        for read in reads:
            read.began()
        jump(seconds)
        scene.moment(0.1)
    # The past of the next server is in its future.
    host.restart()
    jobs.advance(2)
    jump(_HOUR)
    jobs.advance()
    jobs.check(losses, agent, ids, reads)
    jobs.check_once(losses)
    for status in agent.statuses(ids):
        elapsed = status["ended_at"] - status["started_at"]
        losses.expect(0 <= elapsed < _HOUR / 2, f"a job's time is its own: {elapsed} s")
    still = agent.status(limited)
    losses.expect(still.get("state") == "RUNNING", f"an hour is no jump of the clock: {still}")
    agent.do("stop", job=limited).result()
    losses.left(host.orphans())
