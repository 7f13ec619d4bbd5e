# SPDX-License-Identifier: GPL-2.0-only
"""A trace as numbered steps: the few that tell what went wrong, in words.

A step is what one thread did from one decision point to the next: an access, as function:line
and what it did to which object, and the events that came with it. Shown are the violation and
its cause, both sides of each preemption, accesses of overlapping operations that no lock keeps
apart, and the backend's callbacks; the more there is, the less of the rest. What is left out is
counted in a row of its own, so the steps of any trace fit a bound.

Pure: a Result with a full trace and a Target's names in. Only names, no kernel text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cleanrace import Result, Scenario, Target
from fuzz.traced import (
    BACKEND,
    Held,
    Lock,
    Raw,
    Step,
    handovers,
    name_of,
    operation_ends,
    pairs,
    read,
)

__all__ = ["Lock", "Step", "Story", "every", "steps", "story"]

ROWS_GOOD = 24  # rows that are still seen at a glance
ROWS_MAX = 64  # rows at most, whatever happened


@dataclass(frozen=True, kw_only=True)
class Handover:
    """Another thread goes on after row `row`: why is "preempted", "waits" or "ended".

    before: what the thread was about to do; of one that waits, the lock; "" if it never did it.
    """

    row: int
    thread: int
    to: int
    why: str
    before: str

    @property
    def words(self) -> str:
        """The change in words."""
        joint = "before" if self.why == "preempted" else "for"
        what = f"{self.why} {joint} {self.before}" if self.before else self.why
        return f"{what}; thread {self.to} goes on"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A lock held by one thread, from row `first` to row `last`.

    begins: it was taken in row `first` and not in one before or left out. ends: likewise.
    """

    thread: int
    lock: Lock
    first: int
    last: int
    begins: bool
    ends: bool


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two rows that accessed `name` with nothing to order them."""

    first: int
    second: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is shown of a run. Numbers in handovers, spans and pairs are indices of rows.

    rest: how many steps came after the last row.
    """

    rows: tuple[Step, ...]
    handovers: tuple[Handover, ...]
    spans: tuple[Span, ...]
    pairs: tuple[Pair, ...]
    rest: int


def steps(result: Result, scenario: Scenario, target: Target) -> list[Step]:
    """The numbered steps that tell what happened; those left out are left out."""
    return [step for step in story(result, scenario, target).rows if step.number]


def every(result: Result, scenario: Scenario, target: Target) -> list[Step]:
    """All steps of a run, numbered, nothing folded."""
    raws, _ = read(result, scenario, target)
    return [replace(raw.step, number=number) for number, raw in enumerate(raws, 1)]


def story(result: Result, scenario: Scenario, target: Target) -> Story:
    """What to show of a run with a full trace, at most ROWS_MAX rows and one per stuck thread."""
    raws, locks = read(result, scenario, target)
    ends = operation_ends(raws)
    telling = [number for number, raw in enumerate(raws) if raw.step.role]
    stop = max(telling, default=len(raws) - 1) + 1
    rest = sum(not raw.step.role for raw in raws[stop:])
    turned = handovers(raws, result, ends)
    unordered = pairs(raws[:stop], ends, target)
    _weigh(raws, turned, unordered)
    shown = _chosen(raws[:stop], locks)
    rows, at = _rows(raws[:stop], shown)
    if stop == len(raws):
        rows += _stuck(raws, result, scenario, locks)
    number = 0
    for place, row in enumerate(rows):
        if not row.folded:
            number += 1
            rows[place] = replace(row, number=number)
    turns = tuple(_placed(turned, raws, at, target))
    for turn in turns:
        if turn.why != "ended" and not rows[turn.row].folded:
            rows[turn.row] = replace(rows[turn.row], then=turn.words)
    return Story(
        rows=tuple(rows),
        handovers=turns,
        spans=tuple(_spans(locks, raws[:stop], rows, at)),
        pairs=tuple(
            Pair(first=at[first], second=at[second], name=name)
            for first, second, name in unordered
            if not rows[at[first]].folded and not rows[at[second]].folded
        ),
        rest=rest,
    )


def _weigh(
    raws: Sequence[Raw],
    handovers: Sequence[tuple[int, int, int, str, int]],
    pairs: Sequence[tuple[int, int, str]],
) -> None:
    """Both sides of preemptions and of unordered pairs weigh as much as an operation."""
    for number, _, _, why, pending in handovers:
        if why != "ended":
            _at_least(raws, number, 3)
            _at_least(raws, number + 1, 3)
            if pending >= 0:
                _at_least(raws, pending, 3)
    for first, second, _ in pairs:
        _at_least(raws, first, 3)
        _at_least(raws, second, 3)
    for raw in raws:
        if raw.step.role:
            raw.weight = 4


def _at_least(raws: Sequence[Raw], number: int, weight: int) -> None:
    raws[number].weight = max(raws[number].weight, weight)


