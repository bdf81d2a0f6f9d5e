"""Owns the faults of networks: connections that are cut, stall, are slow, or half-closed."""

from functools import partial

from faults.host import Host
from faults.losses import Losses
from faults.paced import PacedJobs
from faults.scene import Scene
from support import data, procfs
from support.waiting import eventually


def network_cut(scene: Scene, losses: Losses) -> None:
    """Connections are reset after random numbers of bytes, the server is killed beside."""
    host = scene.host().serve()
    chance = scene.chance
    file = data.make(scene.path("data"), scene.size(8_000_000, 60_000_000))
    # The first one is heard; from then on, anything from a byte to a megabyte.
    cuts = [30_000, *(int(10 ** chance.uniform(0, 6)) for _ in range(scene.size(6, 15)))]
    proxy = scene.proxy(host.address, cuts)
    near, far = scene.agent(host.address), scene.agent(proxy.address)
    job = near.started("sh", "-c", 'cat "$1"; exit 3', "sh", str(file.path))
    read = far.follow(job)
    read.began()
    scene.moment(0.2)
    host.restart()
    got = read.result()
    losses.output("over cut connections", got, size=file.size, sha256=file.sha256)
    losses.end("over cut connections", got.get("exit_code"), 3)
    losses.expect(proxy.broken > 1, "connections were cut")
    losses.left(host.orphans())


def network_stalled(scene: Scene, losses: Losses) -> None:
    """Nothing passes, and nothing is closed: both sides find out, and go on when it passes."""
    jobs = PacedJobs(scene, count=scene.size(5, 30), parts=3)
    host = scene.host().serve()
    proxy = scene.proxy(host.address)
    near, far = scene.agent(host.address), scene.agent(proxy.address)
    ids = [start.value("job") for start in jobs.start(near)]
    reads = [far.follow(job) for job in ids]
    jobs.advance()
    for read in reads:
        read.began()
    scene.moment(0.1)
    proxy.stall()
    # What is written now is under way when the server finds that nobody takes it.
    jobs.advance()
    eventually(partial(_has_no_reader, host), what="the server lets go of who doesn't answer")
    jobs.advance()
    proxy.resume()
    jobs.check(losses, near, ids, reads)
    breaks = [read.result()["breaks"] for read in reads]
    losses.expect(all(breaks), f"each reader noticed: {breaks}")
    losses.left(host.orphans())


def _has_no_reader(host: Host) -> bool:
    names = procfs.holdings(host.program.pid).descriptors
    return not any(name.endswith("/stdout") for name in names)


def network_half_closed(scene: Scene, losses: Losses) -> None:
    """Everything takes its time, and connections close in one direction, again and again."""
    jobs = PacedJobs(scene, count=scene.size(5, 30), parts=scene.size(3, 8))
    host = scene.host().serve()
    proxy = scene.proxy(host.address)
    proxy.delay(scene.chance.uniform(0, 0.02))
    far = scene.agent(proxy.address)
    ids = [start.value("job") for start in jobs.start(far)]
    reads = [far.follow(job) for job in ids]
    jobs.advance()
    for read in reads:
        read.began()
    for _ in range(scene.size(2, 7)):
        scene.moment(0.1)
        proxy.half_close()
        jobs.advance()
    jobs.check(losses, far, ids, reads)
    jobs.check_once(losses)
    losses.left(host.orphans())
