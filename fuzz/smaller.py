# SPDX-License-Identifier: GPL-2.0-only
"""Simpler scenarios, and one canonical scenario among those that differ in names only.

smaller() lists what a minimiser tries, the boldest changes first: each is simpler in the order
of rank(): fewer threads, then fewer operations, then plainer ones. canonical() gives threads,
file systems, backends, inodes, pages and uuids their names by first use, in the order of threads
that reads first in an alphabet of operations, so that one bug ends as one scenario.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, permutations
from typing import Any

from cleanrace import FileSystem, Operation, Scenario, words

ARRANGED_MAX = 5  # operations of which every arrangement is listed
PERMUTED_MAX = 5  # threads whose orders are all tried; more than that keep their order
# An operation -> simpler ones that may do instead.
PLAINER = {
    "mount-fail": ("mount",),
    "remount": ("mount",),
    "write": ("read",),
    "truncate": ("reclaim", "read"),
    "delete": ("reclaim", "read"),
    "writeback": ("read",),
    "lock": ("lock-shared",),
}
KINDS = ("none", "local", "shared")  # of file systems, the plainest first
ORDER = {name: number for number, name in enumerate((*words.OPERATIONS, *words.MICRO))}
Threads = tuple[tuple[Operation, ...], ...]


def rank(scenario: Scenario) -> tuple[Any, ...]:
    """How simple a scenario is: less is simpler. Threads, operations, then how plain it is."""
    operations = [operation for thread in scenario.threads for operation in thread]
    return (
        len(scenario.threads),
        len(operations),
        len(scenario.file_systems),
        len(scenario.init_fails),
        scenario.capacity is not None,
        scenario.ids != "reused",
        sorted((KINDS.index(fs.kind), fs.handles, fs.uuid) for fs in scenario.file_systems),
        sum(_depth(operation.name) for operation in operations),
        sum(sum(operation.operands) for operation in operations),
    )


def _depth(name: str) -> int:
    """In how many steps an operation can become simpler."""
    return 1 + max(map(_depth, PLAINER[name])) if name in PLAINER else 0


def smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Valid scenarios of a lower rank, in canonical form, each once."""
    seen = {scenario}
    least = rank(scenario)
    for changed in _changes(scenario):
        try:
            simple = canonical(changed)
        except ValueError:
            continue  # a change that leaves no valid scenario
        if simple not in seen and rank(simple) < least:
            seen.add(simple)
            yield simple


def _changes(scenario: Scenario) -> Iterator[Scenario]:
    yield from _without_threads(scenario)
    yield from _without_operations(scenario)
    yield from _merged_threads(scenario)
    yield from _failed_mounts(scenario)
    if not scenario.micro:
        yield from _plainer_options(scenario)
        yield from _merged_file_systems(scenario)
        yield from _plainer_file_systems(scenario)
        yield from _plainer_operands(scenario)
    yield from _plainer_operations(scenario)


def _with(scenario: Scenario, threads: Sequence[Sequence[Operation]]) -> Iterator[Scenario]:
    """The scenario with these threads, without empty ones; nothing if none is left."""
    left = tuple(tuple(thread) for thread in threads if thread)
    if left:
        yield replace(scenario, threads=left)


def _without_threads(scenario: Scenario) -> Iterator[Scenario]:
    threads = scenario.threads
    for number in range(len(threads)):
        yield from _with(scenario, threads[:number] + threads[number + 1 :])


def _without_operations(scenario: Scenario) -> Iterator[Scenario]:
    """Halves of all operations, quarters, and so on down to single ones, then pairs."""
    places = [(n, at) for n, thread in enumerate(scenario.threads) for at in range(len(thread))]
    size = len(places) // 2
    while size:
        for first in range(0, len(places), size):
            yield from _left_out(scenario, set(places[first : first + size]))
        size //= 2
    for number, one in enumerate(places):
        for other in places[number + 1 :]:
            # What belongs together, such as a mount and its unmount, goes together.
            yield from _left_out(scenario, {one, other})


