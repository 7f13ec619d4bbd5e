# SPDX-License-Identifier: GPL-2.0-only
"""The default mix: which policies share the random schedules of a campaign, and how.

A mix is a tuple of slices. A batch of schedules of one scenario is cut by their shares, so that
every scenario meets every policy: what one is blind to is another one's first hit. The shares
were chosen by `bench --ablation`; README.md has its table. Reduced points would be a little
better, but depend on what was promoted, and a schedule should need no more than its number.

A slice that detects is judged by the rules of locks as well, and takes up to half as long again.
Detectors do not change what a schedule does, so a tenth of the schedules has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A share of the schedules. share: of 1."""

    policy: str
    share: float
    detect: bool = False

    @property
    def name(self) -> str:
        """What reports call it: "surw", "pct-3 detect"."""
        return f"{self.policy} detect" if self.detect else self.policy


def parts(mix: Sequence[Slice], schedules: int) -> Iterator[tuple[Slice, int, int]]:
    """Each slice with its first schedule and how many it has; together they are `schedules`."""
    first, shares = 0, 0.0
    for number, one in enumerate(mix, 1):
        shares += one.share
        end = schedules if number == len(mix) else round(schedules * shares)
        if end > first:
            yield one, first, end - first
        first = end


DEFAULT = (
    Slice(policy="surw", share=0.45),
    Slice(policy="pct-3", share=0.45),
    Slice(policy="surw", share=0.05, detect=True),
    Slice(policy="pct-3", share=0.05, detect=True),
)
