"""Owns how the tests of the server wait, and what waits for them: a FIFO, a busy thread."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

DEADLINE_SECONDS = 60.0
"""How long a test waits for what has to happen: a busy machine's worst, and then some."""

T = TypeVar("T")


def run(test: Coroutine[Any, Any, T]) -> T:
    """Runs an asynchronous test to its end, or fails it at the deadline."""
    return asyncio.run(asyncio.wait_for(test, DEADLINE_SECONDS))


async def until(condition: Callable[[], object]) -> None:
    """Waits until something outside this loop's reach is so; `run` has the deadline."""
    while not condition():  # noqa: ASYNC110 - what it waits for sets no event of this loop
        await asyncio.sleep(0.005)  # and leaves the loop to the server meanwhile


class Fifo:
    """Where a job waits until the test lets it go on: `read x < {fifo}` in a shell."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        # Open for both, so that neither side blocks on opening it (fifo(7)).
        self._fd = os.open(path, os.O_RDWR)

    def __str__(self) -> str:
        return str(self._path)

    def release(self) -> None:
        """Lets one reader go on."""
        os.write(self._fd, b"go\n")

    def close(self) -> None:
        """Closes it."""
        os.close(self._fd)


@contextmanager
def busy_threads() -> Iterator[Callable[[], None]]:
    """Occupies the loop's only worker thread; yields what lets the next in the queue have it."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, release.wait)
    try:
        yield release.set
    finally:
        release.set()
        busy.cancel()
