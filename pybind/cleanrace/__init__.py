# SPDX-License-Identifier: GPL-2.0-only
"""cleanrace: race a compiled cleancache.c, schedule by schedule.

    run(target, scenario, tape) -> result

See ARCHITECTURE.md for what the words mean. `cleanrace.strategies` (needs Hypothesis) draws
scenarios, `cleanrace.model` says what a single-threaded one must do, `cleanrace.words` has the
words and limits of the format.
"""

from cleanrace import model, words
from cleanrace.case import Case, Switch
from cleanrace.result import Event, Result, Summary
from cleanrace.runner import run, search
from cleanrace.scenario import FileSystem, Operation, Scenario
from cleanrace.target import Target, TargetError, target, targets
from cleanrace.text import ScenarioError

__all__ = [
    "Case",
    "Event",
    "FileSystem",
    "Operation",
    "Result",
    "Scenario",
    "ScenarioError",
    "Summary",
    "Switch",
    "Target",
    "TargetError",
    "model",
    "run",
    "search",
    "target",
    "targets",
    "words",
]
