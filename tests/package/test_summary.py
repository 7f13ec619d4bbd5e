# SPDX-License-Identifier: GPL-2.0-only
"""Counting interleavings and adding up summaries."""

import hashlib
from collections.abc import Iterable

import pytest

from cleanrace import Summary, hll


def registers(values: Iterable[object]) -> bytes:
    """HyperLogLog registers of hashed values, written as slowly as can be."""
    found = [0] * hll.REGISTERS
    for value in values:
        bits = f"{int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:8]):064b}"
        index, rest = int(bits[:12], 2), bits[12:] + "1"
        found[index] = max(found[index], rest.index("1") + 1)
    return bytes(found)


def test_nothing_seen_is_estimated_as_nothing() -> None:
    assert hll.estimate(hll.EMPTY) == 0


@pytest.mark.parametrize("count", [1, 10, 1_000, 5_000, 20_000, 100_000])
def test_an_estimate_is_within_five_per_cent(count: int) -> None:
    assert hll.estimate(registers(range(count))) == pytest.approx(count, rel=0.05)


def test_merging_estimates_the_union() -> None:
    one, other = registers(range(20_000)), registers(range(10_000, 30_000))
    assert hll.merge(one, other) == registers(range(30_000))


def test_registers_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 4096 bytes, not 3"):
        hll.estimate(b"abc")


def test_merging_summaries_adds_counts_and_keeps_the_first() -> None:
    one = Summary(10, 100, 5, 2.0, {"deadlock": 1}, {"deadlock": 7}, {"put": 3}, registers("ab"), 9)
    two = Summary(
        30,
        50,
        1,
        2.0,
        {"deadlock": 2, "pool-leak": 1},
        {"deadlock": 3, "pool-leak": 9},
        {"put": 1},
        registers("bc"),
        11,
    )
    total = Summary.merged((one, two))
    assert total == Summary(
        40,
        150,
        6,
        4.0,
        {"deadlock": 3, "pool-leak": 1},
        {"deadlock": 7, "pool-leak": 9},
        {"put": 4},
        registers("abc"),
        11,
    )
    assert total.schedules_per_second == 10
    assert round(total.interleavings) == 3
    assert Summary().schedules_per_second == 0
