"""Owns the journal: what is known of the jobs, in SQLite, written by one thread."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from jobby_server import database

_P = ParamSpec("_P")
_T = TypeVar("_T")


class JournalError(Exception):
    """The journal could not be read or written; nothing of the operation was kept.

    Attributes:
        full: whether the disk is, or a quota.
    """

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(str(error))
        self.full = database.kind(error) == sqlite3.SQLITE_FULL


@dataclass(frozen=True, slots=True)
class _Operation:
    run: Callable[[sqlite3.Connection], Any]
    writes: bool
    answer: "asyncio.Future[Any]"


class Journal:
    """A database on one event loop, behind one thread; one in memory needs none.

    What is waiting when the thread looks becomes one transaction, so that many
    jobs share the cost of one write to the disk. An answer means that the
    transaction is on the disk. Reads see what was committed before, and an
    operation that fails takes none of its neighbours with it.

    Args:
        path: the file; None keeps everything in memory, for a server whose
            jobs end with it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._memory: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> bool:
        """Opens or creates the database, and looks whether it is sound.

        One that isn't is moved aside, and a new one takes its place.

        Returns:
            whether that happened: what it held has to be found elsewhere.

        Raises:
            ConfigError: it cannot be used; the text says why.
        """
        self._loop = asyncio.get_running_loop()
        if self._path is None:
            self._memory, _ = database.open_or_replace(None)
            return False
        opened: asyncio.Future[bool] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._work, args=(opened,), name="jobby-journal", daemon=True
        )
        self._thread.start()
        return await opened

    def write(
        self,
        operation: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> "asyncio.Future[_T]":
        """Has `operation` called; the answer comes once it is on the disk.

        It happens whether or not the answer is waited for.

        Raises:
            JournalError: through the answer: it could not be written.
        """
        return self._submit(operation, True, args, kwargs)

    def read(
        self,
        operation: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> "asyncio.Future[_T]":
        """Has `operation` called, which changes nothing.

        Raises:
            JournalError: through the answer: it could not be read.
        """
        return self._submit(operation, False, args, kwargs)

    async def close(self) -> None:
        """Does what was asked for until now, and closes the database; again is no error."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._queue.put(None)
        await asyncio.to_thread(thread.join)

    def _submit(
        self, operation: Callable[..., _T], writes: bool, args: Any, kwargs: Any
    ) -> "asyncio.Future[_T]":
        assert self._loop is not None, "open comes first"
        answer: asyncio.Future[_T] = self._loop.create_future()
        task = _Operation(lambda connection: operation(connection, *args, **kwargs), writes, answer)
        if self._thread is not None:
            self._queue.put(task)
        elif self._memory is None:
            answer.set_exception(JournalError(sqlite3.ProgrammingError("the journal is closed")))
        elif writes:
            _deliver(_commit(self._memory, [task]))
        else:
            _deliver([(answer, *_attempt(self._memory, task))])
        return answer

    # --- in the thread -------------------------------------------------------

    def _work(self, opened: "asyncio.Future[bool]") -> None:
        try:
            connection, moved = database.open_or_replace(self._path)
        except Exception as error:  # noqa: BLE001 - whatever it is, `open` raises it
            self._answer([(opened, None, error)])
            return
        self._answer([(opened, moved, None)])
        with closing(connection):
            more = True
            while more:
                batch = []
                operation = self._queue.get()
                while operation is not None:
                    batch.append(operation)
                    try:
                        operation = self._queue.get_nowait()
                    except queue.Empty:
                        break
                more = operation is not None
                try:
                    self._do(connection, batch)
                except Exception as error:  # noqa: BLE001 - the next ones need this thread
                    with suppress(sqlite3.Error):
                        connection.rollback()
                    failure = JournalError(sqlite3.InternalError(str(error) or repr(error)))
                    self._answer([(each.answer, None, failure) for each in batch])

    def _do(self, connection: sqlite3.Connection, batch: list[_Operation]) -> None:
        # Reads first: they need not wait for the disk.
        reads = [operation for operation in batch if not operation.writes]
        writes = [operation for operation in batch if operation.writes]
        if reads:
            self._answer([(each.answer, *_attempt(connection, each)) for each in reads])
        if writes:
            self._answer(_commit(connection, writes))

    def _answer(self, answers: "list[tuple[asyncio.Future[Any], Any, Exception | None]]") -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(_deliver, answers)  # one wake for all of them


def _deliver(answers: "list[tuple[asyncio.Future[Any], Any, Exception | None]]") -> None:
    for answer, result, error in answers:
        if answer.done():  # cancelled; or answered before what else was asked for failed
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


def _attempt(connection: sqlite3.Connection, operation: _Operation) -> tuple[Any, Exception | None]:
    try:
        return operation.run(connection), None
    except sqlite3.Error as error:
        return None, JournalError(error)
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
        return None, error


def _commit(
    connection: sqlite3.Connection, batch: list[_Operation]
) -> "list[tuple[asyncio.Future[Any], Any, Exception | None]]":
    """Runs a batch as one transaction; if that cannot be kept, every one of them has failed."""
    answers: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for operation in batch:
            connection.execute("SAVEPOINT one")
            result, error = _attempt(connection, operation)
            answers.append((operation.answer, result, error))
            if error is not None:
                connection.execute("ROLLBACK TO one")  # fails if all of it was rolled back
            connection.execute("RELEASE one")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # A full disk rolls all of it back at once; what fails after that tells less.
        cause = next((e for _, _, e in answers if isinstance(e, JournalError)), None)
        return [(each.answer, None, cause or JournalError(error)) for each in batch]
    return answers