def _left_out(scenario: Scenario, out: set[tuple[int, int]]) -> Iterator[Scenario]:
    yield from _with(
        scenario,
        [
            [operation for at, operation in enumerate(thread) if (number, at) not in out]
            for number, thread in enumerate(scenario.threads)
        ],
    )


def _merged_threads(scenario: Scenario) -> Iterator[Scenario]:
    """One thread does what two did, one after the other, and in between."""
    threads = scenario.threads
    for one, other in permutations(range(len(threads)), 2):
        rest = [thread for at, thread in enumerate(threads) if at not in (one, other)]
        for cut in range(len(threads[one]) + 1):
            merged = threads[one][:cut] + threads[other] + threads[one][cut:]
            yield from _with(scenario, [merged, *rest])


def _failed_mounts(scenario: Scenario) -> Iterator[Scenario]:
    """A mount that fails is a mount and an unmount in one operation; a second mount fails, too."""
    every = [(n, at) for n, thread in enumerate(scenario.threads) for at in range(len(thread))]
    mounts = [place for place in every if _at(scenario, place).name == "mount"]
    others = [place for place in every if _at(scenario, place).name in ("mount", "unmount")]
    for mount in mounts:
        for other in others:
            same = _at(scenario, mount).operands == _at(scenario, other).operands
            if same and mount != other:
                threads = [list(thread) for thread in scenario.threads]
                threads[mount[0]][mount[1]] = replace(_at(scenario, mount), name="mount-fail")
                del threads[other[0]][other[1]]
                yield from _with(scenario, threads)


def _at(scenario: Scenario, place: tuple[int, int]) -> Operation:
    return scenario.threads[place[0]][place[1]]


def rearranged(scenario: Scenario) -> list[Scenario]:
    """The same operations in as many threads, in every order; canonical, in reading order.

    With more than ARRANGED_MAX operations only those that differ by one operation's place.
    """
    every = [operation for thread in scenario.threads for operation in thread]
    if len(every) <= ARRANGED_MAX:
        made = _arrangements(every, len(scenario.threads))
    else:
        made = _moved(scenario.threads)
    found = {canonical(replace(scenario, threads=threads)) for threads in made}
    return sorted(found, key=reading_order)


def _arrangements(operations: Sequence[Operation], count: int) -> Iterator[Threads]:
    """Every way to deal operations out to so many threads, none empty, in every order."""
    for order in set(permutations(operations)):
        for cuts in combinations(range(1, len(order)), count - 1):
            ends = (0, *cuts, len(order))
            yield tuple(order[begin:end] for begin, end in pairwise(ends))


def _moved(threads: Threads) -> Iterator[Threads]:
    for number, thread in enumerate(threads):
        for at, operation in enumerate(thread):
            rest = [*threads[:number], (*thread[:at], *thread[at + 1 :]), *threads[number + 1 :]]
            for other, one in enumerate(rest):
                for place in range(len(one) + 1):
                    changed = [*rest]
                    changed[other] = (*one[:place], operation, *one[place:])
                    if all(changed):
                        yield tuple(changed)


def _plainer_options(scenario: Scenario) -> Iterator[Scenario]:
    if scenario.init_fails:
        yield replace(scenario, init_fails=frozenset())
        for fails in sorted(scenario.init_fails):
            yield replace(scenario, init_fails=scenario.init_fails - {fails})
    if scenario.capacity is not None:
        yield replace(scenario, capacity=None)
    if scenario.ids != "reused":
        yield replace(scenario, ids="reused")


def _merged_file_systems(scenario: Scenario) -> Iterator[Scenario]:
    count = len(scenario.file_systems)
    for one, other in permutations(range(count), 2):
        yield from _mapped(scenario, "s", {other: one})


def _plainer_file_systems(scenario: Scenario) -> Iterator[Scenario]:
    for number, fs in enumerate(scenario.file_systems):
        plain = [FileSystem(kind) for kind in KINDS[: KINDS.index(fs.kind)]]
        for simpler in (*plain, replace(fs, handles=False), replace(fs, uuid=0)):
            if simpler != fs:
                changed = list(scenario.file_systems)
                changed[number] = simpler
                try:
                    yield replace(scenario, file_systems=tuple(changed))
                except ValueError:
                    continue  # two with one uuid


