"""Owns the faults of disks: a full one, and one that cannot be written to."""

import os
from functools import partial
from pathlib import Path

from faults.agent import Agent
from faults.losses import Losses
from faults.namespaces import in_namespaces
from faults.scene import Scene
from support.waiting import eventually

# Mounts what nobody else sees, then becomes the server; $0 is the state folder.
_TINY = 'mkdir -m 700 -p "$0/jobs"; mount -t tmpfs -o size=64k,mode=700 none "$0/jobs"; exec "$@"'
_READ_ONLY = (
    'mkdir -m 700 -p "$0"; mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
)
# The shell goes on when it cannot write, and exits with 0.
_FILL = """
i=0
while [ $i -lt 3000 ]; do
  echo "line $i: more of these than the disk has room for" 2> /dev/null
  i=$((i + 1))
done
exit 0
"""


def disk_full(scene: Scene, losses: Losses) -> None:
    """64 KiB for all jobs: who fills it is told so, who runs beside it ends as it should."""
    state = scene.path("tiny")
    host = scene.host(state=state, wrapper=in_namespaces(_TINY, state)).serve()
    agent, gate = scene.agent(host.address), scene.gate()
    beside = agent.started("sh", "-c", 'read -r _ < "$1"; exit 5', "sh", str(gate))
    other = agent.follow(beside)
    # Who writes while the disk is full is stopped; this one's launcher has seen it quiet.
    eventually(partial(_is_at_rest, host.launcher(beside)), what="a launcher at rest")
    filling = agent.started("sh", "-c", _FILL)
    got, status = agent.follow(filling).result(), agent.status(filling)
    losses.end("who fills the disk", status.get("reason"), "DISK_FULL")
    losses.expect("error" not in got, f"what was written until then is read: {got}")
    losses.expect(got["bytes"] == status["stdout_bytes"] > 0, f"and all of it: {got}, {status}")
    start = agent.start("true").result()
    losses.expect("LimitError" in start.get("error", ""), f"a full disk is said by name: {start}")
    losses.expect("full" in start.get("error", ""), f"a full disk is said in words: {start}")
    gate.open()
    losses.end("who runs beside it", _end(agent, beside), 5)
    losses.expect("error" not in other.result(), f"its output ends: {other.result()}")
    os.truncate(host.inside(host.folder(filling) / "stdout"), 0)
    losses.end("with room again", _end(agent, agent.started("sh", "-c", "exit 6")), 6)
    losses.left(host.orphans())


def _is_at_rest(pid: int) -> bool:
    """Whether a process sleeps, and has seen all that it was signalled (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines)
    pending = int(found["SigPnd"], 16) | int(found["ShdPnd"], 16)
    return found["State"].startswith("S") and not pending


def _end(agent: Agent, job: str) -> object:
    return eventually(partial(_exit_code, agent, job), what="its end")


def _exit_code(agent: Agent, job: str) -> object:
    return agent.status(job).get("exit_code")


def disk_read_only(scene: Scene, losses: Losses) -> None:
    """A state folder that cannot be written to is refused at the start, by name."""
    state = scene.path("frozen")
    code, said = scene.host(state=state, wrapper=in_namespaces(_READ_ONLY, state)).refused()
    losses.expect(code == 78, f"it exits with 78, not {code}")
    losses.expect(f"{state}: it is read-only" in said, f"it says which folder, and why: {said}")
    losses.expect(said.count("\n") == 1, f"it says so in one line: {said}")
