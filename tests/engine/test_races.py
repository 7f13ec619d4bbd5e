# SPDX-License-Identifier: GPL-2.0-only
"""Data races: exactly those pairs of accesses that a slow model finds unordered."""

import random
from collections import Counter
from pathlib import Path

import micro
import pytest

from cleanrace import Case, Event, Result, Scenario, Target, run, search, words

PLAIN = ("read", "write")
LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"
Pair = tuple[tuple[int, str], tuple[int, str]]


def happens_before(scenario: Scenario, result: Result) -> tuple[list[Event], list[set[int]]]:
    """The accesses of a run, and for each the numbers of those that happen before it."""
    names = [operation.name for thread in scenario.threads for operation in thread]
    doing: dict[int, str] = {}
    events: list[Event] = []
    before: list[set[int]] = []
    for event in result.trace:
        if event.kind == "op-begin":
            doing[event.thread] = names[event.object]
        if event.kind not in micro.ACCESSES:
            continue
        edges = set()
        for number, other in enumerate(events):
            same = other.object // 4 == event.object // 4
            released = {
                "lock": ("unlock", "unlock-shared"), "lock-shared": ("unlock",),
                "atomic": ("atomic",),
                "atomic-read": ("atomic",) if doing[event.thread] == "wait-zero" else (),
            }.get(event.kind, ())  # fmt: skip
            if other.thread == event.thread or (same and other.kind in released):
                edges |= {number} | before[number]
        events.append(event)
        before.append(edges)
    return events, before


def model(scenario: Scenario, result: Result) -> set[Pair]:
    """Each access with the last one of each class of the other threads, if in no order."""
    events, before = happens_before(scenario, result)
    if result.verdict in ("use-after-free", "out-of-bounds", "unguarded"):
        events.pop()  # it was stopped before it happened
    found = set()
    for late, event in enumerate(events):
        last: dict[tuple[int, bool, bool], int] = {}
        for early, other in enumerate(events[:late]):
            if other.object // 4 == event.object // 4 and "lock" not in other.kind:
                last[other.thread, micro.ACCESSES[other.kind], other.kind in PLAIN] = early
        for (thread, writes, plain), early in last.items():
            conflict = writes or micro.ACCESSES[event.kind]
            racy = conflict and (plain or event.kind in PLAIN) and thread != event.thread
            if racy and early not in before[late]:
                found.add(pair(events[early], event))
    return found


def pair(one: Event, other: Event) -> Pair:
    low, high = sorted(((one.pc, one.kind), (other.pc, other.kind)), key=by_code)
    return low, high


def by_code(access: tuple[int, str]) -> tuple[int, int]:
    return access[0], list(micro.ACCESSES).index(access[1])


def told(target: Target) -> set[Pair]:
    pairs = [sorted(((r.first.pc, r.first.kind), (r.second.pc, r.second.kind)), key=by_code)
             for r in target.races()]
    return {(low, high) for low, high in pairs}


@pytest.mark.parametrize("block", range(4))
def test_each_run_has_the_races_of_the_model(target: Target, block: int) -> None:
    racy: Counter[bool] = Counter()
    for seed in range(12 * block, 12 * block + 12):
        scenario = micro.drawn(seed)
        for result in micro.every_run(target, scenario):
            target.forget_races()
            again = run(target, scenario, result.tape, judged=["data-race"])
            expected = model(scenario, result)
            assert told(target) == expected, (scenario.to_text(), result.tape)
            assert (again.verdict == "data-race") == bool(expected)
            assert again.digest == result.digest
            racy[bool(expected)] += 1
    assert racy[True] > 100
    assert racy[False] > 100


@pytest.mark.parametrize("block", range(2))
def test_races_are_the_same_whoever_else_looks_on(target: Target, block: int) -> None:
    """The detectors alone take shorter ways than beside a full trace."""
    racy: Counter[bool] = Counter()
    for seed in range(100 + 12 * block, 112 + 12 * block):
        scenario = micro.drawn(seed)
        for result in micro.every_run(target, scenario):
            found = []
            for full in (True, False):
                target.forget_races()
                again = run(target, scenario, result.tape, judged=["data-race"], full=full)
                found.append((again.verdict, target.races()))
            assert found[0] == found[1], (scenario.to_text(), result.tape)
            racy[bool(found[0][1])] += 1
    assert racy[True] > 100
    assert racy[False] > 100


def races(target: Target, *threads: str) -> Counter[bool]:
    """Whether the runs of a program have a race."""
    runs = micro.every_run(target, micro.program(*threads), judged=["data-race"])
    return Counter(result.verdict == "data-race" for result in runs)


