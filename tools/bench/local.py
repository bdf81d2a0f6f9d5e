"""Owns the peers that run jobs on this machine: task-spooler, supervisor and Ray Jobs."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xmlrpc.client import ServerProxy

from bench import peers
from bench.figure import UnableError, Values
from bench.peers import MissingError
from bench.place import Place, output_of
from bench.spread import quantile
from bench.stamps import late
from support.program import Program
from support.server import environment
from support.waiting import DEADLINE_SECONDS, eventually

_RAY_BYTES = 30
STAMPS, EVERY_MS = 20, 50
"""What a follower is sent: enough to see a peer that looks once a second."""


@contextmanager
def _task_spooler(folder: Path) -> Iterator[dict[str, str]]:
    """What its command needs around it; ends its server."""
    if peers.task_spooler().missing:
        raise MissingError
    variables = environment(folder, {"TS_SOCKET": str(folder / "tsp")})
    try:
        yield variables
    finally:
        for option in ("-k", "-K"):  # the job that still runs, and the server; it may not run
            subprocess.run(
                ["tsp", option],
                env=variables,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )


def task_spooler(place: Place) -> Values:
    """Start and wait with tsp, each a call of its command, as its users do."""
    count = max(20, place.scale.starts // 10)
    with place.scratch() as folder, _task_spooler(folder) as variables:
        calls, begin = [], time.perf_counter()
        for _ in range(count):
            at = time.perf_counter()
            job = output_of(["tsp", "/bin/true"], variables).strip()
            calls.append(time.perf_counter() - at)
            output_of(["tsp", "-w", job], variables)
        seconds = time.perf_counter() - begin
    return {"rate": count / seconds, "call_us": quantile(calls, 0.5) * 1e6}


def task_spooler_latency(place: Place) -> Values:
    """Follow a job with `tsp -t`."""
    with place.scratch() as folder, _task_spooler(folder) as variables:
        gate = folder / "gate"
        job = output_of(["tsp", *_stamps(place, gate)], variables).strip()

        def known() -> bool:
            command = ["tsp", "-o", job]
            # It fails as long as it does not know.
            done = subprocess.run(command, env=variables, capture_output=True, check=False)
            return done.stdout.startswith(b"/")

        # `tsp -t` ends at once with a job whose output it does not know yet.
        eventually(known, what="tsp runs the job")
        return _latency(["tsp", "-t", job], gate, variables)


def _stamps(place: Place, gate: Path) -> list[str]:
    return [str(place.native["emit"]), "stamps", str(STAMPS), str(EVERY_MS), str(gate)]


def _latency(command: Sequence[str], gate: Path, variables: Mapping[str, str]) -> Values:
    """How late the stamps come from a command that follows a job, into a pipe."""
    with subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as running:
        # It may not end by itself, and then nobody else does it.
        watch = threading.Timer(DEADLINE_SECONDS, running.kill)
        watch.start()
        try:
            assert running.stdout is not None
            descriptor = running.stdout.fileno()
            chunks = iter(lambda: os.read(descriptor, 65_536), b"")
            found = late(chunks, STAMPS, gate.touch)
        finally:
            watch.cancel()
            running.kill()
    return {"p50_ms": quantile(found, 0.5), "p99_ms": quantile(found, 0.99)}


def ray(place: Place, python: Path | None) -> Values:
    """Submit and wait with Ray Jobs, over its own client; a few, for each takes seconds."""
    if python is None or peers.ray(python).missing:
        raise MissingError
    # Beside the run's folder, for a short path: Ray's sockets lie some 60 bytes deep in it, and
    # unix(7) leaves them 108. Ray's processes may still write there when it is removed.
    beside = place.folder.parent
    if len(os.fsencode(beside)) > _RAY_BYTES:
        raise UnableError(f"{beside}: longer than {_RAY_BYTES} bytes, too long for Ray's sockets")
    with (
        place.scratch() as folder,
        TemporaryDirectory(prefix="r-", dir=beside, ignore_cleanup_errors=True) as short,
    ):
        worker = Path(__file__).parent / "workers" / "ray_jobs.py"
        command: list[str | Path] = [python, worker, "3", short]
        values: Values = json.loads(output_of(command, environment(folder)).splitlines()[-1])
    return values


_CONFIG = """
[unix_http_server]
file = {folder}/socket
[supervisord]
nodaemon = true
logfile = {folder}/log
pidfile = {folder}/pid
childlogdir = {folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{folder}/socket
[program:job]
command = {command}
autostart = false
autorestart = false
startsecs = 0
stdout_logfile = {folder}/out
stderr_logfile = {folder}/err
"""


@contextmanager
def _supervisor(folder: Path, command: str) -> Iterator[Any]:
    """Its server's interface, with `command` as the program "job"; ends it and its job."""
    server = peers.supervisord()
    if server is None:
        raise MissingError
    config, socket = folder / "conf", folder / "socket"
    config.write_text(_CONFIG.format(folder=folder, command=command))
    with Program([server, "-c", config], cwd=folder, env=environment(folder)) as running:
        eventually(socket.exists, what="supervisord listens")
        # Any: it has no types, and is in no other environment than the benchmark's.
        transports: Any = import_module("supervisor.xmlrpc")
        transport = transports.SupervisorTransport(None, None, f"unix://{socket}")
        proxy: Any = ServerProxy("http://127.0.0.1", transport=transport)
        try:
            yield proxy.supervisor
        finally:
            running.send(signal.SIGTERM)
            running.wait()


def supervisor(place: Place) -> Values:
    """Start and wait with supervisor, over its own interface."""
    count = max(20, place.scale.starts // 10)
    with place.scratch() as folder, _supervisor(folder, "/bin/true") as interface:
        return _supervised(interface, count)


def supervisor_latency(place: Place) -> Values:
    """Follow a job with `supervisorctl tail -f`."""
    with place.scratch() as folder:
        gate = folder / "gate"
        with _supervisor(folder, " ".join(_stamps(place, gate))) as interface:
            interface.startProcess("job", False)
            control = str(Path(peers.supervisord() or "").with_name("supervisorctl"))
            command = [control, "-c", str(folder / "conf"), "tail", "-f", "job"]
            return _latency(command, gate, environment(folder))


def _supervised(supervisor: Any, count: int) -> Mapping[str, float]:
    calls, begin = [], time.perf_counter()
    for _ in range(count):
        at = time.perf_counter()
        supervisor.startProcess("job", False)
        calls.append(time.perf_counter() - at)
        while supervisor.getProcessInfo("job")["statename"] != "EXITED":
            time.sleep(0.001)  # it has no call that waits
    seconds = time.perf_counter() - begin
    return {"rate": count / seconds, "call_us": quantile(calls, 0.5) * 1e6}
