"""Owns the table: what was measured as lines of Markdown, in ratios. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.figure import Figure, Goal, Results
from bench.spread import Spread, ratios

HEAD = ("measured", "Jobby", "peer", "its value", "Jobby by peer", "goal", "")


@dataclass(frozen=True)
class Row:
    """One figure, compared with one peer, or with none.

    Attributes:
        case: the name of its case.
        figure: what was measured.
        ours: our values.
        peer: whom it is compared with; empty if with nobody.
        theirs: the peer's values; None if it has none.
        ratio: ours by theirs, round by round.
        goal: what it has to reach; None if nothing.
        missing: who could not do it, and why, even if it could in other rounds.
    """

    case: str
    figure: Figure
    ours: Spread | None
    peer: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    goal: Goal | None = None
    missing: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None if there is none, or no value for it."""
        value = self.ratio if self.goal and self.goal.against else self.ours
        return None if self.goal is None or value is None else self.goal.reached(value.median)


def rows(results: Iterable[Results]) -> Iterator[Row]:
    """A row for each figure, and one for each of its peers.

    A peer that could not do it stands at the first figure, and where a goal hangs on it.
    """
    for each in results:
        name, *peers = each.case.contenders
        for figure in each.case.figures:
            own = each.column(name, figure)
            ours = Spread.of(own)
            failed = each.reason(name)
            bounds = [goal for goal in figure.goals if not goal.against]
            for bound in bounds:
                yield Row(each.case.name, figure, ours, goal=bound, missing=failed)
            compared = False
            for peer in peers:
                values = each.column(peer, figure)
                missing = each.reason(peer)
                goal = next((goal for goal in figure.goals if goal.against == peer), None)
                shown = goal or figure is each.case.figures[0]
                if Spread.of(values) is None and not (missing and shown):
                    continue  # it has no such figure, or was named
                compared = True
                yield Row(
                    each.case.name,
                    figure,
                    ours,
                    peer,
                    Spread.of(values),
                    ratio=Spread.of(ratios(own, values)),
                    goal=goal,
                    missing="; ".join(filter(None, (failed, missing))),
                )
            if not compared and not bounds:
                yield Row(each.case.name, figure, ours, missing=failed)


def number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:,.{digits}f}"
    return text if size >= 0.001 else f"{value:.1g}"


def _spread(spread: Spread | None, unit: str = "") -> str:
    if spread is None:
        return "–"
    middle = f"{number(spread.median)} {unit}".strip()
    if spread.least == spread.greatest:
        return middle
    return f"{middle} ({number(spread.least)}–{number(spread.greatest)})"


def cells(row: Row) -> tuple[str, ...]:
    """One row's texts, in the order of HEAD."""
    verdict = {True: "reached", False: "**not reached**", None: ""}[row.reached]
    return (
        row.figure.title,
        _spread(row.ours, row.figure.unit),
        row.peer,
        _spread(row.theirs, row.figure.unit) if row.peer else "",
        _spread(row.ratio) if row.peer else "",
        "" if row.goal is None else str(row.goal),
        "; ".join(filter(None, (verdict, row.missing))),
    )


def markdown(lines: Iterable[Row]) -> str:
    """All rows as a Markdown table whose columns also line up in a terminal."""
    texts = [HEAD, *(cells(row) for row in lines)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(HEAD))]

    def line(text: Iterable[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(text, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = line("-" * width for width in widths)
    return "\n".join([line(texts[0]), rule, *map(line, texts[1:])])
