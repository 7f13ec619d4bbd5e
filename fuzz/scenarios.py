# SPDX-License-Identifier: GPL-2.0-only
"""Every scenario within a bound, up to symmetry: what `prove` explores.

A bound is one or more rows of limits; a scenario is within it if it is within one of them. Within
the row "R/M/U/P" are the scenarios with 1 to R registrations, 1 to M mounts, 0 to U unmounts, 0 to
P page operations and, where they mount at most twice, 0 or 1 remount, in which

* each registration has a thread of its own and registers a backend of its own;
* each file system is local, shared or none, and is mounted at least once, possibly again and
  possibly while it is mounted; keys are inode numbers, ids that were given back are used again,
  backends have no limit, and no init callback fails;
* shared file systems have equal or different uuids; page operations on those that share
  a uuid are left out, because the decoder has none;
* page operations are read, write, writeback, reclaim, truncate and delete, on two inodes of two
  pages each;
* the operations of one file system share one thread ("R/M/U/P" or "R/M/U/P:together"), or its page
  operations have a second one ("R/M/U/P:apart").

Left out are scenarios with an operation that finds nothing to do in any schedule, because earlier
ones of its thread decide that: an unmount, remount or page operation where the file system is
not mounted, a read, truncation or deletion of what does not exist, a writeback of a page that is
not dirty, a reclaim of one that is dirty or not cached. (In a thread of page operations alone,
what another thread does may change that. There, only a writeback or reclaim of a page that the
thread has not touched since it is left out.) A scenario without a registration is the beginning
of those with one.

Symmetry: renaming threads, file systems of the same kind, uuids, backends and inodes gives the
same executions under other names. So does renaming the two pages of a file that is neither
truncated nor deleted. One scenario stands for all of them.

A scenario is covered by another one if each of its threads is the beginning of a thread of the
other, which does more afterwards or has more threads. Each of its executions is then the beginning
of one of the other's, and a verdict that is reached stays: so only scenarios that nothing covers
have to be explored, and all others within the bound hold with them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from cleanrace import FileSystem, Operation, Scenario, words

NAMED: Final = {
    "default": "2/3/2/0+2/2/2/1+1/2/2/2",
    "small": "2/2/1/0+1/1/1/1",
    "apart": "1/2/1/1:apart",
    "larger": "2/3/3/0+2/2/2/2+1/2/2/3",
}
REMOUNT_MOUNTS: Final = 2  # scenarios with at most so many mounts may have a remount
LIMITS: Final = {"registrations": (1, 3), "mounts": (1, 4), "unmounts": (0, 4), "pages": (0, 4)}
THREADS: Final = ("together", "apart")
PAGE_OPERATIONS: Final = ("read", "write", "writeback", "reclaim", "truncate", "delete")

# An operation of a thread without its file system, ("read", inode, page); a thread; the threads
# of one file system; and the number of its mounts, unmounts, page operations and remounts.
Op = tuple[str | int, ...]
Ops = tuple[Op, ...]
Threads = tuple[Ops, ...]
Counts = tuple[int, int, int, int]


class BadBound(ValueError):
    """A bound that cannot be; str() is one line."""


class Limits(NamedTuple):
    """One row of a bound."""

    registrations: int
    mounts: int
    unmounts: int
    pages: int
    threads: str = "together"

    def __str__(self) -> str:
        numbers = "/".join(map(str, self[:4]))
        return numbers if self.threads == THREADS[0] else f"{numbers}:{self.threads}"


class Shape(NamedTuple):
    """A scenario in its canonical form.

    plain: the file systems that are not shared, as (kind, threads). groups: the shared ones, those
    with one uuid in one group.
    """

    registrations: int
    plain: tuple[tuple[str, Threads], ...]
    groups: tuple[tuple[Threads, ...], ...]


def parse(text: str) -> tuple[Limits, ...]:
    """The rows of a bound by its name or as numbers, "2/3/2/0+1/2/2/2:apart"."""
    rows = []
    for row in NAMED.get(text, text).split("+"):
        numbers, colon, threads = row.partition(":")
        parts = numbers.split("/")
        if len(parts) != len(LIMITS) or not all(p.isascii() and p.isdigit() for p in parts):
            raise BadBound(
                f"--bound {text[:60]}: expected {', '.join(NAMED)}, or numbers of registrations/"
                "mounts/unmounts/page operations such as 2/3/2/0, several joined by +"
            )
        for part, (what, (least, most)) in zip(parts, LIMITS.items(), strict=True):
            if not least <= int(part[:3]) <= most:
                raise BadBound(f"--bound {text[:60]}: expected {least} to {most} {what}")
        if colon and threads not in THREADS:
            raise BadBound(f"--bound {text[:60]}: expected {' or '.join(THREADS)} after the colon")
        rows.append(Limits(*map(int, parts), threads=threads or THREADS[0]))
    return tuple(rows)


def name(rows: Iterable[Limits]) -> str:
    """The rows as text; parse() reads it."""
    return "+".join(map(str, rows))


@dataclass
class State:
    """What the operations of one thread make of its file system, whatever the others do.

    files: size of each inode, None after its deletion. cache: the cached pages, and whether each
    is dirty.
    """

    mounts: int = 0
    files: tuple[int | None, ...] = (words.PAGES,) * words.INODES
    cache: tuple[tuple[int, int, bool], ...] = ()

    def after(self, op: Op) -> "State | None":
        """The state after an operation; None if that finds nothing to do."""
        kind = op[0]
        if kind == "mount":
            return State(self.mounts + 1, self.files, self.cache)
        if not self.mounts:
            return None
        if kind == "unmount":
            cache = self.cache if self.mounts > 1 else ()
            return State(self.mounts - 1, self.files, cache)
        return self if kind == "remount" else self._page_operation(op)

    def _page_operation(self, op: Op) -> "State | None":
        kind, inode = op[0], int(op[1])
        size = self.files[inode]
        if kind == "delete":
            return None if size is None else self._cut(inode, 0, None)
        page = int(op[2])
        cached = {(i, p): dirty for i, p, dirty in self.cache}
        if kind == "write":
            cached[inode, page] = True
            size = max(size or 0, page + 1)
        elif size is None or (kind in ("read", "truncate") and page >= size):
            return None
        elif kind == "truncate":
            return self._cut(inode, page, page)
        elif kind == "read":
            cached.setdefault((inode, page), False)
        elif cached.get((inode, page)) is not (kind == "writeback"):
            return None
        elif kind == "writeback":
            cached[inode, page] = False
        else:
            del cached[inode, page]
        return self._with(inode, size, ((i, p, dirty) for (i, p), dirty in cached.items()))

    def _cut(self, inode: int, page: int, size: int | None) -> "State":
        """The pages from `page` on are gone."""
        left = (item for item in self.cache if item[0] != inode or item[1] < page)
        return self._with(inode, size, left)

    def _with(
        self, inode: int, size: int | None, cache: Iterable[tuple[int, int, bool]]
    ) -> "State":
        files = tuple(size if n == inode else old for n, old in enumerate(self.files))
        return State(self.mounts, files, tuple(cache))


@dataclass
class Apart:
    """What is known of a thread of page operations alone: the pages it has touched."""

    touched: frozenset[tuple[int, int]] = frozenset()

    def after(self, op: Op) -> "Apart | None":
        """The state after an operation; None if that finds nothing to do."""
        kind, inode = op[0], int(op[1])
        if kind == "delete":
            return self
        place = (inode, int(op[2]))
        if kind in ("read", "write"):
            return Apart(self.touched | {place})
        if kind in ("writeback", "reclaim") and place not in self.touched:
            return None
        return Apart(self.touched - {place}) if kind == "reclaim" else self


def _page_operations() -> tuple[Op, ...]:
    places = list(product(range(words.INODES), range(words.PAGES)))
    ops: list[Op] = [(kind, *place) for kind in PAGE_OPERATIONS[:-1] for place in places]
    return (*ops, *((PAGE_OPERATIONS[-1], inode) for inode in range(words.INODES)))


PAGE_OPS: Final = _page_operations()
OWN_OPS: Final[tuple[Op, ...]] = (("mount",), ("unmount",), ("remount",))


@cache
def renamed(ops: Ops) -> Ops:
    """A thread's operations with its inodes and pages named in the order in which they come."""
    inodes: dict[int, int] = {}
    for op in ops:
        if len(op) > 1:
            inodes.setdefault(int(op[1]), len(inodes))
    swapped = {
        inode: next(int(op[2]) for op in ops if len(op) > 2 and op[1] == inode)
        for inode in inodes
        if not any(op[0] in ("truncate", "delete") and op[1] == inode for op in ops)
    }
    return tuple(
        op
        if len(op) == 1
        else (op[0], inodes[int(op[1])], *(int(p) ^ swapped.get(int(op[1]), 0) for p in op[2:]))
        for op in ops
    )


