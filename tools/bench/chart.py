"""Owns the chart: each ratio as a bar to the left or right of 1, in SVG. Pure."""

import math
from collections.abc import Sequence
from html import escape

from bench.table import Row, number

_LINE, _TEXT, _SIDE, _FOOT = 22, 470, 230, 44
_LEGEND = (
    "Jobby by peer, median of the rounds; thin line: all rounds; thick mark: the goal; "
    "green: reached, red: not."
)
_GOOD, _BAD, _PLAIN = "#2f7d4f", "#b3462f", "#5b6b7c"


def svg(rows: Sequence[Row], title: str) -> str:
    """A bar for each row that has a ratio, on a logarithmic scale; a line marks its goal."""
    shown = [row for row in rows if row.ratio is not None and row.ratio.median > 0]
    reach = max([2.0, *(_size(row) for row in shown)])
    width, height = _TEXT + 2 * _SIDE + 60, _LINE * len(shown) + 2 * _FOOT
    middle = _TEXT + _SIDE

    def x(ratio: float) -> float:
        return middle + _SIDE * max(-1.0, min(1.0, math.log(ratio) / math.log(reach)))

    parts = [_text(8, 22, title, more='font-size="14" font-weight="bold"')]
    for index, row in enumerate(shown):
        assert row.ratio is not None
        y = _FOOT + index * _LINE
        low, high = sorted((middle, x(row.ratio.median)))
        colour = {True: _GOOD, False: _BAD, None: _PLAIN}[row.reached]
        parts += [
            _text(_TEXT - 8, y + 15, f"{row.figure.title}, by {row.peer}", "end"),
            _bar(low, y + 4, high - low, colour),
            _mark(x(row.ratio.least), y + 11, x(row.ratio.greatest), y + 11),
            _text(width - 8, y + 15, number(row.ratio.median), "end"),
        ]
        if row.goal is not None and row.goal.against:
            at = x(row.goal.limit)
            parts.append(_mark(at, y + 1, at, y + 21, 3))
    bottom = _FOOT + _LINE * len(shown)
    parts += [
        _mark(middle, _FOOT, middle, bottom),
        _text(middle, bottom + 16, "1", "middle"),
        _text(_TEXT, bottom + 16, number(1 / reach)),
        _text(_TEXT + 2 * _SIDE, bottom + 16, number(reach), "end"),
        _text(8, bottom + 34, _LEGEND),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, content: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {more}>{escape(content)}</text>'


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'


def _mark(x1: float, y1: float, x2: float, y2: float, width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="black" stroke-width="{width}"/>'
    )


def _size(row: Row) -> float:
    assert row.ratio is not None
    return max(row.ratio.median, 1 / row.ratio.median)
