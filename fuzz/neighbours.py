# SPDX-License-Identifier: GPL-2.0-only
"""A schedule in which two racing accesses are neighbours, made of one in which they only race.

Two accesses race when neither happens before the other, so there is a schedule in which nothing
comes between them: the thread of the first one is held just before it, the others go on as they
did, or the thread of the second one alone, until that one is next; then comes the one, then the
other. Such a schedule is built choice by choice, running what there is so far again and again:
only a run says which threads can go on after it. What comes out is replayed, and counts only if
the detector reports the pair at that very access.

Not every race can be shown so. A hook reads a pointer a second time only where it has read it
before, and found what the other side wrote; or it gets there only by a pool that the other side
handed out after it had written. No lock orders such accesses, and still something that follows
the first one brings the second one about. Then the tape has as little between them as was found.
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
AHEAD_MAX = 60  # steps that the first one's thread goes on then
GRAIN = 4  # bytes of a place, see csrc/engine/memory.h


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
    """The decisions behind a full trace; None if they do not give its tape.

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
    made = tape(found)
    same = made[: len(result.tape)] == result.tape and not any(made[len(result.tape) :])
    return found if same else None


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


def overlap(one: Event, other: Event) -> bool:
    """Whether two accesses touch a common place."""
    return one.object // GRAIN * GRAIN < other.object + max(
        1, other.value
    ) and other.object // GRAIN * GRAIN < one.object + max(1, one.value)


def is_pair(one: Event, other: Event, race: Race) -> bool:
    """Whether these two are what raced."""
    sides = [(race.first.pc, race.first.kind), (race.second.pc, race.second.kind)]
    return (
        one.thread != other.thread
        and overlap(one, other)
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
    pairs = candidates(made, race)
    for path, at in _paths(target, scenario, made, pairs, apart=apart):
        found = None if path is None else verified(target, path, at, race)
        if found is not None:
            return found
        if time.monotonic() >= end:
            break
    for i, j in pairs if apart else ():
        found = verified(target, _Path(target, scenario, made[: j + 1]), i, race)
        if found is not None:
            return found
    return None


def _paths(
    target: Target,
    scenario: Scenario,
    made: Sequence[Choice],
    pairs: Sequence[tuple[int, int]],
    *,
    apart: bool,
) -> Iterator[tuple[_Path | None, int]]:
    """Ways to bring the two together, and where the first of them is then: the best ones first."""
    for i, j in pairs[:CANDIDATES_MAX]:
        for way in (_as_it_was, _alone):
            path = way(target, scenario, made, i, j)
            yield path, 0 if path is None else len(path.made) - 2
    for i, j in pairs[:APART_MAX] if apart else ():
        for ahead in range(AHEAD_MAX):
            yield _after(target, scenario, made, i, j, ahead=ahead), i


def _as_it_was(
    target: Target, scenario: Scenario, made: Sequence[Choice], i: int, j: int
) -> _Path | None:
    """The thread of access i is held; all others go on as they did, up to access j."""
    path = _Path(target, scenario, made[:i])
    held, other = made[i].chosen, made[j].chosen
    for one in made[i + 1 : j]:
        if one.chosen != held:
            path.go(one.chosen)
    return path if path.go(held) and path.go(other) else None


def _alone(
    target: Target, scenario: Scenario, made: Sequence[Choice], i: int, j: int
) -> _Path | None:
    """The thread of access i is held; that of access j goes on alone until it is there."""
    held, other, wanted = made[i].chosen, made[j].chosen, made[j].access
    path = _Path(target, scenario, made[:i])
    here = path.next
    while here is not None and wanted is not None:
        steps = len(path.made)
        if not path.go(other):
            return None
        access = path.made[-1].access
        if access is not None and (access.pc, access.object) == (wanted.pc, wanted.object):
            back = _Path(target, scenario, path.made[:steps])
            return back if back.go(held) and back.go(other) else None
        here = path.next
    return None


def _after(
    target: Target, scenario: Scenario, made: Sequence[Choice], i: int, j: int, *, ahead: int
) -> _Path | None:
    """After access i its thread goes some steps on, then that of access j until it is there."""
    first, other, wanted = made[i].chosen, made[j].chosen, made[j].access
    path = _Path(target, scenario, made[: i + 1])
    if not all(path.go(first) for _ in range(ahead)):
        return None
    while wanted is not None and path.go(other):
        access = path.made[-1].access
        if access is not None and (access.pc, access.object) == (wanted.pc, wanted.object):
            return path
    return None


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
