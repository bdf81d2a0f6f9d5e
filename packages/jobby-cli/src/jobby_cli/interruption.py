"""Owns what a signal has raised, where Python makes another error of it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Raises ctrl-c, and the end by a signal, as themselves.

    A signal's handler raises wherever the program happens to be, also amid
    `threading.Condition.wait`, as gRPC waits for a stream: before the lock was taken again. Giving
    it back on the way out then fails with RuntimeError ("cannot release un-acquired lock").

    Raises:
        KeyboardInterrupt, SystemExit: they came amid something that has raised RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        raised: BaseException | None = error
        while raised is not None and not isinstance(raised, KeyboardInterrupt | SystemExit):
            raised = raised.__context__
        if raised is None:
            raise
        raise raised from None