def counts(threads: Threads) -> Counts:
    """Mounts, unmounts, page operations and remounts of one file system."""
    kinds = [op[0] for ops in threads for op in ops]
    own = [kinds.count(kind) for kind in ("mount", "unmount", "remount")]
    return own[0], own[1], len(kinds) - sum(own), own[2]


def _room(row: Limits) -> Counts:
    return row.mounts, row.unmounts, row.pages, 1


def _fits(made: Counts, room: Counts) -> bool:
    """Whether there is room for so much, with a remount only where few mounts are."""
    remounts = made[3] == 0 or made[0] <= REMOUNT_MOUNTS
    return remounts and all(a <= b for a, b in zip(made, room, strict=True))


def _walk(state: State | Apart, ops: tuple[Op, ...], room: Counts) -> Iterator[Ops]:
    """Every canonical thread of such operations with room for it, the empty one first."""

    def grow(thread: Ops, now: State | Apart) -> Iterator[Ops]:
        if renamed(thread) == thread:
            yield thread
        # The beginning of a canonical thread need not be one: a deletion tells pages apart.
        for op in ops:
            then = now.after(op)
            longer = (*thread, op)
            if then is not None and _fits(counts((longer,)), room):
                yield from grow(longer, then)

    return grow((), state)


def threads(row: Limits) -> list[Threads]:
    """Everything that one file system's threads may do within a row."""
    room = _room(row)
    if row.threads == "together":
        return [(thread,) for thread in _walk(State(), OWN_OPS + PAGE_OPS, room) if thread]
    own = [thread for thread in _walk(State(), OWN_OPS, room) if thread]
    pages = [*_walk(Apart(), PAGE_OPS, room)]
    return [(thread, *filter(None, (more,))) for thread in own for more in pages]


