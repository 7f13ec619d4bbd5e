# SPDX-License-Identifier: GPL-2.0-only
"""cleanrace: race a compiled cleancache.c, schedule by schedule.

    run(target, scenario, tape) -> result

See ARCHITECTURE.md for what the words mean. `cleanrace.strategies` (needs Hypothesis) draws
scenarios, `cleanrace.model` says what a single-threaded one must do, `cleanrace.pct` what a search
may have missed, `cleanrace.schedule` names schedules so that they travel between builds,
`cleanrace.symmetry` says which threads can change places, `cleanrace.words` has the words and
limits of the format.
"""

from cleanrace import model, pct, schedule, symmetry, words
from cleanrace.case import Case, Switch
from cleanrace.explorer import Exploration, Explorer, Simplest, explore
from cleanrace.result import Access, Event, Race, Result, Summary
from cleanrace.runner import run, run_forced, search
from cleanrace.scenario import FileSystem, Operation, Scenario
from cleanrace.schedule import NotExpressible, follow
from cleanrace.target import Target, TargetError, target, targets
from cleanrace.text import ScenarioError

__all__ = [
    "Access",
    "Case",
    "Event",
    "Exploration",
    "Explorer",
    "FileSystem",
    "NotExpressible",
    "Operation",
    "Race",
    "Result",
    "Scenario",
    "ScenarioError",
    "Simplest",
    "Summary",
    "Switch",
    "Target",
    "TargetError",
    "explore",
    "follow",
    "model",
    "pct",
    "run",
    "run_forced",
    "schedule",
    "search",
    "symmetry",
    "target",
    "targets",
    "words",
]
