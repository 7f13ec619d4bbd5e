# SPDX-License-Identifier: GPL-2.0-only
"""Exact counts: tapes, orders and happens-before classes of programs small enough to list.

A thread of n operations has n + 1 steps, since its start is one: it runs to just before its
first access. So two of them can be decided in binomial(2n + 2, n + 1) ways.
"""

import random
from collections import Counter
from math import comb

import micro
import pytest

from cleanrace import Scenario, Target, run


def counts(target: Target, *threads: str) -> tuple[int, int, int]:
    """How many tapes, orders of accesses, and classes."""
    runs = micro.every_run(target, micro.program(*threads))
    assert {result.verdict for result in runs} == {"ok"}
    return (len(runs), len({micro.order(result) for result in runs}),
            len({result.interleaving for result in runs}))


def repeat(operation: str, times: int) -> str:
    return "; ".join([operation] * times)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_independent_stores_have_one_class(target: Target, n: int) -> None:
    threads = repeat("store 0", n), repeat("store 1", n)
    assert counts(target, *threads) == (comb(2 * n + 2, n + 1), comb(2 * n, n), 1)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("operation", ["store 0", "store-marked 0"])
def test_each_order_of_conflicting_stores_is_a_class(
    target: Target, operation: str, n: int
) -> None:
    threads = repeat(operation, n), repeat(operation, n)
    assert counts(target, *threads) == (comb(2 * n + 2, n + 1), comb(2 * n, n), comb(2 * n, n))


@pytest.mark.parametrize("operation", ["load 0", "load-marked 0"])
def test_readers_commute(target: Target, operation: str) -> None:
    # 6! / 2!^3 ways to decide three threads of two steps, 3! orders.
    assert counts(target, operation, operation, operation) == (90, 6, 1)


def test_each_reader_is_before_or_after_the_writer(target: Target) -> None:
    assert counts(target, "load 0", "load 0", "store 0") == (90, 6, 4)


def test_a_reader_of_two_places_sees_two_writers_in_four_ways(target: Target) -> None:
    # 8! / 2! 2! 4! ways, 5! / 3! orders of loads and stores; each writer conflicts with one load.
    assert counts(target, "load 0; load 1; load 2", "store 0", "store 1") == (420, 20, 4)


@pytest.mark.parametrize(("n", "tapes"), [(1, 8), (2, 28)])
def test_critical_sections_are_never_inside_each_other(target: Target, n: int, tapes: int) -> None:
    """By hand: sections follow each other, and the start of whoever comes second fits anywhere.

    n = 1: A B or B A, four places for the second one's start. n = 2: A A B B has six places for
    it, A B A B and A B B A four each, and the same with A and B exchanged.
    """
    thread = repeat("lock 0; unlock 0", n)
    found = micro.every_run(target, micro.program(thread, thread))
    orders = {micro.order(result) for result in found}
    assert len(found) == tapes == micro.outcomes(micro.program(thread, thread)).total()
    assert len(orders) == comb(2 * n, n)
    assert all(order[i] == order[i + 1] for order in orders for i in range(0, len(order), 2))
    assert len({result.interleaving for result in found}) == comb(2 * n, n)


def test_compare_and_exchange_has_one_winner_and_each_can_win(target: Target) -> None:
    runs = micro.every_run(target, micro.program("cmpxchg 0", "cmpxchg 0", "cmpxchg 0"))
    assert len(runs) == 90
    winners = [[n for n, (value,) in enumerate(result.returns) if value == 0] for result in runs]
    assert Counter(map(tuple, winners)) == {(0,): 30, (1,): 30, (2,): 30}
    # Losers change nothing and see the winner's value: their order does not count.
    for result, (winner,) in zip(runs, winners, strict=True):
        assert {value for (value,) in result.returns} == {0, winner + 1}
    assert len({result.interleaving for result in runs}) == 3


def test_store_buffering_is_sequentially_consistent(target: Target) -> None:
    scenario = micro.program("store-marked 0; load-marked 1", "store-marked 1; load-marked 0")
    loads = {(result.returns[0][1], result.returns[1][1])
             for result in micro.every_run(target, scenario)}
    assert loads == {(0, 1), (3, 0), (3, 1)}


def test_a_decision_is_before_each_access_and_never_after(target: Target) -> None:
    """Whoever is told to wait has not stored yet; the other one's load says so."""
    result = run(target, micro.program("store 0", "load 0"), b"\0\1")
    assert [(e.thread, e.kind) for e in micro.accesses(result)] == [(1, "read"), (0, "write")]
    assert result.returns == ((0,), (0,))


def drawn(seed: int) -> tuple[str, ...]:
    """Two or three threads with together six operations at most, on few objects."""
    draw = random.Random(seed)
    names = ("lock", "unlock", "load", "store", "load-marked", "store-marked", "cmpxchg", "alloc",
             "free", "lock-shared", "unlock-shared", "try-lock", "spin", "unspin", "load-guarded",
             "store-guarded", "wait-zero", "clear-marked", "load-beyond", "lose")
    threads = []
    for _ in range(draw.choice((2, 2, 3))):
        operations = [f"{draw.choice(names)} {draw.randrange(2)}" for _ in range(2)]
        if draw.random() < 0.5:
            begin, end = draw.choice((("lock", "unlock"), ("lock-shared", "unlock-shared"),
                                      ("spin", "unspin")))
            operations = [f"{begin} 0", operations[0], f"{end} 0"]
        threads.append("; ".join(operations[: 3 if len(threads) < 2 else 1]))
    return tuple(threads)


@pytest.mark.parametrize("block", range(4))
def test_all_runs_of_random_programs_are_those_of_the_model(target: Target, block: int) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(20 * block, 20 * block + 20):
        scenario = micro.program(*drawn(seed))
        runs = micro.every_run(target, scenario)
        assert Counter(map(micro.outcome, runs)) == micro.outcomes(scenario), scenario.to_text()
        verdicts.update(result.verdict for result in runs)
    assert set(verdicts) >= {"ok", "deadlock", "lock-misuse", "unguarded"}


@pytest.mark.parametrize("block", range(4))
def test_interleaving_names_the_happens_before_class(target: Target, block: int) -> None:
    """Equal hash exactly if every two conflicting accesses come in the same order."""
    classes = 0
    for seed in range(1000 + 20 * block, 1020 + 20 * block):
        runs = micro.every_run(target, micro.program(*drawn(seed)))
        pairs = {(result.interleaving, micro.happens_before(target, result)) for result in runs}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        classes += len(pairs)
    assert classes > 30


@pytest.mark.parametrize("threads", [
    ("register 0", "mount a", "mount b"),
    ("register 0", "mount a; unmount a", "mount a; unmount a"),
    ("register 0; mount a; read a 0 0; reclaim a 0 0", "reclaim a 0 0; unmount a"),
], ids=" + ".join)  # fmt: skip
def test_interleaving_names_the_class_of_kernel_scenarios_too(
    target: Target, threads: tuple[str, ...]
) -> None:
    lines = ["cleanrace 1", "fs a local", "fs b local", *(f"thread {t}" for t in threads)]
    scenario = Scenario.from_text("\n".join(lines))
    runs = [run(target, scenario, policy="random", schedule=n) for n in range(1_500)]
    pairs = {(result.interleaving, micro.happens_before(target, result)) for result in runs}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert len(pairs) > 5
