"""Owns what may stand for a job's id: the whole of it, or enough of its beginning. Pure."""

import re
import uuid
from collections.abc import Sequence

_HEX = re.compile(r"[0-9a-f]{1,32}", re.ASCII)


class UnknownPrefixError(Exception):
    """No known job's id begins like this."""


def whole(text: str) -> uuid.UUID | None:
    """Returns the id if all of it was given, otherwise None.

    Raises:
        ValueError: it is neither an id nor the beginning of one.
    """
    digits = _digits(text)
    return uuid.UUID(hex=digits) if len(digits) == 32 else None


def complete(text: str, known: Sequence[uuid.UUID]) -> uuid.UUID:
    """Returns the one id in `known` that begins with `text`.

    Raises:
        ValueError: it is no beginning of an id, or of several.
        UnknownPrefixError: it is the beginning of none.
    """
    digits = _digits(text)
    found = sorted({each for each in known if each.hex.startswith(digits)})
    if not found:
        raise UnknownPrefixError
    if len(found) > 1:
        raise ValueError(
            f"{text!r} is the beginning of {len(found)} jobs' ids, such as {found[0]} and "
            f"{found[1]}; give more of it"
        )
    return found[0]


def _digits(text: str) -> str:
    # Dashes are there for the eye: wherever they stand, or don't, the digits count.
    digits = text.lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"{text!r} is not a job's id; give a UUID or the beginning of one")
    return digits
