# SPDX-License-Identifier: GPL-2.0-only
"""Races whose two accesses are never neighbours: no schedule of any small scenario has them so.

Each scenario of a list is exhausted at every access, with one execution per order of its dependent
steps. Two accesses are neighbours in some schedule exactly if there is an execution in which no
step stands between them in that order (neighbours.py); then a tape is made of it. If something
stands between them in every execution that has both, they are never neighbours in that scenario,
and what stands there says why: mostly a read by which the second thread learns what the first one
did. Only scenarios that were exhausted count.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import cleanrace
from cleanrace import Explorer, Race, Scenario, Target
from fuzz import neighbours, scenarios
from fuzz.neighbours import Order, Tape

# Every scenario of one file system whose thread mounts it, with up to two page operations: see
# scenarios.py. Around them come some in which another thread meets page operations, which no bound
# has: the product of what that thread does, what the page operations are and the kind.
BOUND: Final = "1/1/0/2"
KINDS: Final = ("local", "shared uuid 1")
OTHERS: Final = ("remount a", "unmount a", "mount a", "register 1")
PAGES: Final = (
    "read a 0 0; reclaim a 0 0",
    "read a 0 0; truncate a 0 0",
)
MORE: Final = (
    "thread mount a; truncate a 0 0; write a 0 1 / thread read a 0 0",
    "thread mount a / thread truncate a 0 0; write a 0 1 / thread read a 0 0",
    "thread register 0; mount a; read a 0 0 / thread read a 1 0",
    "thread register 0; mount a; read a 0 0; reclaim a 0 0 / thread read a 1 0; reclaim a 1 0",
)
EXECUTIONS_MAX: Final = 20_000  # of one scenario; a larger one is left out
RACE: Final = "data-race"

# Function, line and kind of both accesses, in their own order.
Key = tuple[tuple[str, str], ...]


@dataclass(kw_only=True)
class Looked:
    """What all schedules of some scenarios say about one pair.

    scenarios: those with executions that have both accesses. executions: these. between: what
    stands between the two in each of them, as (pc, kind): accesses by which the second thread sees
    what was done there, or others if it has none. tape: one in which nothing does. undecided:
    executions in which nothing does and of which no tape could be made.
    """

    scenarios: list[Scenario] = field(default_factory=list)
    executions: int = 0
    between: tuple[tuple[int, str], ...] | None = None
    tape: Tape | None = None
    undecided: int = 0

    def note(self, standing: Collection[tuple[int, str]]) -> None:
        """Keep of `between` what stands there once more."""
        known = standing if self.between is None else self.between
        self.between = tuple(step for step in known if step in standing)

    @property
    def never(self) -> bool:
        """Whether the two are never neighbours, wherever both were met."""
        return self.executions > 0 and self.tape is None and not self.undecided


def more() -> list[Scenario]:
    """Those that no bound of `prove` has, because two threads use one file."""
    return [
        scenarios.from_line(f"fs a {kind} / {threads}") for threads, kind in product(MORE, KINDS)
    ]


def listed() -> list[Scenario]:
    """The scenarios that are exhausted."""
    shapes = scenarios.uncovered(scenarios.within(scenarios.parse(BOUND)))
    others = [
        f"fs a {kind} / thread register 0 / thread mount a; {pages} / thread {other}"
        for other, pages, kind in product(OTHERS, PAGES, KINDS)
    ]
    return [
        *more(),
        *map(scenarios.scenario, shapes),
        *map(scenarios.from_line, others),
    ]


def look(
    target: Target,
    wanted: Mapping[Key, Looked],
    key_of: Callable[[Race], Key],
    *,
    listed: Sequence[Scenario],
    seconds: float,
    show: Callable[[str], None] | None = None,
) -> list[Scenario]:
    """Exhaust the listed scenarios, as many as the time allows, for the pairs that are wanted.

    Adds to what each of them says, and returns the scenarios that were exhausted.
    """
    end = time.monotonic() + seconds
    done: list[Scenario] = []
    for number, scenario in enumerate(listed):
        if time.monotonic() >= end:
            break
        if show is not None and number % 10 == 0:
            show(f"never neighbours: {number} of {len(listed)} scenarios exhausted")
        found = executions(target, scenario)
        if found is None:
            continue
        tapes, races = found
        target.names.load({side.pc for race in races for side in (race.first, race.second)})
        pairs = [(race, wanted[key]) for race in races if (key := key_of(race)) in wanted]
        for _, looked in pairs:
            if looked.tape is None:
                looked.scenarios.append(scenario)
        for tape in tapes if pairs else ():
            _judge(target, scenario, tape, pairs)
        done.append(scenario)
    return done


def executions(target: Target, scenario: Scenario) -> tuple[list[bytes], tuple[Race, ...]] | None:
    """A tape of each execution with a race, and all races; None if there are too many."""
    explorer = Explorer(target, scenario, points="all", judged=(RACE,), stop_on=(RACE,))
    tapes: list[bytes] = []
    while True:
        now = explorer.go_on(executions_max=EXECUTIONS_MAX)
        if now.violations.get(RACE, 0) > len(tapes):
            last = explorer.last
            assert last is not None, "an execution stopped the exploration and was not kept"
            tapes.append(last.tape)
        if now.done:
            return tapes, now.races
        if now.executions + now.blocked >= EXECUTIONS_MAX:
            return None


def _judge(
    target: Target, scenario: Scenario, tape: bytes, pairs: list[tuple[Race, Looked]]
) -> None:
    """What one execution says about the pairs."""
    result = cleanrace.run(target, scenario, tape, judged=())
    done = {event.pc for event in result.trace}
    order: Order | None = None
    for race, looked in pairs:
        if looked.tape is not None or not {race.first.pc, race.second.pc} <= done:
            continue
        made = order.made if order else neighbours.decisions(result)
        assert made is not None, "a trace lacks steps"
        met = neighbours.candidates(made, race)
        if not met:
            continue
        order = order or Order(made)
        looked.executions += 1
        for pair in met:
            between = order.between(*pair)
            if between:
                looked.note(_standing(order, pair, between))
                continue
            looked.tape = neighbours.together(target, scenario, order, pair, race)
            if looked.tape is not None:
                break
            looked.undecided += 1


def _standing(
    order: Order, pair: tuple[int, int], between: list[int]
) -> dict[tuple[int, str], None]:
    """What stands between the two: see Looked.between."""
    thread = order.made[pair[1]].chosen
    own = [at for at in between if order.made[at].chosen == thread]
    known = {pair[0], *between}
    told = [at for at in own if order.source[at] in known]
    accesses = (order.made[at].access for at in told or own or between)
    return {(access.pc, access.kind): None for access in accesses if access is not None}


def after(target: Target, looked: Looked) -> tuple[str, str] | None:
    """What the second access always comes after, as function:line and kind."""
    found = next((step for step in looked.between or () if step[0]), None)
    if found is None:
        return None
    target.names.load({found[0]})
    return target.names.function_line(found[0]), found[1]


def words(target: Target, looked: Looked) -> str:
    """Why the two are never neighbours."""
    found = after(target, looked)
    why = "something else" if found is None else f"the {found[1]} at {found[0]}"
    return (
        f"never next to each other: {looked.executions:,} executions have both, of one per order"
        f" of dependent steps in {len(looked.scenarios):,} exhausted scenarios; in each, {why}"
        " stands between them, and sees what followed the first"
    )
