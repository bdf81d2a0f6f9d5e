"""Owns the peers that run jobs on this machine: task-spooler, supervisor and Ray Jobs."""

import json
import subprocess
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xmlrpc.client import ServerProxy

from bench import peers
from bench.figure import Values
from bench.peers import MissingError
from bench.place import Place, output_of
from support.program import Program
from support.server import environment
from support.waiting import eventually


def task_spooler(place: Place) -> Values:
    """Start and wait with tsp, each a call of its command, as its users do."""
    if (peer := peers.task_spooler()).missing:
        raise MissingError(peer)
    count = max(20, place.scale.starts // 10)
    with place.scratch() as folder:
        variables = environment(folder, {"TS_SOCKET": str(folder / "tsp")})
        try:
            calls, begin = [], time.perf_counter()
            for _ in range(count):
                at = time.perf_counter()
                job = output_of(["tsp", "/bin/true"], variables).strip()
                calls.append(time.perf_counter() - at)
                output_of(["tsp", "-w", job], variables)
            seconds = time.perf_counter() - begin
        finally:
            subprocess.run(["tsp", "-K"], env=variables, check=False)  # it may not run
    return {"rate": count / seconds, "call_us": sorted(calls)[count // 2] * 1e6}


def ray(place: Place, python: Path | None) -> Values:
    """Submit and wait with Ray Jobs, over its own client; a few, for each takes seconds."""
    peer = peers.ray(python)
    if python is None or peer.missing:
        raise MissingError(peer)
    # A short path of its own: Ray's sockets lie deep in it, and unix(7) leaves them 108 bytes.
    with place.scratch() as folder, TemporaryDirectory(prefix="ray-") as short:
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
[program:true]
command = /bin/true
autostart = false
autorestart = false
startsecs = 0
stdout_logfile = {folder}/out
stderr_logfile = {folder}/err
"""


def supervisor(place: Place) -> Values:
    """Start and wait with supervisor, over its own interface."""
    command = peers.supervisord()
    if command is None:
        raise MissingError(peers.supervisor())
    count = max(20, place.scale.starts // 10)
    with place.scratch() as folder:
        config, socket = folder / "conf", folder / "socket"
        config.write_text(_CONFIG.format(folder=folder))
        with Program([command, "-c", config], cwd=folder, env=environment(folder)):
            eventually(socket.exists, what="supervisord listens")
            # Any: it has no types, and is in no other environment than the benchmark's.
            transports: Any = import_module("supervisor.xmlrpc")
            transport = transports.SupervisorTransport(None, None, f"unix://{socket}")
            proxy: Any = ServerProxy("http://127.0.0.1", transport=transport)
            return _supervised(proxy.supervisor, count)


def _supervised(supervisor: Any, count: int) -> Mapping[str, float]:
    calls, begin = [], time.perf_counter()
    for _ in range(count):
        at = time.perf_counter()
        supervisor.startProcess("true", False)
        calls.append(time.perf_counter() - at)
        while supervisor.getProcessInfo("true")["statename"] != "EXITED":
            time.sleep(0.001)  # it has no call that waits
    seconds = time.perf_counter() - begin
    return {"rate": count / seconds, "call_us": sorted(calls)[count // 2] * 1e6}
