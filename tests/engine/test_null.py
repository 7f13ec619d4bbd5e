# SPDX-License-Identifier: GPL-2.0-only
"""NULL is a verdict, whoever goes there and however: the process lives on.

`lose O` makes a thread's own pointer to an object NULL, so that its fields are in the first page.
"""

from collections import Counter
from itertools import product

import micro
import pytest

from cleanrace import Explorer, Scenario, Target, explore, run, search, words

NULL = "null-dereference"
OPERATIONS = tuple(name for name in words.MICRO if name != "lose")


def test_most_of_the_ways_to_touch_memory_are_tried() -> None:
    assert {"load", "store", "load-marked", "store-marked", "cmpxchg", "lock", "lock-shared",
            "unlock", "unlock-shared", "spin", "unspin", "try-lock", "wait-zero", "alloc", "free",
            } <= set(OPERATIONS)  # fmt: skip


@pytest.mark.parametrize("points", ["all", "sync"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_goes_through_null_is_that_verdict(
    target: Target, operation: str, points: str
) -> None:
    scenario = micro.program(f"store 1; lose 0; {operation} 0; store 2", "store 3; load 3")
    for detect, full in product((False, True), repeat=2):
        result = run(target, scenario, points=points, detect=detect, full=full)
        assert result.verdicts == {NULL}
        assert [len(returns) for returns in result.returns] == [2, 0]
        met = search(target, scenario, schedules=50, points=points, detect=detect)
        assert met.violations == {NULL: 50}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_real_threads_get_it_in_every_round(target: Target, operation: str) -> None:
    scenario = micro.program(f"lose 0; {operation} 0", "store 1; lock 1; unlock 1")
    met = search(target, scenario, schedules=100, engine="thread")
    assert met.violations == {NULL: 100}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exploration_lets_the_other_threads_go_on(target: Target, operation: str) -> None:
    """Two of them race after the first one's end, so that there are two classes and not one."""
    scenario = micro.program(f"lose 0; {operation} 0", "store 1", "load 1")
    for points in ("all", "sync"):
        met = explore(target, scenario, points=points, detect=False)
        assert (met.done, met.executions, met.violations) == (True, 2, {NULL: 2})
        tape, _preemptions = met.simplest[NULL]
        assert run(target, scenario, tape, detect=False, points=points).verdict == NULL


def test_what_the_dead_thread_held_stays_held(target: Target) -> None:
    scenario = micro.program("lock 1; lose 0; load 0; unlock 1", "lock 1; unlock 1; store 2")
    explorer = Explorer(target, scenario, policy="dfs", points="all", detect=False)
    assert explorer.go_on().violations.keys() == {NULL}
    # The second thread is before it or waits for ever: its store is done or it is not.
    assert len(explorer.states()) == 2


@pytest.mark.parametrize("operation", ["wait-zero", "lock", "lock-shared"])
def test_null_comes_before_the_rule_that_it_breaks_too(target: Target, operation: str) -> None:
    """Nobody sleeps for what is at NULL; the kernel has looked there before."""
    sleeps = micro.program(f"spin 1; {operation} 0")
    assert run(target, sleeps, detect=True).verdict == "sleep-in-atomic"
    lost = micro.program(f"spin 1; lose 0; {operation} 0")
    assert run(target, lost, detect=True).verdict == NULL


def test_the_pointer_is_the_threads_own_and_of_that_object(target: Target) -> None:
    runs = micro.every_run(target, micro.program("lose 0; lose 0; load 1; store 2", "load 0"))
    assert Counter(result.verdict for result in runs) == {"ok": len(runs)}
    assert len(runs) > 1


def test_a_write_to_null_is_not_taken_for_one_to_frozen_memory(target: Target) -> None:
    assert run(target, micro.program("lose 0; store 0")).verdicts == {NULL}
    assert run(target, Scenario.from_text("cleanrace 1\nfs a local\nthread mount a"),
               planted=["write-frozen"]).verdicts == {"frozen-write"}


def test_null_is_met_in_the_real_file_where_premise_d_is_broken(target: Target) -> None:
    """Two registrations win, the second takes the pointer back between two looks of a hook."""
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0\nthread register 1; mount a; read a 0 0\n")
    met = explore(target, scenario, planted=["d"])
    assert met.done
    assert met.violations[NULL] >= 1
    tape, preemptions = met.simplest[NULL]
    assert preemptions > 1
    for _ in range(2):
        result = run(target, scenario, tape, planted=["d"], judged=[NULL])
        assert result.verdict == NULL
    last = result.trace[-1]
    assert (last.kind, target.names.object(last.object)) == ("read", "cleancache_ops")
    assert target.names.function_line(last.pc).startswith("__cleancache_get_page:")
    assert NULL not in explore(target, scenario).violations
