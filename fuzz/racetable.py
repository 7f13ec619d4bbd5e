# SPDX-License-Identifier: GPL-2.0-only
"""The race table: one run, one column per thread, a row per step.

A row is what one thread did between two decision points: the access it was at, as function:line
and what it did to which object, and the events in words. Beside each column a bar says that the
thread holds a lock (| for itself alone, : shared). Accesses that no other thread could notice
are folded into one row unless everything is asked for. No kernel text is shown, only names.

Pure: a Result and a Target's names in, lines of text out, never wider than asked for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cleanrace import Result, Scenario, Target
from fuzz.eventwords import (
    ACCESSES,
    LOCK_FIELD,
    LOCKS,
    VERBS,
    born_locked,
    hold,
    operation_text,
    words_of,
)

__all__ = [
    "ACCESSES",
    "LOCK_FIELD",
    "VERBS",
    "clip",
    "operation_text",
    "table",
    "words_of",
    "wrapped",
]

WIDTH_MIN = 40
STEP = 5  # columns of the step number


@dataclass
class _Row:
    step: int
    thread: int
    lines: list[str] = field(default_factory=list)
    keep: bool = False
    telling: bool = False  # the violation or its cause
    folded: int = 0
    held: tuple[str, ...] = ()  # per thread: "", ":" or "|", after this row


def table(
    result: Result,
    scenario: Scenario,
    target: Target,
    *,
    width: int = 80,
    everything: bool = False,
) -> list[str]:
    """The lines of the race table of a run with a full trace, each at most `width` wide."""
    count = max(1, len(scenario.threads))
    column = max(4, (max(width, WIDTH_MIN) - STEP) // count - 2)
    rows = list(_rows(result, scenario, target))
    rest = 0
    if not everything:
        rows, rest = _until_the_end(rows)
        rows = _folded(rows)
    head = [f"thread {number}" for number in range(count)]
    lines = [" step" + "".join(f"  {clip(text, column):{column}}" for text in head)]
    lines.append("-" * (STEP + count * (column + 2)))
    previous: tuple[str, ...] = ("",) * count
    for row in rows:
        texts = [f"({row.folded} accesses)"] if row.folded else row.lines
        texts = [part for text in texts for part in wrapped(text, column, indent="  ")]
        for at, text in enumerate(texts):
            left = f"{row.step:{STEP}d}" if at == 0 else " " * STEP
            held = row.held if at == len(texts) - 1 else previous
            cells = (
                f" {held[number] or ' '}{text if number == row.thread else '':{column}}"
                for number in range(count)
            )
            lines.append((left + "".join(cells)).rstrip())
        previous = row.held
    if rest:
        lines.append(f"{'':{STEP}}  (steps after that: {rest})")
    lines.append("")
    lines += wrapped("Beside a column: | the thread holds a lock, : a shared one.", width)
    return [line[:width].rstrip() for line in lines]


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns; the middle goes, since line numbers stand at the end."""
    if len(text) <= width:
        return text
    if width < 6:
        return text[:width]
    tail = (width - 2) // 2
    return text[: width - 2 - tail] + ".." + text[-tail:]


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """`text` broken into lines of at most `width`, those after the first with `indent`.

    It breaks at spaces, long names before a dot; what is still too long is clipped.
    """
    lines = [""]
    for piece in _pieces(text):
        if len(lines[-1]) + len(piece.rstrip()) <= width:
            lines[-1] += piece
        else:
            if lines[-1].strip():
                lines.append(indent)
            lines[-1] += clip(piece.strip(), width - len(lines[-1])) + " " * piece.endswith(" ")
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> list[str]:
    """`text` cut after each space and before each dot inside a name."""
    return re.findall(r"\.?[^ .]+ ?|\.+ ?| +", text)


def _rows(result: Result, scenario: Scenario, target: Target) -> Iterator[_Row]:
    names = target.names
    names.load({event.pc for event in result.trace if event.pc})
    shared = _contended(result)
    locks: list[dict[int, str]] = [{} for _ in range(max(1, len(scenario.threads)))]
    born = born_locked(result, names)
    row: _Row | None = None
    for number, event in enumerate(result.trace):
        opens = event.kind in ACCESSES or row is None or row.thread != event.thread
        if opens:
            if row is not None:
                switched = row.thread != event.thread
                row.keep |= switched
                yield row
            row = _Row(step=event.step, thread=event.thread)
            row.keep = number > 0 and result.trace[number - 1].thread != event.thread
        assert row is not None
        if event.kind in ACCESSES:
            what = names.object(event.object).removesuffix(LOCK_FIELD)
            where = names.function_line(event.pc) if event.pc else "backend"
            row.lines += [where, f"  {VERBS[event.kind]} {what}"]
            row.keep |= event.object in shared
            hold(locks[event.thread], event)
        else:
            row.lines.append(words_of(event, scenario))
            row.keep = True
        for thing in born.get(number, ()):
            locks[event.thread][thing] = "|"
        row.held = tuple(max(held.values(), default="") for held in locks)
        for marked, sign in ((result.violation, "^ violation"), (result.cause, "^ cause")):
            if event is marked and result.verdict != "ok":
                row.lines.append(sign)
                row.keep = row.telling = True
    if row is not None:
        yield row


def _contended(result: Result) -> frozenset[int]:
    """Locks and objects of atomic accesses that two threads use: what threads meet at."""
    users: dict[int, set[int]] = {}
    for event in result.trace:
        if event.kind in LOCKS or event.kind.startswith("atomic"):
            users.setdefault(event.object, set()).add(event.thread)
    return frozenset(what for what, threads in users.items() if len(threads) > 1)


def _until_the_end(rows: list[_Row]) -> tuple[list[_Row], int]:
    """The rows up to the last one that the verdict is about, and how many were left out."""
    last = max((at for at, row in enumerate(rows) if row.telling), default=len(rows) - 1)
    return rows[: last + 1], len(rows) - last - 1


def _folded(rows: Sequence[_Row]) -> list[_Row]:
    """Neighbouring rows of one thread that need not be kept, as one row."""
    folded: list[_Row] = []
    for row in rows:
        last = folded[-1] if folded else None
        if row.keep:
            folded.append(row)
        elif last is not None and last.folded and last.thread == row.thread:
            last.folded += 1
            last.held = row.held
        else:
            folded.append(_Row(row.step, row.thread, row.lines, folded=1, held=row.held))
    for row in folded:
        if row.folded == 1:
            row.folded = 0
    return folded
