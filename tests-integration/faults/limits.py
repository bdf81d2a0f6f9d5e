"""Owns the faults of limits: no descriptor, no inotify instance, no inotify watch is left."""

import resource
import subprocess
from pathlib import Path

from faults.losses import Losses
from faults.namespaces import in_namespaces
from faults.paced import PacedJobs
from faults.scene import Scene
from support import procfs


def descriptors_used_up(scene: Scene, losses: Losses) -> None:
    """No descriptor is left (EMFILE): it is named in the answer, and all else goes on."""
    jobs = PacedJobs(scene, count=scene.size(10, 50), parts=3)
    host = scene.host().serve()
    fresh = procfs.holdings(host.program.pid).descriptors.total()
    agent = scene.agent(host.address)
    ids = [start.value("job") for start in jobs.start(agent)]
    reads = [agent.follow(job) for job in ids]
    jobs.advance()
    for read in reads:
        read.began()
    pid = host.program.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    free = procfs.lowest_free_descriptor(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    for refused in (agent.start("true"), agent.start("true"), agent.follow("0" * 32)):
        error = refused.result().get("error", "")
        losses.expect("RLIMIT_NOFILE" in error or "no such job" in error, f"named: {error}")
    jobs.advance()
    losses.expect(agent.status(ids[0]).get("state") == "RUNNING", "a status needs none")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    host.kill()
    # With fewer than it has jobs to watch over, the next one does not even start.
    few = f"--nofile={fresh + len(ids) // 2}"
    code, said = host.refused("prlimit", few)
    losses.expect(code != 0, "too few descriptors are no success")
    losses.expect("RLIMIT_NOFILE" in said, f"too few descriptors are named: {said}")
    host.serve()
    jobs.advance()
    jobs.check(losses, agent, ids, reads)
    jobs.check_once(losses)
    losses.left(host.orphans())


_LIMITS = ("max_inotify_instances", "max_inotify_watches")


def inotify_used_up(scene: Scene, losses: Losses) -> None:
    """No inotify instance, or no watch, is left: followers are told which, and all else goes on."""
    limit = scene.chance.choice(_LIMITS)
    file = Path("/proc/sys/user", limit)
    state = scene.path("state")
    script = f'echo 0 > {file}; exec "$@"'
    host = scene.host(state=state, wrapper=in_namespaces(script, state)).serve()
    agent, gate = scene.agent(host.address), scene.gate()
    script = 'echo first; read -r _ < "$1"; exit 3'
    job = agent.started("sh", "-c", script, "sh", str(gate))
    error = agent.follow(job).result().get("error", "")
    named = limit.replace("max_inotify", "fs.inotify.max_user")
    losses.expect(named in error, f"the limit {named} is named: {error}")
    losses.expect(agent.status(job).get("state") == "RUNNING", "the job goes on")
    inside = ("nsenter", "--preserve-credentials", "--user", "--target", str(host.program.pid))
    subprocess.run([*inside, "sh", "-c", f"echo 100 > {file}"], check=True)
    read = agent.follow(job)
    read.began()
    gate.open()
    got = read.result()
    losses.expect(got["bytes"] == len(b"first\n"), f"with the limit raised it is read: {got}")
    losses.end("the job", got.get("exit_code"), 3)
    losses.left(host.orphans())