def _plainer_operands(scenario: Scenario) -> Iterator[Scenario]:
    """One inode, one page, one backend: all operations at once, since they belong together."""
    for letter in "ipb":
        yield from _mapped(scenario, letter, dict.fromkeys(range(8), 0))


def _plainer_operations(scenario: Scenario) -> Iterator[Scenario]:
    for number, thread in enumerate(scenario.threads):
        for at, operation in enumerate(thread):
            for name in PLAINER.get(operation.name, ()):
                count = len(_letters(name))
                simpler = Operation(name, (*operation.operands, 0)[:count])
                changed = [list(one) for one in scenario.threads]
                changed[number][at] = simpler
                yield from _with(scenario, changed)


def _letters(name: str) -> str:
    return words.OPERATIONS.get(name) or words.MICRO[name]


def _mapped(scenario: Scenario, letter: str, numbers: dict[int, int]) -> Iterator[Scenario]:
    """The scenario with the operands of one kind renamed, if that can be."""
    threads = tuple(
        tuple(
            Operation(
                operation.name,
                tuple(
                    numbers.get(value, value) if which == letter else value
                    for which, value in zip(operation.letters, operation.operands, strict=True)
                ),
            )
            for operation in thread
        )
        for thread in scenario.threads
    )
    try:
        yield replace(scenario, threads=threads)
    except ValueError:
        return  # page operations on twins


def canonical(scenario: Scenario) -> Scenario:
    """The scenario that stands for all that differ from it in names and order of threads only."""
    threads = scenario.threads
    if len(threads) > PERMUTED_MAX:
        return _renamed(scenario)
    orders = [_renamed(replace(scenario, threads=order)) for order in permutations(threads)]
    return min(orders, key=reading_order) if orders else scenario


def reading_order(scenario: Scenario) -> tuple[Any, ...]:
    """Which of two scenarios with the same operations comes first."""
    threads = tuple(
        tuple((ORDER[operation.name], *operation.operands) for operation in thread)
        for thread in scenario.threads
    )
    systems = tuple((fs.kind, fs.uuid, fs.handles) for fs in scenario.file_systems)
    return threads, systems


def _renamed(scenario: Scenario) -> Scenario:
    """Names by first use. File systems that nobody uses go, as long as one is left."""
    names: dict[tuple[Any, ...], dict[int, int]] = {}
    kept = _kept_pages(scenario)

    def name(space: tuple[Any, ...], value: int) -> int:
        known = names.setdefault(space, {})
        return known.setdefault(value, len(known))

    threads = []
    for thread in scenario.threads:
        made = []
        for operation in thread:
            operands = []
            fs = inode = 0
            for letter, value in zip(operation.letters, operation.operands, strict=True):
                if letter == "p" and (fs, inode) in kept:
                    operands.append(value)
                    continue
                space = {"i": ("i", fs), "p": ("p", fs, inode)}.get(letter, (letter,))
                operands.append(name(space, value))
                fs, inode = (value if letter == "s" else fs), (value if letter == "i" else inode)
            made.append(Operation(operation.name, tuple(operands)))
        threads.append(tuple(made))
    used = names.get(("s",), {})
    systems = [scenario.file_systems[old] for old in sorted(used, key=used.__getitem__)]
    if not scenario.micro and not systems:
        systems = [FileSystem("none")]
    uuids: dict[int, int] = {}
    for number, fs in enumerate(systems):
        if fs.kind == "shared":
            systems[number] = replace(fs, uuid=uuids.setdefault(fs.uuid, len(uuids)))
    return replace(scenario, file_systems=tuple(systems), threads=tuple(threads))


def _kept_pages(scenario: Scenario) -> frozenset[tuple[int, int]]:
    """Files whose pages keep their order, since they are cut off somewhere."""
    return frozenset(
        (operation.operands[0], operation.operands[1])
        for thread in scenario.threads
        for operation in thread
        if operation.name == "truncate"
    )
