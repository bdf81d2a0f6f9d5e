"""Owns the faults that end or stop a process: a server, a launcher, a client."""

import os
import signal
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path

from faults.host import Host
from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene
from support import procfs
from support.waiting import eventually

_MEMORY_BYTES = 32 << 20  # how much one reader may cost a server, generously


def server_killed(scene: Scene, losses: Losses) -> None:
    """SIGKILL of the server at random moments: among starts, in streams, and as jobs end."""
    jobs = PacedJobs(scene, count=scene.size(20, 100), parts=scene.size(6, 12))
    host = scene.host().serve()
    agent, user = scene.agent(host.address), scene.user(host.address)
    starts = jobs.start(agent)
    scene.moment(0.5)
    host.restart()
    ids = [start.value("job") for start in starts]
    reads = [agent.follow(job) for job in ids]
    taken = [scene.path("taken") for _ in range(2)]
    with ExitStack() as stack:
        commands = []
        for path, job in zip(taken, ids, strict=False):
            sink = stack.enter_context(path.open("wb"))
            begun = user.begin("output", job, stdout=sink.fileno())
            commands.append(stack.enter_context(begun))
        jobs.advance()
        for read in reads:
            read.began()
        # Only who has heard the server once goes on without it.
        eventually(lambda: all(path.stat().st_size for path in taken), what="first bytes")
        for _ in range(scene.size(1, 4)):
            jobs.advance(2)
            scene.moment(0.3)
            host.restart()
        # Some of them end while there is no server.
        host.kill()
        jobs.advance(scene.size(3, 3))
        scene.moment(0.3)
        host.serve()
        jobs.check(losses, agent, ids, reads)
        for path, command, job in zip(taken, commands, jobs.jobs, strict=False):
            losses.expect(command.wait() == 0, f"`jobby output` succeeds: {command.stderr.now()!r}")
            got = path.read_bytes()
            read_ = {"bytes": len(got), "sha256": sha256(got).hexdigest()}
            digest = sha256(job.text).hexdigest()
            losses.output("jobby output", read_, size=len(job.text), sha256=digest)
    jobs.check_once(losses)
    folders = {path.name for path in (host.state / "jobs").iterdir()}
    losses.expect(folders == set(ids), "there is one job for each start that was asked for")
    losses.left(host.orphans())


# Leaves the session, and forks twice; its second line says that both of them run.
_SCATTERED = """
echo first
setsid sleep 300 &
( (sleep 300 &) )
printf 'no newline'
read -r _ < "$1"
"""


def launcher_killed(scene: Scene, losses: Losses) -> None:
    """SIGKILL of a launcher, with the server there and while it is away."""
    host, gate = scene.host().serve(), scene.gate()
    agent = scene.agent(host.address)
    text = b"first\nno newline"
    jobs = [agent.started("sh", "-c", _SCATTERED, "sh", str(gate)) for _ in range(4)]
    reads = [agent.follow(job) for job in jobs]
    for job in jobs:
        file = host.folder(job) / "stdout"
        eventually(partial(_holds, file, text), what="all of it")
    scene.moment(0.1)
    for job in jobs[:2]:
        _kill_launcher(host, job)
    for read in reads[:2]:
        read.result()
    host.kill()
    for job in jobs[2:]:
        _kill_launcher(host, job)
    host.serve()
    for job, read in zip(jobs, reads, strict=True):
        got, status = read.result(), agent.status(job)
        losses.output(f"lost job {job}", got, size=len(text), sha256=sha256(text).hexdigest())
        for told in (got, status):
            ended = (told.get("reason"), told.get("exit_code"))
            losses.end(f"lost job {job}", ended, ("LOST", None))
    losses.left(host.orphans())


def _holds(file: Path, text: bytes) -> bool:
    return file.read_bytes() == text


def _kill_launcher(host: Host, job: str) -> None:
    launcher = os.pidfd_open(host.launcher(job))
    try:
        signal.pidfd_send_signal(launcher, signal.SIGKILL)
    finally:
        os.close(launcher)


def client_killed(scene: Scene, losses: Losses) -> None:
    """SIGKILL of a client with many streams: the jobs go on, the server gives all of it back."""
    jobs = PacedJobs(scene, count=scene.size(10, 50), parts=4)
    host = scene.host().serve()
    doomed, agent = scene.agent(host.address), scene.agent(host.address)
    ids = [start.value("job") for start in jobs.start(doomed)]
    before = procfs.holdings(host.program.pid)
    watched = [doomed.follow(job) for job in ids]
    jobs.advance(2)
    for stream in watched:
        stream.began()
    scene.moment(0.2)
    doomed.send(signal.SIGKILL)
    for stream in watched:
        losses.expect("error" in stream.result(), "a killed client has no result")
    given_back = partial(_has_no_more_than, host, before)
    eventually(given_back, what="the killed client's streams are given back")
    reads = [agent.follow(job) for job in ids]
    jobs.advance(2)
    jobs.check(losses, agent, ids, reads)
    jobs.check_once(losses)
    losses.left(host.orphans())


def _has_no_more_than(host: Host, before: procfs.Holdings) -> bool:
    now = procfs.holdings(host.program.pid)
    # Its own connection may be gone by now as well.
    return now.descriptors <= before.descriptors and now.watches <= before.watches


def client_frozen(scene: Scene, losses: Losses) -> None:
    """SIGSTOP of a client that reads a lot: bounded memory, others unaffected; then it reads on."""
    size = scene.size(64 << 20, 256 << 20)
    host, gate = scene.host().serve(), scene.gate()
    frozen, agent = scene.agent(host.address), scene.agent(host.address)
    script = 'head -c "$2" /dev/zero; read -r _ < "$1"; head -c "$2" /dev/zero; exit 3'
    job = frozen.started("sh", "-c", script, "sh", str(gate), str(size // 2))
    streams = [frozen.follow(job) for _ in range(4)]
    for stream in streams:
        stream.began()
    frozen.send(signal.SIGSTOP)
    before = procfs.peak_bytes(host.program.pid)
    read = agent.follow(job)
    read.began()
    gate.open()
    zeros = sha256()
    for _ in range(size // 2 >> 20 << 1):
        zeros.update(bytes(1 << 20))
    digest = zeros.hexdigest()
    losses.output("beside a frozen client", read.result(), size=size, sha256=digest)
    losses.end("the job", agent.status(job).get("exit_code"), 3)
    grown = procfs.peak_bytes(host.program.pid) - before
    losses.expect(grown < _MEMORY_BYTES, f"a frozen client is bounded, and not {grown} bytes")
    frozen.send(signal.SIGCONT)
    for stream in streams:
        losses.output("a thawed client", stream.result(), size=size, sha256=digest)
    losses.left(host.orphans())
