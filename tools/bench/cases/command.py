"""Owns the case of the command line: what `jobby status` takes beside a bare call of its stub."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figure import Case, Figure, Goal, Values
from bench.place import Place, output_of
from bench.servers import jobby
from bench.spread import quantile
from harness.cache import ROOT
from support.server import environment

BARE = "a bare call of the stub"
_BARE = """
import sys, uuid, grpc
from jobby_proto.v1 import jobby_pb2, jobby_pb2_grpc
read = lambda name: open(name, "rb").read()
c = grpc.ssl_channel_credentials(read("ca.cert"), read("client.key"), read("client.cert"))
with grpc.secure_channel(sys.argv[1], c) as channel:
    request = jobby_pb2.GetStatusRequest(job_id=uuid.UUID(sys.argv[2]).bytes)
    print(jobby_pb2_grpc.JobbyStub(channel).GetStatus(request).current_status)
"""


def cases(place: Place) -> list[Case]:
    """`jobby status`, from the disk and from the page cache."""
    return [
        Case(
            "cli",
            (
                Figure("warm_ms", "jobby status: wall, warm", "ms"),
                Figure("more_ms", "jobby status: more than that", "ms", (Goal(200, False),)),
                Figure("cold_ms", "jobby status: wall, cold but interpreter and its library", "ms"),
                Figure("cpu_ms", "jobby status: CPU, warm", "ms"),
            ),
            {"jobby": lambda: _both(place), BARE: lambda: _measure(place, bare=True)},
        )
    ]


def _both(place: Place) -> Values:
    """Ours, and how much more that is than the bare call right after it."""
    ours, bare = _measure(place, bare=False), _measure(place, bare=True)
    return {**ours, "more_ms": ours["warm_ms"] - bare["warm_ms"]}


def _measure(place: Place, *, bare: bool) -> Values:
    client = place.installed.client
    with (
        place.scratch() as folder,
        jobby(place, folder) as (address, _),
        tempfile.TemporaryDirectory(prefix="bench-cold-", dir=ROOT / ".cache") as elsewhere,
    ):
        variables = environment(folder, {"JOBBY_SERVER": address})
        command = str(client.bin("jobby"))

        def run(words: list[str]) -> str:
            # In the folder with the certificates.
            return output_of(["env", "-C", str(folder), *words], variables)

        started = run([command, "start", "/bin/true"])
        job = started.split()[-1]

        def words(environment: Path) -> list[str]:
            python = str(environment / "bin" / "python")
            if bare:
                return [python, "-c", _BARE, address, job]
            return [python, str(environment / "bin" / "jobby"), "status", job]

        # The server runs from the same files, hard-linked, and keeps them in memory.
        copy = shutil.copytree(client.path, Path(elsewhere, "client"), symlinks=True)
        run(words(copy))  # writes what Python keeps of its modules
        _forget(copy)
        cold = _timed(run, words(copy))
        run(words(client.path))
        begin = _children_cpu()
        warm = [_timed(run, words(client.path)) for _ in range(place.scale.commands)]
        cpu = (_children_cpu() - begin) / len(warm)
    return {"warm_ms": quantile(warm, 0.5) * 1e3, "cold_ms": cold * 1e3, "cpu_ms": cpu * 1e3}


def _timed(run: Callable[[list[str]], str], words: list[str]) -> float:
    begin = time.perf_counter()
    run(words)
    return time.perf_counter() - begin


def _children_cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _forget(folder: Path) -> None:
    """Have the kernel drop an environment's files from its page cache (posix_fadvise(2))."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # what is not yet written stays
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
