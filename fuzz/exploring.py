# SPDX-License-Identifier: GPL-2.0-only
"""The units of `explore` and `prove` (see fuzz/units.py).

`explore`: a slice of time of one part of one scenario, from a checkpoint to a checkpoint; the next
slice may be another worker's. `prove`: some scenarios, each from the same beginning, so that what
is said about it depends on the scenario and the build alone.
"""

import array
import base64
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cleanrace
from cleanrace import Exploration, Explorer, Race, Scenario, Simplest, Target
from fuzz import scenarios

if TYPE_CHECKING:
    from fuzz.units import Life

SLICE_SECONDS = 0.1  # between two looks at the clock
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


def explore(life: "Life", arguments: dict[str, Any]) -> dict[str, Any]:
    """Go on with one part of a scenario for about so many `seconds`.

    How it goes on from there is in the answer; where it is too large for a checkpoint (an empty
    one), it goes on at once, until it is done or the time of all, `most`, is over.
    """
    begin = time.monotonic()
    explorer = Explorer(
        life.target,
        Scenario.from_bytes(bytes.fromhex(arguments["scenario"])),
        resume=base64.b64decode(arguments["checkpoint"]),
        **arguments["how"],
    )
    seconds, most = arguments["seconds"], arguments["most"] or float("inf")
    now = explorer.go_on(seconds=min(SLICE_SECONDS, seconds))
    while not (now.done or life.stopping() or (spent := time.monotonic() - begin) >= most):
        if spent >= seconds:
            if explorer.save():
                break
            seconds = float("inf")
        now = explorer.go_on(seconds=SLICE_SECONDS)
    return {
        "explored": to_json(now),
        "states": states_to_json(explorer.states()),
        "checkpoint": base64.b64encode(explorer.save()).decode(),
    }


def states_to_json(states: Iterable[int]) -> str:
    """Hashes of final states, of which there may be a million."""
    numbers = array.array("Q", sorted(states))
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def states_from_json(text: str) -> list[int]:
    """The hashes that states_to_json() wrote."""
    numbers = array.array("Q", base64.b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def prove(life: "Life", arguments: dict[str, Any]) -> dict[str, Any]:
    """Exhaust some scenarios; fewer if told to stop."""
    results = []
    for line in arguments["scenarios"]:
        now = exhaust(life, scenarios.from_line(line))
        if now is None:
            break
        races = sorted({pair(race) for race in now.races})
        results.append(result(line, now) | {"races": races})
    return {"results": results}


def pair(race: Race) -> tuple[Any, ...]:
    """The two accesses of a race, and whether it is documented."""
    sides = ((side.pc, side.kind) for side in (race.first, race.second))
    return (*sides, race.documented)


def exhaust(life: "Life", scenario: Scenario) -> Exploration | None:
    """All of one scenario, nothing being promoted at the beginning; None if told to stop."""
    explorer = Explorer(life.target, scenario, symmetry=True)
    now = explorer.go_on(seconds=SLICE_SECONDS)
    while not now.done and not life.stopping():
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
