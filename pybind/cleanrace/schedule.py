# SPDX-License-Identifier: GPL-2.0-only
"""Schedules that travel: a tape as named switches, and named switches as a tape of another build.

A tape counts decision points, which each compiler makes anew. A Switch names the point by what
the thread that stops was about to do there, so it means the same wherever that step exists.

    switches(run)     the choices of a run that are not the default, named
    follow(switches)  the tape that makes these choices in this build, or NotExpressible
    normalise(...)    the same schedule, each switch as late as it can be: just before a step that
                      conflicts with what the other threads do meanwhile. Moving it there passes
                      only over steps that commute with theirs, so the happens-before class stays.

All of it reads full traces: a turn is what one thread does between two decision points, decision
number n comes before the turn with step n, and a tape has an answer for each decision with more
than one enabled thread.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cleanrace.case import Switch
from cleanrace.result import Event, Result
from cleanrace.runner import run
from cleanrace.scenario import Scenario
from cleanrace.target import Target

READS: Final = frozenset(("read", "read-marked", "atomic-read", "lock-shared", "unlock-shared"))
WRITES: Final = frozenset(("write", "write-marked", "atomic", "lock", "unlock"))
ACCESSES: Final = READS | WRITES
WAIT: Final = "wait"  # kind of a switch at which the thread could not go on
_ROUNDS: Final = 4  # of moving switches: each can make room for the one before it


class NotExpressible(ValueError):
    """This build has no such step: `number` counts the switches from 1, `switch` is that one."""

    def __init__(self, number: int, switch: Switch, why: str) -> None:
        super().__init__(f"not expressible: switch {number}, {switch}: {why}")
        self.number = number
        self.switch = switch


class Pair(NamedTuple):
    """Two steps of different threads that a switch lies between: what `first` did came first.

    Each is "function kind", object is what both touch, without indices.
    """

    first: str
    second: str
    object: str


@dataclass(slots=True)
class Turn:
    """What one thread did between two decision points: `step` is the number of the first."""

    step: int
    thread: int
    enabled: int
    operation: int  # from 1, as a Switch counts
    last: int  # the operation it ends in: one may end and the next begin in it
    events: list[Event] = field(default_factory=list)
    named: list[tuple[str, str, str, int]] = field(default_factory=list)  # as a Switch names them


@dataclass(frozen=True, slots=True)
class How:
    """How a schedule is run: as for run(). planted is sorted out by run()."""

    planted: tuple[str, ...] = ()
    judged: tuple[str, ...] | None = None
    steps_max: int = 0
    detect: bool = True

    def run(self, target: Target, scenario: Scenario, tape: bytes, **more: Any) -> Result:
        """Run the tape with a full trace, unless `more` says otherwise."""
        options: dict[str, Any] = {
            "planted": self.planted,
            "judged": self.judged,
            "steps_max": self.steps_max,
            "detect": self.detect,
        }
        return run(target, scenario, tape, **(options | more))


def turns(result: Result, target: Target) -> list[Turn]:
    """The turns of a run with a full trace, in order, their steps named."""
    found: list[Turn] = []
    operation: dict[int, int] = {}
    target.names.load({event.pc for event in result.trace if event.pc})
    for event in result.trace:
        if event.kind == "op-begin":
            operation[event.thread] = operation.get(event.thread, 0) + 1
        number = operation.get(event.thread, 0)
        if not found or (found[-1].step, found[-1].thread) != (event.step, event.thread):
            found.append(Turn(event.step, event.thread, event.enabled, number, number))
        found[-1].last = number
        found[-1].events.append(event)
    counts: dict[tuple[int, int, str, str, str], int] = {}
    for turn in found:
        # What a callback touches has no place of its own: it is its caller's.
        caller = next((event.pc for event in turn.events if event.pc), 0)
        for event in filter(_nameable, turn.events):
            name = _name(event, event.pc or caller, target)
            key = (turn.thread, turn.operation, *name)
            counts[key] = counts.get(key, 0) + 1
            turn.named.append((*name, counts[key]))
    return found


def _nameable(event: Event) -> bool:
    return event.kind in ACCESSES or event.kind.startswith("cb-")


def _name(event: Event, pc: int, target: Target) -> tuple[str, str, str]:
    """Function, kind and object of a step that can be named."""
    function = target.names.function_line(pc).rpartition(":")[0]
    if event.kind in ACCESSES:
        return function, event.kind, target.names.object(event.object)
    return function, event.kind, "pool"


def conflict(one: Event, other: Event) -> bool:
    """Whether the order of two events of different threads matters."""
    if one.kind in ACCESSES and other.kind in ACCESSES:
        return one.object == other.object and not {one.kind, other.kind} <= READS
    if one.kind.startswith("cb-") and other.kind.startswith("cb-"):
        return one.object == other.object and {one.kind, other.kind} != {"cb-get"}
    return False


class _Run:
    """A run taken apart: its turns, and where each decision stands in its tape."""

    def __init__(self, target: Target, scenario: Scenario, how: How, tape: bytes) -> None:
        self.target, self.scenario, self.how = target, scenario, how
        self.result = how.run(target, scenario, tape)
        self.tape = self.result.tape
        self.turns = turns(self.result, target)
        self.at = {turn.step: number for number, turn in enumerate(self.turns)}
        self.choices: list[int] = [0]  # per turn: choices made before its decision
        for turn in self.turns:
            self.choices.append(self.choices[-1] + (turn.enabled.bit_count() > 1))

    def answer(self, number: int) -> int:
        """The answer on the tape before turn `number`."""
        at = self.choices[number]
        multiple = self.turns[number].enabled.bit_count() > 1
        return self.tape[at] if multiple and at < len(self.tape) else 0

    def before(self, number: int) -> bytes:
        """The tape up to the decision before turn `number`, every answer there."""
        at = self.choices[number]
        return self.tape[:at].ljust(at, b"\0")

    def running(self, number: int) -> int | None:
        """Who ran before turn `number`."""
        return self.turns[number - 1].thread if number else None

    def after(self, number: int, thread: int) -> int | None:
        """The next turn of a thread from turn `number` on."""
        for at in range(number, len(self.turns)):
            if self.turns[at].thread == thread:
                return at
        return None

    def ended(self, number: int, thread: int) -> bool:
        """Whether the thread had done all its operations before turn `number`."""
        ends = sum(
            event.kind == "op-end"
            for turn in self.turns[:number]
            if turn.thread == thread
            for event in turn.events
        )
        return ends == len(self.scenario.threads[thread])

    def waits(self, number: int) -> int:
        """How often the thread that ran before turn `number` had to wait in its operation."""
        thread = self.running(number)
        operation = self.turns[number - 1].last
        return sum(
            self.running(at) == thread
            and self.turns[at - 1].last == operation
            and not self.turns[at].enabled >> self.turns[at - 1].thread & 1
            and not self.ended(at, self.turns[at - 1].thread)
            for at in range(1, number + 1)
        )

    def switch(self, number: int) -> Switch | None:
        """The choice before turn `number`, named; None if it was the default."""
        to, thread = self.turns[number].thread, self.running(number)
        if not self.answer(number):
            return None
        if thread is None:
            return Switch.edge("start", to, to)
        if self.ended(number, thread):
            return Switch.edge("end", thread, to)
        if not self.turns[number].enabled >> thread & 1:
            operation = self.turns[number - 1].last
            return Switch(thread, to, operation, "-", WAIT, "-", self.waits(number))
        return self.preemption(number, thread, to)

    def on(self, number: int) -> "_Run":
        """The run that makes the default choice before turn `number`, and ever after."""
        return _Run(self.target, self.scenario, self.how, self.before(number))

    def meanwhile(self, number: int, thread: int) -> list[Event]:
        """What others do from turn `number` until `thread` goes on."""
        pending = self.after(number, thread)
        return [event for turn in self.turns[number:pending] for event in turn.events]

    def preemption(self, number: int, thread: int, to: int) -> Switch:
        """The choice of `to` before turn `number` although `thread` could have gone on.

        It is named by what `thread` does if it goes on: what it does later depends on the others.
        """
        on = self.on(number).turns
        if number >= len(on):  # it stops the run without having done anything
            return Switch(thread, to, max(1, self.turns[number - 1].last), "-", "none", "-", 1)
        assert on[number].thread == thread, "an enabled thread goes on by default"
        return _named(on[number], to, _meant(on[number], self.meanwhile(number, thread)))

    def switches(self) -> tuple[Switch, ...]:
        found = (self.switch(number) for number in range(len(self.turns)))
        return tuple(switch for switch in found if switch is not None)


def _meant(turn: Turn, meanwhile: Sequence[Event]) -> int:
    """Which of the turn's named steps a switch before it is about: the first that conflicts."""
    for at, event in enumerate(filter(_nameable, turn.events)):
        if any(conflict(event, other) for other in meanwhile):
            return at
    return 0


