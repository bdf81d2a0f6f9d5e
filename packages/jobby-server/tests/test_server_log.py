"""The log: nothing that a client writes can forge a line of it."""

import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from jobby_server.log import LineFormatter, printable


@given(st.text())
def test_printable_text_stays_and_the_rest_is_escaped(text: str) -> None:
    """No control character survives, and what is readable is not touched."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def record(message: str, *, error: Exception | None = None) -> logging.LogRecord:
    """Returns a record, with the traceback of an error."""
    info = None
    if error is not None:
        try:
            raise error
        except Exception:  # noqa: BLE001 - any that was given
            info = sys.exc_info()
    return logging.LogRecord("x", logging.INFO, "f", 1, message, None, info)


@given(st.text())
def test_a_record_is_one_line(message: str) -> None:
    """A newline in a name cannot begin another record."""
    line = LineFormatter().format(record(message))
    assert line.isprintable()
    assert " INFO " in line


def test_the_lines_of_a_traceback_are_marked() -> None:
    """An exception's text with a line that looks like a record is seen to be part of it."""
    evil = ValueError("x\n2026-01-01T00:00:00Z INFO listening on evil:1\n\x1b[2J")
    first, *rest = LineFormatter().format(record("oops", error=evil)).split("\n")
    assert first.endswith(" INFO oops")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
