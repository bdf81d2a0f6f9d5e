"""Owns the standard output: bytes go out as they are, at once, and its reader may leave."""

import errno
import os
import select
import stat
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from jobby_cli.failures import EX_IO, CommandError

_STDOUT: Final = 1


class ReaderGoneError(Exception):
    """Who read the output has left: `| head` has seen enough."""


def write(data: bytes) -> None:
    """Writes all of `data`, unbuffered.

    Raises:
        ReaderGoneError: the pipe has no reader any more.
        CommandError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(_STDOUT, rest) :]
        except BrokenPipeError:
            raise ReaderGoneError from None
        except BlockingIOError:
            # Whoever shares the terminal or pipe may have made it non-blocking.
            select.select([], [_STDOUT], [])
        except OSError as error:
            raise _failed(error) from error


def write_line(text: str) -> None:
    """Writes one line of text; raises as `write` does."""
    write(f"{text}\n".encode())


def _failed(error: OSError) -> CommandError:
    way_out = {
        errno.ENOSPC: "free space, or write elsewhere",
        errno.EBADF: "open it: don't end the command with >&-",
    }.get(error.errno or 0, "write elsewhere")
    return CommandError(
        f"cannot write to the standard output: {error.strerror or error}; {way_out}", EX_IO
    )


class ReaderWatch:
    """Calls `on_gone` once, from a thread of its own, when the pipe on stdout loses its reader.

    A write would tell as well, but a quiet job writes nothing for long, and
    `jobby output | grep -m1 ready` is to end when grep does. On anything but a
    pipe or socket it does nothing.
    """

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self.gone = False
        """Whether the reader has left; written by the watching thread."""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        mode = os.fstat(_STDOUT).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            self._quit = os.eventfd(0, os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._watch, name="stdout", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            os.eventfd_write(self._quit, 1)
            self._thread.join()
            os.close(self._quit)

    def _watch(self) -> None:
        poll = select.poll()
        # No events asked for: POLLERR (a pipe without readers) and POLLHUP always come (poll(2)).
        poll.register(_STDOUT, 0)
        poll.register(self._quit, select.POLLIN)
        ready = dict(poll.poll())
        if _STDOUT in ready and self._quit not in ready:
            self.gone = True
            self._on_gone()
