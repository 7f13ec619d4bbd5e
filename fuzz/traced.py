# SPDX-License-Identifier: GPL-2.0-only
"""A trace read step by step: what each step was, who held which lock, who had to stop and why.

All steps are here, in order; what to show of them is decided in steps.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cleanrace import Event, Result, Scenario, Target
from fuzz.eventwords import (
    ACCESSES,
    ERRNO,
    LOCK_FIELD,
    LOCKS,
    VERBS,
    born_locked,
    operation_text,
    words_of,
)

PAIRS_MAX = 3  # unordered pairs that are told about
CHANGES = ("write", "write-marked", "atomic")
# What the harness reads and writes to judge: no step of the kernel's.
OURS = ("backend_words", "judged_")
INSIDE = {True: "inside of the backend", False: "noted for the judge"}
UMOUNT = ".s_umount"
BACKEND = "backend"  # where a callback happens: recorded by us, without a line of its own


# How much an event tells, 3 most. What is missing here is told only where there is room.
WEIGHTS = {
    "op-begin": 3,
    "cb-init": 3,
    "cb-init-shared": 3,
    "cb-invalidate-fs": 3,
    "registered": 2,
    "sb-mounted": 2,
    "sb-kill": 2,
    "visit": 2,
    "hook": 1,
    "init-call": 1,
    "init-done": 1,
    "read-end": 1,
    "sb-new": 1,
    "sb-free": 1,
    "set": 1,
    "zero": 1,
}
CALLBACK_WEIGHT = 2  # of the other callbacks of the backend's


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock that a thread holds; `shared` if others may read beside it."""

    name: str
    shared: bool = False

    @property
    def words(self) -> str:
        """The lock as lists of held ones have it."""
        return f"{self.name} (shared)" if self.shared else self.name


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row.

    number: from 1, 0 of a row that stands for `folded` steps left out. point: the decision
    point. thread, operation: who, and inside of what ("mount a"). where: "function:line",
    "backend", or "" where nothing was accessed. words: what happened, a sentence each; text: all
    of them. kind: of the access or the first event. role: "violation", "cause" or "". held: the
    locks of its thread, after it. index: of its first event in the trace. stuck: a last row of a
    thread that waits for ever, and is no event. then: why another thread goes on after it.
    """

    number: int
    point: int
    thread: int
    operation: str
    where: str
    words: tuple[str, ...]
    kind: str
    role: str = ""
    held: tuple[str, ...] = ()
    folded: int = 0
    index: int = 0
    stuck: bool = False
    then: str = ""

    @property
    def text(self) -> str:
        """What it did, as one line."""
        return "; ".join(self.words)

    @property
    def line(self) -> str:
        """All of it but its number, as one line."""
        inside = self.operation if self.operation not in self.text else ""
        who = ", ".join(filter(None, (f"thread {self.thread}", inside, self.where)))
        held = f" [holds {', '.join(self.held)}]" if self.held else ""
        return "; ".join(filter(None, (f"{who}: {self.text}{held}", self.then)))


@dataclass
class Raw:
    """One step while the trace is read.

    operation: the number of the one it is part of, -1 before any. held, alone: offsets of the
    locks that its thread held in it, and of those that it held for itself alone.
    """

    step: Step
    operation: int
    events: list[Event] = field(default_factory=list)
    weight: int = 0
    held: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()


@dataclass
class Held:
    """A lock from the step that took it to the one that released it, None if none did."""

    thread: int
    offset: int
    lock: Lock
    first: int
    last: int | None = None


def read(result: Result, scenario: Scenario, target: Target) -> tuple[list[Raw], list[Held]]:
    """The steps of a trace, and who held which lock in them."""
    names = target.names
    names.load({event.pc for event in result.trace if event.pc})
    born = born_locked(result, target.names)
    raws: list[Raw] = []
    locks = _Locks(target)
    operations: dict[int, int] = {}  # thread -> operation it is inside of
    for index, event in enumerate(result.trace):
        if event.kind == "op-begin":
            operations[event.thread] = event.object
        same = bool(raws) and raws[-1].step.thread == event.thread
        access = event.kind in ACCESSES
        if same and access and raws[-1].step.kind == "op-begin":
            # The first access of an operation, if nobody came between, is in the same row.
            where = names.function_line(event.pc) if event.pc else BACKEND
            raws[-1].step = replace(raws[-1].step, where=where, kind=event.kind)
        elif not same or access or event.kind == "op-begin":
            operation = operations.get(event.thread, -1)
            raws.append(_begun(event, index, operation, scenario, target))
        raw = raws[-1]
        raw.events.append(event)
        _describe(raw, event, result, scenario, target)
        mine = locks.after(event, len(raws) - 1, born.get(index, ()))
        raw.held |= {held.offset for held in mine}
        raw.alone |= {held.offset for held in mine if not held.lock.shared}
        raw.step = replace(raw.step, held=tuple(held.lock.words for held in mine))
    for raw in raws:
        if not raw.step.words:
            raw.step = replace(raw.step, words=(INSIDE[raw.step.where == BACKEND],))
    return raws, locks.every


class _Locks:
    """Who holds what while a trace is read."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.every: list[Held] = []
        self._open: dict[int, dict[int, Held]] = {}  # thread -> offset -> held by it now

    def after(self, event: Event, number: int, born: Sequence[int]) -> list[Held]:
        """What the thread of `event`, which is in step `number`, holds after it.

        born: the locks that came to the world held with it.
        """
        mine = self._open.setdefault(event.thread, {})
        taken = [(offset, name_of(self.target, offset), False) for offset in born]
        if event.kind == "sb-new" and not any(name.endswith(UMOUNT) for _, name, _ in taken):
            # Nobody released it before the run ended, so nothing says its offset.
            taken.append((-1 - event.object, f"super_table[{event.object}]{UMOUNT}", False))
        if event.kind in ("lock", "lock-shared"):
            name = name_of(self.target, event.object)
            taken.append((event.object, name, event.kind == "lock-shared"))
        for offset, name, shared in taken:
            mine[offset] = Held(event.thread, offset, Lock(name=name, shared=shared), number)
            self.every.append(mine[offset])
        if event.kind in ("unlock", "unlock-shared") and event.object in mine:
            mine.pop(event.object).last = number
        return list(mine.values())


