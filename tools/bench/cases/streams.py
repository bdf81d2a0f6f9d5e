"""Owns the cases of output streams."""

from typing import Any

from bench.figure import Case, Figure, Goal, Values
from bench.servers import GO, Servers
from bench.workers import raw_tls

RAW = "raw TLS 1.3 in Python"
UNFOLLOWED = "not followed"


def _size(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _stream(
    title: str, rate: tuple[Goal, ...] = (), cpu: tuple[Goal, ...] = ()
) -> tuple[Figure, ...]:
    return (
        Figure("rate", f"{title}: rate", "MiB/s", rate),
        Figure("cpu_s", f"{title}: server CPU a GiB", "s", cpu),
        Figure("message_kib", f"{title}: a message", "KiB"),
    )


def _latency(servers: Servers, followers: int, goals: tuple[Goal, ...] = ()) -> Case:
    # A thousand of them are a thousand messages a stamp, for the client on this machine too.
    scale = servers.place.scale
    every_ms = 5 if followers < 100 else 500
    stamps = scale.stamps if followers < 100 else max(10, scale.stamps // 10)
    title = f"write to client, {followers:,} follower{'s' * (followers > 1)}"
    return Case(
        f"latency{followers}",
        (
            Figure("p50_ms", f"{title}: p50", "ms", goals),
            Figure("p99_ms", f"{title}: p99", "ms", goals),
            Figure("cpu_us", f"{title}: server CPU a message", "µs"),
        ),
        servers.contenders(
            "streams", "latency", stamps=stamps, every_ms=every_ms, followers=followers
        ),
    )


def cases(servers: Servers) -> list[Case]:
    """How fast, how soon, and what following costs."""
    place, scale = servers.place, servers.place.scale

    def stream(clients: int, live: bool) -> dict[str, Any]:
        return {"size": scale.stream, "clients": clients, "live": live}

    def raw() -> Values:
        with place.scratch() as folder:
            settings = folder / "openssl.cnf"
            settings.write_text(raw_tls.settings())
            path = str(folder / "file")
            arguments = {"path": path, "folder": str(folder), "size": scale.stream}
            more = {"OPENSSL_CONF": str(settings)}
            return place.work(place.installed.client, "raw_tls", "receive", arguments, more)

    def lines(followed: bool, rate: int) -> dict[str, Any]:
        return {"count": scale.lines, "rate": rate, "followed": followed}

    finished = servers.contenders("streams", "stream", **stream(1, False))
    size = _size(scale.stream)
    fast = servers.contenders("streams", "lines", **lines(True, 0))
    alone = servers.contenders("streams", "lines", **lines(False, 0))
    return [
        Case(
            "stream1",
            _stream(
                f"finished {size}, 1 client",
                (Goal(0.85, True, RAW), Goal(1.5, True, GO)),
                (Goal(2.0, False, RAW),),
            ),
            {**finished, RAW: raw},
        ),
        Case(
            "stream8",
            _stream(f"finished {size}, 8 clients"),
            servers.contenders("streams", "stream", **stream(8, False)),
        ),
        Case(
            "live",
            _stream(f"live {size}, 1 client"),
            servers.contenders("streams", "stream", **stream(1, True)),
        ),
        _latency(servers, 1, (Goal(2.0, False, GO),)),
        _latency(servers, 10),
        _latency(servers, scale.followers),
        Case(
            "followers",
            (
                Figure(
                    "served",
                    f"of {scale.followers:,} followers, served at once",
                    "",
                    (Goal(scale.followers, True),),
                ),
                Figure("kib", "an idle follower: server memory", "KiB", (Goal(25, False),)),
                Figure(
                    "cpu_percent",
                    f"{scale.followers:,} idle followers: server CPU",
                    "%",
                    (Goal(1, False),),
                ),
                Figure("start_p99_ms", "StartJob among them: p99", "ms", (Goal(25, False),)),
            ),
            servers.contenders(
                "streams",
                "idle_followers",
                count=scale.followers,
                seconds=scale.seconds / 6,
                starts=scale.starts,
            ),
            most_rounds=3,
        ),
        Case(
            "lines",
            (
                Figure("rate", "200,000 lines a second: rate reached", "/s"),
                Figure("writer_cpu_s", "200,000 lines a second: writer CPU", "s"),
                Figure("server_cpu_s", "200,000 lines a second: server CPU", "s"),
                Figure("messages", "200,000 lines a second: messages", ""),
            ),
            servers.contenders("streams", "lines", **lines(True, 200_000)),
        ),
        Case(
            "slowdown",
            (
                Figure(
                    "writer_cpu_s",
                    "a followed job's own CPU, tiny writes",
                    "s",
                    (Goal(1.3, False, UNFOLLOWED),),
                ),
            ),
            {"Jobby": fast["Jobby"], UNFOLLOWED: alone["Jobby"], GO: fast[GO]},
        ),
    ]
