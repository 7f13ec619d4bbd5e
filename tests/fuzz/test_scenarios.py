# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios within a bound, against a slow and obvious way to list them."""

from collections.abc import Iterator
from itertools import permutations, product

import pytest

import cleanrace
from cleanrace import FileSystem, Operation, Scenario, Target, model, words
from fuzz import scenarios
from fuzz.scenarios import Limits

PAGES = ("read", "write", "writeback", "reclaim", "truncate")


def operations(fs: int) -> list[Operation]:
    """Everything that can be done to a file system."""
    made = [Operation(kind, (fs,)) for kind in ("mount", "unmount", "remount")]
    places = list(product((0, 1), (0, 1)))
    made += [Operation(kind, (fs, *place)) for kind in PAGES for place in places]
    return [*made, Operation("delete", (fs, 0)), Operation("delete", (fs, 1))]


def useful(systems: tuple[FileSystem, ...], thread: tuple[Operation, ...]) -> bool:
    """Whether each operation finds something to do, says the sequential model.

    It does if it neither fails nor leaves the model as it was; what reads or mounts always does.
    """
    state = model.Model(Scenario(systems, (thread,)))
    for operation in thread:
        before = repr((state._supers, state._disks))
        result = state.perform(operation)
        after = repr((state._supers, state._disks))
        changes = operation.name in ("read", "remount", "mount", "write") or before != after
        if not changes or result in (model.EINVAL, model.ENOENT, model.END_OF_FILE):
            return False
    return True


def fits(threads: tuple[tuple[Operation, ...], ...], row: Limits) -> bool:
    names = [operation.name for thread in threads for operation in thread]
    mounts, remounts = names.count("mount"), names.count("remount")
    pages = sum(operation.letters.startswith("si") for thread in threads for operation in thread)
    return (
        mounts <= row.mounts
        and names.count("unmount") <= row.unmounts
        and pages <= row.pages
        and remounts <= (1 if mounts <= 2 else 0)
    )


def alone(kind: str, number: int, row: Limits) -> list[tuple[Operation, ...]]:
    """Every useful thread of one file system."""
    systems = tuple(FileSystem(kind, uuid=n if kind == "shared" else 0) for n in range(row.mounts))
    found: list[tuple[Operation, ...]] = []
    longer: list[tuple[Operation, ...]] = [()]
    while longer:
        longer = [(*thread, op) for thread in longer for op in operations(number)]
        longer = [thread for thread in longer if fits((thread,), row) and useful(systems, thread)]
        found += longer
    return found


def slow(row: Limits) -> Iterator[Scenario]:
    """Every scenario of a row with threads together, with any names."""
    fine = {(kind, number): alone(kind, number, row)
            for kind, number in product(words.KINDS, range(row.mounts))}
    for count in range(1, row.mounts + 1):
        for kinds in product(words.KINDS, repeat=count):
            uuids = [range(count) if kind == "shared" else (0,) for kind in kinds]
            for given in product(*uuids):
                systems = tuple(map(lambda k, u: FileSystem(k, uuid=u), kinds, given))
                for threads in product(*(fine[k, n] for n, k in enumerate(kinds))):
                    if not fits(threads, row):
                        continue
                    for registrations in range(1, row.registrations + 1):
                        first = tuple((Operation("register", (n,)),) for n in range(registrations))
                        try:
                            yield Scenario(systems, first + threads)
                        except ValueError as error:
                            assert "uuid" in str(error)  # noqa: PT017 - twins have no pages


def canonical(scenario: Scenario) -> str:
    """The smallest text among all namings of the same scenario."""
    count = len(scenario.file_systems)
    texts = []
    for order in permutations(range(count)):
        at = {old: new for new, old in enumerate(order)}
        systems = [scenario.file_systems[old] for old in order]
        names: dict[int, int] = {}
        for fs in systems:
            if fs.kind == "shared":
                names.setdefault(fs.uuid, len(names))
        named = [FileSystem(fs.kind, uuid=names[fs.uuid] if fs.kind == "shared" else 0)
                 for fs in systems]
        threads = [
            tuple(op if op.file_system is None else
                  Operation(op.name, (at[op.operands[0]], *op.operands[1:])) for op in thread)
            for thread in scenario.threads
        ]
        texts += [
            Scenario(tuple(named), tuple(sorted(swapped, key=repr))).to_text()
            for swapped in product(*(namings(thread) for thread in threads))
        ]
    return min(texts)


def namings(thread: tuple[Operation, ...]) -> Iterator[tuple[Operation, ...]]:
    """The thread with its inodes, and pages that may be, named in every way."""
    files = [op for op in thread if op.letters.startswith("si")]
    if not files:
        yield thread
        return
    for inodes in permutations((0, 1)):
        flips = []
        for inode in (0, 1):
            cut = any(op.name in ("truncate", "delete") and op.operands[1] == inode for op in files)
            flips.append((0,) if cut else (0, 1))
        for flip in product(*flips):
            yield tuple(
                op if op not in files else
                Operation(op.name, (op.operands[0], inodes[op.operands[1]],
                                    *(p ^ flip[op.operands[1]] for p in op.operands[2:])))
                for op in thread
            )


