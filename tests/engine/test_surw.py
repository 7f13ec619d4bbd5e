# SPDX-License-Identifier: GPL-2.0-only
"""`surw` makes all orders of the accesses to one place equally likely, wherever they stand."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import chain, combinations, pairwise
from math import comb, sqrt

import micro
import pytest

from cleanrace import Scenario, Target, run, search

RUNS = 4_000
PRIVATE = "; ".join(["store 1"] * 20)
OTHER = "; ".join(["load 2"] * 3)


def orders(target: Target, policy: str, *threads: str) -> Counter[tuple[int, ...]]:
    """Who makes the accesses to the one shared place, in order."""
    found: Counter[tuple[int, ...]] = Counter()
    for number in range(RUNS):
        result = run(target, micro.program(*threads), policy=policy, seed=9, schedule=number)
        places: dict[int, list[int]] = {}
        for event in micro.accesses(result):
            places.setdefault(event.object // 4, []).append(event.thread)
        (shared,) = (who for who in places.values() if len(set(who)) > 1)
        found[tuple(shared)] += 1
    return found


def excess(found: Counter[tuple[int, ...]], possible: int) -> float:
    """How far from uniform: chi square, in standard deviations above what it is on average."""
    expected = found.total() / possible
    counts = chain(found.values(), [0] * (possible - len(found)))
    square = sum((count - expected) ** 2 / expected for count in counts)
    return (square - (possible - 1)) / sqrt(2 * (possible - 1))


@pytest.mark.parametrize(("threads", "possible"), [
    (("store 0; store 0; store 0", "store 0; store 0"), comb(5, 2)),
    (("store 0; load 0; store 0", "load 0; load 0; load 0"), comb(6, 3)),
    (("store 0", f"{PRIVATE}; store 0"), 2),
    ((f"store 0; {PRIVATE}; store 0; store 0", f"{OTHER}; store 0; {OTHER}; store 0"), comb(5, 2)),
    (("store 0; store 0", f"{PRIVATE}; store 0", f"store 0; {OTHER}; store 0"), 30),
])
def test_orders_of_the_accesses_to_a_shared_place_are_uniform(
    target: Target, threads: tuple[str, ...], possible: int
) -> None:
    found = orders(target, "surw", *threads)
    assert len(found) == possible
    assert excess(found, possible) < 5
    for count in found.values():
        assert abs(count / RUNS - 1 / possible) <= 5 * sqrt((1 - 1 / possible) / possible / RUNS)


@pytest.mark.parametrize("policy", ["random", "uniform", "pct", "pct-3"])
def test_no_other_policy_makes_them_uniform(target: Target, policy: str) -> None:
    threads = (f"store 0; {PRIVATE}; store 0; store 0", f"{OTHER}; store 0; {OTHER}; store 0")
    assert excess(orders(target, policy, *threads), comb(5, 2)) > 50


def test_each_shared_place_has_its_turn(target: Target) -> None:
    """Two pairs of threads with a place each: only the drawn one's accesses are mixed well."""
    threads = ["; ".join([f"store {n // 2}"] * 6) for n in range(4)]
    orders = [[thread in chosen for thread in range(12)] for chosen in combinations(range(12), 6)]
    share = sum(changes(order) >= 5 for order in orders) / len(orders) / 2
    mixed = Counter()
    for number in range(RUNS):
        order = micro.order(run(target, micro.program(*threads), policy="surw", schedule=number))
        mixed[tuple(changes([thread for thread in order if thread // 2 == pair]) >= 5
                    for pair in (0, 1))] += 1
    assert mixed[True, True] < RUNS / 500
    for found in (mixed[True, False], mixed[False, True]):
        assert abs(found / RUNS - share) <= 5 * sqrt(share * (1 - share) / RUNS)


def changes(order: Sequence[int]) -> int:
    """How often another thread goes on."""
    return sum(one != other for one, other in pairwise(order))


def test_who_waits_for_a_thread_that_is_held_back_does_not_hold_up_the_run(target: Target) -> None:
    """The lock's word is a shared place as well, and its holder may be held back at it."""
    scenario = micro.program("lock 0; store 0; unlock 0; lock 0; unlock 0",
                             "lock 0; load 0; unlock 0", "store 0; lock 0; unlock 0")
    found = Counter()
    for number in range(2_000):
        result = run(target, scenario, policy="surw", schedule=number, detect=False)
        assert result.verdict == "ok"
        found[tuple(e.thread for e in micro.accesses(result) if e.kind == "lock")] += 1
    assert len(found) == 12
    assert min(found.values()) > 50


RACE = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n")


@pytest.mark.parametrize("bug", ["a", "b", "c"])
@pytest.mark.parametrize(("policy", "times"), [("surw", 2), ("pct-2", 1.2), ("pct-3", 1.5)])
def test_broken_premises_are_met_more_often_than_by_random(
    target: Target, bug: str, policy: str, times: float
) -> None:
    by_random = hits(target, "random", bug)
    assert by_random > 100
    assert hits(target, policy, bug) > times * by_random


@cache
def hits(target: Target, policy: str, bug: str) -> int:
    """How many of 40,000 schedules show the bug."""
    met = search(target, RACE, schedules=40_000, policy=policy, planted=[bug], seed=7)
    return met.violations["init-missing"]
