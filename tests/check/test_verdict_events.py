# SPDX-License-Identifier: GPL-2.0-only
"""Each violation points at the event that is wrong, and at the earlier one that makes it so."""

import pytest

from cleanrace import Event, Result, Scenario, Target, run, search, words

ONE = "fs a local\n"
TWO = "fs a local\nfs b local\n"
RECLAIM = "thread register 0; mount a; read a 0 0; reclaim a 0 0"


def broken(target: Target, text: str, verdict: str, *planted: str, within: int = 1) -> Result:
    """The first run that has the verdict, with only that verdict judged."""
    scenario = Scenario.from_text(f"cleanrace 1\n{text}")
    judged = [verdict]
    found = search(target, scenario, schedules=within, planted=planted, judged=judged,
                   stop_on=judged)
    result = run(target, scenario, policy="random", schedule=found.first[verdict],
                 planted=planted, judged=judged, full=False)
    assert (result.verdict, result.verdicts) == (verdict, {verdict})
    assert result.violation in result.trace
    assert result.cause in result.trace
    assert result.trace.index(result.cause) <= result.trace.index(result.violation)
    return result


def events(result: Result) -> tuple[tuple[str, int], tuple[str, int]]:
    """Kind and object of the violation and of its cause."""
    assert result.violation is not None
    assert result.cause is not None
    return ((result.violation.kind, result.violation.object),
            (result.cause.kind, result.cause.object))


def nth(result: Result, kind: str, number: int) -> Event:
    """The number-th event of a kind; negative ones count from the end."""
    return [event for event in result.trace if event.kind == kind][number]


def test_init_missing_points_at_the_registration_that_ended_without_it(target: Target) -> None:
    result = broken(target, ONE + "thread mount a; register 0", "init-missing", "d")
    assert events(result) == (("registered", 0), ("registered", 0))


def test_init_missing_points_at_a_mount_that_came_later_and_at_the_winner(target: Target) -> None:
    """Of the two events that make it so, the later one: here the mount becomes visible last."""
    scenario = Scenario.from_text(f"cleanrace 1\n{ONE}thread mount a\nthread register 0")
    results = (run(target, scenario, policy="random", schedule=n, planted=["c"],
                   judged=["init-missing"], full=False) for n in range(20_000))
    later = {events(result) for result in results if result.violation}
    assert later == {(("sb-mounted", 0), ("registered", 0)), (("registered", 0), ("registered", 0))}


def test_init_twice_points_at_both_calls(target: Target) -> None:
    result = broken(target, ONE + "thread register 0; mount a; remount a", "init-twice")
    assert events(result) == (("cb-init", 8), ("cb-init", 0))


def test_a_refused_init_counts_as_one(target: Target) -> None:
    result = broken(target, "init-fails 0\n" + ONE + "thread register 0; mount a; remount a",
                    "init-twice")
    assert events(result) == (("cb-init", 0), ("cb-init", -1))


def test_init_wrong_points_at_the_call(target: Target) -> None:
    result = broken(target, "fs a shared uuid 1\nthread register 0; mount a", "init-wrong",
                    "wrong-init")
    assert events(result) == (("cb-init", 0), ("cb-init", 0))


def test_register_result_points_at_both_winners(target: Target) -> None:
    result = broken(target, ONE + "thread register 2\nthread register 3", "register-result",
                    "weak-cmpxchg", within=5_000)
    assert {thing for _, thing in events(result)} == {2, 3}
    assert [event.value for event in (result.violation, result.cause) if event] == [0, 0]


def test_ops_changed_points_at_the_stranger_and_at_the_first_one(target: Target) -> None:
    result = broken(target, ONE + "thread register 0; mount a; unmount a\nthread register 1",
                    "ops-changed", "weak-cmpxchg", within=20_000)
    assert result.violation is not None
    assert result.violation.kind.startswith("cb-")
    assert result.cause is not None
    assert result.cause.kind in ("cb-init", "registered")
    stranger = result.violation.value >> 56
    first = result.cause.value >> 56 if result.cause.kind == "cb-init" else result.cause.object
    assert {stranger, first} == {0, 1}


def test_pool_unknown_points_at_the_call(target: Target) -> None:
    result = broken(target, "fs a none\nthread register 0; mount a; read a 0 0", "pool-unknown",
                    "poolid-unset")
    assert events(result) == (("cb-get", 0), ("cb-get", 0))


