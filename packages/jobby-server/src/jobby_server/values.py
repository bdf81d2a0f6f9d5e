"""Owns how a setting's text is read. Each function raises ValueError with what is wrong. Pure."""

import math
import re
from pathlib import Path
from typing import Final

from jobby_server.log import LEVELS

_MOST_DAYS: Final = 36_500


def path(text: str) -> Path:
    """Reads a path."""
    if not text or "\0" in text:
        raise ValueError("it is not a path")
    return Path(text)


def level(text: str) -> str:
    """Reads one of `log.LEVELS`, in small letters."""
    if text.lower() not in LEVELS:
        raise ValueError(f"it is none of {', '.join(LEVELS)}")
    return text.lower()


def truth(text: str) -> bool:
    """Reads true or false."""
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError("it is neither true nor false") from None


def days(text: str) -> float:
    """Reads a positive number of days."""
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= _MOST_DAYS:
        raise ValueError(f"it is no number of days, such as 30 (at most {_MOST_DAYS})")
    return days


def count(text: str) -> int:
    """Reads a whole number."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError("it is no number, such as 1000")
    return int(text)


def size(text: str) -> int:
    """Reads a number of bytes, perhaps with a unit: powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError("it is no size in bytes, such as 1000000, 500M or 20G")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
