# SPDX-License-Identifier: GPL-2.0-only
"""The tree of all schedules of a case, counted exactly where it is small enough.

Its nodes are decisions at every access. Two schedules that have run the same steps, with every two
conflicting ones in the same order, are in the same state, so what follows is counted once for all
of them: a few thousand runs count hundreds of billions of schedules. The same goes for the
probability that the policy uniform, which takes each thread that can go on with the same one,
comes to a schedule with the verdict.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import cleanrace
from cleanrace import Case, Event, Result, Target, schedule
from fuzz import keeping

STATES_MAX = 20_000
EVENTS_PER_STATE = 500  # events of traces that may be read for each state, on average
WORD = (1 << 64) - 1

Key = tuple[tuple[int, int], ...]
Turn = tuple[Event, ...]  # what one thread did between two decision points
Show = Callable[[str], None]


class TooLarge(Exception):
    """The tree has more states than are allowed."""


@dataclass(frozen=True, slots=True)
class Count:
    """Schedules below a node, and how many of them have the verdict.

    chance: with which the policy uniform comes to one that has it.
    """

    schedules: int
    violating: int
    chance: float = 0.0

    @property
    def share(self) -> Fraction:
        """Of all, those that have the verdict."""
        return Fraction(self.violating, self.schedules)


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the finding's schedule: the turn it began, the counts before and after it."""

    turn: Turn
    before: Count
    after: Count


@dataclass(slots=True)
class _Node:
    """A decision whose alternatives are being counted."""

    key: Key
    left: list[tuple[bytes, Result]]
    schedules: int = 0
    violating: int = 0
    chance: float = 0.0  # of all alternatives so far together
    alternatives: int = 0

    def add(self, count: Count) -> None:
        self.schedules += count.schedules
        self.violating += count.violating
        self.chance += count.chance
        self.alternatives += 1

    def total(self) -> Count:
        return Count(self.schedules, self.violating, self.chance / self.alternatives)


@dataclass(kw_only=True)
class Schedules:
    """The tree of all schedules of a case on a target, counted state by state.

    points: where decisions are, "all" at every access; "sync" at synchronisation and where the
    target's promotions put them, which an exploration beforehand has to settle.
    """

    target: Target
    case: Case
    points: str = "all"
    states_max: int = STATES_MAX
    show: Show = lambda _: None
    runs: int = 0
    events: int = 0
    counts: dict[Key, Count] = field(default_factory=dict)

    def run(self, tape: bytes) -> Result:
        """One schedule, with every access in its trace."""
        case, how = self.case, keeping.options(self.case)
        result = cleanrace.run(self.target, case.scenario, tape, points=self.points, **how)
        self.runs += 1
        self.events += len(result.trace)
        if self.events > EVENTS_PER_STATE * self.states_max:
            raise TooLarge
        return result

    def alternatives(self, prefix: bytes, result: Result) -> tuple[int, list[tuple[bytes, Result]]]:
        """What may follow a prefix, and where in the trace; `result` is its run with zeros.

        Empty if the prefix decides everything. An answer counts modulo the number of enabled
        threads, so one that repeats another one's run is no alternative.
        """
        # A decision for each step, and one for what came to none. More are none of this tree's:
        # with "sync" a run may have brought new points about.
        if len(prefix) > result.steps + 1:
            raise TooLarge
        found = [(prefix + b"\0", result)]
        at = len(result.trace)
        for answer in range(1, len(self.case.scenario.threads)):
            tape = prefix + bytes((answer,))
            other = self.run(tape)
            if any(other.digest == known.digest for _, known in found):
                break
            if answer == 1:
                at = _first_difference(result.trace, other.trace)
            found.append((tape, other))
        return at, found if len(found) > 1 else []

    def count(self, prefix: bytes) -> Count:
        """The schedules that begin with a prefix; TooLarge if that cannot be said."""
        stack: list[_Node] = []
        arrived: tuple[bytes, Result] | None = (prefix, self.run(prefix))
        while True:
            count = None
            if arrived is not None:
                count = self._arrive(stack, *arrived)
            else:
                node = stack.pop()
                count = self.counts[node.key] = node.total()
            if count is not None:
                if not stack:
                    return count
                stack[-1].add(count)
            arrived = stack[-1].left.pop() if stack[-1].left else None

    def _arrive(self, stack: list[_Node], prefix: bytes, result: Result) -> Count | None:
        """The count of a leaf or of a known state; else the state is put on the stack."""
        at, left = self.alternatives(prefix, result)
        if not left:
            violates = int(self.case.expect in result.verdicts)
            return Count(1, violates, violates)
        key = state(result.trace[:at])
        known = self.counts.get(key)
        if known is None:
            stack.append(_Node(key, left))
            if len(self.counts) + len(stack) > self.states_max:
                raise TooLarge
            self.show(f"the tree: {len(self.counts):,} states counted")
        return known

    def decisions(self, tape: bytes) -> list[Decision]:
        """The decisions of one schedule, in order, each with the counts around it."""
        prefix = b""
        counts, turns = [self.count(prefix)], []
        while True:
            at, left = self.alternatives(prefix, self.run(prefix))
            if not left:
                break
            answer = tape[len(prefix)] if len(prefix) < len(tape) else 0
            prefix, result = left[answer]
            turns.append(turn_at(result.trace, at))
            counts.append(self.count(prefix))
        around = zip(turns, pairwise(counts), strict=True)
        return [Decision(turn, before, after) for turn, (before, after) in around]


def state(trace: Sequence[Event]) -> Key:
    """Names the state after a part of a run: what each thread did, and what it conflicted with.

    As the engine names happens-before classes, but with each event of each thread.
    """
    threads: dict[int, int] = {}
    places: dict[int, tuple[int, int]] = {}
    for event in trace:
        name = threads.get(event.thread, event.thread + 1)
        if event.kind in schedule.ACCESSES:
            # A shared lock is taken and given back by changing a word.
            reads = event.kind in ("read", "read-marked", "atomic-read")
            place = event.object // 4
            written, seen = places.get(place, (0, 0))
            known = written if reads else (written, seen)
            name = hash((name, event.kind, event.object, event.pc, known))
            places[place] = (written, (seen + name) & WORD) if reads else (name, 0)
        else:
            name = hash((name, event.kind, event.object, event.value))
        threads[event.thread] = name
    return tuple(sorted(threads.items()))


def _first_difference(one: Sequence[Event], other: Sequence[Event]) -> int:
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def turn_at(trace: Sequence[Event], at: int) -> Turn:
    """The turn that begins there."""
    return tuple(event for event in trace[at:] if event.step == trace[at].step)