@pytest.mark.parametrize("threads", [
    ("load 0", "load 0"), ("store 0", "store 1"), ("store-marked 0", "load-marked 0"),
    ("lock 0; store 0; unlock 0", "lock 0; load 0; unlock 0"),
    ("lock 0; store 0; unlock 0", "lock-shared 0; load 0; unlock-shared 0"),
    ("spin 0; store-guarded 0; unspin 0", "spin 0; load-guarded 0; unspin 0"),
], ids=" | ".join)  # fmt: skip
def test_what_is_ordered_does_not_race(target: Target, threads: tuple[str, ...]) -> None:
    assert set(races(target, *threads)) == {False}


@pytest.mark.parametrize("threads", [
    ("store 0", "load 0"), ("store 0", "store 0"),
    ("store 0; store-marked 0", "load-marked 0; load 0"),
    ("lock 0; store 0; unlock 0", "lock 1; load 0; unlock 1"),
    ("lock-shared 0; store 0; unlock-shared 0", "lock-shared 0; load 0; unlock-shared 0"),
    ("store 0; cmpxchg 0", "load-marked 0; load 0"),
], ids=" | ".join)  # fmt: skip
def test_what_nothing_orders_races_in_every_run(target: Target, threads: tuple[str, ...]) -> None:
    assert set(races(target, *threads)) == {True}


def test_an_exchange_orders_only_if_it_succeeds(target: Target) -> None:
    """Thread 1's load is ordered exactly after the exchange that it followed: both succeeded."""
    assert set(races(target, "store 0; cmpxchg 0", "cmpxchg 0; load 0")) == {True}
    threads = "store 0; cmpxchg 0; clear-marked 0", "cmpxchg 0; load 0"
    assert set(races(target, *threads)) == {True, False}


def test_a_wait_is_ordered_after_the_exchange_before_it(target: Target) -> None:
    threads = "store 0; cmpxchg 0; clear-marked 0", "wait-zero 0; load 0"
    runs = micro.every_run(target, micro.program(*threads), judged=["data-race"])
    for result in runs:
        kinds = [(e.thread, e.kind) for e in micro.accesses(result)]
        waited = kinds.index((1, "atomic-read")) > kinds.index((0, "atomic"))
        assert (result.verdict == "ok") == waited
    assert {result.verdict for result in runs} == {"ok", "data-race"}


def test_a_race_points_at_both_accesses(target: Target) -> None:
    result = run(target, micro.program("store 0; load 1", "load 0"), judged=["data-race"])
    assert result.violation is not None
    assert result.cause is not None
    assert (result.violation.kind, result.cause.kind) == ("read", "write")
    assert result.violation.object == result.cause.object


def test_a_race_counts_only_for_who_asks(target: Target) -> None:
    scenario = micro.program("store 0", "load 0")
    assert run(target, scenario).verdict == "ok"
    assert run(target, scenario, judged=["data-race"], detect=False).verdict == "ok"
    assert search(target, scenario, schedules=9, detect=True).violations == {}
    met = search(target, scenario, schedules=9, detect=True, judged=["data-race"])
    assert met.violations == {"data-race": 9}


def test_a_table_of_races_names_locks_and_counts(target: Target) -> None:
    target.forget_races()
    search(target, micro.program("lock 1; store 0; unlock 1", "load 0"), schedules=7, detect=True)
    (race,) = target.races()
    assert race.count == 7
    assert not race.documented
    assert target.names.object(race.object) == "micro_blocks[0].plain"
    held = {access.kind: [target.names.object(lock) for lock in access.held]
            for access in (race.first, race.second)}
    assert held == {"read": [], "write": ["micro_objects[1].lock"]}
    target.forget_races()
    assert target.races() == ()


def kernel_races(target: Target, word: str) -> dict[str, bool]:
    """The fields that race in the litmus that are for a target, and whether that is documented."""
    target.forget_races()
    for path in sorted(LITMUS.glob("*.litmus")):
        case = Case.read(path)
        if not case.broken and not case.scenario.micro and case.target in ("any", word):
            search(target, case.scenario, schedules=300, detect=True)
    return {target.names.object(race.object).split(".")[-1]: race.documented
            for race in target.races()}


def test_the_real_file_races_on_two_words_and_on_its_counters(target: Target) -> None:
    found = kernel_races(target, "linux")
    assert {name for name, documented in found.items() if not documented} == {
        "cleancache_ops", "cleancache_poolid"}
    documented = {name for name, documented in found.items() if documented}
    assert documented
    assert documented <= {f"cleancache_{name}" for name in target.counters()}


def test_the_reference_does_not_race(control: Target) -> None:
    assert not [name for name, documented in kernel_races(control, "reference").items()
                if not documented]


def test_detecting_changes_nothing_but_verdicts(target: Target) -> None:
    draw = random.Random(1)
    for path in draw.sample(sorted(LITMUS.glob("*.litmus")), 40):
        case = Case.read(path)
        if case.broken or words.VERDICTS[case.expect] in ("rule", "race"):
            continue
        for schedule in range(10):
            one, other = (run(target, case.scenario, policy="random", schedule=schedule,
                              detect=detect) for detect in (True, False))
            if one.verdicts <= other.verdicts:
                assert one == other
