"""Owns what has arrived of an output: each byte in its place, and whether it is the whole."""

from hashlib import sha256
from typing import Final

from jobby_client import _answers
from jobby_client.errors import DataLossError
from jobby_client.status import OutputEnd
from jobby_proto.v1 import jobby_pb2

_DIGEST_BYTES: Final = 131_072  # more has no digest to compare with (jobby.proto, OutputEnd)
_WAY_OUT: Final = "read it again from its first byte; if that fails too, it is no longer whole"


class Tally:
    """Counts and checks the messages of one output, over all connections that bring it.

    Attributes:
        received: how many bytes have arrived.
        position: the place of the next byte in the whole output; None until that is known.
        end: what the server said at the end, once all has arrived.
    """

    def __init__(self, action: str, position: int | None) -> None:
        self._action = action
        self.received = 0
        self.position = position
        self.end: OutputEnd | None = None
        self._digest = sha256() if position == 0 else None

    def begin(self, position: int) -> None:
        """Notes where the output begins, if that wasn't known."""
        if self.position is None:
            self.position = position
            self._digest = None if position else sha256()

    def take(self, message: jobby_pb2.GetJobOutputResponse) -> bytes:
        """Returns the bytes of the next message.

        Raises:
            DataLossError: they are not the next bytes, or it is the end and not all has arrived.
        """
        self.begin(message.offset)
        if message.offset != self.position:
            raise self._lost(f"byte {self.position} was to come, and byte {message.offset} came")
        data = message.data
        self.received += len(data)
        self.position += len(data)
        if self._digest is not None:
            self._digest.update(data)
            if self.position > _DIGEST_BYTES:
                self._digest = None
        if message.HasField("end"):
            self._finish(self.position, _answers.end(self._action, message.end))
        return data

    def _finish(self, position: int, end: OutputEnd) -> None:
        if end.total_bytes != position:
            raise self._lost(f"it has {end.total_bytes} bytes, and it ended after byte {position}")
        if end.sha256 and self._digest is not None and self._digest.digest() != end.sha256:
            raise self._lost("what arrived is not what the server has (SHA-256)")
        self.end = end

    def _lost(self, cause: str) -> DataLossError:
        return DataLossError(self._action, f"{cause} (after {self.received} bytes)", _WAY_OUT)