def _chosen(raws: Sequence[Raw], locks: Sequence[Held]) -> list[bool]:
    """Which steps to show: as many as are seen at a glance, and never more than ROWS_MAX."""
    shown: list[bool] = []
    for weight, releases in ((1, True), (2, True), (2, False), (3, True), (3, False)):
        shown = [raw.weight >= weight for raw in raws]
        base = list(shown)
        for held in locks:
            end = min(held.last if held.last is not None else len(raws), len(raws))
            if held.first < len(raws) and any(base[held.first + 1 : end]):
                shown[held.first] = True
                if releases and held.last is not None and held.last < len(raws):
                    shown[held.last] = True
        if _count(raws, shown) <= ROWS_GOOD:
            return shown
    if _count(raws, shown) > ROWS_MAX:
        kept = 0
        for number in range(len(raws) - 1, -1, -1):
            # Each shown step may have one row of left-out ones before it.
            kept += 2 * shown[number]
            if kept > ROWS_MAX - 2 and raws[number].weight < 4:
                shown[number] = False
    return shown


def _count(raws: Sequence[Raw], shown: Sequence[bool]) -> int:
    return len(_rows(raws, shown)[0])


def _rows(raws: Sequence[Raw], shown: Sequence[bool]) -> tuple[list[Step], list[int]]:
    """The rows, and for each step the index of its row."""
    rows: list[Step] = []
    at: list[int] = []
    far = next((number for number, is_shown in enumerate(shown) if is_shown), len(raws))
    for number, raw in enumerate(raws):
        last = rows[-1] if rows else None
        joins = (
            last is not None and last.folded and (last.thread == raw.step.thread or number < far)
        )
        if shown[number]:
            rows.append(raw.step)
        elif joins and last is not None:
            rows[-1] = replace(last, folded=last.folded + 1, held=raw.step.held)
        else:
            rows.append(replace(raw.step, words=(), where="", role="", folded=1))
        at.append(len(rows) - 1)
    for number, row in enumerate(rows):
        if row.folded:
            text = f"{row.folded} {'step' if row.folded == 1 else 'steps'}"
            before = " before that" if number == 0 and far > 0 else ""
            rows[number] = replace(row, words=(text + before,))
    return rows, at


def _stuck(
    raws: Sequence[Raw],
    result: Result,
    scenario: Scenario,
    locks: Sequence[Held],
) -> list[Step]:
    """A row for each thread that waits for ever at the end, and who holds what others hold."""
    if result.verdict != "deadlock":
        return []
    numbers: dict[int, int] = {}
    for number, raw in enumerate(raws):
        numbers[raw.step.thread] = number
    done = {
        thread
        for thread, number in numbers.items()
        if any(event.kind == "op-end" for event in raws[number].events)
        and raws[number].operation == _last_operation(scenario, thread)
    }
    found = []
    for thread in sorted(set(numbers) - done):
        raw = raws[numbers[thread]]
        words = ["waits for ever"]
        words += [
            f"thread {held.thread} holds {held.lock.name}"
            for held in locks
            if held.last is None and held.thread != thread
        ]
        found.append(
            replace(
                raw.step,
                point=result.steps,
                where="",
                words=tuple(words),
                kind="stuck",
                role="violation",
                stuck=True,
                index=len(result.trace),
            )
        )
    return found


def _last_operation(scenario: Scenario, thread: int) -> int:
    return sum(map(len, scenario.threads[: thread + 1])) - 1


def _placed(
    handovers: Sequence[tuple[int, int, int, str, int]],
    raws: Sequence[Raw],
    at: Sequence[int],
    target: Target,
) -> Iterator[Handover]:
    """The handovers between two rows."""
    for number, thread, to, why, pending in handovers:
        if number + 1 < len(at) and at[number] != at[number + 1]:
            before = ""
            if pending >= 0:
                before = raws[pending].step.where or raws[pending].step.text
                before = "the backend goes on" if before == BACKEND else before
                locks = [e for e in raws[pending].events if e.kind in ("lock", "lock-shared")]
                if why == "waits" and locks:
                    before = name_of(target, locks[0].object)
            yield Handover(row=at[number], thread=thread, to=to, why=why, before=before)


def _spans(
    locks: Sequence[Held], raws: Sequence[Raw], rows: Sequence[Step], at: Sequence[int]
) -> Iterator[Span]:
    """The locks held beside a row that is shown."""
    for held in locks:
        if held.first >= len(raws):
            continue
        over = held.last is not None and held.last < len(raws)
        last = at[held.last] if over and held.last is not None else len(rows) - 1
        first = at[held.first]
        inside = rows[first : last + 1]
        if all(row.folded for row in inside) or (first == last and over):
            continue
        yield Span(
            thread=held.thread,
            lock=held.lock,
            first=first,
            last=last,
            begins=not rows[first].folded,
            ends=over and not rows[last].folded,
        )
