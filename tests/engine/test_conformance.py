# SPDX-License-Identifier: GPL-2.0-only
"""What every policy must keep to, whatever it is for: each row of the table is tested alike."""

from collections import Counter

import micro
import pytest

from cleanrace import Result, Scenario, Summary, Target, run, search
from cleanrace._native import POLICIES

#: No tape is given, so `tape` always makes the same run.
DRAWING = [policy for policy in POLICIES if policy != "tape"]
#: With few changes of priority most interleavings cannot be; test_pct.py says which can.
EXHAUSTIVE = [policy for policy in DRAWING if not policy.startswith("pct")]
#: Orders of priorities are all there is to draw: 3! for three threads.
DISTINCT = {"pct-1": 5}

LOCKED = ("store 0; store 0; load 1", "store 0; lock 0; store 1; unlock 0", "lock 0; unlock 0")
NOTHING_SHARED = ("store 0; store 0", "store 1; store 1", "load 2; load 2")
RACE = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n")

every = pytest.mark.parametrize("policy", POLICIES)
drawing = pytest.mark.parametrize("policy", DRAWING)


def drawn(target: Target, scenario: Scenario, policy: str, count: int, *, seed: int = 3
          ) -> list[Result]:
    """The first runs of a seed; the micro objects race, which is not what is judged here."""
    return [run(target, scenario, policy=policy, seed=seed, schedule=n, detect=False)
            for n in range(count)]


def test_the_table_has_no_row_without_a_name(target: Target) -> None:
    numbers = [getattr(target.native.lib, constant) for constant in POLICIES.values()]
    assert sorted(numbers) == list(range(len(POLICIES)))
    config = target.native.ffi.new("struct cr_config *", {"policy": len(POLICIES)})
    result = target.native.ffi.new("struct cr_result *")
    assert target.native.lib.cr_run(config, b"\0", 1, b"", 0, result) < 0


@every
@pytest.mark.parametrize("threads", [LOCKED, NOTHING_SHARED, ["lock 0; store 0; unlock 0"] * 8,
                                     ["store 0; load 1; store 2"] * 8, ["store 0; load 0"]])
def test_only_threads_that_can_go_on_are_chosen_and_all_come_to_their_end(
    target: Target, policy: str, threads: list[str]
) -> None:
    lengths = [len(thread.split(";")) for thread in threads]
    for result in drawn(target, micro.program(*threads), policy, 100):
        assert result.verdict == "ok"
        assert list(map(len, result.returns)) == lengths
        assert all(event.enabled >> event.thread & 1 for event in micro.accesses(result))


@every
@pytest.mark.parametrize("scenario", [micro.program(*LOCKED), micro.program(*NOTHING_SHARED), RACE])
def test_the_tape_that_a_policy_wrote_repeats_its_run(
    target: Target, policy: str, scenario: Scenario
) -> None:
    for result in drawn(target, scenario, policy, 100):
        assert run(target, scenario, result.tape, detect=False) == result


@drawing
def test_seed_and_number_are_all_there_is_to_a_schedule(target: Target, policy: str) -> None:
    """Whatever ran in between, and whichever policy."""
    scenario = micro.program(*LOCKED)
    first = drawn(target, scenario, policy, 200)
    for between in DRAWING:
        drawn(target, RACE, between, 1)
        assert run(target, scenario, policy=policy, seed=3, schedule=77,
                   detect=False) == first[77]
    assert drawn(target, scenario, policy, 200) == first
    assert len({result.digest for result in first}) >= DISTINCT.get(policy, 15)
    assert drawn(target, scenario, policy, 200, seed=4) != first


@drawing
def test_a_search_makes_the_runs_that_its_numbers_name(target: Target, policy: str) -> None:
    """In one go, one by one, and as single runs, which look at every access."""
    for scenario in (RACE, micro.program("free 0; alloc 0", "load 0; lock 0; lock 1",
                                         "lock 1; lock 0")):
        options = {"policy": policy, "seed": 5, "planted": ["a"]}
        whole = search(target, scenario, schedules=100, first=17, **options)
        single = Summary()
        for number in range(17, 117):
            search(target, scenario, schedules=1, first=number, into=single, **options)
            search(target, micro.program("store 0", "load 0"), schedules=1, policy=policy)
        whole.seconds = single.seconds = 0.0
        assert whole == single
        runs = [run(target, scenario, schedule=n, detect=False, **options)
                for n in range(17, 117)]
        assert whole.steps == sum(result.steps for result in runs)
        assert whole.violations == Counter(name for result in runs for name in result.verdicts)


@pytest.mark.parametrize("policy", EXHAUSTIVE)
@pytest.mark.parametrize(("threads", "classes"), [
    (("store 0; store 0; store 0", "store 0; store 0; store 0"), 20),
    (("load 0; load 1; load 2", "store 0", "store 1"), 4),
    (("lock 0; unlock 0; lock 0; unlock 0", "lock 0; unlock 0; lock 0; unlock 0"), 6),
    (("store 0; store 1", "store 1; store 0"), 3),
])
def test_every_interleaving_of_a_small_program_is_met(
    target: Target, policy: str, threads: tuple[str, ...], classes: int
) -> None:
    found = drawn(target, micro.program(*threads), policy, 2_000)
    assert {result.verdict for result in found} == {"ok"}
    assert len({result.interleaving for result in found}) == classes


@drawing
def test_a_run_under_points_of_synchronisation_only_is_repeatable_too(
    target: Target, policy: str
) -> None:
    def runs() -> list[Result]:
        return [run(target, RACE, policy=policy, schedule=n, points="sync", detect=False)
                for n in range(50)]

    first = runs()
    assert runs() == first
    assert {result.verdict for result in first} == {"ok"}
    assert len({result.digest for result in first}) > 5


@drawing
def test_a_step_limit_below_the_profile_does_no_harm(target: Target, policy: str) -> None:
    for limit in (1, 5, 20):
        met = search(target, RACE, schedules=50, policy=policy, steps_max=limit)
        assert met.violations == {"step-limit": 50}
