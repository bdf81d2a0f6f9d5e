"""Owns the cases that show how costs grow with what there is: jobs, followers, readers."""

from functools import partial

from bench.figure import Case, Figure, Values
from bench.place import Place
from bench.servers import Servers


def cases(servers: Servers) -> list[Case]:
    """One case a kind; figures of each size."""
    place = servers.place
    scale = place.scale
    sizes = [size for size in (1, 10, 100, 1_000, 10_000) if size <= scale.jobs]
    # One user may have 4,096 streams; the server refuses more.
    followed = [size for size in (*sizes, 4_000) if size <= min(scale.jobs, 4_000)]
    return [
        Case(
            "grow-jobs",
            tuple(
                Figure(f"{name}{size}", f"{what} among {size:,} jobs{more}", unit)
                for name, what, more, unit in (
                    ("start_ms", "StartJob", ": p50", "ms"),
                    ("status_ms", "GetStatus", ": p50", "ms"),
                    ("rss_mib", "server memory", "", "MiB"),
                )
                for size in sizes
            ),
            servers.contenders("calls", "growth", durable=True, sizes=sizes),
            most_rounds=1,
        ),
        Case(
            "grow-followers",
            tuple(
                Figure(f"{name}{size}", f"write to client, {size:,} followers: {what}", unit)
                for name, what, unit in (
                    ("p50_ms", "p50", "ms"),
                    ("cpu_us", "server CPU a message", "µs"),
                    ("rss_mib", "server memory", "MiB"),
                )
                for size in followed
            ),
            servers.contenders("streams", "growth", sizes=followed, stamps=10),
            most_rounds=1,
        ),
        Case(
            "grow-readers",
            tuple(
                Figure(f"{name}{size}", f"library, {size:,} readers: {what}", unit)
                for name, what, unit in (
                    ("p50_ms", "write to reader, p50", "ms"),
                    ("cpu_us", "CPU a chunk", "µs"),
                )
                for size in sizes
            ),
            {"library": partial(_readers, place, sizes)},
            most_rounds=1,
        ),
    ]


def _readers(place: Place, sizes: list[int]) -> Values:
    found: dict[str, float] = {}
    for size in sizes:
        with place.scratch() as folder:
            arguments = {
                "folder": str(folder),
                "emit": str(place.native["emit"]),
                "count": size,
                "stamps": 10,
            }
            values = place.work(place.installed.library, "library", "readers", arguments)
        found |= {f"{name}{size}": value for name, value in values.items()}
    return found
