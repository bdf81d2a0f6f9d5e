"""Owns the cases of the library: beside subprocess, C, cat, task-spooler, supervisor and Ray."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import local
from bench.figure import Case, Figure, Goal, Values
from bench.place import Place, output_of
from support.server import environment

POPEN, SPAWN, DIRECT = "subprocess", "posix_spawn in C", "without launcher"
OURS_DIRECT = "library, without launcher"
UNFOLLOWED = "not followed"
_NO_LAUNCHER = {"JOBBY_LAUNCHER": "none"}


def _starts(
    who: str, rate: tuple[Goal, ...], children: tuple[Goal, ...] = ()
) -> tuple[Figure, ...]:
    return (
        Figure("rate", f"{who}: start and wait", "/s", rate),
        Figure("call_us", f"{who}: the start call, p50", "µs"),
        Figure("cpu_us", f"{who}: own CPU a start", "µs"),
        Figure("children_cpu_us", f"{who}: CPU of launcher and job", "µs", children),
    )


def cases(place: Place, ray: Path | None) -> list[Case]:
    """Starting, following, and what that costs who is followed."""
    scale = place.scale
    emit = str(place.native["emit"])

    def run(
        job: str, more: Mapping[str, str] | None = None, **arguments: object
    ) -> Callable[[], Values]:
        def work() -> Values:
            with place.scratch() as folder:
                given = {"folder": str(folder), **arguments}
                return place.work(place.installed.library, "library", job, given, more)

        return work

    def spawn() -> Values:
        with place.scratch() as folder:
            command: list[str | Path] = [place.native["spawn"], str(scale.starts), str(folder)]
            found = json.loads(output_of(command, environment(folder)))
        return {
            "rate": scale.starts / found["seconds"],
            "call_us": found["call_p50"] * 1e6,
            "cpu_us": found["cpu"] / scale.starts * 1e6,
            "children_cpu_us": found["cpu_children"] / scale.starts * 1e6,
        }

    direct = run("start", _NO_LAUNCHER, count=scale.starts)
    popen = run("popen", count=scale.starts)
    goal = (Goal(0.9, True, POPEN),)
    followed = run("written", emit=emit, count=scale.lines, followed=True)
    alone = run("written", emit=emit, count=scale.lines, followed=False)
    return [
        Case(
            "lib-direct",
            _starts(OURS_DIRECT, goal),
            {OURS_DIRECT: direct, POPEN: popen, SPAWN: spawn},
        ),
        Case(
            "lib-start",
            _starts("library, with launcher", goal, (Goal(1.3, False, DIRECT),)),
            {
                "library": run("start", count=scale.starts),
                POPEN: popen,
                DIRECT: direct,
                "task-spooler": lambda: local.task_spooler(place),
                "supervisor": lambda: local.supervisor(place),
                "Ray Jobs": lambda: local.ray(place, ray),
            },
        ),
        Case(
            "lib-follow",
            (
                Figure("rate", "library, one reader: rate", "MiB/s", (Goal(0.8, True, "cat"),)),
                Figure("cpu_s", "library, one reader: CPU a GiB", "s"),
            ),
            {
                "library": run("follow", size=scale.stream),
                "cat": run("cat", size=scale.stream),
            },
        ),
        Case(
            "lib-latency",
            (
                Figure("p50_ms", "write to reader, one reader, on this machine: p50", "ms"),
                Figure("p99_ms", "write to reader, one reader, on this machine: p99", "ms"),
            ),
            {
                "library": run("latency", emit=emit, stamps=local.STAMPS, every_ms=local.EVERY_MS),
                "task-spooler": lambda: local.task_spooler_latency(place),
                "supervisor": lambda: local.supervisor_latency(place),
            },
        ),
        Case(
            "lib-readers",
            tuple(
                Figure(name, f"library, {scale.followers:,} readers: {what}", unit)
                for name, what, unit in (
                    ("kib", "memory each", "KiB"),
                    ("p50_ms", "write to reader, p50", "ms"),
                    ("p99_ms", "write to reader, p99", "ms"),
                    ("cpu_us", "CPU a chunk", "µs"),
                )
            ),
            {"library": run("readers", emit=emit, count=scale.followers, stamps=scale.stamps // 2)},
        ),
        Case(
            "lib-slowdown",
            (
                Figure(
                    "writer_cpu_s",
                    "library: a followed job's own CPU, tiny writes",
                    "s",
                    (Goal(1.3, False, UNFOLLOWED),),
                ),
                Figure("reader_cpu_s", "library: the reader's CPU", "s"),
            ),
            {"library": followed, UNFOLLOWED: alone},
        ),
    ]
