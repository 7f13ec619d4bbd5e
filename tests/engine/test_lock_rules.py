# SPDX-License-Identifier: GPL-2.0-only
"""The rules of locks: each is noticed in every run that breaks it, and in no other.

Who may do what is in micro.Machine, and test_interleavings compares all runs with it.
"""

from collections import Counter

import micro
import pytest

from cleanrace import Target, explore, run, search


def verdicts(target: Target, *threads: str, detect: bool = True) -> Counter[str]:
    runs = micro.every_run(target, micro.program(*threads), detect=detect)
    return Counter(result.verdict for result in runs)


@pytest.mark.parametrize(("verdict", "thread"), [
    ("recursive-lock", "lock 0; lock 0"),
    ("recursive-lock", "lock-shared 0; lock-shared 0"),
    ("recursive-lock", "lock-shared 0; lock 0"),
    ("recursive-lock", "spin 0; spin 0"),
    ("sleep-in-atomic", "spin 0; lock 1"),
    ("sleep-in-atomic", "spin 0; lock-shared 1"),
    ("sleep-in-atomic", "spin 0; wait-zero 1"),
    ("unguarded", "load-guarded 0"),
    ("unguarded", "spin 1; store-guarded 0"),
    ("unguarded", "spin 0; unspin 0; load-guarded 0"),
    ("lock-misuse", "lock-shared 0; unlock 0"),
    ("lock-misuse", "lock 0; unlock-shared 0"),
    ("out-of-bounds", "load-beyond 0"),
])  # fmt: skip
def test_one_thread_can_break_a_rule(target: Target, verdict: str, thread: str) -> None:
    assert verdicts(target, thread) == {verdict: 1}


@pytest.mark.parametrize("thread", [
    "lock 0; lock 1; unlock 1; unlock 0", "lock-shared 0; lock 1; unlock 1; unlock-shared 0",
    "spin 0; spin 1; unspin 1; unspin 0", "spin 0; try-lock 0; unlock 0; unspin 0",
    "lock 0; spin 0; load-guarded 0; unspin 0; unlock 0", "lock 0; unlock 0; lock 0; unlock 0",
    "wait-zero 0; spin 0; store-guarded 0; unspin 0",
])  # fmt: skip
def test_correct_programs_are_ok(target: Target, thread: str) -> None:
    assert set(verdicts(target, thread, thread)) == {"ok"}


@pytest.mark.parametrize(("verdict", "threads"), [
    ("unguarded", ("load-guarded 0",)),
    ("unguarded", ("spin 0; store-guarded 0; unspin 0; load-guarded 0",)),
    ("unguarded", ("spin 0; load-guarded 0; load-guarded 0; load-guarded 1",)),
    ("unguarded", ("spin 0; spin 1; load-guarded 0; load-guarded 1; unspin 1; load-guarded 1",)),
    ("unguarded", ("spin 0; load-guarded 0; unspin 0", "load-guarded 0")),
    ("unguarded", ("spin 0; load-guarded 0; unspin 0; load 1", "spin 0; unspin 0; load-guarded 0")),
    ("sleep-in-atomic", ("spin 0; unspin 0; spin 0; load-guarded 0; lock 1",)),
    ("recursive-lock", ("spin 0; load-guarded 0; spin 0",)),
    ("out-of-bounds", ("spin 0; load-guarded 0; load-beyond 0",)),
    ("use-after-free", ("free 0; load 0", "lock 0; unlock 0")),
    ("lock-order", ("lock 2; lock 0; lock 1; unlock 1; unlock 0; unlock 2",
                    "lock 2; lock 1; lock 0; unlock 0; unlock 1; unlock 2")),
])  # fmt: skip
def test_a_rule_is_broken_whoever_else_looks_on(
    target: Target, verdict: str, threads: tuple[str, ...]
) -> None:
    """The detectors alone take shorter ways; what a run leaves held is nobody's in the next."""
    scenario = micro.program(*threads)
    run(target, micro.program("spin 0; load-guarded 0; load-beyond 0"), full=False)
    alone, beside = (
        [(met.tape, met.verdict, met.steps)
         for met in micro.every_run(target, scenario, full=full)]
        for full in (False, True)
    )  # fmt: skip
    assert alone == beside
    assert verdict in {met[1] for met in alone}


