# SPDX-License-Identifier: GPL-2.0-only
"""`pct` is distributed exactly as an obvious model of it says, and keeps its promise."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise, permutations, product
from math import sqrt

import micro
import pytest

from cleanrace import Scenario, Target, pct, run, search

RUNS = 3_000
DEPTHS = {"pct-1": (1,), "pct-2": (2,), "pct-3": (3,), "pct": (1, 2, 3)}
PROGRAMS = (
    ("store 0; store 0; store 0", "store 0; store 0"),
    ("load 0; lock 0; load 1; unlock 0", "lock 0; store 1; unlock 0", "store 0"),
    ("lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1"),
    ("free 0; alloc 0", "load 1; load 0", "store 1"),
)


def outcome(scenario: Scenario, ranks: tuple[int, ...], changes: tuple[int, ...]) -> micro.Outcome:
    """The run in which the highest rank goes on, and falls at the steps in `changes`."""
    threads = [[(operation.name, operation.operands[0]) for operation in thread]
               for thread in scenario.threads]
    machine = micro.Machine(threads, [-1] * len(threads))
    rank = [rank + len(changes) for rank in ranks]
    step = 0
    while enabled := machine.enabled():
        thread = max(enabled, key=rank.__getitem__)
        verdict = machine.go_on(thread)
        if verdict != "ok":
            return verdict, tuple(machine.ended)
        step += 1
        for number, change in enumerate(changes):
            if change == step:
                rank[thread] = number
    complete = all(at == len(thread) for at, thread in zip(machine.at, threads, strict=True))
    return "ok" if complete else "deadlock", tuple(machine.ended)


def distribution(scenario: Scenario, depth: int, steps: int) -> dict[micro.Outcome, Fraction]:
    """The probability of each outcome: every order of ranks and every choice of steps counts."""
    found = Counter(
        outcome(scenario, ranks, changes)
        for ranks in permutations(range(len(scenario.threads)))
        for changes in product(range(1, steps + 1), repeat=depth - 1))
    return {result: Fraction(count, found.total()) for result, count in found.items()}


def steps_of(target: Target, scenario: Scenario) -> int:
    """What the change points are drawn from."""
    return search(target, scenario, schedules=1, policy="pct").steps_profiled


@pytest.mark.parametrize("policy", DEPTHS)
@pytest.mark.parametrize("threads", PROGRAMS)
def test_outcomes_are_as_frequent_as_in_the_model(
    target: Target, policy: str, threads: tuple[str, ...]
) -> None:
    scenario = micro.program(*threads)
    depths = DEPTHS[policy]
    expected: Counter[micro.Outcome] = Counter()
    for depth in depths:
        for result, share in distribution(scenario, depth, steps_of(target, scenario)).items():
            expected[result] += share / len(depths)
    assert sum(expected.values()) == 1
    found = Counter(micro.outcome(run(target, scenario, policy=policy, seed=6, schedule=n,
                                      detect=False)) for n in range(RUNS))
    assert set(found) <= set(expected)
    for result, share in expected.items():
        deviation = sqrt(share * (1 - share) / RUNS)
        assert abs(found[result] / RUNS - share) <= 5 * deviation, result


def test_a_profile_counts_the_steps_of_a_run(target: Target) -> None:
    """Each access, and the end of each thread but the last."""
    scenario = micro.program(*["store 0; store 1; load 2"] * 3)
    assert steps_of(target, scenario) == 3 * 3 + 2 == run(target, scenario).steps
    assert search(target, scenario, schedules=1).steps_profiled == 0


def test_without_changes_each_thread_runs_until_it_ends_or_waits(target: Target) -> None:
    scenario = micro.program("store 0; lock 0; store 1; unlock 0", "lock 0; store 1; unlock 0",
                             "load 1; load 0")
    orders = set()
    for number in range(200):
        order = micro.order(run(target, scenario, policy="pct-1", schedule=number))
        assert sum(one != other for one, other in pairwise(order)) == 2
        orders.add(order)
    assert len(orders) == 6


GAP = "; ".join(["store 2"] * 12)


@pytest.mark.parametrize(("threads", "verdict"), [
    ((f"{GAP}; free 0; alloc 0; {GAP}", "store 3; load 0; store 3"), "use-after-free"),
    ((f"{GAP}; free 0; alloc 0", "load 0", GAP, GAP), "use-after-free"),
    (("lock 0; lock 1; unlock 1; unlock 0", f"{GAP}; lock 1; lock 0; unlock 0; unlock 1"),
     "deadlock"),
])
def test_a_bug_of_depth_2_is_met_as_often_as_promised(
    target: Target, threads: tuple[str, ...], verdict: str
) -> None:
    scenario = micro.program(*threads)
    schedules = 100_000
    met = search(target, scenario, schedules=schedules, policy="pct-2", seed=8)
    promised = pct.met(threads=len(threads), steps=met.steps_profiled, depth=2)
    assert set(met.violations) == {verdict}
    assert met.violations[verdict] / schedules >= promised - 5 * sqrt(promised / schedules)
    # It is none of depth 1.
    assert search(target, scenario, schedules=1_000, policy="pct-1").violations == {}


def test_a_bug_of_depth_3_is_met_as_often_as_promised(target: Target) -> None:
    """Each thread sees what the other one has just stored, three times in turn."""
    scenario = micro.program("store 0; load 1; store 3", "load 0; store 1; load 3; load 2")
    runs = 10_000

    def turns(policy: str, count: int) -> int:
        results = (run(target, scenario, policy=policy, schedule=n, full=False, detect=False)
                   for n in range(count))
        return sum(bool(one[1] and other[0] and other[2])
                   for one, other in (result.returns for result in results))

    promised = pct.met(threads=2, steps=steps_of(target, scenario), depth=3)
    assert turns("pct-3", runs) / runs >= promised - 5 * sqrt(promised / runs) > 0
    assert turns("pct-2", 1_000) == 0


def test_what_was_missed_is_a_power_of_the_promise() -> None:
    assert pct.met(threads=2, steps=10, depth=1) == 1 / 2
    assert pct.met(threads=4, steps=5, depth=3) == 1 / 100
    assert pct.missed(threads=2, steps=10, depth=1, schedules=3) == pytest.approx(1 / 8)
    assert pct.missed(threads=2, steps=10, depth=2, schedules=2) == pytest.approx(0.95**2)
    assert pct.missed(threads=3, steps=70, depth=3, schedules=0) == 1
    assert pct.missed(threads=1, steps=70, depth=1, schedules=0) == 1
    assert pct.missed(threads=1, steps=70, depth=1, schedules=1) == 0
    # Tiny probabilities times many schedules keep their digits.
    assert pct.missed(threads=8, steps=30_000, depth=3, schedules=10**9) == pytest.approx(
        1 - 10**9 / 7.2e9, abs=0.01)
    assert pct.missed(threads=2, steps=10, depth=1, schedules=10**12) == 0


@pytest.mark.parametrize(("wrong", "message"), [
    ({"threads": 0}, "threads=0: expected a number from 1 to 8"),
    ({"steps": 0}, "steps=0: expected a number from 1 to 30000"),
    ({"depth": 4}, "depth=4: expected a number from 1 to 3"),
    ({"schedules": -1}, "schedules=-1: expected a number from 0 to"),
])
def test_a_promise_without_sense_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pct.missed(**({"threads": 2, "steps": 9, "depth": 2, "schedules": 1} | wrong))
