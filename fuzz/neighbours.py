# SPDX-License-Identifier: GPL-2.0-only
"""A schedule in which two racing accesses are neighbours, made of one in which they only race.

The order of a run is that of its steps which depend on each other: those of one thread, and those
that touch a common place unless both only read it. Runs with the same order are equal in all that
matters, so two accesses can be made neighbours without changing anything exactly if no third step
comes after the one and before the other in that order. Then the schedule is: all that either of
them needs, the one, the other. If something stands between them in the order, that has to stay
there, and nothing else has.

Such a schedule is built choice by choice, running what there is so far again and again: only a
run says which threads can go on after it. What comes out is replayed, and counts only if the
detector reports the pair at that very access.

Not every race can be shown so. A hook reads a pointer a second time only where it has read it
before, and found what the other side wrote; or it gets there only by a pool that the other side
handed out after it had written. No lock orders such accesses, and still something that follows
the first one brings the second one about: exhausted.py shows that this is always so.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cleanrace
from cleanrace import Event, Race, Result, Scenario, Target, words
from fuzz.racetable import ACCESSES

CANDIDATES_MAX = 24  # pairs of accesses of one run that are made neighbours
APART_MAX = 4  # of these, where nothing makes them neighbours
GRAIN = 4  # bytes of a place, see csrc/engine/memory.h
READS = frozenset(("read", "read-marked", "atomic-read", "lock-shared", "unlock-shared"))


class Choice(NamedTuple):
    """One decision of a run: who could go on, who ran, who was chosen, and what that one did."""

    enabled: int
    current: int
    chosen: int
    access: Event | None  # None: the thread only started


@dataclass(frozen=True, kw_only=True)
class Tape:
    """A tape with two accesses as neighbours: the second one is at decision point `step`.

    between: how many accesses there are between them.
    """

    scenario: Scenario
    tape: bytes
    step: int
    between: int = 0


def choices(result: Result) -> list[Choice] | None:
    """The decisions behind a full trace; None if they do not give its tape."""
    found = decisions(result)
    if found is None:
        return None
    made = tape(found)
    same = made[: len(result.tape)] == result.tape and not any(made[len(result.tape) :])
    return found if same else None


def decisions(result: Result) -> list[Choice] | None:
    """The decisions behind a full trace, as it says them.

    A thread that starts does no access, and who can go on is the same before and after that.
    """
    first: dict[int, Event] = {}
    accesses: dict[int, Event] = {}
    for event in result.trace:
        first.setdefault(event.step, event)
        if event.kind in ACCESSES:
            accesses.setdefault(event.step, event)
    last = max(first, default=-1)
    if set(first) != set(range(last + 1)):
        return None
    found: list[Choice] = []
    enabled = 0
    for step in range(last, -1, -1):
        chosen, access = first[step].thread, accesses.get(step)
        enabled = enabled | 1 << chosen if access is None else access.enabled
        current = first[step - 1].thread if step else words.THREADS_MAX
        found.append(Choice(enabled, current, chosen, access))
    found[-1] = found[-1]._replace(enabled=(1 << result.threads) - 1)
    found.reverse()
    return found


def answer(choice: Choice, thread: int) -> int:
    """What a tape says for a thread: the enabled ones count from the running one, cyclically."""
    count = words.THREADS_MAX
    between = ((thread - choice.current) % count + count) % count
    return sum(
        choice.enabled >> (choice.current + distance) % count & 1 for distance in range(between)
    )


def tape(made: Sequence[Choice]) -> bytes:
    """The tape of these decisions; where one thread alone can go on it says nothing."""
    return bytes(answer(one, one.chosen) for one in made if one.enabled & (one.enabled - 1))


class Order:
    """The order of a run's decisions, as vector clocks: see above.

    source: per decision the one that last changed what it touches, -1 for none.
    """

    def __init__(self, made: Sequence[Choice]) -> None:
        self.made = made
        self._clocks: list[list[int]] = []
        start = [0] * (1 + max((one.chosen for one in made), default=0))
        threads = [[*start] for _ in start]
        self.source: list[int] = []
        written: dict[int, int] = {}  # place -> its last change
        read: dict[int, list[int]] = {}  # place -> clocks of all who have read it since, joined
        for at, one in enumerate(made):
            now = [*threads[one.chosen]]
            now[one.chosen] += 1
            touched = places(one.access)
            reads = one.access is not None and one.access.kind in READS
            for place in touched:
                if place in written:
                    _join(now, self._clocks[written[place]])
                if not reads:
                    _join(now, read.pop(place, None))
            self.source.append(max((written.get(place, -1) for place in touched), default=-1))
            for place in touched:
                if not reads:
                    written[place] = at
                elif place in read:
                    read[place] = [*map(max, read[place], now)]
                else:
                    read[place] = now
            threads[one.chosen] = now
            self._clocks.append(now)

    def before(self, one: int, other: int) -> bool:
        """Whether decision `other` depends on the earlier decision `one`."""
        thread = self.made[one].chosen
        return self._clocks[other][thread] >= self._clocks[one][thread]

    def between(self, one: int, other: int) -> list[int]:
        """The decisions that depend on `one`, and that `other` depends on."""
        made, clocks, last = self.made, self._clocks, self._clocks[other]
        thread, count = made[one].chosen, clocks[one][made[one].chosen]
        return [
            at
            for at in range(one + 1, other)
            if clocks[at][thread] >= count and clocks[at][made[at].chosen] <= last[made[at].chosen]
        ]

    def together(self, one: int, other: int) -> list[int]:
        """Equivalent decisions up to `other`, with as little as possible between the two."""
        needed = [
            at
            for at in range(other)
            if not self.before(one, at) and (self.before(at, one) or self.before(at, other))
        ]
        return [*needed, one, *self.between(one, other), other]


def places(access: Event | None) -> range:
    """The places that an access touches."""
    if access is None:
        return range(0)
    return range(access.object // GRAIN, (access.object + max(1, access.value) - 1) // GRAIN + 1)


def _join(clock: list[int], other: list[int] | None) -> None:
    if other is not None:
        clock[:] = map(max, clock, other)


class _Path:
    """Decisions up to some point, and what would happen if everyone went on from there."""

    def __init__(self, target: Target, scenario: Scenario, made: Sequence[Choice], **options: Any):
        self.target, self.scenario, self.options = target, scenario, options
        self.made = list(made)
        self.ahead = self._run()

    def _run(self) -> list[Choice]:
        result = cleanrace.run(
            self.target, self.scenario, tape(self.made), detect=False, **self.options
        )
        return choices(result) or []

    @property
    def next(self) -> Choice | None:
        """The decision that comes next, as it is when the tape ends here."""
        at = len(self.made)
        return self.ahead[at] if at < len(self.ahead) else None

    def go(self, thread: int) -> bool:
        """Let a thread make its next step; False: it cannot."""
        here = self.next
        if here is None or not here.enabled >> thread & 1:
            return False
        if here.chosen == thread:
            self.made.append(here)
            return True
        self.made.append(here._replace(chosen=thread))
        self.ahead = self._run()
        done = self.ahead[len(self.made) - 1 : len(self.made)]
        if not done:
            return False
        self.made[-1] = done[0]
        return True


def is_pair(one: Event, other: Event, race: Race) -> bool:
    """Whether these two are what raced."""
    sides = [(race.first.pc, race.first.kind), (race.second.pc, race.second.kind)]
    mine, others = places(one), places(other)
    return (
        one.thread != other.thread
        and mine.start < others.stop
        and others.start < mine.stop
        and [(one.pc, one.kind), (other.pc, other.kind)] in (sides, sides[::-1])
    )


def candidates(made: Sequence[Choice], race: Race) -> list[tuple[int, int]]:
    """Decisions that may be the two accesses, those with the least between them first."""
    wanted = {race.first.pc, race.second.pc}
    at = [
        (step, one.access)
        for step, one in enumerate(made)
        if one.access is not None and one.access.pc in wanted
    ]
    pairs = [
        (i, j)
        for number, (i, before) in enumerate(at)
        for j, after in at[number + 1 :]
        if is_pair(before, after, race)
    ]
    return sorted(pairs, key=lambda pair: pair[1] - pair[0])


def build(
    target: Target,
    result: Result,
    scenario: Scenario,
    race: Race,
    *,
    apart: bool = True,
    end: float = math.inf,
) -> Tape | None:
    """A tape with as little as possible between the two, from a run in which they raced.

    apart: whether one will do that has other accesses between the two. end: when to stop looking
    for a better one than the run itself, by time.monotonic().
    """
    made = choices(result)
    if made is None:
        return None
    order = Order(made)
    pairs = sorted(candidates(made, race), key=lambda pair: len(order.between(*pair)))
    for found in _tapes(target, scenario, order, pairs, race, apart=apart):
        if found is not None:
            return found
        if time.monotonic() >= end:
            break
    for i, j in pairs if apart else ():
        found = verified(target, _Path(target, scenario, made[: j + 1]), i, race)
        if found is not None:
            return found
    return None


def _tapes(
    target: Target,
    scenario: Scenario,
    order: Order,
    pairs: Sequence[tuple[int, int]],
    race: Race,
    *,
    apart: bool,
) -> Iterator[Tape | None]:
    """What each way to bring the two together gives, the best ways first."""
    near = [pair for pair in pairs if not order.between(*pair)]
    for pair in near[:CANDIDATES_MAX]:
        yield together(target, scenario, order, pair, race)
    far = pairs[len(near) :]
    for pair in far[: CANDIDATES_MAX - len(near)]:
        yield _held(target, scenario, order.made, pair, race)
    for pair in far[:APART_MAX] if apart else ():
        yield together(target, scenario, order, pair, race)


def together(
    target: Target, scenario: Scenario, order: Order, pair: tuple[int, int], race: Race
) -> Tape | None:
    """A tape of the equivalent run with the least between the two; None: no replay shows it."""
    path = _Path(target, scenario, ())
    steps = order.together(*pair)
    if not all(path.go(order.made[at].chosen) for at in steps):
        return None
    return verified(target, path, steps.index(pair[0]), race)


def _held(
    target: Target, scenario: Scenario, made: Sequence[Choice], pair: tuple[int, int], race: Race
) -> Tape | None:
    """Another run: the first one's thread is held, and the others go on as they did.

    What stood between the two may not happen then, as with the reads of two increments.
    """
    i, j = pair
    path = _Path(target, scenario, made[:i])
    for one in made[i + 1 : j]:
        if one.chosen != made[i].chosen:
            path.go(one.chosen)
    at = len(path.made)
    if not (path.go(made[i].chosen) and path.go(made[j].chosen)):
        return None
    return verified(target, path, at, race)


def verified(target: Target, path: _Path, at: int, race: Race) -> Tape | None:
    """What a replay confirms: decision `at` and the last one are the pair, and race there."""
    if not 0 <= at < len(path.made) - 1:
        return None
    one, other = path.made[at].access, path.made[-1].access
    if one is None or other is None or not is_pair(one, other, race):
        return None
    between = [made for made in path.made[at + 1 : -1] if made.access is not None]
    found = Tape(
        scenario=path.scenario,
        tape=tape(path.made).rstrip(b"\0"),
        step=other.step,
        between=len(between),
    )
    return found if holds(target, found, race) else None


def holds(target: Target, found: Tape, race: Race) -> bool:
    """Whether a replay has the two so far apart and the detector reports them at the second."""
    before, _ = _counted(target, found, race, found.step - 1)
    after, result = _counted(target, found, race, found.step)
    made = choices(result) or []
    accesses = [one.access for one in made if one.access is not None]
    at = len(accesses) - 2 - found.between
    return after > before and at >= 0 and is_pair(accesses[at], accesses[-1], race)


def _counted(target: Target, found: Tape, race: Race, steps: int) -> tuple[int, Result]:
    """How often the pair was reported within so many decision points."""
    target.forget_races()
    result = cleanrace.run(
        target, found.scenario, found.tape, detect=True, steps_max=max(1, steps), judged=()
    )
    return sum(one.count for one in target.races() if same(one, race)), result


def same(one: Race, other: Race) -> bool:
    """Whether two races are of the same two accesses."""
    return [(side.pc, side.kind) for side in (one.first, one.second)] == [
        (side.pc, side.kind) for side in (other.first, other.second)
    ]