def _named(turn: Turn, to: int, at: int) -> Switch:
    function, kind, thing, count = turn.named[at] if turn.named else ("-", "none", "-", 1)
    return Switch(turn.thread, to, turn.operation, function, kind, thing, count)


def switches(target: Target, scenario: Scenario, tape: bytes, how: How) -> tuple[Switch, ...]:
    """The choices of this run that are not the default, named for every build."""
    return _Run(target, scenario, how, tape).switches()


def follow(
    target: Target,
    scenario: Scenario,
    switches: Sequence[Switch],
    *,
    planted: Iterable[str] = (),
    judged: Iterable[str] | None = None,
    steps_max: int = 0,
    detect: bool = True,
) -> bytes:
    """The tape that makes these switches in this build.

    NotExpressible if a thread does not come to what a switch names, or `to` cannot go on there.
    """
    wanted = None if judged is None else tuple(judged)
    how = How(tuple(planted), wanted, steps_max, detect)
    tape, least = b"", 0
    for number, switch in enumerate(switches, 1):
        now = _Run(target, scenario, how, tape)
        at = _find(now, switch, least)
        if at is None:
            raise NotExpressible(number, switch, "the thread does not come to it here")
        if not now.turns[at].enabled >> switch.to & 1:
            raise NotExpressible(number, switch, f"thread {switch.to} cannot go on there")
        first = now.running(at)
        tape = now.before(at) + bytes((_rank(now.turns[at].enabled, first, switch.to),))
        least = at + 1
    return tape.rstrip(b"\0")


