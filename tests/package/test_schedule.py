# SPDX-License-Identifier: GPL-2.0-only
"""Schedules by name: named switches and tapes say the same, and real threads follow them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import (
    Case,
    NotExpressible,
    Result,
    Scenario,
    Switch,
    Target,
    follow,
    run,
    run_forced,
    schedule,
)
from cleanrace.schedule import How

LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"
POLICIES = ("random", "uniform", "surw")
DETECTED = ("rule", "race")  # groups of verdicts that the thread engine does not see
RACED = Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\nthread mount a\n")


@pytest.fixture(scope="module")
def real(linux: dict[str, Any]) -> Target:
    return Target(linux)


def micro(*threads: str) -> Scenario:
    lines = "".join(f"thread {thread}\n" for thread in threads)
    return Scenario.from_text(f"cleanrace 1\nmicro\n{lines}")


def concurrent() -> list[Case]:
    """The cases with more than one thread, each scenario once."""
    cases = [Case.read(path) for path in sorted(LITMUS.glob("*.litmus"))]
    apart = {(case.scenario, case.broken): case for case in cases if len(case.scenario.threads) > 1}
    return list(apart.values())


def how(case: Case, **more: Any) -> How:
    return How(planted=tuple(sorted(case.broken)), steps_max=case.steps_max, **more)


def followed(target: Target, scenario: Scenario, listed: tuple[Switch, ...], one: How) -> bytes:
    return follow(target, scenario, listed, planted=one.planted, steps_max=one.steps_max)


def schedules(
    target: Target, policies: tuple[str, ...], *, switches_max: int, numbers: tuple[int, ...]
) -> Iterator[tuple[Case, How, Result]]:
    """Runs of every concurrent case under each policy, those with few enough switches."""
    for case in concurrent():
        one = how(case)
        for policy in policies:
            for number in numbers:
                result = one.run(
                    target, case.scenario, b"", policy=policy, seed=5, schedule=number)
                if sum(map(bool, result.tape)) <= switches_max:
                    yield case, one, result


def texts(target: Target, scenario: Scenario, tape: bytes, one: How | None = None) -> list[str]:
    return [str(each) for each in schedule.switches(target, scenario, tape, one or How())]


@pytest.mark.parametrize("policy", POLICIES)
def test_switches_give_back_the_very_tape(real: Target, policy: str):
    met = 0
    for case, one, result in schedules(real, (policy,), switches_max=14, numbers=(1, 2)):
        listed = schedule.switches(real, case.scenario, result.tape, one)
        assert len(listed) == sum(map(bool, result.tape))
        assert all(Case(case.scenario, switches=(each,)) for each in listed)
        tape = followed(real, case.scenario, listed, one)
        assert tape == result.tape
        assert one.run(real, case.scenario, tape).digest == result.digest
        met += len(listed)
    assert met > 150


def test_no_switches_are_the_empty_tape(real: Target):
    assert schedule.switches(real, RACED, b"", How()) == ()
    assert follow(real, RACED, ()) == b""


def test_a_switch_is_named_by_what_the_thread_does_if_it_goes_on(real: Target):
    # Thread 0 would succeed; since it is preempted there, its cmpxchg fails and only reads.
    scenario = micro("load 1; cmpxchg 0", "cmpxchg 0")
    tape = b"\0\0\1"
    assert [e.kind for e in run(real, scenario, tape).trace if e.kind.startswith("atomic")] == [
        "atomic", "atomic-read"]
    assert texts(real, scenario, tape) == [
        "0->1 2 micro_perform atomic micro_objects[0].marked 1"]


@pytest.mark.parametrize(
    ("tape", "named"),
    [
        (b"\1", ["start->1"]),
        (b"\2", ["start->2"]),
        # Thread 1 gets the lock and goes to its end, thread 2 would be next.
        (b"\0\0\0\1", ["0->2 end"]),
        (b"\0\1\0\1", ["0->1 1 micro_perform lock micro_objects[0].lock 1",
                       "1->2 2 micro_perform unlock micro_objects[0].lock 1"]),
        # Thread 0 holds the lock that thread 1 waits for, and thread 2 would be next.
        (b"\0\0\1\1", ["0->1 2 micro_perform unlock micro_objects[0].lock 1",
                        "1->0 1 - wait - 1"]),
    ],
)
def test_starts_ends_and_waits_have_names(real: Target, tape: bytes, named: list[str]):
    scenario = micro("lock 0; unlock 0", "lock 0; unlock 0", "load 1")
    assert texts(real, scenario, tape) == named
    assert follow(real, scenario, schedule.switches(real, scenario, tape, How())) == tape


def test_the_same_step_twice_is_told_by_its_count(real: Target):
    """Every place at which a mount can be preempted has a name of its own."""
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\nthread register 0\n")
    counts: dict[str, list[int]] = {}
    for place in range(1, 200):
        tape = b"\0" * place + b"\1"
        listed = schedule.switches(real, scenario, tape, How())
        if not listed:
            break  # the mount has ended
        [named] = listed
        name = f"{named.operation} {named.function} {named.kind} {named.object}"
        counts.setdefault(name, []).append(named.count)
        assert follow(real, scenario, (named,)) == tape
    assert sum(map(len, counts.values())) > 20
    assert max(map(len, counts.values())) > 1
    assert all(found == sorted(set(found)) for found in counts.values())


@pytest.mark.parametrize(
    ("switch", "why"),
    [
        (Switch(0, 1, 1, "cleancache_register_ops", "write", "no_such_object", 1),
         "the thread does not come to it here"),
        (Switch(0, 1, 1, "cleancache_register_ops", "atomic", "cleancache_ops", 2),
         "the thread does not come to it here"),
        (Switch(0, 1, 2, "cleancache_register_ops", "atomic", "cleancache_ops", 1),
         "the thread does not come to it here"),
        (Switch(0, 3, 1, "cleancache_register_ops", "atomic", "cleancache_ops", 1),
         "thread 3 cannot go on there"),
        (Switch(0, 1, 1, "-", "wait", "-", 1), "the thread does not come to it here"),
        (Switch.edge("start", 0, 0), "the thread does not come to it here"),
    ],
)
def test_a_step_that_does_not_exist_is_named(real: Target, switch: Switch, why: str):
    first = Switch.edge("start", 0, 0)
    with pytest.raises(NotExpressible, match=r"^not expressible: switch 2, ") as raised:
        follow(real, RACED, (first, switch, first))
    assert (raised.value.number, raised.value.switch) == (2, switch)
    assert str(raised.value) == f"not expressible: switch 2, {switch}: {why}"
    assert isinstance(raised.value, ValueError)


def test_switches_are_followed_in_their_order(real: Target):
    two = schedule.switches(real, micro("load 0; load 1", "load 0; load 1"), b"\0\1\1", How())
    assert [each.thread for each in two] == [0, 1]
    with pytest.raises(NotExpressible, match=re.escape("switch 1")):
        follow(real, micro("load 0; load 1", "load 0; load 1"), tuple(reversed(two)))


@pytest.mark.long
def test_later_switches_are_the_same_schedule(real: Target):
    """Nothing conflicting is passed: the happens-before class and the verdicts stay."""
    moved = gone = 0
    policies = ("random", "surw", "pct-3")
    for case, one, result in schedules(real, policies, switches_max=5, numbers=(2, 3)):
        if case.expect == "step-limit":
            continue  # thousands of steps, and no class of their own
        verdicts = result.verdicts
        tape = schedule.normalise(
            real, case.scenario, result.tape, one, keeps=lambda r, v=verdicts: r.verdicts == v)
        later = one.run(real, case.scenario, tape)
        assert later.tape == tape
        assert later.interleaving == result.interleaving
        assert later.verdicts == verdicts
        before, after = (sum(map(bool, each)) for each in (result.tape, tape))
        assert after <= before
        gone += before - after
        moved += tape != result.tape
    assert moved > 40
    assert gone > 20


def test_a_switch_stops_before_the_first_step_that_conflicts(real: Target):
    scenario = micro("load 1; load 1; store 0; load 1", "load 1; store 0")
    tape = schedule.normalise(real, scenario, b"\0\1", How(), keeps=lambda _: True)
    assert texts(real, scenario, b"\0\1") == ["0->1 1 micro_perform read micro_blocks[1].plain 1"]
    assert texts(real, scenario, tape) == ["0->1 3 micro_perform write micro_blocks[0].plain 1"]


def test_a_switch_that_changes_nothing_goes(real: Target):
    scenario = micro("load 1; load 1", "load 1; store 0")
    assert schedule.normalise(real, scenario, b"\0\1", How(), keeps=lambda _: True) == b""


def test_a_switch_stays_where_moving_it_would_lose_what_matters(real: Target):
    scenario = micro("load 1; load 1", "load 1; store 0")
    tape = b"\0\1"
    digest = run(real, scenario, tape).digest
    assert schedule.normalise(
        real, scenario, tape, How(), keeps=lambda r: r.digest == digest) == tape


def test_the_fault_of_premise_b_lies_between_two_steps(real: Target):
    one = How(planted=("b",), judged=("init-missing",))
    now = cleanrace.explore(
        real, RACED, policy="dfs", bound=1, planted=("b",), stop_on=("init-missing",))
    found = now.simplest["init-missing"]
    tape = schedule.normalise(
        real, RACED, found.tape, one, keeps=lambda r: "init-missing" in r.verdicts)
    assert texts(real, RACED, tape, one) == [
        "start->1",
        "1->0 1 __cleancache_init_fs write super_table[4].cleancache_poolid 1",
    ]
    assert schedule.pairs(real, RACED, tape, one) == (
        schedule.Pair("cleancache_register_ops_sb read", "__cleancache_init_fs write",
                      "super_table.cleancache_poolid"),
    )
    assert schedule.pairs(real, RACED, b"", one) == ()


def test_names_without_indices():
    name = "super_table[4].s_inodes[0].i_sb"
    assert schedule.without_indices(name) == "super_table.s_inodes.i_sb"
    assert schedule.without_indices("table[a[1]].x") == "table.x"


def test_reads_commute_and_writes_do_not():
    def event(kind: str, thing: int = 4) -> cleanrace.Event:
        return cleanrace.Event(0, 0, kind, thing, 0, 0, 0)

    for one in schedule.ACCESSES:
        for other in schedule.ACCESSES:
            both_read = one in schedule.READS and other in schedule.READS
            assert schedule.conflict(event(one), event(other)) != both_read
            assert not schedule.conflict(event(one), event(other, 8))
    assert schedule.conflict(event("cb-put"), event("cb-invalidate-fs"))
    assert not schedule.conflict(event("cb-get"), event("cb-get"))
    assert not schedule.conflict(event("cb-put"), event("write"))


def seen(result: Result) -> list[tuple[int, str, int, int]]:
    """All events but accesses, which only the fibers record."""
    return [(e.thread, e.kind, e.object, e.value)
            for e in result.trace if e.kind not in schedule.ACCESSES]


def test_real_threads_do_what_the_fibers_do(real: Target):
    """Under a tape forced upon them: every event, every verdict, whichever way a run ends."""
    met, runs = set(), 0
    for case in concurrent():
        options = {"planted": tuple(sorted(case.broken)), "steps_max": case.steps_max}
        for policy, number in (("random", 2), ("uniform", 1), ("surw", 3), ("pct-3", 4)):
            fibers = run(real, case.scenario, policy=policy, seed=5, schedule=number,
                         detect=False, **options)
            forced = run_forced(real, case.scenario, fibers.tape, **options)
            assert seen(forced) == seen(fibers)
            assert forced.verdicts == fibers.verdicts
            met |= fibers.verdicts
            runs += 1
    assert runs == 4 * len(concurrent())
    assert met >= {"deadlock", "step-limit", "use-after-free"}


@pytest.mark.parametrize("name", ["deadlock-register-mutex", "early-put", "step-limit-no-progress",
                                  "premise-a", "premise-b", "premise-c", "register-result"])
def test_real_threads_show_what_a_tape_shows(real: Target, name: str):
    case = Case.read(LITMUS / f"{name}.litmus")
    options = {"planted": tuple(case.broken), "steps_max": case.steps_max}
    met = cleanrace.search(real, case.scenario, schedules=case.within, stop_on=(case.expect,),
                           **options)
    fibers = run(real, case.scenario, policy="random", schedule=met.first[case.expect],
                 detect=False, judged=(case.expect,), **options)
    assert fibers.verdicts == {case.expect}
    forced = run_forced(real, case.scenario, fibers.tape, judged=(case.expect,), **options)
    assert forced.verdicts == {case.expect}
    assert seen(forced) == seen(fibers)
