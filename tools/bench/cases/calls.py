"""Owns the cases of single calls, and of what jobs cost a server."""

from collections.abc import Sequence

from bench.figure import Case, Figure, Goal
from bench.servers import GO, Servers


def _calls(
    call: str, rate: Sequence[Goal] = (), cpu: Sequence[Goal] = (), *, children: bool = True
) -> tuple[Figure, ...]:
    figures = (
        Figure("rate", f"{call}: rate", "/s", tuple(rate)),
        Figure("p50_ms", f"{call}: p50", "ms"),
        Figure("p99_ms", f"{call}: p99", "ms"),
        Figure("cpu_ms", f"{call}: server CPU", "ms", tuple(cpu)),
    )
    if not children:
        return figures
    return (*figures, Figure("children_cpu_ms", f"{call}: CPU of launcher and job", "ms"))


def cases(servers: Servers) -> list[Case]:
    """StartJob, GetStatus, ended jobs, an idle server."""
    scale = servers.place.scale
    return [
        Case(
            "start",
            _calls(
                "StartJob, one at a time",
                rate=[Goal(0.8, True, GO)],
                cpu=[Goal(2.0, False, GO)],
            ),
            servers.contenders("calls", "start", durable=True, count=scale.starts),
        ),
        Case(
            "start50",
            _calls("StartJob, 50 at a time"),
            servers.contenders(
                "calls", "start_many", durable=True, count=2 * scale.starts, at_once=50
            ),
        ),
        Case(
            "status",
            _calls("GetStatus, one at a time", children=False),
            servers.contenders("calls", "status", count=5 * scale.starts),
        ),
        Case(
            "jobs",
            (Figure("kib", f"memory of an ended job, among {scale.jobs:,}", "KiB"),),
            servers.contenders("calls", "ended_jobs", durable=True, count=scale.jobs),
            most_rounds=1,
        ),
        Case(
            "idle",
            (
                Figure("rss_mib", "idle server: RSS", "MiB", (Goal(45, False),)),
                Figure("rss_jobs_mib", "with 100 idle jobs: RSS", "MiB"),
                Figure("job_kib", "memory of an idle job that runs, among 100", "KiB"),
                # What is told as 0.0%.
                Figure("cpu_percent", "with 100 idle jobs: CPU", "%", (Goal(0.05, False),)),
            ),
            servers.contenders("calls", "idle", durable=True, jobs=100, seconds=scale.seconds),
            most_rounds=1,
        ),
    ]
