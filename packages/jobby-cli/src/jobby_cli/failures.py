"""Owns how the command fails: typed errors become one line on stderr and an exit code."""

import os
from contextlib import suppress
from typing import Final

from jobby_cli.printable import printable
from jobby_client import errors

EX_USAGE: Final = 64
EX_CANNOT_START: Final = 65
EX_NO_SUCH_JOB: Final = 66
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_IO: Final = 74
EX_LIMIT: Final = 75
EX_REFUSED: Final = 77
EX_CONFIG: Final = 78
EX_INTERRUPTED: Final = 130

# The numbers are those of sysexits.h where it has one for the case.
_EXIT_CODES: Final[dict[type[errors.JobbyClientError], int]] = {
    errors.InvalidRequestError: EX_USAGE,
    errors.PreconditionError: EX_CANNOT_START,
    errors.NotFoundError: EX_NO_SUCH_JOB,
    errors.UnavailableError: EX_UNAVAILABLE,
    errors.InternalServerError: EX_SOFTWARE,
    errors.DataLossError: EX_IO,
    errors.LimitError: EX_LIMIT,
    errors.RefusedError: EX_REFUSED,
    errors.CredentialsError: EX_CONFIG,
    errors.StreamClosedError: EX_SOFTWARE,
    errors.ClientClosedError: EX_SOFTWARE,
}


class CommandError(Exception):
    """The command cannot go on; the text is the sentence to show.

    Attributes:
        exit_code: what the process ends with.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def exit_code_of(error: errors.JobbyClientError) -> int:
    """Returns the exit code that stands for an error of the client."""
    return next(_EXIT_CODES[kind] for kind in type(error).__mro__ if kind in _EXIT_CODES)


def say(text: str) -> None:
    """Writes one line to stderr, or none for an empty text; nothing in it steers a terminal."""
    if text:
        show(f"jobby: {printable(text)}\n")


def show(page: str) -> None:
    """Writes lines of our own to stderr, as they are."""
    with suppress(OSError):  # nobody listens, and there is nobody else to tell
        os.write(2, page.encode())
