# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a run as SVG: a lane per thread, time downwards, what went wrong joined by a line.

Each row is one step (fuzz/steps.py), so a row has text in one lane only: lines between lanes run
along the row of one of their ends or in the gap between two rows, and never through a text.
Colours are told apart by people who see few of them (Okabe and Ito), and nothing is told by
colour alone: locks differ in hatching, lines in dashes, marks in shape. Names only, no kernel
text, so a picture may be committed.

Pure: a Result with a full trace in, text out. The same run gives the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from cleanrace import Result, Scenario, Target
from fuzz.eventwords import operation_text
from fuzz.looks import element, mark, printable, short, style, text_element
from fuzz.racetable import clip, wrapped
from fuzz.steps import Handover, Span, Step, Story, story

CHARACTER = 7.3  # width of one at TEXT_SIZE, at most, in the fonts of STYLE
LINE = 15  # height of a line of text
GAP = 9  # between two rows
TURN = 30  # between two rows of different threads
EDGE = 14
NUMBERS = 34  # width of the column of numbers
CHANNEL = 24  # between lanes, for the lines that join two steps
BAR = 8  # width of a lock's bar
BARS_MAX = 5  # bars side by side in one lane
LANES = (0, 560, 420, 340, 292, 234, 230, 226, 222)  # width of a lane, by how many there are
TITLE_SIZE = 18
BASE = 11.5  # from the top of a line of text to what it stands on
PAIR: dict[str, object] = {"stroke_width": 1.8, "stroke_dasharray": "7 3 1.5 3"}
LINES = {  # kind of line -> classes, whether bold
    "op": ("ink", True),
    "where": ("where mono", False),
    "words": ("ink", False),
    "fold": ("soft", False),
    "violation": ("wrong-fill", True),
    "cause": ("wrong-fill", True),
}

SHAPES = (
    ("read", "reads"),
    ("write", "writes"),
    ("read-marked", "marked or atomic read"),
    ("atomic", "marked or atomic write"),
    ("lock", "takes a lock"),
    ("unlock", "releases it"),
    ("event", "callback or event"),
)


@dataclass
class _Place:
    """Where a row is: its top, the line its mark is on, its bottom, and its lines of text."""

    top: float
    middle: float
    bottom: float
    lines: list[tuple[str, str]]  # class, text


def svg(
    result: Result,
    scenario: Scenario,
    target: Target,
    *,
    title: str = "",
    heading: bool = True,
) -> str:
    """The picture of a run with a full trace: a whole SVG document.

    title is what people call the finding; the violated property stands above it in words. heading:
    whether all that is drawn, which it need not where it stands around the picture.
    """
    return _Drawing(result, scenario, target, title).text(heading=heading)


def verdict_words(result: Result, target: Target) -> list[tuple[str, str]]:
    """The verdicts of a run and their sentences; the first one that was met comes first."""
    sentences = target.table("verdicts")
    others = sorted(result.verdicts - {result.verdict})
    return [(name, sentences[name][1]) for name in (result.verdict, *others)]


def new_words(title: str, words: Sequence[tuple[str, str]]) -> str:
    """`title` unless it only says what the verdicts and their sentences say already."""
    known = {text for name, sentence in words for text in (name, f"{name}: {sentence}")}
    return "" if title in known else title


def role_words(row: Step, result: Result) -> str:
    """What the violation, or what it conflicts with, is called."""
    if row.stuck:
        return "stuck"
    if result.verdict == "data-race":
        return (
            "second access of the race" if row.role == "violation" else "first access of the race"
        )
    return "violation" if row.role == "violation" else "conflicts with the violation"


