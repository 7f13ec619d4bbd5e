# SPDX-License-Identifier: GPL-2.0-only
"""What the policies `pct-1`, `pct-2` and `pct-3` promise about bugs that were not met.

Burckhardt, Kothari, Musuvathi and Nagarakatte, "A randomized scheduler with probabilistic
guarantees of finding bugs", 2010: a bug of depth d is one that d ordered pairs of steps bring
about, and each schedule of that depth meets it with probability 1 / (threads * steps^(d - 1)) or
more. `steps` is what the change points are drawn from, Summary.steps_profiled. It is estimated in
a few runs: the promise covers bugs that show within so many steps.
"""

import math
from typing import Final

from cleanrace import checks, words

DEPTH_MAX: Final = 3


def met(*, threads: int, steps: int, depth: int) -> float:
    """The least probability with which one schedule of that depth meets a bug of that depth."""
    checks.number("threads", threads, 1, words.THREADS_MAX)
    checks.number("steps", steps, 1, words.STEPS_MAX)
    checks.number("depth", depth, 1, DEPTH_MAX)
    return 1.0 / (threads * math.prod((steps,) * (depth - 1)))


def missed(*, threads: int, steps: int, depth: int, schedules: int) -> float:
    """The greatest probability that so many schedules of that depth miss a bug of that depth."""
    one = met(threads=threads, steps=steps, depth=depth)
    checks.number("schedules", schedules, 0, 1 << 64)
    if one == 1:
        return 0.0 if schedules else 1.0
    return math.exp(schedules * math.log1p(-one))
