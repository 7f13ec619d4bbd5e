# SPDX-License-Identifier: GPL-2.0-only
"""Micro scenarios, all their runs, and a slow model of what the engine must do with them.

`every_run` knows nothing about the engine but what a tape is. `outcomes` is written apart from
it: threads are lists, a decision is a loop over the threads that can go on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cleanrace import Event, Result, Scenario, Target, run

#: Kinds of events that are accesses, and whether they write.
ACCESSES: Mapping[str, bool] = {
    "read": False, "write": True, "read-marked": False, "write-marked": True, "atomic": True,
    "atomic-read": False, "lock": True, "unlock": True, "lock-shared": False,
    "unlock-shared": False,
}  # fmt: skip

Outcome = tuple[str, tuple[tuple[int, int], ...]]


@cache
def program(*threads: str) -> Scenario:
    """A micro scenario with these threads."""
    lines = ["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)]
    return Scenario.from_text("\n".join(lines))


def every_run(target: Target, scenario: Scenario, **options: Any) -> list[Result]:
    """One run per tape, for all tapes that differ in what they decide.

    A tape `prefix + [n]` decides something new exactly if the run writes it back unchanged: an
    answer counts modulo the number of threads, and behind the last decision there is nothing.
    """
    found = []
    open_prefixes = [b""]
    while open_prefixes:
        prefix = open_prefixes.pop()
        answers = []
        answer = 1
        while (result := run(target, scenario, prefix + bytes((answer,)), **options)).tape == (
            prefix + bytes((answer,))
        ):
            answers.append(answer)
            answer += 1
        if answers:
            open_prefixes += [prefix + bytes((n,)) for n in (0, *answers)]
        else:
            # Behind the end answers mean nothing.
            assert result.tape == prefix.rstrip(b"\0")
            found.append(result)
    return found


def accesses(result: Result) -> list[Event]:
    """The accesses of a full trace."""
    return [event for event in result.trace if event.kind in ACCESSES]


def order(result: Result) -> tuple[int, ...]:
    """Which thread made each access."""
    return tuple(event.thread for event in accesses(result))


def outcome(result: Result) -> Outcome:
    """The verdict, and (operation, result) in the order in which operations ended."""
    return result.verdict, tuple((e.object, e.value) for e in result.trace if e.kind == "op-end")


def happens_before(result: Result) -> frozenset[tuple[int, tuple[frozenset[Any], ...]]]:
    """The class of a run: per place its writes in order, and between them who read."""
    places: dict[int, list[set[Any]]] = {}
    number: Counter[int] = Counter()
    for event in accesses(result):
        who = (event.thread, number[event.thread], event.kind)
        number[event.thread] += 1
        groups = places.setdefault(event.object // 4, [set()])
        if ACCESSES[event.kind]:
            groups += [{who}, set()]
        else:
            groups[-1].add(who)
    return frozenset((place, tuple(map(frozenset, groups))) for place, groups in places.items())


@dataclass
class Machine:
    """Four objects and the threads, at one moment of a run."""

    threads: Sequence[Sequence[tuple[str, int]]]
    at: list[int] = field(default_factory=list)  # operations done; -1 before the start
    locked: dict[int, int] = field(default_factory=dict)  # lock -> the thread that took it
    freed: set[int] = field(default_factory=set)
    plain: dict[int, int] = field(default_factory=dict)
    marked: dict[int, int] = field(default_factory=dict)
    ended: list[tuple[int, int]] = field(default_factory=list)

    def copy(self) -> "Machine":
        return Machine(self.threads, list(self.at), dict(self.locked), set(self.freed),
                       dict(self.plain), dict(self.marked), list(self.ended))

    def enabled(self) -> list[int]:
        """Threads that can go on: not at their end, not waiting for a lock that is taken."""
        return [number for number, thread in enumerate(self.threads)
                if self.at[number] < len(thread) and not self.waits(number)]

    def waits(self, number: int) -> bool:
        if self.at[number] < 0:
            return False
        name, thing = self.threads[number][self.at[number]]
        return name == "lock" and thing in self.locked

    def go_on(self, number: int) -> str:
        """The thread's next step: its start, or one operation; the verdict if it goes wrong."""
        self.at[number] += 1
        if self.at[number] == 0:
            return "ok"
        name, thing = self.threads[number][self.at[number] - 1]
        total = sum(map(len, self.threads[:number])) + self.at[number] - 1
        if name in ("load", "store", "free") and thing in self.freed:
            return "use-after-free"
        if name == "unlock" and self.locked.get(thing) != number:
            return "lock-misuse"
        if name == "lock":
            self.locked[thing] = number
        elif name == "unlock":
            del self.locked[thing]
        self.ended.append((total, self.perform(name, thing, total + 1)))
        return "ok"

    def perform(self, name: str, thing: int, value: int) -> int:
        if name == "load":
            return self.plain.get(thing, 0)
        if name == "load-marked":
            return self.marked.get(thing, 0)
        if name == "cmpxchg":
            found = self.marked.get(thing, 0)
            self.marked[thing] = found or value
            return found
        if name == "free":
            self.freed.add(thing)
        elif name == "alloc":
            self.freed.discard(thing)
            self.plain[thing] = 0
        elif name in ("store", "store-marked"):
            (self.plain if name == "store" else self.marked)[thing] = value
        return 0


def outcomes(scenario: Scenario) -> Counter[Outcome]:
    """How many ways of deciding lead to each outcome.

    The start of a thread is a step of its own: it runs to just before its first operation.
    """
    threads = [[(operation.name, operation.operands[0]) for operation in thread]
               for thread in scenario.threads]
    return Counter(_ends(Machine(threads, [-1] * len(threads))))


def _ends(machine: Machine) -> Iterator[Outcome]:
    enabled = machine.enabled()
    if not enabled:
        complete = all(at == len(thread) for at, thread in
                       zip(machine.at, machine.threads, strict=True))
        yield "ok" if complete else "deadlock", tuple(machine.ended)
    for number in enabled:
        after = machine.copy()
        verdict = after.go_on(number)
        if verdict == "ok":
            yield from _ends(after)
        else:
            yield verdict, tuple(after.ended)
