"""Owns what was read from a descriptor so far."""

import os
import re
import threading
import time
from contextlib import suppress

from cli_waiting import DEADLINE_SECONDS


class Gathered:
    """What was read from a descriptor so far; another thread adds to it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._data = bytearray()  # guarded by _changed
        self._ended = False  # guarded by _changed
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        # EIO is how a pseudoterminal says that its other side is closed (pty(7)).
        with suppress(OSError):
            while chunk := os.read(self._fd, 1 << 18):
                with self._changed:
                    self._data += chunk
                    self._changed.notify_all()
        os.close(self._fd)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def until(self, pattern: bytes) -> re.Match[bytes]:
        """Waits until the output matches."""
        end = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while not (match := re.search(pattern, bytes(self._data))):
                assert not self._ended, f"no {pattern!r} in {bytes(self._data)!r}"
                assert self._changed.wait(end - time.monotonic()), (
                    f"no {pattern!r} yet in {bytes(self._data)!r}"
                )
            return match

    def all(self) -> bytes:
        """Waits for the end of the output; returns all of it."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the output has not ended"
        return bytes(self._data)
