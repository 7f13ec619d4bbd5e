# SPDX-License-Identifier: GPL-2.0-only
"""What must be in the corpus is there: orders, verdicts, planted bugs, operations, pairs."""

from collections import Counter
from collections.abc import Mapping
from itertools import product

import pytest

from cleanrace import Case, FileSystem, Operation, Scenario, Target, run, search, words

Cases = Mapping[str, Case]
Built = Mapping[str, Target]

#: Who does what in one order of loading: a thread per string, letters are operations.
ORDERS = {
    "first": ("rab",),
    "between": ("arb",),
    "last": ("abr",),
    "two": ("rasb",),
    "first, racing": ("ra", "b"),
    "between, racing": ("ar", "b"),
    "last, racing": ("r", "a", "b"),
    "two, racing": ("r", "s", "a", "b"),
}
KINDS = list(product(("local", "shared"), repeat=2))
STEPS = {
    "r": Operation("register", (0,)),
    "s": Operation("register", (1,)),
    "a": Operation("mount", (0,)),
    "b": Operation("mount", (1,)),
}


def loading(order: str, kinds: tuple[str, str]) -> Scenario:
    """The scenario of one cell of the matrix; uuids tell shared file systems apart."""
    shared = 0
    file_systems = []
    for kind in kinds:
        shared += kind == "shared"
        file_systems.append(FileSystem(kind, uuid=shared if kind == "shared" else 0))
    threads = tuple(tuple(STEPS[step] for step in thread) for thread in ORDERS[order])
    return Scenario(file_systems=tuple(file_systems), threads=threads)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_loading_is_there_and_ok(
    order: str, kinds: tuple[str, str], cases: Cases
) -> None:
    # Where both mounts have a thread of their own, which one is called a means nothing.
    same = {kinds, kinds[::-1]} if "a" in ORDERS[order] else {kinds}
    found = [case for case in cases.values()
             if case.scenario in [loading(order, either) for either in same]]
    assert [(case.expect, case.target, case.broken) for case in found] == [
        ("ok", "any", frozenset())]


def test_every_verdict_has_its_litmus(cases: Cases) -> None:
    # `overflow` is a limit of the harness: no scenario of 64 operations reaches one.
    wanted = set(words.VERDICTS) - {"ok", "overflow"}
    assert {verdict: cases[verdict].expect for verdict in wanted} == {
        verdict: verdict for verdict in wanted}


def test_every_planted_bug_has_a_litmus_that_finds_it(cases: Cases) -> None:
    found = {name for case in cases.values() if case.expect != "ok" for name in case.broken}
    assert found == set(words.PLANTED)


def test_every_operation_has_a_litmus(cases: Cases) -> None:
    used = {operation.name for case in cases.values()
            for thread in case.scenario.threads for operation in thread}
    assert used >= set(words.OPERATIONS)
    assert used >= {"lock", "unlock", "load", "store", "alloc", "free", "lock-shared", "try-lock",
                    "spin", "store-guarded", "load-guarded", "wait-zero", "load-beyond",
                    "lose"}


def test_every_word_of_the_format_has_a_litmus(cases: Cases) -> None:
    scenarios = [case.scenario for case in cases.values()]
    assert {fs.kind for s in scenarios for fs in s.file_systems} == set(words.KINDS)
    assert {s.ids for s in scenarios} == set(words.IDS)
    assert {s.capacity for s in scenarios} >= {None, 0, 1}
    assert any(s.init_fails for s in scenarios)
    assert any(s.twins() for s in scenarios)
    assert any(fs.handles for s in scenarios for fs in s.file_systems)


def test_what_the_real_file_does_wrong_comes_in_pairs(cases: Cases) -> None:
    real = {name for name, case in cases.items() if case.target == "linux" and not case.broken}
    assert {cases[name].expect for name in real} == {
        "init-twice", "pool-leak", "pool-dead", "pool-foreign", "data-foreign"}
    assert {name for name, case in cases.items()
            if case.target == "reference" and not case.broken} == {
        f"{name}-reference" for name in real}
    for name in real:
        control = cases[f"{name}-reference"]
        assert (control.scenario, control.expect, control.within) == (
            cases[name].scenario, "ok", cases[name].within)


def test_no_scenario_is_there_twice(cases: Cases) -> None:
    count = Counter((c.scenario, c.target, c.broken, c.expect, c.steps_max)
                    for name, c in cases.items())
    assert [key for key, number in count.items() if number > 1] == []


def test_ok_litmus_are_not_vacuous(cases: Cases, built: Built) -> None:
    """Each thing worth marking happens in some case that must stay ok."""
    happened: set[str] = set()
    for case in cases.values():
        if case.expect == "ok" and case.target == "any":
            happened |= set(search(built["linux"], case.scenario, schedules=500).marks)
    assert happened == set(built["linux"].table("marks"))


@pytest.mark.parametrize("order", [order for order in ORDERS if "racing" in order])
def test_racing_registration_meets_waits_and_gives(order: str, built: Built) -> None:
    """Every racing cell of the matrix is about what it says."""
    for kinds in KINDS:
        marks = search(built["linux"], loading(order, kinds), schedules=5_000).marks
        assert {"registration-met", "registration-waited", "registration-gave-pool"} <= set(marks)


def test_one_schedule_is_all_of_a_single_thread(cases: Cases, built: Built) -> None:
    for case in cases.values():
        if len(case.scenario.threads) == 1:
            assert case.within == 1
            target = built["reference" if case.target == "reference" else "linux"]
            kept = {run(target, case.scenario, planted=case.broken, policy=policy, schedule=n,
                        steps_max=case.steps_max).digest
                    for policy in ("tape", "random") for n in range(3)}
            assert len(kept) == 1
