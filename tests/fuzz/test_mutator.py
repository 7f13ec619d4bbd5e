# SPDX-License-Identifier: GPL-2.0-only
"""Mutations and drawn scenarios respect the format."""

from collections.abc import Iterator
from random import Random

import pytest

from cleanrace import Scenario, Target, search, words
from fuzz import generate, mutator

SIZE_MAX = 300


def inputs(count: int) -> Iterator[bytes]:
    """A chain of mutations of each other, beginning with nothing."""
    made = mutator.Mutator(own=lambda data, size: bytes(reversed(data))[:size] + b"\xff")
    data, random = b"", Random(5)
    for seed in range(count):
        data = made.mutate(random.choice((data, random.randbytes(40))), SIZE_MAX, seed)
        yield data


def test_mutants_fit_and_are_never_micro():
    seen = set()
    for data in inputs(3000):
        assert len(data) <= SIZE_MAX
        assert not Scenario.from_bytes(data).micro
        seen.add(data)
    assert len(seen) > 2500


def test_splitting_and_joining_is_the_identity_on_mutants():
    for data in inputs(500):
        header, operations, tape = mutator.split(data)
        again = mutator.join(header, operations, tape)
        assert Scenario.from_bytes(again) == Scenario.from_bytes(data)
        assert mutator.split(again)[2] == tape[: mutator.TAPE_MAX]


def test_the_same_seed_gives_the_same_mutant():
    data = generate.scenario(Random(1)).to_bytes() + bytes(20)
    one, other = mutator.Mutator(), mutator.Mutator()
    for seed in range(200):
        assert one.mutate(data, SIZE_MAX, seed) == other.mutate(data, SIZE_MAX, seed)


def test_mutants_change_the_scenario_and_the_tape():
    data = generate.scenario(Random(1)).to_bytes() + bytes((0, 0, 1, 0, 2))
    made = mutator.Mutator()
    mutants = [made.mutate(data, SIZE_MAX, seed) for seed in range(300)]
    scenarios = {Scenario.from_bytes(mutant) for mutant in mutants}
    tapes = {bytes(mutator.split(mutant)[2]) for mutant in mutants}
    assert len(scenarios) > 50
    assert len(tapes) > 50


@pytest.mark.parametrize("seeds", [[], [bytes(8)]])
def test_fresh_inputs_come_from_seeds_and_from_the_generator(seeds: list[bytes]):
    made = mutator.Mutator(seeds=seeds)
    fresh = {made.fresh(Random(number)) for number in range(100)}
    assert len(fresh) > 20
    assert (bytes(8) in fresh) == bool(seeds)


def test_drawn_scenarios_are_valid_and_use_every_operation():
    random, used = Random(3), set()
    for _ in range(500):
        scenario = generate.scenario(random)
        assert Scenario.from_bytes(scenario.to_bytes()) == scenario
        used |= {op.name for thread in scenario.threads for op in thread}
    assert used == set(words.OPERATIONS)


def test_drawn_scenarios_reach_every_mark(control: Target):
    random, reached = Random(4), set()
    for _ in range(150):
        reached |= set(search(control, generate.scenario(random), schedules=200).marks)
    assert reached == set(control.table("marks"))