def test_an_order_is_broken_without_a_deadlock(target: Target) -> None:
    """A third lock around both keeps the threads apart: what is wrong is only the order."""
    threads = ("lock 2; lock 0; lock 1; unlock 1; unlock 0; unlock 2",
               "lock 2; lock 1; lock 0; unlock 0; unlock 1; unlock 2")
    assert set(verdicts(target, *threads)) == {"lock-order"}
    assert set(verdicts(target, *threads, detect=False)) == {"ok"}


def test_two_readers_in_two_orders_break_it_too(target: Target) -> None:
    threads = "lock-shared 0; lock-shared 1", "lock-shared 1; lock-shared 0"
    assert set(verdicts(target, *threads)) == {"lock-order"}


def test_where_it_deadlocks_that_is_the_verdict(target: Target) -> None:
    threads = "lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1"
    found, plain = verdicts(target, *threads), verdicts(target, *threads, detect=False)
    assert set(found) == {"deadlock", "lock-order"}
    assert found["deadlock"] == plain["deadlock"] > 0


def test_a_circle_of_three_is_one(target: Target) -> None:
    met = search(target, micro.program(*(f"lock {n}; lock {(n + 1) % 3}; unlock {(n + 1) % 3};"
                                         f" unlock {n}" for n in range(3))),
                 schedules=2_000, detect=True)
    assert set(met.violations) == {"deadlock", "lock-order"}
    assert sum(met.violations.values()) == 2_000


def test_who_only_tries_breaks_no_order(target: Target) -> None:
    threads = "lock 0; try-lock 1", "lock 1; unlock 1; try-lock 0"
    assert set(verdicts(target, *threads)) == {"ok", "deadlock"}
    assert set(verdicts(target, "lock 0; try-lock 1", "try-lock 1; try-lock 0")) <= {
        "ok", "deadlock"}
    turned = "lock 1; lock 0; unlock 0; unlock 1"
    assert set(verdicts(target, "lock 0; try-lock 1", turned)) == {"ok", "deadlock"}


def test_a_lock_that_was_tried_comes_before_what_is_taken_next(target: Target) -> None:
    turned = "lock 1; lock 0; unlock 0; unlock 1"
    assert "lock-order" in verdicts(target, "try-lock 0; lock 1; unlock 1", turned)


def test_a_lock_of_a_reader_must_be_released_by_that_reader(target: Target) -> None:
    threads = "lock-shared 0", "unlock-shared 0"
    assert set(verdicts(target, *threads)) == {"lock-misuse"}
    assert set(verdicts(target, *threads, detect=False)) == {"ok", "lock-misuse"}


def test_a_rule_that_is_broken_ends_the_run_there(target: Target) -> None:
    result = run(target, micro.program("store 0; load-guarded 0; store 1"))
    assert result.verdicts == {"unguarded"}
    assert result.returns == ((0,),)
    assert result.violation == result.trace[-1]


def test_a_rule_that_is_not_judged_stops_nobody(target: Target) -> None:
    """Lock order is broken in every run, before the two threads can wait for each other."""
    program = micro.program(
        "lock 0; lock 1; unlock 1; unlock 0; lock 1; lock 0; lock 2; unlock 2; unlock 0; unlock 1",
        "lock 2; lock 0; unlock 0; unlock 2",
    )
    first = explore(target, program)
    assert set(first.violations) == {"lock-order"}
    alone = explore(target, program, judged=["deadlock"])
    assert set(alone.violations) == {"deadlock"}
    tape = alone.simplest["deadlock"].tape
    assert run(target, program, tape, judged=["deadlock"]).verdict == "deadlock"
    assert run(target, program, tape).verdict == "lock-order"