def name_of(target: Target, offset: int) -> str:
    """What people call the thing at an offset: a lock by its own name."""
    return target.names.object(offset).removesuffix(LOCK_FIELD)


def _begun(event: Event, index: int, operation: int, scenario: Scenario, target: Target) -> Raw:
    where = ""
    if event.kind in ACCESSES:
        where = target.names.function_line(event.pc) if event.pc else BACKEND
    step = Step(
        number=0,
        point=event.step,
        thread=event.thread,
        operation=operation_text(scenario, operation) if operation >= 0 else "",
        where=where,
        words=(),
        kind=event.kind,
        index=index,
    )
    return Raw(step, operation)


def _describe(raw: Raw, event: Event, result: Result, scenario: Scenario, target: Target) -> None:
    """Add an event to the words, weight and role of its step."""
    step = raw.step
    said = _said(event, step.operation, scenario, target)
    weight = WEIGHTS.get(event.kind, CALLBACK_WEIGHT if event.kind.startswith("cb-") else 0)
    if event.kind == "op-end" and event.value < 0:
        weight = 2
    raw.weight = max(raw.weight, weight)
    role = step.role
    if result.verdict not in ("ok", "deadlock"):  # who waits for ever has a row of its own
        if event is result.violation:
            role = "violation"
        elif event is result.cause and not role:
            role = "cause"
    accesses = [e for e in raw.events if e.kind in ACCESSES]
    # An event that came with nothing but our own accesses is what the row is about.
    alone = event.kind not in (*ACCESSES, "op-begin") and all(_ours(e, target) for e in accesses)
    raw.step = replace(
        step,
        words=(*step.words, said) if said else step.words,
        role=role,
        kind=event.kind if alone and step.kind in ACCESSES else step.kind,
    )


