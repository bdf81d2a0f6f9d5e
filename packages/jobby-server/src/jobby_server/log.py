"""Owns the log: lines on stderr that no name, command or error text can forge."""

import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")


def printable(text: str) -> str:
    """Returns `text` with everything escaped that could steer a terminal or start a new line."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class LineFormatter(logging.Formatter):
    """One record, one line; a traceback's lines follow, marked, so none passes for a record."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record; see `logging.Formatter.format`."""
        # Not the base class's: it joins message and traceback before one could tell them apart.
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [printable(self.formatMessage(record))]
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            lines += [f"  | {printable(line)}" for line in trace.split("\n")]
        return "\n".join(lines)


def set_up(level: str) -> None:
    """Sends the log of the whole process to stderr.

    Args:
        level: one of `LEVELS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