def _shapes(row: Limits) -> Iterator[Shape]:
    """Every shape within a row, some of them several times."""
    by_counts: dict[Counts, list[tuple[str, Threads]]] = defaultdict(list)
    for one in threads(row):
        by_counts[counts(one)] += [(kind, one) for kind in words.KINDS]
    for systems in _choices(sorted(by_counts.items()), _room(row)):
        for uuids in _partitions(sum(kind == "shared" for kind, _ in systems)):
            for registrations in range(1, row.registrations + 1):
                found = _shape(registrations, systems, uuids)
                if found is not None:
                    yield found


def _choices(
    groups: list[tuple[Counts, list[tuple[str, Threads]]]], room: Counts
) -> Iterator[tuple[tuple[str, Threads], ...]]:
    """The ways to choose file systems that there is room for together, in any order."""

    def choose(
        group: int, item: int, chosen: tuple[tuple[str, Threads], ...], made: Counts
    ) -> Iterator[tuple[tuple[str, Threads], ...]]:
        if chosen:
            yield chosen
        for at in range(group, len(groups)):
            more, items = groups[at]
            total = (made[0] + more[0], made[1] + more[1], made[2] + more[2], made[3] + more[3])
            if _fits(total, room):
                for number in range(item if at == group else 0, len(items)):
                    yield from choose(at, number, (*chosen, items[number]), total)

    return choose(0, 0, (), (0, 0, 0, 0))


def _partitions(count: int) -> list[tuple[int, ...]]:
    """The ways to give `count` things names that may be equal: (0, 0), (0, 1)."""
    ways: list[tuple[int, ...]] = [()]
    for _ in range(count):
        ways = [(*way, new) for way in ways for new in range(max(way, default=-1) + 2)]
    return ways