def _rank(enabled: int, running: int | None, to: int) -> int:
    """The answer that chooses `to`: how many enabled threads come before it, cyclically."""
    count = enabled.bit_length() + 1
    first = 0 if running is None else running
    order = [number % 64 for number in range(first, 64)] + list(range(first))
    alive = [number for number in order if number < count and enabled >> number & 1]
    return alive.index(to)


def _find(now: _Run, switch: Switch, least: int) -> int | None:
    """The turn before which the switch is made, not before turn `least`."""
    if switch.kind == "start":
        return 0 if least == 0 and now.turns else None
    for at in range(max(1, least), len(now.turns)):
        thread, before = switch.thread, now.turns[at - 1]
        if before.thread != thread:
            continue
        if switch.kind == "end":
            if now.ended(at, thread):
                return at
        elif before.operation > switch.operation:
            return None
        elif switch.kind == WAIT:
            stuck = not now.turns[at].enabled >> thread & 1 and not now.ended(at, thread)
            if stuck and before.last == switch.operation and now.waits(at) == switch.count:
                return at
        else:
            pending = now.after(at, thread)
            if pending is not None and _is(now.turns[pending], switch):
                return at
    return None


def _is(turn: Turn, switch: Switch) -> bool:
    name = (switch.function, switch.kind, switch.object, switch.count)
    return turn.operation == switch.operation and name in turn.named


