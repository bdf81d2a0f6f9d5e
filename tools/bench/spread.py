"""Owns Spread: the median of some values, with the least and the greatest. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Spread:
    """Some values in short."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """The spread of the values that are there; None if none is."""
        there = [value for value in values if value is not None]
        if not there:
            return None
        return cls(median(there), min(there), max(there))


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """Each of our values by theirs of the same round; None where one of the two is missing."""
    return [
        None if our is None or not their else our / their
        for our, their in zip(ours, theirs, strict=False)
    ]


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the values do not exceed; `values` need no order, but one at least.

    The nearest rank: a value that was measured, and not one between two.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
