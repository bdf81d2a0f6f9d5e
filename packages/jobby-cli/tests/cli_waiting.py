"""Owns how long the tests of the command line wait, and the wait for what nothing announces."""

import threading
import time
from collections.abc import Callable

DEADLINE_SECONDS = 60.0
"""How long a test waits for what has to happen: a busy machine's worst, and then some."""


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for what nothing announces, up to the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    turn = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it has not happened by the deadline"
        turn.wait(0.005)