def test_pool_dead_points_at_the_call_and_at_the_surrender(target: Target) -> None:
    result = broken(target, ONE + RECLAIM + "\nthread unmount a", "pool-dead", within=50_000)
    assert events(result) == (("cb-put", 0), ("cb-invalidate-fs", 0))
    assert result.violation is not None
    assert result.violation.thread == 0
    assert result.cause is not None
    assert result.cause.thread == 1


def test_pool_foreign_points_at_the_call_and_at_the_new_owner(target: Target) -> None:
    result = broken(target, TWO + RECLAIM + "\nthread unmount a\nthread mount b", "pool-foreign",
                    within=200_000)
    assert events(result) == (("cb-put", 0), ("cb-init", 0))
    assert result.cause is not None
    assert result.cause.thread == 2


def test_pool_leak_points_at_the_death_and_at_the_handing_out(target: Target) -> None:
    result = broken(target, ONE + "thread register 0; mount a; unmount a", "pool-leak",
                    "no-invalidate-fs")
    assert events(result) == (("sb-free", 0), ("cb-init", 0))


def test_pool_leak_points_at_the_init_that_made_the_first_pool_forgotten(target: Target) -> None:
    result = broken(target, ONE + "thread register 0; mount a; remount a; unmount a", "pool-leak")
    assert events(result) == (("cb-init", 8), ("cb-init", 0))


def test_data_stale_points_at_the_read_and_at_the_put_of_what_it_got(target: Target) -> None:
    result = broken(
        target, ONE + RECLAIM + "; write a 0 0; writeback a 0 0; reclaim a 0 0; read a 0 0",
        "data-stale", "no-invalidate")
    assert result.violation == nth(result, "read-end", -1)
    assert result.cause == nth(result, "cb-put", 0)


def test_data_foreign_points_at_the_read_and_at_the_put_of_what_it_got(target: Target) -> None:
    result = broken(target, TWO + RECLAIM + "; read b 0 0\nthread unmount a\nthread mount b",
                    "data-foreign", within=200_000)
    assert events(result) == (("read-end", 0x100), ("cb-put", 0))


@pytest.mark.parametrize(("verdict", "text", "planted"), [
    ("deadlock", "micro\nthread lock 0\nthread lock 0", ()),
    ("use-after-free", "micro\nthread free 0; load 0", ()),
    ("null-dereference", "micro\nthread lose 0; load 0", ()),
    ("lock-misuse", "micro\nthread store 0; unlock 0", ()),
    ("frozen-write", ONE + "thread mount a", ("write-frozen",)),
    ("assertion", ONE + RECLAIM, ("no-page-lock",)),
])
def test_what_the_engine_stops_points_at_the_last_event(
    target: Target, verdict: str, text: str, planted: tuple[str, ...]
) -> None:
    result = broken(target, text, verdict, *planted)
    assert result.violation == result.cause == result.trace[-1]


def test_the_first_violation_is_the_one_that_is_told(target: Target) -> None:
    text = f"cleanrace 1\n{ONE}thread register 0; mount a; remount a; unmount a"
    result = run(target, Scenario.from_text(text), full=False)
    assert result.verdict == "init-twice"
    assert result.verdicts == {"init-twice", "pool-leak"}
    assert events(result) == (("cb-init", 8), ("cb-init", 0))


@pytest.mark.parametrize("judged", [[], ["pool-leak"], ["init-twice"], ["data-stale"]])
def test_only_what_is_judged_is_told(target: Target, judged: list[str]) -> None:
    text = f"cleanrace 1\n{ONE}thread register 0; mount a; remount a; unmount a"
    result = run(target, Scenario.from_text(text), judged=judged)
    assert result.verdicts == set(judged) & {"init-twice", "pool-leak"}


def test_every_verdict_of_the_oracle_is_pointed_at_here(target: Target) -> None:
    tested = {name for name in globals() if name.startswith("test_")}
    judged = [v for v, group in words.VERDICTS.items() if group in ("proof", "pool", "data")]
    assert [v for v in judged if not any(
        name.startswith(f"test_{v.replace('-', '_')}_points") for name in tested)] == []
    assert set(judged) <= set(target.table("verdicts"))
