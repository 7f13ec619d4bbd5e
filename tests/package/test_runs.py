# SPDX-License-Identifier: GPL-2.0-only
"""run and search are pure functions of their arguments, which are checked before C is entered."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cleanrace import (
    FileSystem,
    Operation,
    Scenario,
    Summary,
    Target,
    codec,
    run,
    search,
)

RACE = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b shared uuid 1\n"
    "thread register 0\nthread mount a\nthread mount b\n"
)
PAGES = Scenario.from_text(
    "cleanrace 1\nfs a local\nthread register 0; mount a; read a 0 0; reclaim a 0 0; read a 0 0\n"
    "thread write a 0 0; truncate a 0 0\nthread unmount a; register 1\n"
)
CROSSED = Scenario.from_text(
    "cleanrace 1\nmicro\nthread lock 0; lock 1; unlock 1; unlock 0\n"
    "thread lock 1; lock 0; unlock 0; unlock 1\n"
)


@pytest.mark.parametrize("scenario", [RACE, PAGES, CROSSED])
def test_the_same_arguments_give_the_same_trace_twice(
    target_510: Target, scenario: Scenario
) -> None:
    seen = set()
    for schedule in range(100):
        one = run(target_510, scenario, policy="random", seed=3, schedule=schedule)
        other = run(target_510, scenario, policy="random", seed=3, schedule=schedule)
        assert one == other
        seen.add(one.digest)
    assert len(seen) > 10


@pytest.mark.parametrize("policy", ["random", "uniform"])
@pytest.mark.parametrize("scenario", [RACE, PAGES, CROSSED])
def test_a_tape_repeats_the_run_that_wrote_it(
    target_510: Target, scenario: Scenario, policy: str
) -> None:
    for schedule in range(50):
        drawn = run(target_510, scenario, policy=policy, seed=9, schedule=schedule)
        assert run(target_510, scenario, drawn.tape) == drawn
        assert not drawn.tape.endswith(b"\0")


def test_every_tape_is_a_schedule(target_510: Target) -> None:
    draw = random.Random(4)
    for _ in range(200):
        tape = draw.randbytes(draw.randrange(300))
        result = run(target_510, PAGES, tape, full=False)
        assert run(target_510, PAGES, result.tape, full=False) == result


@pytest.mark.parametrize("bug", ["a", "b", "c", "d"])
def test_the_first_schedule_of_a_search_repeats_its_verdict_and_its_tape_too(
    target_510: Target, bug: str
) -> None:
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n"
    )
    met = search(target_510, scenario, schedules=200_000, seed=5, first=1000, planted=[bug])
    assert met.violations
    for verdict, number in met.first.items():
        assert 1000 <= number < 201_000
        found = run(target_510, scenario, policy="random", seed=5, schedule=number, planted=[bug])
        assert verdict in found.verdicts
        replayed = run(target_510, scenario, found.tape, planted=[bug])
        assert replayed.digest == found.digest
        assert replayed == found


def test_the_unbroken_premises_hold_for_two_mounts(target_510: Target) -> None:
    met = search(target_510, RACE, schedules=20_000)
    assert met.violations == {}
    assert met.schedules == 20_000
    assert met.marks["registration-met"] > 1000
    assert met.interleavings > 20


def test_a_violation_names_its_event_and_cause(target_510: Target) -> None:
    text = "cleanrace 1\nfs a local\nthread register 2; mount a; remount a\n"
    result = run(target_510, Scenario.from_text(text))
    assert result.verdict == "init-twice"
    assert result.violation is not None
    assert result.violation.kind == "cb-init"
    assert result.cause is not None
    assert (result.cause.kind, result.cause.object) == ("cb-init", 0)
    assert run(target_510, RACE).violation is None


def test_results_and_callbacks_are_read_from_the_trace(target_510: Target) -> None:
    text = (
        "cleanrace 1\nfs a shared uuid 3\nthread register 2; mount a; read a 1 0; unmount a\n"
        "thread unmount a; register 0\n"
    )
    result = run(target_510, Scenario.from_text(text), full=False)
    assert result.returns == ((0, 0, 0x10 << 16 | 1, 0), (-22, -16))
    assert [call[2:] for call in result.calls] == [
        ("init-shared", 0, 2, 0, 0, 3),
        ("get", 0, 2, 1, 0, 0),
        ("invalidate-fs", 0, 2, 0, 0, 0),
    ]
    assert "registration-busy" in result.marks


def test_only_a_full_trace_has_accesses(target_510: Target) -> None:
    accesses = {"read", "write", "atomic", "lock", "unlock"}
    full, short = run(target_510, RACE), run(target_510, RACE, full=False)
    assert {event.kind for event in full.trace} >= accesses
    assert not {event.kind for event in short.trace} & accesses
    assert [e.kind for e in full.trace if e.kind in {s.kind for s in short.trace}] == [
        event.kind for event in short.trace
    ]
    assert all(event.enabled for event in full.trace if event.kind == "write")


def test_crossed_locks_deadlock_and_are_found(target_510: Target) -> None:
    met = search(target_510, CROSSED, schedules=10_000, stop_on=["deadlock"])
    assert set(met.violations) == {"deadlock"}
    assert met.violations["deadlock"] == 1
    assert met.schedules < 10_000


def test_what_is_not_judged_is_no_violation_of_the_proof(target_510: Target) -> None:
    text = "cleanrace 1\nfs a local\nthread register 0; mount a; remount a; unmount a\n"
    scenario = Scenario.from_text(text)
    assert run(target_510, scenario).verdicts == {"init-twice", "pool-leak"}
    assert run(target_510, scenario, judged=["pool-leak"]).verdict == "pool-leak"
    assert run(target_510, scenario, judged=[]).verdict == "ok"


def test_a_run_ends_at_its_step_limit(target_510: Target) -> None:
    result = run(target_510, RACE, steps_max=10)
    assert result.verdict == "step-limit"
    assert result.steps <= 11


def test_a_search_is_the_sum_of_its_parts(target_510: Target) -> None:
    options: dict[str, Any] = {"seed": 8, "planted": ["c"]}
    whole = search(target_510, RACE, schedules=4_000, **options)
    parts = Summary()
    for first in range(0, 4_000, 1_000):
        assert (
            search(target_510, RACE, schedules=1_000, first=first, into=parts, **options) is parts
        )
    for field in ("schedules", "steps", "choices", "violations", "first", "marks", "registers"):
        assert getattr(parts, field) == getattr(whole, field), field
    assert parts.first["init-missing"] == whole.first["init-missing"]


def test_a_search_counts_interleavings_as_single_runs_do(target_510: Target) -> None:
    met = search(target_510, PAGES, schedules=300, seed=1)
    hashes = {
        run(target_510, PAGES, policy="random", seed=1, schedule=n, full=False).interleaving
        for n in range(300)
    }
    assert met.interleavings == pytest.approx(len(hashes), rel=0.05)


def test_a_search_stops_at_its_time(target_510: Target) -> None:
    start = time.monotonic()
    met = search(target_510, RACE, schedules=10**12, seconds=0.3)
    assert time.monotonic() - start >= 0.3
    assert 0 < met.schedules < 10**12
    assert met.seconds > 0


def test_nothing_asked_for_is_nothing_done(target_510: Target) -> None:
    assert search(target_510, RACE, schedules=0) == Summary()
    assert search(target_510, RACE, schedules=10, seconds=0) == Summary()


def test_a_scenario_without_threads_runs(target_510: Target) -> None:
    result = run(target_510, Scenario((FileSystem(),)))
    assert (result.verdict, result.steps, result.trace, result.returns) == ("ok", 0, (), ())


def test_real_threads_give_one_thread_the_results_that_fibers_give(target_510: Target) -> None:
    operations = [operation for thread in PAGES.threads for operation in thread]
    scenario = Scenario(PAGES.file_systems, (tuple(operations),))
    threads = run(target_510, scenario, engine="thread", full=False)
    assert threads.returns == run(target_510, scenario, full=False).returns
    met = search(target_510, RACE, schedules=50, engine="thread")
    assert (met.schedules, met.violations) == (50, {})


def test_a_fuzzer_input_is_a_run(target_510: Target) -> None:
    fuzzer = target_510.fuzzer(planted=["c"])
    draw = random.Random(6)
    for _ in range(300):
        data = RACE.to_bytes() + draw.randbytes(60)
        result = run(target_510, RACE, data[codec.scenario_bytes(data) :], planted=["c"])
        assert target_510.named("verdicts", fuzzer.one(data)) - {"ok"} == result.verdicts
    assert fuzzer.edges_seen > 30
    assert fuzzer.pairs_seen > 10
    edges = fuzzer.edges()
    assert len(edges) == fuzzer.edges_seen
    functions = {target_510.names.function_line(edge).split(":")[0] for edge in edges}
    assert "cleancache_register_ops" in functions


def test_two_module_files_are_two_targets_side_by_side(target_510: Target, tmp_path: Path) -> None:
    copy = tmp_path / target_510.module.name
    shutil.copy(target_510.module, copy)
    other = Target(target_510.info | {"module": str(copy)})
    assert run(target_510, PAGES) == run(other, PAGES)
    assert other.native.lib is not target_510.native.lib
    run(target_510, PAGES)
    run(other, CROSSED)
    assert target_510.counters()["puts"] == 1
    assert other.counters()["puts"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "linux-5.10"}, "target='linux-5.10': expected a Target"),
        ({"scenario": b"\0"}, "scenario=b'\\x00': expected a Scenario"),
        ({"tape": "0"}, "tape='0': expected a bytes"),
        ({"tape": bytes(32_769)}, "tape has 32769 bytes: expected 32768 at most"),
        ({"engine": "fibre"}, "engine='fibre': expected one of fiber, thread"),
        ({"policy": "dfs"}, "policy='dfs': expected one of tape, random, uniform"),
        ({"planted": ["e"]}, "planted='e': expected one of a, b, c, d, weak-cmpxchg"),
        ({"planted": "a"}, "planted='a': expected a collection of names"),
        ({"judged": ["bad"]}, "judged='bad': expected one of ok, init-missing"),
        ({"steps_max": -1}, "steps_max=-1: expected a number from 0 to"),
        ({"steps_max": 1 << 32}, "steps_max=4294967296: expected a number from 0 to"),
        ({"seed": 1 << 64}, "seed=18446744073709551616: expected a number from 0 to"),
        ({"seed": 1.5}, "seed=1.5: expected a number from 0 to"),
        ({"schedule": True}, "schedule=True: expected a number from 0 to"),
        ({"full": 1}, "full=1: expected a bool"),
    ],
)
def test_run_refuses_an_argument_by_name_and_value(
    target_510: Target, options: dict[str, Any], message: str
) -> None:
    arguments = {"target": target_510, "scenario": RACE} | options
    with pytest.raises(ValueError, match="expected") as caught:
        run(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedules": -1}, "schedules=-1: expected a number from 0 to"),
        ({"schedules": 2, "first": (1 << 64) - 1}, "schedules=2: expected a number from 0 to"),
        ({"seconds": -1}, "seconds=-1: expected a number from 0, or None"),
        ({"seconds": float("nan")}, "seconds=nan: expected a number from 0, or None"),
        ({"stop_on": ["bad"]}, "stop_on='bad': expected one of ok"),
        ({"into": {}}, "into={}: expected a Summary"),
        ({"first": -1}, "schedule=-1: expected a number from 0 to"),
    ],
)
def test_search_refuses_an_argument_by_name_and_value(
    target_510: Target, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        search(target_510, RACE, **({"schedules": 1} | options))
    assert message in str(caught.value)


def test_operations_that_wait_for_each_other_all_end(target_510: Target) -> None:
    threads = tuple((Operation("mount", (0,)), Operation("unmount", (0,))) for _ in range(8))
    met = search(target_510, Scenario(threads=threads), schedules=500)
    assert met.violations == {}


def test_an_interrupted_search_keeps_what_it_has_done(
    target_510: Target,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    into = Summary()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            search(target_510, RACE, schedules=10**12, into=into)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert 0 < into.schedules < 10**12
    assert into.marks