def normalise(
    target: Target,
    scenario: Scenario,
    tape: bytes,
    how: How,
    *,
    keeps: Callable[[Result], bool],
) -> bytes:
    """The tape of a schedule that `keeps` what matters, its preemptions as late as they can be.

    A switch moves to just before its thread's first step that conflicts with what the others
    do until it goes on, or goes away if there is none. Others that stopped because they had to
    wait may get further then, and what is judged is more than accesses, so each move is run, and
    undone where the happens-before class is another one or `keeps` says no.
    """
    for _ in range(_ROUNDS):
        now = _Run(target, scenario, how, tape)
        listed = list(now.switches())
        moved = _moved(now, listed, keeps)
        if moved is None:
            return now.tape
        tape = moved
    return tape


def _moved(now: _Run, listed: Sequence[Switch], keeps: Callable[[Result], bool]) -> bytes | None:
    """The tape with the first switch that can be moved at its place; None if none can be."""
    places = [at for at in range(len(now.turns)) if now.answer(at)]
    for number, (at, switch) in enumerate(zip(places, listed, strict=True)):
        if switch.kind in ("start", "end", WAIT):
            continue
        better = _later(now, at, switch)
        if better == switch:
            continue
        changed = [*listed[:number], *([better] if better else []), *listed[number + 1 :]]
        try:
            how = now.how
            tape = follow(
                now.target,
                now.scenario,
                changed,
                planted=how.planted,
                judged=how.judged,
                steps_max=how.steps_max,
                detect=how.detect,
            )
        except NotExpressible:
            continue
        if tape == now.tape:
            continue
        result = how.run(now.target, now.scenario, tape)
        if result.interleaving == now.result.interleaving and keeps(result):
            return tape
    return None


def _later(now: _Run, at: int, switch: Switch) -> Switch | None:
    """The switch before turn `at` as late as it can be; None if nothing conflicts after it."""
    meanwhile = now.meanwhile(at, switch.thread)
    on = now.on(at)
    for number, turn in enumerate(on.turns[at:], at):
        if turn.thread != switch.thread:
            return _unforced(on, number, switch.to)
        for named, event in enumerate(filter(_nameable, turn.events)):
            if any(conflict(event, other) for other in meanwhile):
                return _named(turn, switch.to, named)
    return None


def _unforced(on: _Run, number: int, to: int) -> Switch | None:
    """The choice of `to` where a thread ends or has to wait; None if that is the default."""
    thread, turn = on.turns[number - 1].thread, on.turns[number]
    if turn.thread == to or not turn.enabled >> to & 1:
        return None
    if on.ended(number, thread):
        return Switch.edge("end", thread, to)
    operation = on.turns[number - 1].last
    return Switch(thread, to, operation, "-", WAIT, "-", on.waits(number))


def pairs(target: Target, scenario: Scenario, tape: bytes, how: How) -> tuple[Pair, ...]:
    """Between which conflicting steps the preemptions of a schedule lie, sorted, each once.

    The side that stops is the second: it comes after what the others did meanwhile. Names of
    objects are without indices, so that it does not matter which super block it was.
    """
    now = _Run(target, scenario, how, tape)
    found = set()
    for at, turn in enumerate(now.turns):
        thread = now.running(at)
        if thread is not None and now.answer(at) and turn.enabled >> thread & 1:
            pair = _pair(now, at, thread)
            if pair is not None:
                found.add(pair)
    return tuple(sorted(found))


def _pair(now: _Run, at: int, thread: int) -> Pair | None:
    """The first step of the thread that stopped that conflicts with what the others did."""
    for event, name in _steps(now.on(at).turns[at : at + 1]):
        for other, other_name in _steps(now.turns[at : now.after(at, thread)]):
            if conflict(event, other):
                first, second = (" ".join(one[:2]) for one in (other_name, name))
                return Pair(first, second, without_indices(name[2]))
    return None


def _steps(listed: Sequence[Turn]) -> Iterator[tuple[Event, tuple[str, str, str, int]]]:
    for turn in listed:
        yield from zip(filter(_nameable, turn.events), turn.named, strict=True)


def without_indices(name: str) -> str:
    """The name of an object, whichever of its kind it is: "super_table.s_umount"."""
    kept, depth = [], 0
    for letter in name:
        depth += letter == "["
        if not depth:
            kept.append(letter)
        depth -= letter == "]"
    return "".join(kept)
