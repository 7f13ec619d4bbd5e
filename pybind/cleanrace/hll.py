# SPDX-License-Identifier: GPL-2.0-only
"""HyperLogLog: how many distinct 64-bit hashes were seen, from 4,096 one-byte registers.

Each register holds the largest rank (position of the first set bit) of the hashes that fell to
it; the error of the estimate is about 1.04 / sqrt(4096) = 1.6 %. Flajolet and others,
"HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", 2007; its
correction for large counts is for 32-bit hashes and not needed here.
"""

import math
from typing import Final

from cleanrace.checks import shown

REGISTERS: Final = 4096
EMPTY: Final = bytes(REGISTERS)


def estimate(registers: bytes) -> float:
    """The estimated number of distinct hashes; ValueError unless there are REGISTERS bytes."""
    _check(registers)
    zeros = registers.count(0)
    alpha = 0.7213 / (1 + 1.079 / REGISTERS)
    total = sum(registers.count(rank) * 2.0**-rank for rank in set(registers))
    raw = alpha * REGISTERS * REGISTERS / total
    if zeros and raw <= 2.5 * REGISTERS:
        return REGISTERS * math.log(REGISTERS / zeros)
    return raw


def merge(one: bytes, other: bytes) -> bytes:
    """The registers of both sets' union."""
    _check(one)
    _check(other)
    return bytes(map(max, one, other))


def _check(registers: bytes) -> None:
    if len(registers) != REGISTERS:
        raise ValueError(
            f"registers={shown(registers)}: expected {REGISTERS} bytes, not {len(registers)}"
        )