class _Drawing:
    """One picture while it is drawn."""

    def __init__(self, result: Result, scenario: Scenario, target: Target, title: str) -> None:
        self.result = result
        self.scenario = scenario
        self.story: Story = story(result, scenario, target)
        self.words = verdict_words(result, target)
        self.title = printable(title)
        self.target = target
        self.lanes = max(1, len(scenario.threads))
        self.lane = LANES[min(self.lanes, len(LANES) - 1)]
        self.columns, self.bars = self._bars()
        self.left = [
            EDGE + NUMBERS + number * (self.lane + CHANNEL) for number in range(self.lanes)
        ]
        self.width = self.left[-1] + self.lane + CHANNEL + EDGE
        self.out: list[str] = []
        self.over: list[str] = []  # drawn last
        self.turns = {turn.row: turn for turn in self.story.handovers}

    def text(self, *, heading: bool) -> str:
        """The document."""
        y = self._head() if heading else EDGE
        top = y
        y = self._lane_heads(y)
        places = self._places(y)
        bottom = places[-1].bottom + GAP if places else y
        self._backs(top, bottom)
        self._lifelines(places)
        for span, column in zip(self.story.spans, self.bars, strict=True):
            self._bar(span, column, places)
        for row, place in zip(self.story.rows, places, strict=True):
            self._row(row, place)
        for turn in self.story.handovers:
            self._turn(turn, places)
        self._joins(places)
        y = self._foot(bottom)
        return self._document(y)

    # Layout

    def _bars(self) -> tuple[list[int], list[int]]:
        """How many bars each lane has side by side, and the column of each span's."""
        columns = [0] * self.lanes
        busy: list[list[int]] = [[] for _ in range(self.lanes)]  # column -> last row taken
        bars = []
        for span in self.story.spans:
            rows = busy[span.thread]
            free = next((at for at, last in enumerate(rows) if last < span.first), len(rows))
            free = min(free, BARS_MAX - 1)
            if free == len(rows):
                rows.append(span.last)
            rows[free] = max(rows[free], span.last)
            columns[span.thread] = max(columns[span.thread], free + 1)
            bars.append(free)
        return columns, bars

    def _life(self, thread: int) -> float:
        """Where a thread's line and marks are."""
        return self.left[thread] + 8 + self.columns[thread] * (BAR + 3) + 9

    def _begin(self, thread: int) -> float:
        """Where a thread's texts begin."""
        return self._life(thread) + 14

    def _room(self, thread: int) -> int:
        """Characters in a line of a thread's texts."""
        return int((self.left[thread] + self.lane - 6 - self._begin(thread)) / CHARACTER)

    def _places(self, y: float) -> list[_Place]:
        places = []
        for number, row in enumerate(self.story.rows):
            room = self._room(row.thread)
            lines = []
            if row.words and row.words[0].startswith("begins "):
                lines += [("op", part) for part in wrapped(row.operation, room - 1)]
            if row.where:
                lines.append(("where", clip(row.where, room)))
            for words in row.words:
                if words.startswith("begins "):
                    continue
                lines += [("words", part) for part in wrapped(words, room, indent="  ")]
            if row.folded:
                lines = [("fold", part) for part in wrapped(self._left_out(number), room)]
            if row.role:
                lines.insert(0, (row.role, role_words(row, self.result)))
            lines = [(kind, printable(text)) for kind, text in lines] or [("words", "")]
            height = len(lines) * LINE + (4 if row.role else 0)
            places.append(_Place(y, y + LINE / 2, y + height, lines))
            y += height + (TURN if self._turns(number) else GAP)
        return places

    def _left_out(self, number: int) -> str:
        """What a row of steps left out says: how many, and the locks whose bars begin there."""
        row = self.story.rows[number]
        taken = [
            span.lock.name
            for span in self.story.spans
            if span.first == number and span.thread == row.thread
        ]
        return row.text + "".join(f", locks {name}" for name in dict.fromkeys(taken))

    def _turns(self, number: int) -> bool:
        """Whether another thread goes on after a row."""
        rows = self.story.rows
        return number in self.turns or (
            number + 1 < len(rows) and rows[number].thread != rows[number + 1].thread
        )

    # Parts, from back to front

    def _head(self) -> float:
        """The verdict, its sentence, and what is drawn."""
        y = EDGE + TITLE_SIZE
        room = int((self.width - 2 * EDGE) / (CHARACTER * 1.15))
        bad = bool(self.result.verdicts)
        name = ", ".join(name for name, _ in self.words)
        for line in wrapped(name, int(room * 0.7)):
            self._text(EDGE, y, line, "wrong-fill" if bad else "ink", size=TITLE_SIZE, bold=True)
            y += TITLE_SIZE + 5
        for line in wrapped(self.words[0][1], room):
            self._text(EDGE, y, line, "ink", size=14)
            y += 19
        called = new_words(self.title, self.words)
        what = f"{self.target.name}, sha256 {self.target.sha256[:12]}"
        for line in wrapped(" \u00b7 ".join(filter(None, (called, what))), room):
            self._text(EDGE, y, line, "soft")
            y += LINE
        return y + 2

    def _lane_heads(self, y: float) -> float:
        """Each thread's number and operations."""
        number = 0
        deepest = y
        for thread, operations in enumerate(self.scenario.threads or ((),)):
            names = []
            for _ in operations:
                names.append(operation_text(self.scenario, number))
                number += 1
            at = self.left[thread] + 8
            self._text(at, y + 18, f"thread {thread}", "ink", size=13, bold=True)
            room = int((self.lane - 14) / CHARACTER)
            lines = _packed(names, room)
            for line_number, line in enumerate(lines):
                self._text(at, y + 35 + line_number * LINE, line, "soft")
            deepest = max(deepest, y + 35 + len(lines) * LINE)
        return deepest + 4

    def _backs(self, top: float, bottom: float) -> None:
        self.out[:0] = [
            element("rect", "lane", x=left, y=top, width=self.lane, height=bottom - top, rx=6)
            for left in self.left
        ]

    def _lifelines(self, places: Sequence[_Place]) -> None:
        """Solid where a thread runs, dotted where it stands still."""
        rows = self.story.rows
        still = {"stroke_width": 1.5, "stroke_dasharray": "1 5", "stroke_linecap": "round"}
        for thread in range(self.lanes):
            mine = [number for number, row in enumerate(rows) if row.thread == thread]
            x = self._life(thread)
            for first, second in pairwise(mine):
                how = {"stroke_width": 2} if second == first + 1 else still
                self._line(x, places[first].middle, places[second].middle, **how)
            if mine and mine[-1] + 1 < len(rows) and self._goes_on(thread):
                self._line(x, places[mine[-1]].middle, places[-1].bottom, **still)

    def _goes_on(self, thread: int) -> bool:
        """Whether a thread had more to do after its last row."""
        last = [turn for turn in self.story.handovers if turn.thread == thread]
        return bool(last) and last[-1].why != "ended"

    def _bar(self, span: Span, column: int, places: Sequence[_Place]) -> None:
        x = self.left[span.thread] + 8 + column * (BAR + 3)
        first, last = places[span.first], places[span.last]
        top = first.middle if span.first != span.last else first.top
        end = last.middle if span.ends or self.story.rows[span.last].folded else last.bottom
        how = "shared" if span.lock.shared else "for itself alone"
        label = escape(printable(f"thread {span.thread} holds {span.lock.name}, {how}"))
        self.out.append(self._held(x, top, max(6, end - top), label, shared=span.lock.shared))
        if span.begins and span.first != span.last:
            tick = f"M{short(x + BAR)} {short(top)}H{short(self._life(span.thread) - 5)}"
            self.out.append(element("path", "lock-edge", d=tick, stroke_width=1.5))

    @staticmethod
    def _held(x: float, y: float, height: float, label: str = "", *, shared: bool) -> str:
        return element(
            "rect",
            "lock-edge" if shared else "lock lock-edge",
            f"<title>{label}</title>" if label else "",
            x=x,
            y=y,
            width=BAR,
            height=height,
            rx=2,
            fill="url(#cleanrace-shared)" if shared else None,
        )

    def _row(self, row: Step, place: _Place) -> None:
        x, begin = self._life(row.thread), self._begin(row.thread)
        if row.role:
            self._box(row, place)
        for line, (kind, text) in enumerate(place.lines):
            y = place.top + BASE + line * LINE + (2 if row.role else 0)
            classes, bold = LINES[kind]
            self.out.append(text_element(begin, y, text, classes, bold=bold))
        if row.folded:
            self.out += [
                element("circle", "soft", cx=x, cy=place.middle + dot, r=1.4) for dot in (-4, 0, 4)
            ]
            return
        self.out.append(mark(row.kind, x, place.middle))
        self.out.append(
            text_element(
                EDGE + NUMBERS - 10,
                place.top + BASE,
                str(row.number),
                "soft",
                anchor="end",
                bold=bool(row.role),
            )
        )

    def _box(self, row: Step, place: _Place) -> None:
        left = self._life(row.thread) - 9
        wrong = row.role == "violation"
        self.out.append(
            element(
                "rect",
                "wrong-box wrong" if wrong else "cause-box wrong",
                x=left,
                y=place.top - 3,
                width=self.left[row.thread] + self.lane - 2 - left,
                height=place.bottom - place.top + 5,
                rx=5,
                stroke_width=2.5 if wrong else 2,
                stroke_dasharray=None if wrong else "6 3",
            )
        )

    def _turn(self, turn: Handover, places: Sequence[_Place]) -> None:
        """The arrow from the thread that stops to the one that goes on, in the gap between."""
        here, there = places[turn.row], places[turn.row + 1]
        y = (here.bottom + there.top) / 2 + 3
        x, to = self._life(turn.thread), self._life(turn.to)
        end = there.top + (LINE / 2) - 7
        strong = turn.why == "preempted"
        path = f"M{short(x)} {short(here.bottom - 2)}V{short(y)}H{short(to)}V{short(end - 4)}"
        head = f"M{short(to - 4.5)} {short(end - 6)}h9L{short(to)} {short(end + 1)}z"
        self.over += [
            element(
                "path",
                "turn none" if strong else "line none",
                d=path,
                stroke_width=2 if strong else 1.3,
                stroke_dasharray=None if strong else "3 3",
            ),
            element("path", "turn-fill" if strong else "soft", d=head),
        ]
        said = {"preempted": "preempted", "waits": "waits", "ended": ""}[turn.why]
        if not said:
            return
        at = self._begin(turn.thread)
        # Small and slanted: narrower than other text.
        room = int((self.left[turn.thread] + self.lane - at) / (CHARACTER * 0.93))
        joint = "before" if strong else "for"
        texts = [f"{said} {joint} {turn.before}", f"{joint} {turn.before}"] if turn.before else []
        text = next((text for text in (*texts, said) if len(text) <= room), said)
        if text == said and texts:
            text = clip(texts[-1], room)
        self.over.append(
            text_element(at, y - 4, text, "turn-fill" if strong else "soft", size=11, italic=True)
        )

    def _joins(self, places: Sequence[_Place]) -> None:
        """The line between the violation and its cause, and those between unordered accesses."""
        rows = self.story.rows
        roles = [number for number, row in enumerate(rows) if row.role]
        told = set()
        if len(roles) >= 2:
            for number in roles[:-1]:
                told.add((number, roles[-1]))
                self._join(number, roles[-1], places)
        for track, pair in enumerate(self.story.pairs, 1):
            if (pair.first, pair.second) not in told:
                self._join(pair.first, pair.second, places, track=track, name=pair.name)

    def _join(
        self, first: int, second: int, places: Sequence[_Place], *, track: int = 0, name: str = ""
    ) -> None:
        strong = not name
        rows = self.story.rows
        one, two = rows[first], rows[second]
        a, b = places[first], places[second]
        shift = 5 + track * 5
        right = two.thread >= one.thread
        edge = self.left[one.thread] + self.lane
        channel = edge + shift if right else self.left[one.thread] - CHANNEL + shift + 2
        line, to_line = self._about(a, name), self._about(b, name)
        start = self._side(one, a, line, right=right)
        end = self._side(two, b, to_line, right=one.thread >= two.thread)
        y, to = a.middle + line * LINE, b.middle + to_line * LINE
        path = f"M{short(start)} {short(y)}H{short(channel)}V{short(to)}H{short(end)}"
        style_of = {"stroke_width": 3} if strong else PAIR
        self.over.append(
            element("path", "wrong none" if strong else "pair none", d=path, **style_of)
        )
        dot, radius = ("wrong-fill", 3.5) if strong else ("pair-fill", 3)
        self.over += [
            element("circle", dot, cx=x, cy=at, r=radius) for x, at in ((start, y), (end, to))
        ]

    @staticmethod
    def _about(place: _Place, name: str) -> int:
        """The line of a row's text that says what was done to `name`."""
        for line, (kind, text) in enumerate(place.lines):
            if kind == "words" and name and text.endswith(name[-12:]):
                return line
        return 0

    def _side(self, row: Step, place: _Place, line: int, *, right: bool) -> float:
        """Where a line reaches a row: its box, or beside its mark or the end of its text."""
        if row.role:
            box = self._life(row.thread) - 9
            return self.left[row.thread] + self.lane - 2 if right else box
        if not right:
            return self._life(row.thread) - 8
        end = self._begin(row.thread) + len(place.lines[line][1]) * CHARACTER * 0.93 + 8
        return min(end, self.left[row.thread] + self.lane - 4)

    def _foot(self, y: float) -> float:
        """What was left out, and what the signs mean."""
        y += 18
        if self.story.rest:
            count = self.story.rest
            self._text(EDGE, y, f"{count} more step{'s'[: count != 1]} after that", "soft")
            y += LINE + 5
        x: float = EDGE
        items: list[tuple[str, str]] = [*SHAPES]
        items += [("bar", "lock held"), ("bar-shared", "held shared")]
        if any(turn.why == "preempted" for turn in self.story.handovers):
            items.append(("turn", "preemption"))
        if self.story.pairs:
            items.append(("pair", "in no order: no lock keeps them apart"))
        for kind, text in items:
            wide = 22 + len(text) * CHARACTER * 0.92 + 12
            if x > EDGE and x + wide > self.width - EDGE:
                x, y = EDGE, y + 18
            self._sign(kind, x + 8, y - 4)
            self._text(x + 22, y, text, "soft", size=11)
            x += wide
        return y + EDGE

    def _sign(self, kind: str, x: float, y: float) -> None:
        if kind.startswith("bar"):
            self.out.append(self._held(x - 4, y - 6, 12, shared=kind == "bar-shared"))
        elif kind == "turn":
            line = f"M{short(x - 8)} {short(y)}h11"
            head = f"M{short(x + 2)} {short(y - 4.5)}v9l7-4.5z"
            self.out.append(element("path", "turn none", d=line, stroke_width=2))
            self.out.append(element("path", "turn-fill", d=head))
        elif kind == "pair":
            line = f"M{short(x - 8)} {short(y)}h17"
            self.out.append(element("path", "pair none", d=line, **PAIR))
        else:
            self.out.append(mark(kind, x, y))

    # Elements

    def _line(self, x: float, y: float, to: float, **how: object) -> None:
        path = f"M{short(x)} {short(y)}V{short(to)}"
        self.out.append(element("path", "line", d=path, **how))

    def _text(self, x: float, y: float, text: str, classes: str, **how: Any) -> None:
        self.out.append(text_element(x, y, text, classes, **how))

    def _document(self, height: float) -> str:
        name = ", ".join(name for name, _ in self.words)
        called = ": ".join(filter(None, (name, new_words(self.title, self.words))))
        told = printable(" ".join(_spoken(self.words, self.story.rows)))
        stripe = element("path", "lock-edge", d="M0 0V6", stroke_width=3.4)
        pattern = element(
            "pattern",
            "",
            stripe,
            id="cleanrace-shared",
            width=6,
            height=6,
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        )
        parts = [
            element("title", "", escape(called)),
            element("desc", "", escape(told)),
            element("style", "", style()),
            element("defs", "", pattern),
            element("rect", "paper", width=self.width, height=height),
            *self.out,
            *self.over,
        ]
        document = element(
            "svg",
            "cleanrace",
            "\n" + "\n".join(parts) + "\n",
            xmlns="http://www.w3.org/2000/svg",
            role="img",
            aria_label=called,
            width=self.width,
            height=height,
            viewBox=f"0 0 {short(self.width)} {short(height)}",
        )
        return document + "\n"


def _packed(names: Sequence[str], room: int) -> list[str]:
    """Operations in at most three lines, none of them torn apart."""
    lines = [""]
    for number, name in enumerate(names):
        text = name + ("; " if number + 1 < len(names) else "")
        if lines[-1] and len(lines[-1]) + len(text.strip()) > room:
            lines.append("")
        lines[-1] += text
    if len(lines) > 3:
        lines = [*lines[:2], f"... {lines[-1]}"]
    return [clip(line.strip(), room) for line in lines]


def _spoken(words: Iterable[tuple[str, str]], rows: Sequence[Step]) -> list[str]:
    """The picture for who hears it."""
    told = [f"{name}: {sentence}." for name, sentence in words]
    return told + [f"{row.number}. {row.line}." for row in rows if row.number]
