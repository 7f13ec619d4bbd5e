# SPDX-License-Identifier: GPL-2.0-only
"""What a worker process does for `explore` and `prove`, and the messages in which it says so.

`explore`: one part of one scenario, with a checkpoint file that a later worker goes on from.
`prove`: one scenario after another, as they come on standard input, each from the same beginning,
so that what is said about it depends on the scenario and the build alone.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cleanrace
from cleanrace import Exploration, Explorer, Race, Scenario, Simplest, Target
from fuzz import scenarios

if TYPE_CHECKING:
    from fuzz.worker import Worker

SLICE_SECONDS = 0.1
SAID_SECONDS = 0.25  # between two messages about where it is
SAVED_SECONDS = 10.0  # between two checkpoints
FEWER_EXECUTIONS = 200_000  # of the search for an execution with fewer preemptions
COUNTS = (
    "executions",
    "blocked",
    "cut",
    "classes",
    "states",
    "restarts",
    "depth_max",
    "preemptions_max",
    "steps",
)


def race_to_json(race: Race) -> dict[str, Any]:
    """A race as it crosses between processes: numbers, since only one of them names them."""
    return {
        "pc": [race.first.pc, race.second.pc],
        "kind": [race.first.kind, race.second.kind],
        "object": race.object,
        "documented": race.documented,
        "count": race.count,
    }


def to_json(now: Exploration) -> dict[str, Any]:
    """An exploration as it crosses between processes."""
    return {name: getattr(now, name) for name in COUNTS} | {
        "done": now.done,
        "approximate": now.approximate,
        "seconds": now.seconds,
        "promoted": list(now.promoted),
        "violations": now.violations,
        "simplest": {
            name: [simple.preemptions, simple.tape.hex()] for name, simple in now.simplest.items()
        },
        "marks": now.marks,
        "races": [race_to_json(race) for race in now.races],
    }


def explore(worker: "Worker") -> None:
    """One part of a scenario, until it is done or the worker is to stop."""
    job = worker.job
    path = Path(job["checkpoint"])
    resume = path.read_bytes() if job["resume"] and path.exists() else b""
    explorer = Explorer(
        worker.target,
        Scenario.from_bytes(bytes.fromhex(job["scenario"])),
        resume=resume,
        **job["how"],
    )
    now = explorer.go_on(seconds=SLICE_SECONDS)
    said = saved = time.monotonic()
    while not now.done and worker.left > 0:
        clock = time.monotonic()
        if clock - said > SAID_SECONDS:
            said = clock
            worker.say(explored=to_json(now))
        if clock - saved > SAVED_SECONDS:
            saved = clock
            save(path, explorer)
        now = explorer.go_on(seconds=SLICE_SECONDS)
    kept = save(path, explorer)
    worker.say(explored=to_json(now), states=sorted(explorer.states()), kept=kept)


def save(path: Path, explorer: Explorer) -> bool:
    """Write a checkpoint; False if the exploration is too large for one."""
    saved = explorer.save()
    if saved:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(saved)
        fresh.replace(path)
    return bool(saved)


def prove(worker: "Worker") -> None:
    """The scenarios on standard input, one a line, until that ends."""
    said: set[tuple[Any, ...]] = set()
    for text in sys.stdin:
        line = json.loads(text)["scenario"]
        worker.say(at={"scenario": line})
        now = exhaust(worker, scenarios.from_line(line))
        if now is None:
            break
        races = {pair(race) for race in now.races} - said
        said |= races
        worker.say(proved=result(line, now) | {"races": sorted(races)})


def pair(race: Race) -> tuple[Any, ...]:
    """The two accesses of a race, and whether it is documented."""
    sides = ((side.pc, side.kind) for side in (race.first, race.second))
    return (*sides, race.documented)


def exhaust(worker: "Worker", scenario: Scenario) -> Exploration | None:
    """All of one scenario, nothing being promoted at the beginning; None if told to stop."""
    explorer = Explorer(worker.target, scenario)
    now = explorer.go_on(seconds=SLICE_SECONDS)
    while not now.done and not worker.stopping:
        now = explorer.go_on(seconds=SLICE_SECONDS)
    return now if now.done else None


def result(line: str, now: Exploration) -> dict[str, Any]:
    """What a certificate says about one scenario."""
    return {
        "scenario": line,
        "executions": now.executions,
        "classes": now.classes,
        "states": now.states,
        "blocked": now.blocked,
        "violations": dict(sorted(now.violations.items())),
        "approximate": now.approximate,
        "steps": now.steps,
        "promoted": list(now.promoted),
        "marks": sorted(now.marks),
    }


def fewest(target: Target, scenario: Scenario, verdict: str) -> Simplest | None:
    """An execution with that verdict and as few preemptions as any has; None if none has it.

    The executions that stand for their classes may have more than others of their class, so all
    executions with at most 0, 1, 2 ... preemptions are tried, as long as they are few.
    """
    whole = cleanrace.explore(target, scenario, judged=(verdict,)).simplest.get(verdict)
    if whole is None:
        return None
    for bound in range(whole.preemptions):
        now = cleanrace.explore(
            target,
            scenario,
            policy="dfs",
            bound=bound,
            judged=(verdict,),
            stop_on=(verdict,),
            executions_max=FEWER_EXECUTIONS,
        )
        if verdict in now.simplest:
            return now.simplest[verdict]
        if not now.done:
            break
    return whole
