# SPDX-License-Identifier: GPL-2.0-only
"""What the schedules that were run say about the probability of one, where they met little.

Clopper and Pearson (1934): a probability is excluded if with it so few hits, or so many, would
come up less often than DOUBT. Nothing is assumed but that schedules are drawn independently.
Without a hit there is one side only, and all the doubt is on it; with hits each side has half.
Who reads both kinds alike has a doubt of 1.5 times that at most.
"""

import math
from collections.abc import Callable
from typing import Final

DOUBT: Final = 0.05
ROUNDS: Final = 200  # of a search by halves: more than a double has bits


def bounds(hits: int, ran: int) -> tuple[float, float]:
    """The probabilities of a hit between which the true one lies, with 95 % confidence.

    Without a hit the lower one is 0 and all the doubt is the upper one's: about 3 / ran.
    """
    if hits == 0:
        return 0.0, -math.expm1(math.log(DOUBT) / ran) if ran else 1.0
    side = DOUBT / 2
    low = _by_halves(lambda p: 1 - at_most(hits - 1, ran, p) < side)
    high = 1.0 if hits == ran else _by_halves(lambda p: at_most(hits, ran, p) >= side)
    return low, high


def at_most(hits: int, ran: int, chance: float) -> float:
    """The probability of no more than so many hits."""
    logs = (math.log(chance), math.log1p(-chance))
    return min(1.0, math.fsum(math.exp(_log_of(at, ran, *logs)) for at in range(hits + 1)))


def _log_of(hits: int, ran: int, hit: float, miss: float) -> float:
    ways = math.lgamma(ran + 1) - math.lgamma(hits + 1) - math.lgamma(ran - hits + 1)
    return ways + hits * hit + (ran - hits) * miss


def _by_halves(below: Callable[[float], bool]) -> float:
    """The probability up to which that is so, on a scale of logarithms."""
    low, high = -700.0, 0.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if below(math.exp(middle)):
            low = middle
        else:
            high = middle
    return math.exp(low)
