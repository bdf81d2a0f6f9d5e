"""Owns waiting: for a condition that nothing announces, with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 30.0
"""How long anything may take before it counts as never. Never how long something has to take."""

_T = TypeVar("_T")


def eventually(look: Callable[[], _T | None], *, what: str) -> _T:
    """Look until what is seen is true; returns it.

    Only for what the kernel offers no event for, such as another process's descriptors.

    Raises:
        TimeoutError: it is still false at the deadline; the text says what was seen last.
    """
    end = time.monotonic() + DEADLINE_SECONDS
    nobody = threading.Event()
    while not (seen := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE_SECONDS:g} s: {what}; seen last: {seen!r}")
        nobody.wait(0.01)
    return seen
