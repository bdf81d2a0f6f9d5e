"""Owns the way between a client and a server, which can be cut, led elsewhere and frozen."""

import os
import select
import socket
import threading
from typing import Any

from cli_waiting import DEADLINE_SECONDS


class Relay:
    """Passes bytes between a client and a server, until it is told otherwise.

    Attributes:
        port: where it listens.
        accepted: how many connections there have been.
    """

    def __init__(self, port: int) -> None:
        self._target = port  # set by any thread, before the cut that makes it count
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0  # written by the thread, before it passes anything on
        self._wake_read, self._wake_write = os.pipe()
        self._command = b""
        self._done = threading.Event()
        self._clients: set[socket.socket] = set()  # the thread's own
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where to connect to."""
        return f"localhost:{self.port}"

    def cut(self) -> None:
        """Resets every connection, as the end of the other machine's process does."""
        self._tell(b"c")

    def lead_to(self, port: int) -> None:
        """Passes connections that are made from now on to another server."""
        self._target = port

    def half_close(self) -> None:
        """Says on every connection's client side that nothing more will come from the server."""
        self._tell(b"h")

    def freeze(self) -> None:
        """Passes on nothing more, without closing anything: the cable is out."""
        self._tell(b"f")

    def close(self) -> None:
        """Ends it."""
        self._tell(b"q")
        self._thread.join(DEADLINE_SECONDS)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _tell(self, command: bytes) -> None:
        self._done.clear()
        os.write(self._wake_write, command)
        assert self._done.wait(DEADLINE_SECONDS)

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        frozen = False
        while True:
            watched: list[Any] = [self._wake_read]
            watched += [] if frozen else [self._listener, *pairs]
            for ready in select.select(watched, [], [])[0]:
                if ready is self._listener:
                    here = self._listener.accept()[0]
                    self.accepted += 1
                    there = socket.create_connection(("127.0.0.1", self._target))
                    pairs |= {here: there, there: here}
                    self._clients.add(here)
                elif ready == self._wake_read:
                    command = os.read(self._wake_read, 1)
                    frozen = command == b"f"
                    if command == b"h":
                        for client in self._clients & pairs.keys():
                            client.shutdown(socket.SHUT_WR)
                    if command in b"cq":
                        for each in pairs:
                            # Close with a reset (socket(7), SO_LINGER).
                            each.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                            )
                            each.close()
                        pairs.clear()
                    if command == b"q":
                        self._listener.close()
                        self._done.set()
                        return
                    self._done.set()
                elif ready in pairs:
                    self._pass_on(ready, pairs)

    def _pass_on(self, ready: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        other = pairs[ready]
        try:
            data = ready.recv(1 << 16)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (ready, other):
                del pairs[each]
                each.close()
