# SPDX-License-Identifier: GPL-2.0-only
"""Which threads of a scenario can change places.

Two threads are interchangeable if the scenario is the same after both have changed places and
file systems of one kind, uuids, backends and micro objects were renamed: then each execution has
a mirror image, with the same verdicts under other names. Inodes and pages are not renamed: that
would find little more.

It rests on the kernel taking pool ids, addresses and the order in which memory is reused as they
come: a backend's ids and freed objects are those of the thread that asks (check/backend.c,
engine/memory.c), so thread 0 alone ever gets pool id 0. A planted bug that takes id 0 for
something else tells threads apart, and none are interchangeable then. A walk over a table (that of
reclaim over all pages) passes by what other threads have there; how much of it depends on
their numbers, and what the walk finds does not.
"""

from collections.abc import Iterable
from itertools import chain
from math import factorial, prod
from typing import Final

from cleanrace.scenario import FileSystem, Operation, Scenario

RENAMED: Final = "sbo"  # letters of operands: file systems, backends, micro objects
TELLING: Final = frozenset({"poolid-unset"})  # planted bugs to which a thread's ids matter


class _Swap:
    """Names that change places, two and two; a name that is not in it stays as it is."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, int], int] = {}

    def add(self, letter: str, one: int, other: int) -> bool:
        """`one` and `other` change places; False if one of them does so with a third."""
        names = self.names
        fits = names.setdefault((letter, one), other) == other
        return names.setdefault((letter, other), one) == one and fits

    def of(self, letter: str, name: int) -> int:
        """The name that takes its place."""
        return self.names.get((letter, name), name)


def _swapped(operation: Operation, swap: _Swap) -> Operation:
    named = zip(operation.letters, operation.operands, strict=True)
    return Operation(operation.name, tuple(swap.of(letter, operand) for letter, operand in named))


def _aligned(one: Operation, other: Operation, swap: _Swap) -> bool:
    """Whether `other` is `one` after some renaming, which goes into `swap`."""
    if one.name != other.name:
        return False
    operands = zip(one.letters, one.operands, other.operands, strict=True)
    return all(swap.add(letter, a, b) if letter in RENAMED else a == b for letter, a, b in operands)


def _preserves(swap: _Swap, file_systems: tuple[FileSystem, ...]) -> bool:
    """Whether file systems that change places are alike, up to a renaming of uuids."""
    uuids = _Swap()
    for number, one in enumerate(file_systems):
        other = file_systems[swap.of("s", number)]
        if (one.kind, one.handles) != (other.kind, other.handles):
            return False
        if one.kind == "shared" and not uuids.add("u", one.uuid, other.uuid):
            return False
    return True


def _can_swap(scenario: Scenario, one: int, other: int) -> bool:
    threads = scenario.threads
    if len(threads[one]) != len(threads[other]):
        return False
    swap = _Swap()
    if not all(_aligned(a, b, swap) for a, b in zip(threads[one], threads[other], strict=True)):
        return False
    others: Iterable[Operation] = chain.from_iterable(
        thread for number, thread in enumerate(threads) if number not in (one, other)
    )
    return _preserves(swap, scenario.file_systems) and all(
        _swapped(operation, swap) == operation for operation in others
    )


def twins(scenario: Scenario, *, planted: Iterable[str] = ()) -> tuple[int | None, ...]:
    """For each thread the nearest one before it that it can change places with, or None.

    planted: the bugs that are planted in the target.
    """
    if not TELLING.isdisjoint(planted):
        return (None,) * len(scenario.threads)
    return tuple(
        next((one for one in range(other - 1, -1, -1) if _can_swap(scenario, one, other)), None)
        for other in range(len(scenario.threads))
    )


def families(
    scenario: Scenario, *, planted: Iterable[str] = ()
) -> tuple[tuple[int, ...], ...]:
    """The sets of at least two threads that can change places, each in its order."""
    found: dict[int, list[int]] = {}
    eldest: dict[int, int] = {}
    for thread, twin in enumerate(twins(scenario, planted=planted)):
        eldest[thread] = thread if twin is None else eldest[twin]
        found.setdefault(eldest[thread], []).append(thread)
    return tuple(tuple(family) for family in found.values() if len(family) > 1)


def images(scenario: Scenario, *, planted: Iterable[str] = ()) -> int:
    """The ways to rename its threads: as many images has an execution that is not its own."""
    return prod(factorial(len(family)) for family in families(scenario, planted=planted))
