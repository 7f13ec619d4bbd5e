# SPDX-License-Identifier: GPL-2.0-only
"""A search whose detectors skip the classes they know says what they say of every single run.

A run of its own (`run`) is always shown to the detectors, so it is what a search is compared with:
verdicts, the first schedule of each, marks, steps, and every race with how often it was met.
"""

from collections import Counter
from pathlib import Path

import micro
import pytest

from cleanrace import Case, Race, Scenario, Summary, Target, run, search

LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"
RUNS = 1_500
SECTIONS = "store 0; spin 0; unspin 0", "spin 0; unspin 0; store 0"
ALL = ("data-race", "lock-order", "unguarded", "sleep-in-atomic", "recursive-lock", "deadlock",
       "use-after-free")  # fmt: skip


def singly(
    target: Target, scenario: Scenario, runs: int = RUNS, **options: object
) -> tuple[Summary, list[Race]]:
    """What a search says, put together from runs that know nothing of each other."""
    target.forget_races()
    met = Summary()
    marks: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for number in range(runs):
        one = run(target, scenario, schedule=number, full=False, **options)  # type: ignore[arg-type]
        met.schedules += 1
        met.steps += one.steps
        marks.update(one.marks)
        verdicts.update(one.verdicts)
        for verdict in one.verdicts:
            met.first.setdefault(verdict, number)
    met.marks, met.violations = dict(marks), dict(verdicts)
    return met, sorted(target.races(), key=repr)


def searched(
    target: Target, scenario: Scenario, runs: int = RUNS, **options: object
) -> tuple[Summary, list[Race]]:
    target.forget_races()
    met = search(target, scenario, schedules=runs, detect=True, **options)  # type: ignore[arg-type]
    return met, sorted(target.races(), key=repr)


def compare(target: Target, scenario: Scenario, runs: int = RUNS, **options: object) -> int:
    """How many runs the detectors did not look at."""
    alone, races = singly(target, scenario, runs, **options)
    met, met_races = searched(target, scenario, runs, **options)
    assert (met.schedules, met.steps) == (alone.schedules, alone.steps)
    assert (met.violations, met.first, met.marks) == (alone.violations, alone.first, alone.marks)
    assert met_races == races, scenario.to_text()
    plain = search(target, scenario, schedules=runs, **options)  # type: ignore[arg-type]
    if not set(met.violations) - set(plain.violations):  # no detector ended a run
        assert (met.registers, met.choices) == (plain.registers, plain.choices)
    return met.known


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_a_search_of_micro_programs_says_what_its_runs_say(target: Target, seed: int) -> None:
    known = sum(compare(target, micro.drawn(number), 500, policy="random", judged=judged)
                for number in range(seed, seed + 4) for judged in (None, ALL))  # fmt: skip
    assert known > 200


@pytest.mark.parametrize("name", [
    "register+mount+mount", "register+local+shared", "register+mount-unmount-mount-unmount",
    "micro-free-alloc", "micro-use-after-free", "micro-lock-order-shared", "data-race",
    "use-after-free", "unguarded", "sleep-in-atomic", "lock-order", "recursive-lock", "pool-dead",
    "write+reclaim+read", "truncate+reclaim", "premise-c",
])  # fmt: skip
@pytest.mark.parametrize("policy", ["random", "surw"])
def test_a_search_of_a_scenario_says_what_its_runs_say(
    target: Target, name: str, policy: str
) -> None:
    case = Case.from_text((LITMUS / f"{name}.litmus").read_text())
    compare(target, case.scenario, policy=policy, planted=case.broken, judged=None)


def test_detectors_look_at_few_runs_where_classes_are_few(target: Target) -> None:
    case = Case.from_text((LITMUS / "register+mount+mount.litmus").read_text())
    for policy in ("random", "surw"):
        assert compare(target, case.scenario, policy=policy, seed=3) > RUNS * 0.8


def test_the_order_of_sections_that_commute_is_told_apart(target: Target) -> None:
    """The stores race only where the second thread's section came first, in the same class."""
    scenario = micro.program(*SECTIONS)
    assert compare(target, scenario, 3_000, policy="random") > 2_000
    (race,) = target.races()
    assert 100 < race.count < 2_900


def test_known_classes_are_forgotten_with_the_races(target: Target) -> None:
    scenario = micro.program("store 0; load 0", "store 0; load 0")
    _, races = searched(target, scenario, 400)
    assert races
    assert searched(target, scenario, 400)[1] == races


def test_a_rule_that_was_not_judged_is_found_when_it_is(target: Target) -> None:
    scenario = micro.program("lock 0; lock 1; unlock 1; unlock 0", "load 0",
                             "lock 1; unlock 1; lock 1; lock 0; unlock 0; unlock 1")
    target.forget_races()
    free = search(target, scenario, schedules=400, detect=True, judged=["deadlock"])
    met = search(target, scenario, schedules=400, detect=True, judged=["lock-order", "deadlock"])
    assert free.known > 100
    assert met.violations["lock-order"] > 100


def test_a_planted_bug_is_found_after_a_search_without_it(target: Target) -> None:
    case = Case.from_text((LITMUS / "sleep-in-atomic.litmus").read_text())
    target.forget_races()
    assert not search(target, case.scenario, schedules=400, detect=True).violations
    met = search(target, case.scenario, schedules=400, detect=True, planted=case.broken)
    assert met.violations == {"sleep-in-atomic": 400}


def test_memory_that_is_allocated_again_makes_a_run_unknown(target: Target) -> None:
    """A thread has room for so many super blocks, and then takes the first one again."""
    again = "; ".join(["mount a; unmount a"] * 6)
    once = "; ".join(["mount a; unmount a"] * 2)
    head = "cleanrace 1\nfs a local\nfs b local\nthread register 0\n"
    few = Scenario.from_text(f"{head}thread {once}\nthread mount b")
    many = Scenario.from_text(f"{head}thread {again}\nthread mount b")
    compare(target, few, policy="random")
    assert compare(target, many, policy="random") == 0
    assert searched(target, few, 20_000)[0].known > 0