@pytest.mark.parametrize(
    "row",
    [
        Limits(2, 1, 1, 0),
        Limits(1, 2, 1, 0),
        pytest.param(Limits(1, 1, 0, 2), marks=pytest.mark.long),
        pytest.param(Limits(1, 2, 0, 1), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_the_scenarios_are_those_of_the_slow_way(row: Limits):
    fast = [scenarios.scenario(shape) for shape in scenarios.within([row])]
    assert len({canonical(scenario) for scenario in fast}) == len(fast)
    assert {canonical(scenario) for scenario in fast} == set(map(canonical, slow(row)))


@pytest.mark.long
def test_the_default_bound_has_so_many_scenarios():
    within = scenarios.within(scenarios.parse("default"))
    assert len(within) == len(set(within)) == 37676
    assert len(scenarios.uncovered(within)) == 12456


def covers(more: Scenario, less: Scenario) -> bool:
    """Whether the threads of `less` begin threads of `more`, for some naming of file systems."""
    count = len(less.file_systems)
    for chosen in permutations(range(len(more.file_systems)), count):
        kinds = [(more.file_systems[n].kind, less.file_systems[m].kind)
                 for m, n in enumerate(chosen)]
        uuids = [(more.file_systems[n].uuid, less.file_systems[m].uuid)
                 for m, n in enumerate(chosen) if less.file_systems[m].kind == "shared"]
        same = all((a[0] == b[0]) == (a[1] == b[1]) for a in uuids for b in uuids)
        if not same or any(a != b for a, b in kinds):
            continue
        named = [
            tuple(op if op.file_system is None else
                  Operation(op.name, (chosen[op.operands[0]], *op.operands[1:])) for op in thread)
            for thread in less.threads
        ]
        longer = [thread for whole in more.threads for thread in namings(whole)]
        if all(any(whole[: len(thread)] == thread for whole in longer) for thread in named):
            return True
    return False


def test_what_is_covered_is_the_beginning_of_something_explored():
    shapes = scenarios.within(scenarios.parse("1/2/1/0+1/1/1/1"))
    left = [scenarios.scenario(shape) for shape in scenarios.uncovered(shapes)]
    every = [scenarios.scenario(shape) for shape in shapes]
    for scenario in every:
        assert any(covers(more, scenario) for more in left), scenario.to_text()
        if scenario in left:
            assert not any(covers(more, scenario) for more in every if more != scenario)
    assert set(scenarios.covered_by(scenarios.uncovered(shapes))) == set(shapes)


def test_verdicts_of_what_is_covered_show_in_what_is_explored(real: Target):
    shapes = scenarios.within(scenarios.parse("1/2/1/0"))
    left = scenarios.uncovered(shapes)
    violated = {shape: cleanrace.explore(real, scenarios.scenario(shape)).violations.keys()
                for shape in shapes}
    for shape in left:
        for less in scenarios.covered_by([shape]):
            assert violated[less] <= violated[shape]
    assert {"init-twice", "pool-leak"} == set().union(*violated.values())


def test_names_do_not_matter(real: Target):
    """What symmetry rests on, on scenarios that differ in their names only."""
    twins = "fs a shared uuid 1 / fs b shared uuid 1"
    first_page, other_page = "read a 0 1; read a 1 0", "read b 1 0; read b 0 0"
    same = [
        (
            f"fs a local / fs b shared / thread register 0 / thread mount a; {first_page}",
            f"fs a shared uuid 2 / fs b local / thread mount b; {other_page} / thread register 3",
        ),
        (
            f"{twins} / thread register 0 / thread mount a; remount a / thread mount b",
            f"{twins} / thread mount a / thread mount b; remount b / thread register 1",
        ),
    ]
    for lines in same:
        first, second = (cleanrace.explore(real, scenarios.from_line(line)) for line in lines)
        for name in ("done", "executions", "classes", "states", "violations"):
            assert getattr(first, name) == getattr(second, name), name


def test_a_line_says_the_whole_scenario():
    for shape in scenarios.within(scenarios.parse("2/2/1/1"))[::50]:
        scenario = scenarios.scenario(shape)
        line = scenarios.line(scenario)
        assert "\n" not in line
        assert scenarios.from_line(line) == scenario


def test_page_operations_may_have_a_thread_of_their_own():
    shapes = scenarios.within(scenarios.parse("1/1/0/1:apart"))
    made = [scenarios.scenario(shape) for shape in shapes]
    threads = {tuple(tuple(op.name for op in thread) for thread in scenario.threads)
               for scenario in made}
    assert (("register",), ("mount",), ("read",)) in threads
    assert (("register",), ("mount", "read")) not in threads


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("huge", "expected default, small, apart, larger, or numbers"),
        ("1/2/3", "expected default"),
        ("0/1/1/1", "expected 1 to 3 registrations"),
        ("1/9/1/1", "expected 1 to 4 mounts"),
        ("1/1/1/1:alone", "expected together or apart"),
        ("1/1/1/-1", "expected default"),
        ("", "expected default"),
    ],
)
def test_a_wrong_bound_is_one_line(text: str, said: str):
    with pytest.raises(scenarios.BadBound, match=said) as error:
        scenarios.parse(text)
    assert "\n" not in str(error.value)


def test_a_bound_reads_back():
    for text in (*scenarios.NAMED, "1/2/3/4:apart"):
        rows = scenarios.parse(text)
        assert scenarios.parse(scenarios.name(rows)) == rows