def _shape(
    registrations: int, systems: Iterable[tuple[str, Threads]], uuids: tuple[int, ...]
) -> Shape | None:
    """The canonical form; None if it has page operations on twins."""
    plain: list[tuple[str, Threads]] = []
    groups: dict[int, list[Threads]] = defaultdict(list)
    given = iter(uuids)
    for kind, one in systems:
        if kind == "shared":
            groups[next(given)].append(one)
        else:
            plain.append((kind, one))
    if any(len(group) > 1 and any(counts(one)[2] for one in group) for group in groups.values()):
        return None
    return Shape(
        registrations,
        tuple(sorted(plain, key=repr)),
        tuple(sorted((tuple(sorted(group, key=repr)) for group in groups.values()), key=repr)),
    )


def _shorter(shape: Shape) -> Iterator[Shape]:
    """The shapes that have one operation less, at the end of a thread."""
    if shape.registrations > 1:
        yield shape._replace(registrations=shape.registrations - 1)
    systems = list(shape.plain)
    uuids: list[int] = []
    for number, group in enumerate(shape.groups):
        systems += [("shared", one) for one in group]
        uuids += [number] * len(group)
    for at, (kind, one) in enumerate(systems):
        for number, thread in enumerate(one):
            cut = (*one[:number], renamed(thread[:-1]), *one[number + 1 :])
            left = tuple(filter(None, cut))
            rest = [*systems]
            names = [*uuids]
            if counts(left)[0]:
                rest[at] = (kind, left)
            elif counts(left)[2]:
                continue  # page operations on what is never mounted
            else:
                del rest[at]
                if kind == "shared":
                    del names[at - len(shape.plain)]
            if rest:
                less = _shape(shape.registrations, rest, tuple(names))
                assert less is not None
                yield less


def within(rows: Iterable[Limits]) -> list[Shape]:
    """Every shape within the bound, the ones with fewer operations first."""
    found = {shape for row in rows for shape in _shapes(row)}
    return sorted(found, key=lambda shape: (size(shape), repr(shape)))


def uncovered(shapes: Iterable[Shape]) -> list[Shape]:
    """Those of `shapes` that no other one of them covers, in their order."""
    listed = list(shapes)
    covered = {less for shape in listed for less in _shorter(shape)}
    return [shape for shape in listed if shape not in covered]


def covered_by(shapes: Iterable[Shape]) -> list[Shape]:
    """`shapes` and every one that they cover, the ones with fewer operations first."""
    found: set[Shape] = set()
    new = set(shapes)
    while new:
        found |= new
        new = {less for shape in new for less in _shorter(shape)} - found
    return sorted(found, key=lambda shape: (size(shape), repr(shape)))


def size(shape: Shape) -> int:
    """How many operations it has."""
    systems = [one for _, one in shape.plain] + [one for group in shape.groups for one in group]
    return shape.registrations + sum(len(thread) for one in systems for thread in one)


def scenario(shape: Shape) -> Scenario:
    """The shape as a scenario: registrations first, then the file systems' threads."""
    systems: list[tuple[FileSystem, Threads]] = [
        (FileSystem(kind), one) for kind, one in shape.plain
    ]
    for uuid, group in enumerate(shape.groups):
        systems += [(FileSystem("shared", uuid=uuid), one) for one in group]
    made: list[tuple[Operation, ...]] = [
        (Operation("register", (number,)),) for number in range(shape.registrations)
    ]
    for number, (_, one) in enumerate(systems):
        made += [
            tuple(Operation(str(op[0]), (number, *map(int, op[1:]))) for op in thread)
            for thread in one
        ]
    return Scenario(tuple(fs for fs, _ in systems), tuple(made))


def line(of: Scenario) -> str:
    """A scenario's text in one line, without the format's version."""
    return " / ".join(of.to_text().splitlines()[1:])


def from_line(text: str) -> Scenario:
    """The scenario that line() wrote."""
    first = f"cleanrace {words.FORMAT_VERSION}\n"
    return Scenario.from_text(first + text.replace(" / ", "\n") + "\n")
