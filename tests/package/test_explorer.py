# SPDX-License-Identifier: GPL-2.0-only
"""Explorations from Python: counts known by hand, limits, parts, saving, wrong arguments."""

from dataclasses import replace
from typing import Any

import pytest

import cleanrace
from cleanrace import Exploration, Explorer, Scenario, Target

MOUNTS = "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n"
UNMOUNT = MOUNTS + "thread unmount a\n"


@pytest.fixture(scope="module")
def real(linux: dict[str, Any]) -> Target:
    return Target(linux)


def micro(*threads: str) -> Scenario:
    lines = "".join(f"thread {thread}\n" for thread in threads)
    return Scenario.from_text(f"cleanrace 1\nmicro\n{lines}")


def untimed(now: Exploration) -> Exploration:
    return replace(now, seconds=0.0)


@pytest.mark.parametrize(
    ("threads", "interleavings", "classes"),
    [
        (("store 0", "store 1"), 6, 1),
        (("store 0", "store 0"), 6, 2),
        (("load 0", "load 0", "store 0"), 90, 4),
        (("lock 0; unlock 0", "lock 0; unlock 0"), 8, 2),
        (("cmpxchg 0", "cmpxchg 0", "cmpxchg 0"), 90, 3),
    ],
)
def test_tiny_programs_have_their_counts(
    real: Target, threads: tuple[str, ...], interleavings: int, classes: int
):
    every = cleanrace.explore(real, micro(*threads), policy="dfs", points="all")
    reduced = cleanrace.explore(real, micro(*threads), points="all")
    assert (every.done, every.executions, every.classes) == (True, interleavings, classes)
    assert (reduced.done, reduced.executions, reduced.classes) == (True, classes, classes)
    assert reduced.states == every.states


def test_both_policies_reach_the_same_final_states(real: Target):
    scenario = Scenario.from_text(MOUNTS.replace("thread mount b\n", ""))
    explorer = Explorer(real, scenario, policy="dfs")
    every = explorer.go_on()
    states = explorer.states()
    reduced = Explorer(real, scenario)
    now = reduced.go_on()
    assert every.done
    assert now.done
    assert now.executions == now.classes == every.classes < every.executions
    assert reduced.states() == states
    assert len(states) == now.states


def test_a_preemption_bound_leaves_out_what_needs_more(real: Target):
    two = micro("lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1")
    none, one = (
        cleanrace.explore(
            real, two, policy="dfs", points="all", bound=bound, judged=("deadlock",)
        )
        for bound in (0, 1)
    )
    assert (none.done, none.executions, none.violations) == (True, 2, {})
    assert one.done
    assert one.preemptions_max == 1
    assert one.violations["deadlock"] > 0
    assert one.simplest["deadlock"].preemptions == 1


def test_a_simplest_tape_repeats_its_execution(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    now = cleanrace.explore(real, scenario, planted=("b",))
    assert now.violations
    for verdict, simplest in now.simplest.items():
        result = cleanrace.run(
            real, scenario, simplest.tape, planted=("b",), judged=(verdict,), full=False
        )
        assert result.verdicts == {verdict}


def test_it_repeats_whatever_was_explored_before(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    first = cleanrace.explore(real, scenario)
    cleanrace.explore(real, micro("store 0", "store 0"))
    again = cleanrace.explore(real, scenario)
    counts = ("executions", "blocked", "classes", "states", "violations", "marks", "promoted")
    assert [getattr(first, name) for name in counts] == [getattr(again, name) for name in counts]


def test_accesses_that_race_become_points(real: Target):
    now = cleanrace.explore(real, micro("store 0", "store 0"))
    assert now.executions == now.classes == 2
    assert len(now.promoted) > 0
    again = cleanrace.explore(real, micro("store 0", "store 0"), promoted=now.promoted)
    assert (again.executions, again.restarts) == (2, 0)


def test_parts_add_up(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    whole = Explorer(real, scenario)
    now = whole.go_on()
    states = whole.states()
    executions, met = 0, frozenset[int]()
    for part in range(3):
        explorer = Explorer(
            real, scenario, part=part, parts=3, split=4, promoted=now.promoted
        )
        executions += explorer.go_on().executions
        met |= explorer.states()
    assert executions == now.executions
    assert met == states


def test_it_goes_on_where_it_was_saved(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    whole = cleanrace.explore(real, scenario)
    explorer = Explorer(real, scenario)
    before = explorer.go_on(executions_max=whole.executions // 2)
    saved = explorer.save()
    assert not before.done
    assert saved
    rest = Explorer(real, scenario, resume=saved).go_on()
    assert rest.done
    for name in ("executions", "blocked", "classes", "states", "violations", "marks"):
        assert getattr(rest, name) == getattr(whole, name)


def test_it_pauses_at_a_verdict(real: Target):
    now = cleanrace.explore(
        real, micro("lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1"),
        stop_on=("deadlock",), points="all",
    )
    assert now.violations["deadlock"] == 1


def test_limits_end_it(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    assert cleanrace.explore(real, scenario, executions_max=1).executions <= 1
    seen: list[Exploration] = []
    now = cleanrace.explore(real, scenario, seconds=0.0, progress=seen.append)
    assert [untimed(one) for one in seen] == [untimed(now)]


def test_an_interrupt_loses_nothing(real: Target):
    scenario = Scenario.from_text(UNMOUNT)
    explorer = Explorer(real, scenario)

    def interrupt(_now: Exploration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt(explorer.go_on(executions_max=3))
    assert explorer.go_on().executions == cleanrace.explore(real, scenario).executions


def test_races_are_listed_and_not_judged(real: Target):
    now = cleanrace.explore(real, micro("store 0", "store 0"))
    assert len(now.races) == 1
    assert now.violations == {}


def test_only_the_newest_exploration_can_go_on(real: Target):
    old = Explorer(real, micro("store 0"))
    Explorer(real, micro("store 1"))
    with pytest.raises(ValueError, match="another exploration of this target"):
        old.go_on()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"policy": "bfs"}, "policy='bfs'"),
        ({"bound": 1}, "only the policy dfs has a bound"),
        ({"policy": "dfs", "bound": -1}, "bound=-1"),
        ({"points": "some"}, "points='some'"),
        ({"parts": 0}, "parts=0"),
        ({"part": 1}, "part=1"),
        ({"split": 1000}, "split=1000"),
        ({"stop_on": ("nothing",)}, "stop_on"),
        ({"judged": ("nothing",)}, "judged"),
        ({"planted": "a b"}, "planted"),
        ({"promoted": (-1,)}, "promoted"),
        ({"steps_max": -1}, "steps_max=-1"),
        ({"detect": 1}, "detect=1"),
        ({"resume": b"nothing"}, "resume: these bytes are not of this exploration"),
        ({"seconds": -1}, "seconds=-1"),
        ({"executions_max": 0}, "executions_max=0"),
    ],
)
def test_a_wrong_argument_is_named(real: Target, how: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        cleanrace.explore(real, micro("store 0"), **how)


def test_nothing_is_known_before_it_begins(real: Target):
    with pytest.raises(ValueError, match=r"call go_on\(\) first"):
        Explorer(real, micro("store 0")).now()
