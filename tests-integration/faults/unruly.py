"""Owns the jobs that behave badly: towards their processes, and towards their output."""

from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from faults.agent import Agent
from faults.host import Host
from faults.losses import Losses
from faults.scene import Scene
from support.waiting import eventually

# $1 is what sleep(1) is told; each of them says when all of its processes are there.
_LEAVERS = {
    "fork": 'sleep "$1" & sleep "$1" & echo there; exit 3',
    "leave the session": 'setsid sleep "$1" & echo there; exit 4',
    "fork twice": '( (sleep "$1" &) ); echo there; exit 5',
    "fork twice and hide": '( (env -i setsid sleep "$1" &) ); echo there; exit 6',
    "ignore SIGTERM in a session": "setsid sh -c \"trap '' TERM; sleep $1\" & echo there; exit 7",
    "fork a tree": 'for i in 1 2 3 4 5; do (setsid sh -c "sleep $1; :" & sleep "$1" & :) & done; '
    "wait; echo there; exit 8",
}


def unruly_processes(scene: Scene, losses: Losses) -> None:
    """Jobs that fork, leave, fork twice, hide, ignore SIGTERM; some of them have to be stopped."""
    host = scene.host().serve()
    agent = scene.agent(host.address)
    jobs = {
        name: agent.start("sh", "-c", script, "sh", host.nap) for name, script in _LEAVERS.items()
    }
    stubborn = 'trap "" TERM; setsid sleep "$1" & echo there; while :; do sleep "$1"; done'
    stopped = [agent.started("sh", "-c", stubborn, "sh", host.nap) for _ in range(3)]
    reads = [agent.follow(job) for job in stopped]
    for read in reads:
        read.began()
    scene.moment(0.2)
    if scene.chance.random() < scene.size(0, 0.5):
        host.restart()
    for code, (name, start) in enumerate(jobs.items(), start=3):
        _check(agent, losses, name, start.value("job"), b"there\n", ("EXITED", code))
    for job, read in zip(stopped, reads, strict=True):
        agent.do("stop", job=job).result()
        text = b"there\n"
        digest = sha256(text).hexdigest()
        losses.output("a job that ignores SIGTERM", read.result(), size=len(text), sha256=digest)
        status = agent.status(job)
        ended = (status.get("state"), status.get("exit_code"))
        losses.end("a job that ignores SIGTERM", ended, ("STOPPED", None))
    losses.left(host.orphans())


@dataclass(frozen=True)
class _Writer:
    script: str
    text: bytes
    end: tuple[str, int]


_WRITERS = {
    "close their output": _Writer(
        "echo first; exec >&-; head -c 100000 /dev/zero >&2; exit 3", b"first\n", ("EXITED", 3)
    ),
    "reopen /dev/stdout": _Writer(
        "echo one; echo two >> /dev/stdout; cat /dev/null >> /dev/stdout; echo three; exit 4",
        b"one\ntwo\nthree\n",
        ("EXITED", 4),
    ),
    "die in a line": _Writer("printf 'no newline'; kill -9 $$", b"no newline", ("SIGNALED", 137)),
    "exit at once": _Writer("exit 42", b"", ("EXITED", 42)),
    "write and exit at once": _Writer("echo last words; exit 43", b"last words\n", ("EXITED", 43)),
    "say everything in bytes": _Writer(
        "i=0; while [ $i -lt 2000 ]; do printf .; i=$((i+1)); done", b"." * 2000, ("EXITED", 0)
    ),
}


def unruly_output(scene: Scene, losses: Losses) -> None:
    """Jobs that close, reopen or truncate their output, die in a line, write a lot, or nothing."""
    host = scene.host().serve()
    agent = scene.agent(host.address)
    jobs = [
        (name, writer, agent.start("sh", "-c", writer.script))
        for name, writer in _WRITERS.items()
        for _ in range(scene.size(3, 20))
    ]
    _check_truncated(scene, host, agent, losses)
    for name, writer, start in jobs:
        _check(agent, losses, name, start.value("job"), writer.text, writer.end)
    size = scene.size(64 << 20, 1 << 30)
    job = agent.started("sh", "-c", 'yes 0123456789abcde | head -c "$1"; exit 5', "sh", str(size))
    read = agent.follow(job)
    digest = sha256()
    for _ in range(size >> 20):
        digest.update(b"0123456789abcde\n" * (1 << 16))
    losses.output(f"{size} bytes", read.result(), size=size, sha256=digest.hexdigest())
    losses.end(f"{size} bytes", agent.status(job).get("exit_code"), 5)
    losses.left(host.orphans())


def _check_truncated(scene: Scene, host: Host, agent: Agent, losses: Losses) -> None:
    """A job truncates its output behind its followers: they hear of it by name."""
    gate = scene.gate()
    script = 'head -c 500000 /dev/zero; read -r _ < "$1"; : > /dev/stdout; read -r _ < "$1"; exit 6'
    job = agent.started("sh", "-c", script, "sh", str(gate))
    read = agent.follow(job)
    read.began()
    stdout = host.folder(job) / "stdout"
    eventually(lambda: stdout.stat().st_size == 500_000, what="all is written")
    gate.open()
    error = str(read.result().get("error"))
    losses.expect(error.startswith("DataLossError"), f"a truncated output is data loss: {error}")
    gate.open()
    ended = partial(_ended, agent, job)
    losses.end("a job that truncates its output", eventually(ended, what="its end"), 6)


def _ended(agent: Agent, job: str) -> object:
    return agent.status(job).get("exit_code")


def _check(
    agent: Agent, losses: Losses, name: str, job: str, text: bytes, end: tuple[str, int]
) -> None:
    what = f"jobs that {name}"
    got = agent.follow(job).result()
    losses.output(what, got, size=len(text), sha256=sha256(text).hexdigest())
    status = agent.status(job)
    losses.end(what, (status.get("reason"), status.get("exit_code")), end)
