# SPDX-License-Identifier: GPL-2.0-only
"""The dashboard's charts: one line over time as SVG, in the page's own colours.

Drawn here, since what libraries draw comes with a script, addresses, or fixed colours, and a line
with two axes needs none of that. The colours are the page's variables, by day and by night.
"""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

from fuzz.looks import printable

Points = Sequence[tuple[float, float]]  # seconds since 1970, value
WIDTH, HEIGHT = 560, 210
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 28  # room around the line
TEXT_SIZE = 13
MARKS = 4  # about so many lines across
DAY = 86_400
GAP, GAP_SECONDS = 5.0, 60.0  # so many usual distances, and so long at least


def line(points: Points, *, name: str) -> str:
    """One line as an SVG element; an empty text without two points."""
    if len(points) < 2:
        return ""
    label = f"{printable(name)}: {compact(points[-1][1])} at last"
    marks = list(_marks(points))
    low, high = marks[0], marks[-1]
    begin, end = points[0][0], points[-1][0]
    span = max(1.0, end - begin)

    def across(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - begin) / span

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    about = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label={quoteattr(label)}'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {about}>']
    for value in marks:
        y = up(value)
        parts += [
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" style="stroke:var(--edge)"/>',
            _text(LEFT - 6, y + 4, compact(value), anchor="end"),
        ]
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = begin + part * span
        parts.append(_text(across(at), HEIGHT - 8, _clock(at, span), anchor=anchor))
    floor = f"{HEIGHT - BOTTOM:.1f}"
    stroke = "fill:none;stroke:var(--where);stroke-width:2;stroke-linejoin:round"
    for piece in pieces(points):
        path = "L".join(f"{across(at):.1f} {up(value):.1f}" for at, value in piece)
        area = f"M{across(piece[0][0]):.1f} {floor}L{path}V{floor}Z"
        parts += [
            f'<path d="{area}" style="fill:var(--where);fill-opacity:.1"/>',
            f'<path d="M{path}" style="{stroke}"/>',
        ]
    x, y = across(end), up(points[-1][1])
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill:var(--where)"/>')
    return "".join([*parts, "</svg>"])


def pieces(points: Points) -> list[Points]:
    """Cut where nothing was noted for so long that nothing ran."""
    if len(points) < 2:
        return [points]
    usual = statistics.median(after[0] - at[0] for at, after in itertools.pairwise(points))
    far = max(GAP_SECONDS, GAP * usual)
    cuts = [
        number
        for number in range(1, len(points))
        if points[number][0] - points[number - 1][0] > far
    ]
    return [points[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(points)])]


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        f' style="fill:var(--soft);font-size:{TEXT_SIZE}px">{text}</text>'
    )


def _marks(points: Points) -> Iterator[float]:
    """Round values around all of the line, the lowest first; from 0 unless that hides it."""
    low, high = min(value for _, value in points), max(value for _, value in points)
    if low < 0.7 * high:
        low = 0.0
    room = max(high - low, 1.0)
    exact = room / MARKS
    size = 10.0 ** math.floor(math.log10(exact))
    step = max(1.0, next(size * by for by in (1, 2, 5, 10) if size * by >= exact * 0.999))
    first, last = math.floor(low / step), math.ceil(high / step)
    if last == first:
        last += 1
    for number in range(first, last + 1):
        yield number * step


def _clock(at: float, span: float) -> str:
    """A moment as an axis shows it, which also is right when the page is read later."""
    form = "%H:%M:%S" if span < 600 else "%H:%M" if span < DAY else "%b %d, %H:%M"
    return datetime.fromtimestamp(at, UTC).strftime(form)


def compact(value: float) -> str:
    """A number that fits beside an axis."""
    for least, by, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / by:.3g} {letter}"
    return f"{value:,.0f}"
