# SPDX-License-Identifier: GPL-2.0-only
"""The byte form: total, canonical, and the same in Python and in C."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleanrace import FileSystem, Operation, Scenario, Target, codec, strategies

FIXED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@FIXED
@given(strategies.scenarios() | strategies.scenarios(micro=True))
def test_a_scenario_comes_back_from_its_bytes(scenario: Scenario) -> None:
    data = scenario.to_bytes()
    assert Scenario.from_bytes(data) == scenario
    assert len(data) == 10 + 2 * sum(map(len, scenario.threads))


@FIXED
@given(st.binary(max_size=160))
def test_every_byte_string_is_a_scenario_with_one_canonical_form(data: bytes) -> None:
    scenario = Scenario.from_bytes(data)
    canonical = scenario.to_bytes()
    assert Scenario.from_bytes(canonical) == scenario
    assert Scenario.from_bytes(canonical).to_bytes() == canonical
    assert codec.scenario_bytes(canonical) == len(canonical)


@FIXED
@given(strategies.scenarios(), strategies.tapes())
def test_a_fuzzer_input_splits_into_scenario_and_tape(scenario: Scenario, tape: bytes) -> None:
    data = scenario.to_bytes()
    assert codec.scenario_bytes(data + tape) == len(data)
    assert Scenario.from_bytes(data + tape) == scenario


def test_no_bytes_are_one_local_file_system_and_no_thread() -> None:
    assert Scenario.from_bytes(b"") == Scenario((FileSystem("local"),))


def test_a_known_input_is_read_bit_by_bit() -> None:
    head = (0b1_0110_1 & 0b1111, 0b101, 7, 3, 0b1_0101, 0xFF, 0xFF, 0xFF, 0xFF, 66)
    data = bytes((*head, 11, 0b01_110_000))
    scenario = Scenario.from_bytes(data)
    assert scenario == Scenario(
        (FileSystem("local"), FileSystem("shared", handles=True, uuid=2)),
        ((Operation("register", (2,)),),),
        ids="growing",
        capacity=5,
        init_fails=frozenset({0, 2}),
    )


def test_a_truncated_input_is_filled_with_zeros() -> None:
    whole = Scenario((FileSystem("shared"),), ((Operation("register", (0,)),) * 3,)).to_bytes()
    assert whole.endswith(b"\0\0")
    for length in range(11, len(whole) + 1):
        assert Scenario.from_bytes(whole[:length]).to_bytes() == whole


def test_page_operations_on_twins_and_empty_threads_are_dropped() -> None:
    twins = bytes((0, 0, 1, 1, 1, 0, 0, 0, 0, 3))
    listed = bytes((5, 0, 1, 3, 5, 3))
    assert Scenario.from_bytes(twins + listed).threads == ((Operation("mount", (0,)),),)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3))])
def test_python_and_c_agree_on_the_canonical_bytes_of_100_000_random_inputs(
    target_510: Target, seed: int
) -> None:
    draw = random.Random(seed)
    native = target_510.native
    for number in range(25_000):
        data = draw.randbytes(draw.randrange(40 if number % 8 else 160))
        if number % 4:  # few operations, for speed
            data = data[: codec.COUNT] + bytes((draw.randrange(8),)) + data[codec.COUNT + 1 :]
        assert native.canonical(data) == codec.encode(codec.decode(data)), data.hex()
        assert native.scenario_bytes(data) == codec.scenario_bytes(data), data.hex()