def _said(event: Event, operation: str, scenario: Scenario, target: Target) -> str:
    """An event in words, "" if it is only the harness's."""
    if event.kind in ACCESSES:
        name = name_of(target, event.object)
        if name.startswith("backend_words.callback"):
            return "calls the backend"
        return "" if _ours(event, target) else f"{VERBS[event.kind]} {name}"
    if event.kind == "op-begin":
        return f"begins {operation}"
    if event.kind == "op-end":
        return f"{operation} returns {ERRNO.get(event.value, event.value)}"
    said = words_of(event, scenario)
    return f"{said}; its s_umount is held" if event.kind == "sb-new" else said


def _ours(event: Event, target: Target) -> bool:
    """Whether an access is for recording and judging, and none of the kernel's."""
    return not event.pc or name_of(target, event.object).startswith(OURS)


def operation_ends(raws: Sequence[Raw]) -> dict[int, int]:
    """Operation -> step in which it returned; one that never did is missing."""
    return {
        raw.operation: number
        for number, raw in enumerate(raws)
        for event in raw.events
        if event.kind == "op-end"
    }


def handovers(
    raws: Sequence[Raw], result: Result, ends: dict[int, int]
) -> list[tuple[int, int, int, str, int]]:
    """(step, thread, to, why, its next step or -1) for each after which another thread goes on.

    A thread was preempted if it could have gone on: the next event knows who could.
    """
    found = []
    pending: dict[int, int] = {}  # thread -> its next step
    for number in range(len(raws) - 1, 0, -1):
        before, now = raws[number - 1], raws[number]
        pending[now.step.thread] = number
        thread = before.step.thread
        if thread == now.step.thread:
            continue
        back = pending.get(thread, -1)
        finished = ends.get(before.operation) == number - 1
        if result.trace[now.step.index].enabled >> thread & 1:
            why = "preempted"
        else:
            why = "waits" if back >= 0 or not finished else "ended"
        found.append((number - 1, thread, now.step.thread, why, back))
    return found[::-1]


def pairs(raws: Sequence[Raw], ends: dict[int, int], target: Target) -> list[tuple[int, int, str]]:
    """Conflicting accesses of overlapping operations that no common lock keeps apart.

    One of the two at least is plain; only neighbours count, and of each two places the last pair.
    """
    begins: dict[int, int] = {}
    recent: dict[int, list[tuple[int, Event]]] = {}  # place -> last write, and reads since
    found: dict[tuple[int, int, int], tuple[int, int, str]] = {}
    for number, raw in enumerate(raws):
        begins.setdefault(raw.operation, number)
        for event in raw.events:
            if event.kind not in ACCESSES or event.kind in LOCKS or _ours(event, target):
                continue
            for before, other in recent.get(event.object, ()):
                overlap = ends.get(raws[before].operation, len(raws)) > begins[raw.operation]
                if overlap and conflict(event, other) and not _apart(raw, raws[before]):
                    key = (event.object, other.thread, event.thread)
                    found[key] = (before, number, name_of(target, event.object))
            kept = [] if event.kind in CHANGES else recent.get(event.object, [])
            # One access of each thread is enough: the last.
            kept = [(at, other) for at, other in kept if other.thread != event.thread]
            recent[event.object] = [*kept, (number, event)]
    return sorted(found.values(), key=lambda pair: pair[1])[-PAIRS_MAX:]


def conflict(one: Event, other: Event) -> bool:
    """Whether two accesses to one place conflict, at least one of them being plain."""
    kinds = {one.kind, other.kind}
    return (
        one.thread != other.thread
        and not kinds.isdisjoint(CHANGES)
        and not kinds.isdisjoint(("read", "write"))
    )


def _apart(one: Raw, other: Raw) -> bool:
    """Whether a lock that both hold, one of them for itself alone, keeps two steps apart."""
    return bool(one.alone & other.held or other.alone & one.held)
