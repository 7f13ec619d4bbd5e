# SPDX-License-Identifier: GPL-2.0-only
"""Simpler scenarios: valid, of lower rank, and one name for all that differ in names only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleanrace import FileSystem, Operation, Scenario, strategies, words
from fuzz import smaller

FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
DRAWN = strategies.scenarios(threads_max=4, length_max=5)
LARGE = Scenario.from_text(
    "cleanrace 1\ncapacity 2\nids growing\nfs a local handles\nfs b shared uuid 1\nfs c none\n"
    "thread mount b; write b 0 0\nthread register 1; register 0\nthread mount a; read a 1 1\n"
    "thread mount c; unmount c\n"
)


def scenario(*threads: str, systems: Sequence[str] = ("local", "local")) -> Scenario:
    lines = [f"fs {'abcdef'[number]} {system}" for number, system in enumerate(systems)]
    lines += [f"thread {thread}" for thread in threads]
    return Scenario.from_text("\n".join(["cleanrace 1", *lines]) + "\n")


def operations(one: Scenario) -> Counter[Operation]:
    return Counter(operation for thread in one.threads for operation in thread)


def names(one: Scenario) -> Counter[str]:
    return Counter(operation.name for operation in operations(one).elements())


@st.composite
def renamed(draw: st.DrawFn) -> tuple[Scenario, Scenario]:
    """A scenario, and one that differs from it in the order of threads and in names only."""
    one = draw(DRAWN)
    systems = list(range(len(one.file_systems)))
    order = draw(st.permutations(systems))  # old number -> new number
    backends = draw(st.permutations(range(words.BACKENDS_MAX)))
    inodes = {fs: draw(st.permutations(range(words.INODES))) for fs in systems}
    # Pages that a truncation cuts off keep their order.
    cut = {o.operands[:2] for o in operations(one) if o.name == "truncate"}
    pages = {
        (fs, inode): range(words.PAGES)
        if (fs, inode) in cut
        else draw(st.permutations(range(words.PAGES)))
        for fs in systems
        for inode in range(words.INODES)
    }
    uuids = draw(st.permutations(range(words.UUIDS)))

    def name(operation: Operation) -> Operation:
        values: dict[str, int] = dict(zip(operation.letters, operation.operands, strict=True))
        new: dict[str, int] = {}
        if "b" in values:
            new["b"] = backends[values["b"]]
        if "s" in values:
            new["s"] = order[values["s"]]
        if "i" in values:
            new["i"] = inodes[values["s"]][values["i"]]
        if "p" in values:
            new["p"] = pages[values["s"], values["i"]][values["p"]]
        return Operation(operation.name, tuple(new[letter] for letter in operation.letters))

    moved: Mapping[int, FileSystem] = {order[old]: one.file_systems[old] for old in systems}
    changed = [
        replace(fs, uuid=uuids[fs.uuid]) if fs.kind == "shared" else fs
        for fs in (moved[number] for number in systems)
    ]
    threads = draw(st.permutations(one.threads))
    other = replace(
        one,
        file_systems=tuple(changed),
        threads=tuple(tuple(map(name, thread)) for thread in threads),
    )
    return one, other


@FEW
@given(renamed())
def test_names_and_order_of_threads_do_not_matter(two: tuple[Scenario, Scenario]):
    one, other = two
    assert smaller.canonical(one) == smaller.canonical(other)


@FEW
@given(DRAWN | strategies.scenarios(micro=True, threads_max=4, length_max=5))
def test_the_canonical_form_of_a_canonical_form_is_itself(one: Scenario):
    canonical = smaller.canonical(one)
    assert smaller.canonical(canonical) == canonical
    assert Scenario.from_bytes(canonical.to_bytes()) == canonical
    assert names(canonical) == names(one)
    assert len(canonical.threads) == len(one.threads)


@pytest.mark.parametrize(
    ("one", "canonical"),
    [
        (scenario("mount b", "register 1"),
         scenario("register 0", "mount a", systems=("local",))),
        (scenario("read b 1 1; read b 0 1; read b 0 0"),
         scenario("read a 0 0; read a 1 0; read a 1 1", systems=("local",))),
        (scenario("truncate a 1 1; read a 1 0"),
         scenario("truncate a 0 1; read a 0 0", systems=("local",))),
        (scenario("mount b", "mount a", systems=("shared uuid 3", "shared uuid 2")),
         scenario("mount a", "mount b", systems=("shared", "shared uuid 1"))),
        (scenario("register 2; register 1; register 2", systems=("local",)),
         scenario("register 0; register 1; register 0", systems=("none",))),
    ],
)
def test_names_go_by_first_use(one: Scenario, canonical: Scenario):
    assert smaller.canonical(one) == canonical


def test_different_scenarios_stay_different():
    listed = [
        scenario("register 0", "mount a"),
        scenario("register 0; mount a"),
        scenario("mount a; register 0"),
        scenario("register 0", "mount a", systems=("shared", "local")),
        scenario("register 0", "mount a; mount b"),
        scenario("register 0", "mount a; mount a"),
    ]
    assert len(set(map(smaller.canonical, listed))) == len(listed)


@settings(FEW, max_examples=25)
@given(
    strategies.scenarios(threads_max=3, length_max=4)
    | strategies.scenarios(micro=True, threads_max=3, length_max=4)
)
def test_what_is_smaller_is_valid_and_of_a_lower_rank(one: Scenario):
    listed = list(smaller.smaller(one))
    assert len(listed) == len(set(listed))
    for simple in listed:
        assert Scenario.from_bytes(simple.to_bytes()) == simple
        assert smaller.rank(simple) < smaller.rank(one)
        assert smaller.canonical(simple) == simple


def test_a_large_scenario_has_every_kind_of_simpler_one():
    listed = list(smaller.smaller(LARGE))
    threads = Counter(len(one.threads) for one in listed)
    sizes = Counter(sum(operations(one).values()) for one in listed)
    assert set(threads) == {2, 3, 4}
    assert set(sizes) == {4, 6, 7, 8}
    assert any(one.capacity is None for one in listed)
    assert any(one.ids == "reused" for one in listed)
    assert any(len(one.file_systems) == 2 for one in listed)
    assert any(names(one)["mount-fail"] for one in listed)
    # Any single operation can go, and the boldest changes come first.
    assert sizes[7] >= 8
    assert len(listed[0].threads) == 3


def test_nothing_is_smaller_than_the_smallest():
    assert list(smaller.smaller(scenario("mount a", systems=("none",)))) == []
    [read] = smaller.smaller(scenario("write a 0 0", systems=("none",)))
    assert read == scenario("read a 0 0", systems=("none",))


def test_two_mounts_can_be_one_that_fails():
    one = scenario("mount a; mount a", systems=("none",))
    assert scenario("mount-fail a", systems=("none",)) in list(smaller.smaller(one))
    one = scenario("register 0", "mount a; unmount a", systems=("none",))
    assert scenario("register 0", "mount-fail a", systems=("none",)) in list(smaller.smaller(one))


@settings(FEW, max_examples=30)
@given(strategies.scenarios(threads_max=3, length_max=3))
def test_rearranging_keeps_the_operations(one: Scenario):
    one = smaller.canonical(one)
    listed = smaller.rearranged(one)
    assert listed == sorted(set(listed), key=smaller.reading_order)
    for other in listed:
        assert names(other) == names(one)
        assert len(other.threads) == len(one.threads)
        assert smaller.canonical(other) == other


@pytest.mark.parametrize(
    ("one", "count"),
    [
        # Two threads, one operation each: one way; three operations a b c in two threads:
        # six orders with two cuts each, halved because threads have no order.
        (scenario("register 0", "mount a"), 1),
        (scenario("register 0; mount a"), 2),
        (scenario("register 0; mount a", "unmount a"), 6),
        (scenario("mount a; mount a", "mount a"), 1),
    ],
)
def test_few_operations_have_every_arrangement(one: Scenario, count: int):
    listed = smaller.rearranged(one)
    assert len(listed) == count
    assert smaller.canonical(one) in listed


def test_many_operations_move_one_at_a_time():
    one = smaller.canonical(
        scenario("register 0; mount a; read a 0 0", "mount b; read b 0 0; unmount b"))
    listed = smaller.rearranged(one)
    assert one in listed
    assert all(operations(other) == operations(one) or names(other) == names(one)
               for other in listed)
    moved = scenario("register 0; read a 0 0; mount a", "mount b; read b 0 0; unmount b")
    reversed_ = scenario("read a 0 0; mount a; register 0", "unmount b; read b 0 0; mount b")
    assert smaller.canonical(moved) in listed
    assert smaller.canonical(reversed_) not in listed


def test_rank_is_threads_then_operations_then_plainness():
    ranked = [
        scenario("read a 0 0", systems=("none",)),
        scenario("write a 0 0", systems=("none",)),
        scenario("read a 0 0", systems=("local",)),
        scenario("read a 0 0", systems=("shared",)),
        scenario("read a 0 0", systems=("shared uuid 1",)),
        scenario("read a 0 0; read a 0 0", systems=("none",)),
        scenario("read a 0 0", "read a 0 0", systems=("none",)),
        scenario("read a 0 0", "read a 0 0; read a 0 0", systems=("none",)),
    ]
    ranks = list(map(smaller.rank, ranked))
    assert all(one < other for one, other in pairwise(ranks))
