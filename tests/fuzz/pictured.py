# SPDX-License-Identifier: GPL-2.0-only
"""Runs that the tests of pictures and pages draw."""

from functools import cache

import cleanrace
from cleanrace import Case, Result, Scenario, Target
from fuzz import drawing, store

LITMUS = store.ROOT / "corpus" / "litmus"
Drawn = tuple[Result, Case]


@cache
def litmus(name: str, target: Target) -> Drawn:
    """A run of a hand-written case that shows what it expects."""
    case = Case.read(LITMUS / f"{name}.litmus")
    return drawing.showing(target, case), case


@cache
def crowd(threads: int, target: Target) -> Drawn:
    """Many threads that do all they can, in a schedule that switches all the time."""
    work = "mount a; read a 0 0; reclaim a 0 0; write b 1 1; mount b; unmount a; unmount b"
    lines = [f"thread register {number % 4}; {work}" for number in range(threads)]
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nfs b local\n" + "\n".join(lines))
    result = cleanrace.run(target, scenario, policy="uniform", seed=3, schedule=1)
    return result, Case(scenario=scenario, title=f"{threads} at once")
