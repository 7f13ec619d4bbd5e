# SPDX-License-Identifier: GPL-2.0-only
"""The policies that draw: repeatable, and distributed as they say.

The seed is fixed, so that these are exact statements about the generator, with bounds that a
healthy one keeps: five standard deviations around what is expected.
"""

from collections import Counter
from math import sqrt

import micro
import pytest

from cleanrace import Target, run, search

RUNS = 3_000
LONG = "; ".join(["store 0"] * 31)


def near(found: float, expected: float, deviation: float) -> bool:
    return abs(found - expected) <= 5 * deviation


def share_is(count: int, total: int, expected: float) -> bool:
    return near(count / total, expected, sqrt(expected * (1 - expected) / total))


@pytest.mark.parametrize("policy", ["random", "uniform"])
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_who_starts_is_drawn_evenly(target: Target, policy: str, threads: int) -> None:
    scenario = micro.program(*["store 0"] * threads)
    starts = Counter((run(target, scenario, policy=policy, seed=11, schedule=n).tape or b"\0")[0]
                     for n in range(RUNS))
    assert set(starts) == set(range(threads))
    for count in starts.values():
        assert share_is(count, RUNS, 1 / threads)


def answers(target: Target, policy: str, number: int, *, count: int) -> list[int]:
    """The first `count` answers of a run of two threads, without the one that starts it."""
    tape = run(target, micro.program(LONG, LONG), policy=policy, seed=2, schedule=number,
               full=False).tape
    return list(tape[1:].ljust(count, b"\0")[:count])


def test_uniform_switches_at_every_second_decision(target: Target) -> None:
    drawn = [answer for n in range(500) for answer in answers(target, "uniform", n, count=30)]
    assert share_is(sum(drawn), len(drawn), 1 / 2)


def test_random_draws_how_often_it_switches_once_per_run(target: Target) -> None:
    """With probability 2^-k, k from 1 to 6 alike: the share of switches tells the six apart."""
    decisions = 30
    switches = [sum(answers(target, "random", n, count=decisions)) for n in range(RUNS)]
    expected = sum(2**-k for k in range(1, 7)) / 6
    # Runs, not decisions, are independent: the spread of their shares is about 0.17.
    assert near(sum(switches) / decisions / RUNS, expected, 0.17 / sqrt(RUNS))
    calm = sum((1 - 2**-k) ** decisions for k in range(1, 7)) / 6
    assert share_is(switches.count(0), RUNS, calm)
    busy = sum(1 for count in switches if count >= 12) / RUNS
    # Only k = 1 switches twelve times in thirty, nine times out of ten.
    assert 0.13 < busy < 0.18


def test_random_switches_to_each_other_thread_alike(target: Target) -> None:
    """The answers of the first decision behind the start that are not "go on"."""
    scenario = micro.program(*["store 0; store 0"] * 4)
    second = Counter(run(target, scenario, policy="random", seed=4, schedule=n).tape[1:2]
                     for n in range(RUNS))
    others = [second[bytes((answer,))] for answer in (1, 2, 3)]
    assert sum(second.values()) == RUNS == sum(others) + second[b"\0"] + second[b""]
    assert share_is(sum(others), RUNS, sum(2**-k for k in range(1, 7)) / 6)
    assert all(share_is(count, sum(others), 1 / 3) for count in others)


def test_interleavings_are_counted_within_two_percent(target: Target) -> None:
    """12 stores of one thread among 12 of another: far more classes than schedules run."""
    thread = "; ".join(["store 0"] * 12)
    scenario = micro.program(thread, thread)
    met = search(target, scenario, schedules=8_000, policy="uniform")
    exact = len({run(target, scenario, policy="uniform", schedule=n, full=False).interleaving
                 for n in range(8_000)})
    assert exact > 6_000
    assert near(met.interleavings / exact, 1, 0.0163)


def test_choices_are_what_was_asked_of_the_policy(target: Target) -> None:
    met = search(target, micro.program("store 0; store 0"), schedules=10)
    assert (met.schedules, met.steps, met.choices) == (10, 20, 0)
