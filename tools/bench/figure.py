"""Owns Figure: one thing that is measured, who is compared with whom, and the goal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Values: TypeAlias = Mapping[str, float]
"""What one contender reached in one round, by the figure's name."""


@dataclass(frozen=True)
class Goal:
    """What a figure has to reach.

    Attributes:
        limit: the bound.
        at_least: whether more than `limit` is good; otherwise less is.
        against: whose value it is a ratio to; empty if it bounds the value itself.
    """

    limit: float
    at_least: bool
    against: str = ""

    def reached(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}" + (f" × {self.against}" if self.against else "")


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    Attributes:
        name: the key under which a contender gives its value.
        title: what it is, for the table.
        unit: of its values.
        goals: what it has to reach.
    """

    name: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()


class UnableError(Exception):
    """A contender could not do the work; the text says why."""


@dataclass(frozen=True)
class Case:
    """One piece of work that several contenders do.

    Attributes:
        name: for `--only`.
        figures: what is taken from it.
        contenders: who does it, by name, each a function that does it once. The first is
            ours and is compared with each of the others.
        most_rounds: how many rounds at most, for work that takes long; 0 is as many as asked.
    """

    name: str
    figures: tuple[Figure, ...]
    contenders: Mapping[str, Callable[[], Values]]
    most_rounds: int = 0


@dataclass
class Results:
    """What was measured of one case: each contender's values, None for a round that failed.

    Attributes:
        case: the work.
        rounds: each contender's values, one entry a round.
        failures: why a contender could not do it, the last reason.
    """

    case: Case
    rounds: dict[str, list[Values | None]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def column(self, contender: str, figure: Figure) -> list[float | None]:
        """A figure's values of one contender, one a round."""
        rounds = self.rounds.get(contender, [])
        return [None if each is None else each.get(figure.name) for each in rounds]

    def reason(self, contender: str) -> str:
        """Who could not do it, in how many of the rounds, and why; empty if it always could."""
        if contender not in self.failures:
            return ""
        rounds = self.rounds[contender]
        failed = rounds.count(None)
        often = f" in {failed} of {len(rounds)} rounds" if failed < len(rounds) else ""
        return f"{contender}{often}: {self.failures[contender]}"
