"""Owns what is under way on the event loop until it has ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Tasks:
    """Tasks and futures that nobody else holds: the loop does so weakly (asyncio.create_task)."""

    def __init__(self) -> None:
        self._all: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._all)

    def spawn(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Makes a task of `work`, and holds it."""
        task = asyncio.create_task(work)
        self.hold(task)
        return task

    def hold(self, future: "asyncio.Future[Any]") -> None:
        """Holds `future` until it has ended."""
        self._all.add(future)
        future.add_done_callback(self._all.discard)

    async def drain(self) -> None:
        """Returns when all have ended, those that come meanwhile as well."""
        while self._all:
            await asyncio.wait(self._all)


def retrieve(task: "asyncio.Task[Any]") -> None:
    """Takes note of how a task failed, should all that waited for it have gone."""
    if not task.cancelled():
        task.exception()
