"""Owns one stream of a job's output on the client's side, over as many connections as it takes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import grpc

from jobby_client._call import Call
from jobby_client._failures import Failures, Said
from jobby_client._resume import Resume
from jobby_client._tally import Tally
from jobby_client.errors import (
    BrokenStreamError,
    ClientClosedError,
    JobbyClientError,
    StreamClosedError,
)
from jobby_client.status import OutputEnd

_OFFSET_KEY: Final = "jobby-offset"  # in the initial metadata, see GetJobOutput in the contract


class OutputStream(Iterator[bytes]):
    """A job's output as it comes; made by `Client.output`.

    Iterating blocks until there is more, and ends only when the server has said
    that this was all and every byte was given: whatever else cuts the stream
    short raises, and raises again. A connection that breaks is made again
    first, and the stream goes on at the byte that is due.

    `close`, from any thread, or the end of a `with`, lets the server's side go
    too; so does the client's. One thread iterates. Chunks are bytes as the job wrote them, never
    empty; where one ends means nothing.
    """

    def __init__(
        self,
        reopen: Callable[[int | None], Call],
        tally: Tally,
        resume: Resume,
        failures: Failures,
        on_reconnect: Callable[[BrokenStreamError], None] | None,
    ) -> None:
        """Opens the stream; use `Client.output`.

        Args:
            reopen: calls the server for what begins at a byte; None is where it was first to.
            tally: counts and checks what comes.
            resume: says whether to go on after a break.
            failures: says what a failed call means.
            on_reconnect: is told of each break that is to be mended.
        """
        self._reopen = reopen
        self._tally = tally
        self._resume = resume
        self._failures = failures
        self._on_reconnect = on_reconnect
        self._failure: JobbyClientError | None = None  # the iterating thread's
        self._progress = False  # likewise: whether the present call has brought bytes
        self._closed = threading.Event()  # set by any thread, before the call is cancelled
        self._call = reopen(None)  # set by the iterating thread, cancelled by any

    @property
    def bytes_received(self) -> int:
        """How many bytes have been given so far."""
        return self._tally.received

    @property
    def position(self) -> int | None:
        """The place of the next byte in the whole output; None until a tail's is known."""
        return self._tally.position

    @property
    def complete(self) -> bool:
        """Whether all that was asked for has been given."""
        return self._tally.end is not None

    @property
    def end(self) -> OutputEnd | None:
        """What the server said at the end of the whole stream; None before."""
        return self._tally.end

    def __next__(self) -> bytes:
        """Waits for the next chunk.

        Raises:
            StreamClosedError: `close`, or the client's, was called before the output's end.
            BrokenStreamError: the connection broke, or the server shut down, and it could not be
                made again in time; or the stream ended without its end.
            NotFoundError: there is no such job.
            DataLossError: bytes are missing: the output is no longer whole on the server.
            JobbyClientError: the server ended the stream for another reason.
        """
        if self._failure is not None:
            raise self._failure
        while self._tally.end is None:
            try:
                data = self._tally.take(next(self._call))
            except StopIteration:
                self._call.end()
                why = "it has no end, as of a server that is older than this client"
                raise self._ended(self._broken(why)) from None
            except grpc.RpcError as error:
                self._mend(error)
                continue
            except JobbyClientError as error:  # it isn't what was due
                self._call.end()
                raise self._ended(error) from None
            if data:
                self._progress = True
                return data
        # The status that follows says no more; but leaving before it looks like a break over there.
        with suppress(grpc.RpcError, StopIteration):
            next(self._call)
        self._call.end()
        raise StopIteration

    def close(self) -> None:
        """Ends the stream and wakes whoever waits for it; the job isn't concerned. Idempotent."""
        self._closed.set()
        self._call.end()

    def _mend(self, error: grpc.RpcError) -> None:
        """Makes a broken connection again, after a wait; raises if that is not to be."""
        self._call.end()
        self._check_open()
        said = Said.of(error)
        heard = self._heard()
        self._resume.broke(heard=heard, progress=self._progress)
        if not self._resume.known:
            failure = self._failures.of_first(said)
            # There was a server, then: it isn't refused, nor a wrong address.
            heard = said.connection_lost and isinstance(failure, BrokenStreamError)
            if not heard:
                raise self._ended(failure) from error
            self._resume.broke(heard=True, progress=False)
        received, position = self._tally.received, self._tally.position
        fatal = self._failures.of_resumed(
            said, heard=heard, progress=self._progress, received=received, position=position
        )
        if fatal is not None:
            raise self._ended(fatal) from error
        seconds = self._resume.next_seconds()
        if seconds is None:
            tried = self._resume.seconds
            raise self._ended(
                self._failures.in_vain(said, seconds=tried, received=received, position=position)
            ) from error
        if heard and self._on_reconnect is not None:
            self._on_reconnect(self._failures.lost(said, received=received, position=position))
        self._closed.wait(seconds)
        self._check_open()
        self._progress = False
        self._resume.opened()
        with suppress(ClientClosedError):  # which closes its streams first
            self._call = self._reopen(position)
        # Closed meanwhile? Then either `close` has seen the new call, or this sees that.
        if self._closed.is_set():
            self._call.end()

    def _heard(self) -> bool:
        """Whether the server had answered the call that has failed; notes where it begins."""
        for key, value in self._call.initial_metadata():
            if key == _OFFSET_KEY and value.isdecimal():
                self._tally.begin(int(value))
                return True
        return self._progress

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StreamClosedError(
                "read more of the output", "the stream was closed", "open another"
            ) from None

    def _broken(self, why: str) -> BrokenStreamError:
        tally = self._tally
        return self._failures.broken(why, received=tally.received, position=tally.position)

    def _ended(self, failure: JobbyClientError) -> JobbyClientError:
        self._failure = failure
        return failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        how = "complete" if self.complete else "closed" if self._closed.is_set() else "open"
        return f"<OutputStream {how} bytes={self.bytes_received}>"
