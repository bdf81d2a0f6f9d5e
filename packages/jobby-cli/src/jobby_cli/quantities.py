"""Owns sizes and durations as people write them: 10M, 90s. Pure."""

import re
from fractions import Fraction
from typing import Final

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_SIZE = re.compile(rf"({_NUMBER}) ?(?:([KMGT])(I?B)?|B)?", re.ASCII | re.IGNORECASE)
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}


def size(text: str) -> int:
    """Reads a size in bytes: 4096, 64K, 10M, 1.5G, 1GiB; and 10MB, which is 1000 times 1000 times.

    Raises:
        ValueError: it is none, or less than a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size, such as 4096, 64K, 10M or 1.5G")
    number, prefix, suffix = match.groups()
    # As coreutils have it: K and KiB are 1024, KB is 1000.
    base = 1000 if (suffix or "").upper() == "B" else 1024
    count = int(Fraction(number) * base ** (" KMGT".index(prefix.upper()) if prefix else 0))
    if count < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return count


def seconds(text: str) -> float:
    """Reads a duration in seconds: 90, 90s, 10m, 2h, 1d, 500ms, 1h30m.

    Raises:
        ValueError: it is none.
    """
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped, re.ASCII):
        return float(stripped)
    parts = _PART.findall(stripped)
    if not parts or "".join(map("".join, parts)) != stripped:
        raise ValueError(f"{text!r} is not a duration, such as 90s, 10m, 2h or 1h30m")
    return float(sum(Fraction(number) * _SECONDS[unit] for number, unit in parts))


def some_seconds(text: str) -> float:
    """Does what `seconds` does; nothing is no duration."""
    found = seconds(text)
    if not found:
        raise ValueError(f"{text!r} is no time at all")
    return found
