# SPDX-License-Identifier: GPL-2.0-only
"""What a run and a search give back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from cleanrace import checks, hll


class Event(NamedTuple):
    """One line of a trace.

    step: decision points passed before it. thread: who did it. kind: a name of the events table.
    object, value: what the events table says for the kind; the object of an access is an offset
    into the kernel's data. pc: of accesses, offset into the kernel's text, 0 for none. enabled:
    in a full trace, the bit set of the threads that could have gone on at that step.
    """

    step: int
    thread: int
    kind: str
    object: int
    value: int
    pc: int
    enabled: int


class Access(NamedTuple):
    """One side of a race.

    pc: offset into the kernel's text. kind: a name of the events table. held: the locks that the
    thread held, offsets into the kernel's data, at most four.
    """

    pc: int
    kind: str
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Race:
    """Two accesses that were in no order: `first` is the one that comes first in the code.

    object: offset into the kernel's data, of the first time. documented: the kernel says that it
    is harmless. schedule: number of the first run that met it. count: how often it was met.
    """

    first: Access
    second: Access
    object: int
    documented: bool
    schedule: int
    count: int


class Call(NamedTuple):
    """One callback of a backend: `kind` without "cb-"; `content` is the page's, or the uuid."""

    step: int
    thread: int
    kind: str
    pool: int
    backend: int
    inode: int
    page: int
    content: int


def parts(value: int) -> tuple[int, int, int, int]:
    """Backend, inode, page and low 32 bits of a callback event's value."""
    return value >> 56 & 0xFF, value >> 48 & 0xFF, value >> 40 & 0xFF, value & 0xFFFFFFFF


@dataclass(frozen=True)
class Result:
    """One run.

    verdict: the first violation, or "ok". verdicts: all of them, empty if "ok". violation: the
    event of the first one, None if "ok" or without one. cause: the earlier event it conflicts
    with, if any. marks: what really happened (marks table). steps: decision points. tape: the
    choices, without trailing zeros; the policy "tape" repeats the run with it. interleaving:
    hash of the happens-before class. digest: hash of the trace. trace: every event; accesses only
    with full=True. threads: how many the scenario has.
    """

    verdict: str
    verdicts: frozenset[str]
    violation: Event | None
    cause: Event | None
    marks: frozenset[str]
    steps: int
    tape: bytes
    interleaving: int
    digest: int
    trace: tuple[Event, ...]
    threads: int

    @cached_property
    def returns(self) -> tuple[tuple[int, ...], ...]:
        """Per thread the results of the operations it finished, in order."""
        returns: list[list[int]] = [[] for _ in range(self.threads)]
        for event in self.trace:
            if event.kind == "op-end":
                returns[event.thread].append(event.value)
        return tuple(map(tuple, returns))

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The callbacks of all backends, in order."""
        return tuple(
            Call(e.step, e.thread, e.kind.removeprefix("cb-"), e.object, *parts(e.value))
            for e in self.trace
            if e.kind.startswith("cb-")
        )


@dataclass(slots=True)
class Summary:
    """What many schedules met; adds up over searches by merge().

    schedules, steps, choices: how many. seconds: time spent in them. violations: per verdict the
    number of runs that had it. first: per verdict the number of the first schedule that had it;
    run(policy="random", seed=..., schedule=first[v]) repeats it and gives its tape. marks: per
    mark the number of runs. registers: of the HyperLogLog behind `interleavings`. steps_profiled:
    decision points of one schedule as "pct" and "surw" estimated them beforehand, 0 without them.
    known: schedules of happens-before classes that the detectors had seen before and had nothing
    against, so that they did not look again; part of `schedules`. All else is the same without;
    this alone depends on what the process searched before.
    """

    schedules: int = 0
    steps: int = 0
    choices: int = 0
    seconds: float = 0.0
    violations: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    registers: bytes = hll.EMPTY
    steps_profiled: int = 0
    known: int = 0

    @property
    def interleavings(self) -> float:
        """Estimated number of distinct happens-before classes, within about 2 %."""
        return hll.estimate(self.registers)

    @property
    def schedules_per_second(self) -> float:
        """Of one core; 0.0 before anything ran."""
        return self.schedules / self.seconds if self.seconds else 0.0

    def merge(self, other: "Summary") -> None:
        """Add what `other` met; a verdict's `first` stays the one met first here."""
        checks.instance("other", other, Summary)
        self.schedules += other.schedules
        self.steps += other.steps
        self.choices += other.choices
        self.seconds += other.seconds
        _add(self.violations, other.violations)
        _add(self.marks, other.marks)
        self.first = other.first | self.first
        self.registers = hll.merge(self.registers, other.registers)
        self.known += other.known
        self.steps_profiled = max(self.steps_profiled, other.steps_profiled)

    @staticmethod
    def merged(summaries: Iterable["Summary"]) -> "Summary":
        """One summary of them all."""
        total = Summary()
        for summary in summaries:
            total.merge(summary)
        return total


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
