"""Owns the reading of stamps: how late what the job `emit stamps` writes has come."""

import time
from collections.abc import Callable, Iterable


def late(chunks: Iterable[bytes], count: int, begin: Callable[[], object]) -> list[float]:
    """How many milliseconds each of `count` stamps was on its way.

    Args:
        chunks: the output, as it comes.
        count: how many to wait for; not all who follow a job hear of its end.
        begin: called when the job is heard of; lets it go on.

    Raises:
        EOFError: there were fewer.
    """
    found: list[float] = []
    part = b""
    for chunk in chunks:
        now = time.time_ns()
        *lines, part = (part + chunk).split(b"\n")
        if b"ready" in lines:
            begin()
        # Some have words of their own before, and some the job's standard error after.
        found += [(now - int(line)) / 1e6 for line in lines if line.isdigit()]
        if len(found) >= count:
            return found[:count]
    raise EOFError(f"{len(found)} of {count} stamps have come")
