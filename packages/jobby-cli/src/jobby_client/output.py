"""Owns one stream of a job's output on the client's side."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

import grpc

from jobby_client.errors import JobbyClientError, StreamClosedError
from jobby_proto.v1 import jobby_pb2


class _Call(Protocol):
    """What gRPC gives for a call with a stream of answers."""

    def __next__(self) -> jobby_pb2.GetJobOutputResponse: ...

    def cancel(self) -> object: ...


class _Translate(Protocol):
    """Turns what gRPC raised, after so many bytes, into a typed error."""

    def __call__(self, error: grpc.RpcError, *, received: int) -> JobbyClientError: ...


class OutputStream(Iterator[bytes]):
    """A job's output as it comes, from its first byte; made by `Client.output`.

    Iterating blocks until there is more, and ends only when the job has ended
    and every byte was given: whatever cuts the stream short raises. `close`,
    from any thread, or the end of a `with`, lets the server's side go too.

    One thread iterates. Chunks are bytes as the job wrote them, never empty;
    where one ends means nothing.
    """

    def __init__(self, call: _Call, translate: _Translate) -> None:
        self._call = call
        self._translate = translate
        self._closed = False  # written by any thread, once, before the call is cancelled
        self._bytes_received = 0  # the iterating thread's
        self._complete = False  # the iterating thread's

    @property
    def bytes_received(self) -> int:
        """How many bytes have been given so far."""
        return self._bytes_received

    @property
    def complete(self) -> bool:
        """Whether the job has ended and all its output has been given."""
        return self._complete

    def __next__(self) -> bytes:
        """Waits for the next chunk.

        Raises:
            StreamClosedError: `close` was called before the output's end.
            BrokenStreamError: the connection broke, or the server shut down.
            NotFoundError: there is no such job.
            DataLossError: the output is no longer whole on the server.
            JobbyClientError: the server ended the stream for another reason.
        """
        if self._complete:
            raise StopIteration
        try:
            while not (data := next(self._call).data):
                continue
        except StopIteration:
            self._complete = True
            raise
        except grpc.RpcError as error:
            if self._closed:
                raise StreamClosedError(
                    "read more of the output", "the stream was closed", "open another"
                ) from None
            raise self._translate(error, received=self._bytes_received) from error
        self._bytes_received += len(data)
        return data

    def close(self) -> None:
        """Ends the stream and wakes whoever waits for it; the job isn't concerned. Idempotent."""
        self._closed = True
        self._call.cancel()

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
        how = "complete" if self._complete else "closed" if self._closed else "open"
        return f"<OutputStream {how} bytes={self._bytes_received}>"
