"""Owns the faults of the wall clock, which jumps under a server and its jobs (libfaketime)."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene
from harness.cache import CACHE

_NAME: Final = "libfaketimeMT.so.1"  # for programs with threads
_PACKAGE: Final = "libfaketime"  # Debian's, also Ubuntu's
_HOUR: Final = 3600


class NotHereError(Exception):
    """A fault cannot be injected on this machine; the text says why."""


def _library() -> Path:
    """Find libfaketime, or unpack Debian's into the cache; nothing is installed.

    Raises:
        NotHereError: it is neither here nor to be had.
    """
    kept = CACHE.parent / "faults"
    for place in (kept, Path("/usr/lib")):
        for found in place.glob(f"**/faketime/{_NAME}"):
            return found
    apt, unpack = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or unpack is None:
        raise NotHereError("libfaketime isn't installed, and there is no apt-get to fetch it with")
    kept.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(
        [apt, "download", _PACKAGE], cwd=kept, capture_output=True, text=True, check=False
    )
    if fetched.returncode != 0:
        raise NotHereError(f"libfaketime cannot be fetched: {fetched.stderr.strip()}")
    (archive,) = kept.glob(f"{_PACKAGE}_*.deb")
    subprocess.run([unpack, "-x", archive, kept], check=True)
    archive.unlink()
    return next(kept.glob(f"**/faketime/{_NAME}"))


def clock_jumps(scene: Scene, losses: Losses) -> None:
    """The wall clock jumps an hour back and forth: among starts, streams, ends, over a restart."""
    offset = scene.path("clock")

    def jump(seconds: int) -> None:
        # Renamed into its place: half a line would be another time.
        new = scene.path("clock.new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(offset)

    jump(0)
    host = scene.host(
        env={
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",  # a jump is seen at once
            "FAKETIME_DISABLE_SHM": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # no kernel lets that one jump
        }
    ).serve()
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
