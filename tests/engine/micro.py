# SPDX-License-Identifier: GPL-2.0-only
"""Micro scenarios, all their runs, and a slow model of what the engine must do with them.

`every_run` knows nothing about the engine but what a tape is. `outcomes` is written apart from
it: threads are lists, a decision is a loop over the threads that can go on.
"""

import random
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

Lock = tuple[str, int]
Outcome = tuple[str, tuple[tuple[int, int], ...]]


@cache
def program(*threads: str) -> Scenario:
    """A micro scenario with these threads."""
    lines = ["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)]
    return Scenario.from_text("\n".join(lines))


def drawn(seed: int) -> Scenario:
    """Accesses of two or three threads, most of them to one object, and whole sections of locks."""
    draw = random.Random(seed)
    names = ("load", "store", "load", "store", "load-marked", "cmpxchg", "cmpxchg", "clear-marked",
             "wait-zero", "alloc", "free")
    sections = (("lock 0", "unlock 0"), ("lock-shared 0", "unlock-shared 0"),
                ("spin 0", "unspin 0"), ("lock 1", "unlock 1"))
    threads = []
    for _ in range(2):
        operations = [f"{draw.choice(names)} {int(draw.random() < 0.2)}" for _ in range(2)]
        if draw.random() < 0.6:
            begin, end = draw.choice(sections)
            at = draw.randrange(2)
            if begin == "spin 0" and "wait" in operations[at]:
                operations[at] = "load 0"
            operations[at] = f"{begin}; {operations[at]}; {end}"
        threads.append("; ".join(operations))
    if ";" not in threads[1].replace("; ", "", 1) and draw.random() < 0.3:
        threads[1:] = threads[1].split("; ")
    return program(*threads)


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


def is_section(target: Target, place: int) -> bool:
    """Whether that is the word of a lock all of whose protected places are guarded."""
    name = target.names.object(place)
    return name == "sb_lock" or name.endswith("].spin")


def happens_before(
    target: Target, result: Result
) -> frozenset[tuple[int, tuple[frozenset[Any], ...]]]:
    """The class of a run: per place its writes in order, and between them who read.

    Not of the words of section locks: the places that such a lock protects say it all.
    """
    places: dict[int, list[set[Any]]] = {}
    number: Counter[int] = Counter()
    for event in accesses(result):
        if is_section(target, event.object):
            continue
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
    """Four objects and the threads, at one moment of a run. Locks are ("lock", 0), ("spin", 0).

    detects: rules are judged, too: the order of locks, sleeping, and what locks guard.
    """

    threads: Sequence[Sequence[tuple[str, int]]]
    at: list[int] = field(default_factory=list)  # operations done; -1 before the start
    held: list[dict[Lock, bool]] = field(default_factory=list)  # by thread; True: shared
    before: set[tuple[Lock, Lock]] = field(default_factory=set)  # taken while the first was held
    freed: set[int] = field(default_factory=set)
    lost: set[tuple[int, int]] = field(default_factory=set)  # thread and object
    words: dict[tuple[str, int], int] = field(default_factory=dict)
    ended: list[tuple[int, int]] = field(default_factory=list)
    detects: bool = False

    def __post_init__(self) -> None:
        self.held = self.held or [{} for _ in self.threads]

    def copy(self) -> "Machine":
        return Machine(self.threads, list(self.at), [dict(held) for held in self.held],
                       set(self.before), set(self.freed), set(self.lost), dict(self.words),
                       list(self.ended), self.detects)

    def enabled(self) -> list[int]:
        """Threads that can go on: not at their end, not waiting for what is not so."""
        return [number for number, thread in enumerate(self.threads)
                if self.at[number] < len(thread) and not self.waits(number)]

    def waits(self, number: int) -> bool:
        if self.at[number] < 0:
            return False
        name, thing = self.threads[number][self.at[number]]
        if name == "wait-zero":
            return self.words.get(("marked", thing), 0) != 0
        lock = self.wanted(name, thing)
        return lock is not None and any(
            lock in held and not (held[lock] and name == "lock-shared") for held in self.held)

    @staticmethod
    def wanted(name: str, thing: int) -> Lock | None:
        """The lock that an operation waits for."""
        return {"lock": ("lock", thing), "lock-shared": ("lock", thing),
                "spin": ("spin", thing)}.get(name)

    def go_on(self, number: int) -> str:
        """The thread's next step: its start, or one operation; the verdict if it goes wrong."""
        self.at[number] += 1
        if self.at[number] > 0:
            name, thing = self.threads[number][self.at[number] - 1]
            total = sum(map(len, self.threads[:number])) + self.at[number] - 1
            verdict = self.forbidden(number, name, thing)
            if verdict != "ok":
                return verdict
            self.ended.append((total, self.perform(number, name, thing, total + 1)))
        return self.arrives(number)

    def arrives(self, number: int) -> str:
        """What is wrong with what the thread is about to wait for."""
        if self.at[number] == len(self.threads[number]):
            return "ok"
        name, thing = self.threads[number][self.at[number]]
        if (number, thing) in self.lost and name != "lose":
            return "null-dereference"
        if not self.detects:
            return "ok"
        lock = self.wanted(name, thing)
        if lock is not None and lock in self.held[number]:
            return "recursive-lock"
        if name in ("lock", "lock-shared", "wait-zero") and any(
                kind == "spin" for kind, _ in self.held[number]):
            return "sleep-in-atomic"
        return "ok"

    def forbidden(self, number: int, name: str, thing: int) -> str:
        if name in ("load", "store", "free") and thing in self.freed:
            return "use-after-free"
        return "out-of-bounds" if name == "load-beyond" else self.unruly(number, name, thing)

    def unruly(self, number: int, name: str, thing: int) -> str:
        """The rule of locks that an operation breaks."""
        mine = self.held[number]
        released = {"unlock": (("lock", thing), False), "unlock-shared": (("lock", thing), True),
                    "unspin": (("spin", thing), False)}.get(name)
        if released and mine.get(released[0]) is not released[1]:
            return "lock-misuse"
        if not self.detects:
            return "ok"
        if name.endswith("-guarded") and ("spin", thing) not in mine:
            return "unguarded"
        lock = self.wanted(name, thing)
        if lock is not None:
            self.before |= {(other, lock) for other in mine}
            if any(self.leads(lock, other) for other in mine):
                return "lock-order"
        return "ok"

    def leads(self, start: Lock, end: Lock) -> bool:
        """Whether a chain of `before` leads from one lock to the other."""
        seen, new = {start}, {start}
        while new:
            new = {b for a, b in self.before if a in new} - seen
            seen |= new
        return end in seen

    def perform(self, number: int, name: str, thing: int, value: int) -> int:
        lock = self.wanted(name, thing)
        if lock is not None:
            self.held[number][lock] = name == "lock-shared"
        elif name == "try-lock":
            return self.try_lock(number, thing)
        elif name == "lose":
            self.lost.add((number, thing))
        elif name in ("unlock", "unlock-shared", "unspin"):
            del self.held[number]["spin" if name == "unspin" else "lock", thing]
        else:
            return self.touch(name, thing, value)
        return 0

    def try_lock(self, number: int, thing: int) -> int:
        taken = all(("lock", thing) not in held for held in self.held)
        if taken:
            self.held[number]["lock", thing] = False
        return taken

    def touch(self, name: str, thing: int, value: int) -> int:
        """What an operation does to words and memory."""
        if name == "load":
            return self.words.get(("plain", thing), 0)
        if name.startswith("load-"):
            return self.words.get((name[5:], thing), 0)
        if name == "cmpxchg":
            found = self.words.get(("marked", thing), 0)
            self.words["marked", thing] = found or value
            return found
        if name == "free":
            self.freed.add(thing)
        elif name == "alloc":
            self.freed.discard(thing)
            self.words["plain", thing] = 0
        elif name == "clear-marked":
            self.words["marked", thing] = 0
        elif name.startswith("store"):
            self.words[name[6:] or "plain", thing] = value
        return 0


def outcomes(scenario: Scenario) -> Counter[Outcome]:
    """How many ways of deciding lead to each outcome.

    The start of a thread is a step of its own: it runs to just before its first operation.
    """
    threads = [[(operation.name, operation.operands[0]) for operation in thread]
               for thread in scenario.threads]
    return Counter(_ends(Machine(threads, [-1] * len(threads), detects=True)))


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
