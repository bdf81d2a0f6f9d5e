"""Owns a TCP proxy on loopback that misbehaves on demand: cuts, stalls, delays, half-closes."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from support.port import held_port
from support.waiting import DEADLINE_SECONDS

# Whatever the test does with it, it ends: so late, and it holds no more than so many connections.
LIFETIME_SECONDS = 600.0
MOST_CONNECTIONS = 200
_BLOCK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # linger for no time: close with a reset (socket(7), SO_LINGER)


class Proxy:
    """Stands between clients and one server, and passes everything on until it is told otherwise.

    It holds at most one block a direction, so who doesn't read is felt at the other end. All
    methods may be called from any thread, and have taken effect when they return.

    Args:
        target: HOST:PORT of the server.
        cuts: after how many bytes to a client its connection is cut: the first connection after
            the first number, and so on; those that come after the last number stay.

    Attributes:
        address: HOST:PORT to call instead.
    """

    def __init__(self, target: str, cuts: Iterable[int] = ()) -> None:
        self._target = _parsed(target)
        self._cuts = iter(cuts)
        self._loop = asyncio.new_event_loop()
        self._holder = held_port()
        bound = self._holder.getsockname()
        self.address: str = f"{bound[0]}:{bound[1]}"
        # All of these are the loop's.
        self._listener = self._listen()
        self._accepting: asyncio.Task[None] | None = None
        self._links: dict[asyncio.Task[None], socket.socket] = {}
        self._flowing = asyncio.Event()
        self._delay = 0.0
        # Written by the loop's thread, read by any.
        self._broken = 0
        self._accepted = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self.accept()

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._accepted

    @property
    def broken(self) -> int:
        """How many of them were cut by it."""
        return self._broken

    def cut(self) -> None:
        """Reset every connection, as the end of the other process does."""
        self._do(self._cut)

    def half_close(self) -> None:
        """Tell every client that nothing more will come, and go on listening to it."""
        self._do(self._half_close)

    def stall(self) -> None:
        """Pass nothing on any more, and close nothing: the cable is out."""
        self._do(self._stall)

    def resume(self) -> None:
        """End a stall; what was held back is passed on."""
        self._do(self._resume)

    def delay(self, seconds: float) -> None:
        """Hold each block back for so long, in both directions."""

        async def act() -> None:
            self._delay = seconds

        self._do(act)

    def refuse(self) -> None:
        """Let nobody connect any more; who is connected stays."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Let clients connect, again and on the same port."""
        self._do(self._accept)

    def redirect(self, target: str) -> None:
        """Lead the connections to come to another server."""

        async def act() -> None:
            self._target = _parsed(target)

        self._do(act)

    def close(self) -> None:
        """End it, and reset what is connected."""
        if self._thread.is_alive():
            self._do(self._cut)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DEADLINE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(DEADLINE_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flowing.set()
        self._loop.call_later(LIFETIME_SECONDS, self._loop.stop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._listener.close()
        self._holder.close()
        self._loop.close()

    def _listen(self) -> socket.socket:
        listener = socket.create_server(_parsed(self.address))
        listener.setblocking(False)
        return listener

    async def _stall(self) -> None:
        self._flowing.clear()

    async def _resume(self) -> None:
        self._flowing.set()

    async def _accept(self) -> None:
        if self._accepting is None:
            if self._listener.fileno() < 0:
                self._listener = self._listen()
            self._accepting = self._loop.create_task(self._take())

    async def _refuse(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
            self._listener.close()

    async def _cut(self) -> None:
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    async def _half_close(self) -> None:
        for client in self._links.values():
            with suppress(OSError):  # it has gone by itself
                client.shutdown(socket.SHUT_WR)

    async def _take(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            if len(self._links) >= MOST_CONNECTIONS:
                client.close()
                continue
            client.setblocking(False)
            self._accepted += 1
            task = self._loop.create_task(self._serve(client))
            self._links[task] = client
            task.add_done_callback(self._links.pop)

    async def _serve(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setblocking(False)
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._loop.sock_connect(server, self._target)
            budget = next(self._cuts, None)  # not before: what meets no server needs no cut
            pumps = [
                self._loop.create_task(self._pump(client, server, None)),
                self._loop.create_task(self._pump(server, client, budget)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            cut = any(isinstance(pump.exception(), _CutError) for pump in pumps if pump.done())
        except asyncio.CancelledError:
            cut = True
        except OSError:
            cut = False  # no server: the client sees its connection close
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._broken += cut
        for end in (client, server):
            if cut:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    async def _pump(self, source: socket.socket, sink: socket.socket, budget: int | None) -> None:
        while data := await self._loop.sock_recv(source, _BLOCK_BYTES):
            await asyncio.sleep(self._delay)
            await self._flowing.wait()
            if budget is not None:
                data = data[:budget]
                budget -= len(data)
            await self._loop.sock_sendall(sink, data)
            if budget == 0:
                raise _CutError
        sink.shutdown(socket.SHUT_WR)  # an end of one direction is passed on as that


class _CutError(Exception):
    """A connection has had its number of bytes."""


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
