# SPDX-License-Identifier: GPL-2.0-only
"""An execution that goes on from a step of the last one is the one that begins at the start.

Whatever a run changes has to be in the log of old values; what is missing there stays as the last
execution left it. Another run in between throws the log away, so that the next execution begins
at the start.
"""

from pathlib import Path
from typing import Any

import micro
import pytest

from cleanrace import Scenario, Target, run
from cleanrace.explorer import Exploration, Explorer

CORPUS = Path(__file__).parents[2] / "corpus"
EXECUTIONS_MAX = 300
ANOTHER = micro.program("store 0", "store 0")
QUIET = micro.program("load 0", "load 0")

#: What steps can leave behind: a kind each, with the planted bug that it needs.
SCENARIOS = {
    "shared pools, ids given back": (
        ("fs a shared uuid 1\nfs b shared uuid 1\nthread register 0\nthread mount a; unmount a\n"
        "thread mount b; unmount b\n"), ()),
    "pages, limited room": (
        ("capacity 1\nfs a local\nthread register 0; mount a; write a 0 0; writeback a 0 0; "
        "reclaim a 0 0; read a 0 0\nthread read a 0 0; truncate a 0 0\n"), ()),
    "ids that fail and grow": (
        ("ids growing\ninit-fails 1\nfs a local\nfs b local\nthread register 0\nthread mount a\n"
        "thread mount b; unmount b\n"), ()),
    # A thread's part of the table has four super blocks.
    "memory that is used again": (
        ("fs a none\nfs b local\nthread mount a; unmount a; mount a; unmount a; mount a; "
         "unmount a; mount a; unmount a; mount b\nthread register 0\n"), ()),
    "remounts": (
        "fs a local\nthread register 0\nthread mount a; remount a\nthread unmount a\n", ()),
    "threads that end by a verdict": (
        "fs a local\nthread register 0\nthread mount a; unmount a\nthread mount a; unmount a\n",
        ("a", "b")),
    "values that a planted bug keeps": (
        "fs a local\nthread register 0\nthread register 1\nthread mount a; read a 0 0\n", ("d",)),
}  # fmt: skip


def counted(met: Exploration) -> dict[str, Any]:
    """What two explorations have to agree about; a race is counted once in each execution."""
    return {
        name: getattr(met, name)
        for name in ("done", "executions", "blocked", "cut", "classes", "states", "steps",
                     "violations", "simplest", "marks", "promoted", "restarts")
    }  # fmt: skip


def explored(
    target: Target, scenario: Scenario, *, interrupted: bool, **options: Any
) -> tuple[dict[str, Any], frozenset[int]]:
    explorer = Explorer(target, scenario, **options)
    met = explorer.go_on(executions_max=1 if interrupted else EXECUTIONS_MAX)
    for _ in range(EXECUTIONS_MAX - 1 if interrupted else 0):
        if met.done:
            break
        run(target, ANOTHER)
        met = explorer.go_on(executions_max=1)
    return counted(met), explorer.states()


def agree(target: Target, scenario: Scenario, **options: Any) -> int:
    """The executions of an exploration whose log is thrown away after each of them, or not."""
    once, again = (
        explored(target, scenario, interrupted=interrupted, **options)
        for interrupted in (False, True)
    )
    assert once == again, (scenario.to_text(), options)
    executions = once[0]["executions"]
    assert isinstance(executions, int)
    return executions


@pytest.mark.parametrize("points", ["sync", "all"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_of_an_execution_is_left_in_the_next(
    target: Target, name: str, points: str
) -> None:
    text, planted = SCENARIOS[name]
    scenario = Scenario.from_text("cleanrace 1\n" + text)
    executions = [
        agree(target, scenario, planted=planted, points=points, detect=detect, policy=policy)
        for detect in (False, True)
        for policy in ("dpor", "dfs")
    ]
    assert min(executions) > 10


@pytest.mark.parametrize(
    "path", sorted((CORPUS / "litmus").glob("*.litmus")), ids=lambda path: path.stem
)
def test_nothing_of_a_litmus_is_left_in_the_next_execution(target: Target, path: Path) -> None:
    scenario = Scenario.from_text(path.read_text(encoding="utf-8"))
    for detect in (False, True):
        agree(target, scenario, detect=detect)


@pytest.mark.parametrize("threads", [
    ("lock 0; store 0; unlock 0", "load 0; lock 0; unlock 0; load 0"),
    ("lock 0; store 0; unlock 0; store 0", "lock 0; unlock 0; load 0"),
    ("lock 0; unlock 0; load 0", "lock 0; store 0; unlock 0; store 0"),
    ("store 0; cmpxchg 0; clear-marked 0", "cmpxchg 0; load 0; store 0"),
    ("lock-shared 0; store 0; unlock-shared 0", "lock 0; unlock 0; store 0", "load 0"),
    ("store 0; free 0; alloc 0", "alloc 1; load 0; lock 1; unlock 1"),
    ("spin 0; store 0; unspin 0; store 1", "load 1; spin 0; unspin 0; load 0; load 1"),
], ids=" | ".join)  # fmt: skip
def test_no_order_of_an_execution_is_left_in_the_next(
    target: Target, threads: tuple[str, ...]
) -> None:
    """Whether accesses race hangs on who released what before, and all of that is taken back."""
    scenario = micro.program(*threads)
    for points in ("all", "sync"):
        for policy in ("dpor", "dfs"):
            agree(target, scenario, points=points, policy=policy, judged=["data-race"])
    met = Explorer(target, scenario, policy="dfs", points="all", judged=["data-race"]).go_on()
    assert met.violations["data-race"] > 0


def test_what_a_lock_told_in_an_execution_is_not_known_in_the_next(target: Target) -> None:
    """The lock keeps the two accesses apart in most schedules, so they become points late."""
    turns = "lock 0; unlock 0; " * 3
    scenario = micro.program(
        f"{turns}store 2; {turns}lock 0; unlock 0",
        f"lock 1; unlock 1; {turns}load 2; {turns}lock 0; unlock 0",
    )
    met = Explorer(target, scenario, points="sync", promoted=()).go_on(executions_max=200)
    assert (met.restarts, met.promoted) == (0, ())
    agree(target, scenario, points="sync", promoted=())
    met = Explorer(target, scenario, points="sync", promoted=()).go_on(executions_max=300)
    assert (met.restarts, len(met.promoted)) == (1, 2)


def races(target: Target, scenario: Scenario, *, interrupted: bool) -> list[tuple[Any, ...]]:
    """The pairs that race in an exploration, and in how many executions."""
    target.forget_races()
    explorer = Explorer(target, scenario, detect=True)
    for _ in range(EXECUTIONS_MAX):
        explorer.go_on(executions_max=1)
        if interrupted:
            run(target, QUIET)
    found = [(race.first, race.second, race.count) for race in target.races()]
    target.forget_races()
    return sorted(found, key=repr)


def test_no_access_of_a_later_life_is_left_in_an_earlier_one(target: Target) -> None:
    """A thread's fifth super block is its first one's memory; who walks the list meets both."""
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b local\nthread register 0; " + "mount a; unmount a; " * 4
        + "mount a; unmount a\nthread register 1; register 1\n"
    )  # fmt: skip
    once, again = (races(target, scenario, interrupted=one) for one in (False, True))
    assert once == again
    assert once
