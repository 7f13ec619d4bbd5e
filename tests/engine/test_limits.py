# SPDX-License-Identifier: GPL-2.0-only
"""What the engine itself notices: deadlock, the step limit, memory and locks."""

from collections import Counter

import micro
import pytest

from cleanrace import Scenario, Target, run, search


def verdicts(target: Target, *threads: str, **options: bool) -> Counter[str]:
    return Counter(r.verdict for r in micro.every_run(target, micro.program(*threads), **options))


def test_two_locks_in_two_orders_can_deadlock(target: Target) -> None:
    threads = ("lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1")
    scenario = micro.program(*threads)
    found = verdicts(target, *threads, detect=False)
    assert set(found) == {"ok", "deadlock"}
    stuck = [r for r in micro.every_run(target, scenario, detect=False) if r.verdict == "deadlock"]
    assert {frozenset((e.thread, e.kind) for e in micro.accesses(r)) for r in stuck} == {
        frozenset({(0, "lock"), (1, "lock")})}
    assert len({r.interleaving for r in stuck}) == 1


def test_two_locks_in_one_order_cannot_deadlock(target: Target) -> None:
    thread = "lock 0; lock 1; unlock 1; unlock 0"
    assert set(verdicts(target, thread, thread)) == {"ok"}


def test_a_lock_taken_twice_is_a_deadlock(target: Target) -> None:
    assert verdicts(target, "lock 0; lock 0", detect=False) == {"deadlock": 1}
    assert set(verdicts(target, "lock 0; lock 0", "store 1", detect=False)) == {"deadlock"}


def test_a_lock_that_nobody_releases_is_a_deadlock_for_the_others(target: Target) -> None:
    assert set(verdicts(target, "lock 0", "lock 0")) == {"deadlock"}


def test_a_deadlocked_run_has_no_violation_before_its_last_event(target: Target) -> None:
    result = run(target, micro.program("store 0; lock 0; lock 0"), detect=False)
    assert result.verdicts == {"deadlock"}
    assert result.violation == result.cause == result.trace[-1]


@pytest.mark.parametrize("threads", [
    ("store 0; store 0; load 0",), ("store 0", "store 1"), ("lock 0; unlock 0", "load 0"),
])  # fmt: skip
def test_the_step_limit_is_the_last_step_that_is_allowed(
    target: Target, threads: tuple[str, ...]
) -> None:
    scenario = micro.program(*threads)
    for result in micro.every_run(target, scenario):
        enough = run(target, scenario, result.tape, steps_max=result.steps)
        assert enough == result
        short = run(target, scenario, result.tape, steps_max=result.steps - 1)
        assert short.verdict == "step-limit"
        assert short.steps == result.steps
        assert short.trace == result.trace[: len(short.trace)]


def test_steps_are_accesses_and_the_ends_that_leave_others(target: Target) -> None:
    assert run(target, micro.program("store 0; store 0")).steps == 2
    # Two accesses and the end of thread 0, at which thread 1 goes on.
    assert run(target, micro.program("store 0", "store 0")).steps == 3


def test_freed_memory_must_not_be_touched(target: Target) -> None:
    for operation in ("load", "store", "free"):
        assert verdicts(target, f"free 0; {operation} 0") == {"use-after-free": 1}
        assert verdicts(target, f"free 0; alloc 0; {operation} 0") == {"ok": 1}
        assert verdicts(target, f"free 0; {operation} 1") == {"ok": 1}


def test_only_the_plain_word_of_an_object_is_freed(target: Target) -> None:
    threads = "free 0; load-marked 0; store-marked 0; cmpxchg 0; lock 0; unlock 0"
    assert verdicts(target, threads) == {"ok": 1}


def test_allocated_memory_is_zeroed(target: Target) -> None:
    result = run(target, micro.program("store 0; free 0; alloc 0; load 0"))
    assert result.returns == ((0, 0, 0, 0),)


def test_use_after_free_depends_on_who_comes_first(target: Target) -> None:
    # Of six ways to decide, three have the load first.
    assert verdicts(target, "load 0", "free 0") == {"ok": 3, "use-after-free": 3}


def test_one_of_two_frees_is_wrong(target: Target) -> None:
    assert set(verdicts(target, "free 0", "free 0")) == {"use-after-free"}


def test_a_lock_that_is_not_held_must_not_be_released(target: Target) -> None:
    assert verdicts(target, "unlock 0") == {"lock-misuse": 1}
    assert verdicts(target, "lock 0; unlock 0; unlock 0") == {"lock-misuse": 1}
    assert verdicts(target, "lock 0; unlock 1") == {"lock-misuse": 1}


def test_a_lock_must_be_released_by_the_thread_that_took_it(target: Target) -> None:
    assert set(verdicts(target, "lock 0", "unlock 0")) == {"lock-misuse"}


def test_frozen_memory_must_not_be_written(target: Target) -> None:
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\nthread mount a")
    assert run(target, scenario).verdict == "ok"
    broken = run(target, scenario, planted=["write-frozen"])
    assert broken.verdict == "frozen-write"
    # And nothing was: the next run has its scenario whole.
    assert run(target, scenario) == run(target, scenario)
    assert run(target, scenario).verdict == "ok"


def test_a_verdict_that_is_not_judged_still_ends_the_run(target: Target) -> None:
    result = run(target, micro.program("unlock 0; store 0"), judged=["deadlock"])
    assert result.verdict == "ok"
    assert result.verdicts == frozenset()
    assert result.returns == ((),)


def test_a_stopped_run_leaves_nothing_to_the_next(target: Target) -> None:
    scenario = micro.program("store 0; load 0; lock 0; unlock 0", "load 0; store 0")
    expected = [run(target, scenario, policy="random", schedule=n) for n in range(20)]
    spoilers = [micro.program("lock 0; lock 0"), micro.program("free 0; load 0", "store 0"),
                micro.program("unlock 0"), micro.program("store 0", "store 1; store-marked 0")]
    for number, result in enumerate(expected):
        run(target, spoilers[number % 4])
        assert run(target, scenario, policy="random", schedule=number) == result


def test_a_search_counts_what_its_runs_would(target: Target) -> None:
    scenario = micro.program("free 0; alloc 0", "load 0; lock 0; lock 1", "lock 1; lock 0")
    for policy in ("random", "uniform"):
        met = search(target, scenario, schedules=500, policy=policy, seed=5, first=17, detect=True)
        runs = [run(target, scenario, policy=policy, seed=5, schedule=17 + n) for n in range(500)]
        counted = Counter(name for result in runs for name in result.verdicts)
        assert met.violations == counted
        assert set(counted) == {"deadlock", "use-after-free"}
        assert met.steps == sum(result.steps for result in runs)
        assert met.first == {
            name: 17 + next(n for n, result in enumerate(runs) if name in result.verdicts)
            for name in counted}


@pytest.mark.parametrize("threads", [("store 0; store 0; store 0",), ("store 0",) * 3])
def test_a_thread_that_is_left_alone_meets_the_limit_too(
    target: Target, threads: tuple[str, ...]
) -> None:
    """In a search nobody is asked any more then, and points are passed over."""
    scenario = micro.program(*threads)
    steps = run(target, scenario).steps
    for limit, verdicts in ((steps, {}), (steps - 1, {"step-limit": 20})):
        assert search(target, scenario, schedules=20, steps_max=limit).violations == verdicts
