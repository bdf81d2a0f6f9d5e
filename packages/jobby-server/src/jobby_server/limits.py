"""Owns the server's limits, and the gRPC channel arguments that follow from them."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

from jobby_server.errors import ConfigError

# What gRPC, the database and the library hold before anybody has called, with room for a few jobs.
_FEWEST_DESCRIPTORS = 64
STALL_SECONDS = 600.0
STOP_SECONDS = 10.0
FOLLOWERS_PER_OWNER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the server bears, and for how long. The defaults suit a normal server.

    Attributes:
        stall_seconds: how long a reader of output may take nothing before its
            stream is ended. Long, because somebody may be reading a page in a
            pager at the other end; a peer that is gone is found by keepalive.
        resume_seconds: how long a job is kept for a reader whose stream has ended, and
            may have broken before it had all of it.
        followers_per_owner: how many output streams one owner may have at once.
        request_bytes: the largest request. The kernel takes about 2 MiB of
            arguments (execve(2)); a little more is let through, so that the
            answer can name the real limit.
        connections: how many connections at once; None leaves half of
            RLIMIT_NOFILE to the jobs and their outputs.
        handshake_seconds: how long a TLS handshake may take.
        keepalive_seconds: how often a silent peer is asked for a sign of life.
        keepalive_timeout_seconds: how long its answer may take; the two
            together are how soon a dead peer is found.
        drain_seconds: how long calls may go on once the server shuts down.
        stop_seconds: how long killed jobs may take to end then.
    """

    stall_seconds: float = STALL_SECONDS
    resume_seconds: float = 60.0
    followers_per_owner: int = FOLLOWERS_PER_OWNER
    request_bytes: int = 4 << 20
    connections: int | None = None
    handshake_seconds: float = 10.0
    keepalive_seconds: float = 5.0
    keepalive_timeout_seconds: float = 3.0
    drain_seconds: float = 5.0
    stop_seconds: float = STOP_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long ended jobs are kept; None is for ever. What exceeds any of them goes, oldest first.

    Attributes:
        days: how many days after their end.
        jobs: how many of them.
        bytes: how much output all of them may have together.
    """

    days: float | None = None
    jobs: int | None = None
    bytes: int | None = None


def check_descriptors() -> None:
    """Makes sure that the server can hold what it needs open.

    Raises:
        ConfigError: RLIMIT_NOFILE is too low for any work.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY and descriptors < _FEWEST_DESCRIPTORS:
        raise ConfigError(
            f"cannot serve with {descriptors} open files (RLIMIT_NOFILE): {_FEWEST_DESCRIPTORS} "
            "are the least; raise it with `ulimit -n` or LimitNOFILE="
        )


def connection_limit(limits: Limits, descriptors: int) -> int:
    """Returns how many connections fit.

    Args:
        limits: `connections` wins if set.
        descriptors: the soft RLIMIT_NOFILE, or RLIM_INFINITY.
    """
    if limits.connections is not None:
        return limits.connections
    if descriptors == resource.RLIM_INFINITY:
        return 1 << 16
    return max(1, descriptors // 2)


def channel_arguments(limits: Limits) -> Sequence[tuple[str, int]]:
    """Returns the arguments for `grpc.aio.server` (grpc/impl/channel_arg_names.h)."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    timeout_ms = _ms(limits.keepalive_timeout_seconds)
    return (
        # On by default: a second server would silently take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_seconds)),
        ("grpc.max_allowed_incoming_connections", connection_limit(limits, descriptors)),
        ("grpc.max_receive_message_length", limits.request_bytes),
        # Above the followers' own limit: that one answers in words, while this one lets a
        # client's next call wait in silence behind its own followers.
        ("grpc.max_concurrent_streams", limits.followers_per_owner + 1024),
        # Of calls that come at once and wait for the loop, gRPC would end some from 1,000 on,
        # and all from 3,000 on, as CANCELLED (src/core/server/server.cc).
        ("grpc.server.max_pending_requests", limits.followers_per_owner + 1024),
        ("grpc.server.max_pending_requests_hard_limit", 2 * (limits.followers_per_owner + 1024)),
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        # Without this one a peer that stopped answering is kept for a minute longer.
        ("grpc.http2.ping_timeout_ms", timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        # 0: pings go on for as long as a follower of a silent job stays.
        ("grpc.http2.max_pings_without_data", 0),
        # What clients may do: a ping a second. More often is answered by closing.
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
