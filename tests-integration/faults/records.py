"""Owns the faults of what is on the disk: a damaged database, and damaged outcomes."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

from faults.agent import Agent, Deed
from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene
from support.waiting import eventually

Damage = Callable[[Path, Random], None]


def _parts(database: Path) -> list[Path]:
    return [path for path in database.parent.glob(f"{database.name}*") if path.is_file()]


def _garbage(database: Path, chance: Random) -> None:
    for path in _parts(database):
        path.write_bytes(chance.randbytes(path.stat().st_size))


def _header(database: Path, chance: Random) -> None:
    with database.open("r+b") as file:
        file.write(chance.randbytes(100))


def _cut(database: Path, chance: Random) -> None:
    for path in _parts(database):
        os.truncate(path, chance.randrange(path.stat().st_size + 1))


def _without_log(database: Path, _: Random) -> None:
    for path in _parts(database):
        if path != database:
            path.unlink()


def _missing(database: Path, _: Random) -> None:
    for path in _parts(database):
        path.unlink()


_DATABASES: tuple[Damage, ...] = (_garbage, _header, _cut, _without_log, _missing)


def database_damaged(scene: Scene, losses: Losses) -> None:
    """The database is garbage, cut, or gone: the jobs' folders have all of it, running or ended."""
    damage = scene.chance.choice(_DATABASES)
    host = scene.host().serve()
    agent = scene.agent(host.address)
    running, ended = PacedJobs(scene, count=5, parts=2), PacedJobs(scene, count=5, parts=1)
    ids = [[start.value("job") for start in jobs.start(agent)] for jobs in (running, ended)]
    reads = [[agent.follow(job) for job in each] for each in ids]
    running.advance()
    ended.advance()
    for read in reads[1]:
        read.result()
    host.kill()
    damage(host.state / "jobs.sqlite", scene.chance)
    running.advance()  # they end while there is no server, or just after
    host.serve()
    if damage is _garbage:
        losses.expect("IS CORRUPT" in host.log(), "the log says that it was corrupt")
        aside = list(host.state.glob("jobs.sqlite.corrupt-*"))
        losses.expect(aside, "what was corrupt is moved aside, not removed")
    for jobs, own, before in zip((running, ended), ids, reads, strict=True):
        jobs.check(losses, agent, own, before)
        jobs.check(losses, agent, own, [agent.follow(job) for job in own])
        jobs.check_once(losses)
    losses.left(host.orphans())


def _empty(outcome: Path, _: Random) -> None:
    outcome.write_bytes(b"")


def _noise(outcome: Path, chance: Random) -> None:
    outcome.write_bytes(chance.randbytes(512))


def _half(outcome: Path, chance: Random) -> None:
    os.truncate(outcome, chance.randrange(1, 100))


def _gone(outcome: Path, _: Random) -> None:
    outcome.unlink()


_OUTCOMES: tuple[Damage, ...] = (_empty, _noise, _half, _gone)


def outcome_damaged(scene: Scene, losses: Losses) -> None:
    """Outcomes are damaged or gone. Before a server has seen them: LOST, and no code is made up.
    Afterwards the jobs have ended as it has seen, for everybody who asks."""
    host = scene.host().serve()
    agent, gate = scene.agent(host.address), scene.gate()
    script = 'echo first; read -r _ < "$1"; echo last; exit 9'
    command = ("sh", "-c", script, "sh", str(gate))
    seen = [agent.started(*command) for _ in _OUTCOMES]
    early = [agent.follow(job) for job in seen]
    for _ in seen:
        gate.open()
    for read in early:
        losses.end("a job that ends", read.result().get("exit_code"), 9)
    unseen = [agent.started(*command) for _ in _OUTCOMES]
    reads = [agent.follow(job) for job in unseen]
    for read in reads:
        read.began()
    host.kill()
    for _ in unseen:
        gate.open()
    for job, damage in zip(seen + unseen, _OUTCOMES * 2, strict=True):
        outcome = host.folder(job) / "outcome"
        eventually(outcome.exists, what="an outcome")
        damage(outcome, scene.chance)
    host.serve()
    for job, damage, read in zip(unseen, _OUTCOMES, reads, strict=True):
        what = f"a job whose outcome is {damage.__name__.strip('_')}"
        _check(losses, what, ("LOST", None), agent, job, read)
    for job, damage, read in zip(seen, _OUTCOMES, early, strict=True):
        what = f"a job whose outcome is {damage.__name__.strip('_')} since it was seen"
        _check(losses, what, ("EXITED", 9), agent, job, read)
    losses.left(host.orphans())


def _check(
    losses: Losses, what: str, end: tuple[str, int | None], agent: Agent, job: str, read: Deed
) -> None:
    text = b"first\nlast\n"
    digest = sha256(text).hexdigest()
    for got in (read.result(), agent.follow(job).result()):
        losses.output(what, got, size=len(text), sha256=digest)
        told = (got.get("reason"), got.get("exit_code"))
        losses.end(f"{what}, its stream", told, end)
    status = agent.status(job)
    losses.end(what, (status.get("reason"), status.get("exit_code")), end)
