# SPDX-License-Identifier: GPL-2.0-only
"""How fast a schedule is: every policy, both sorts of decision points, detectors on and off.

All of them take turns, round by round, so that what else the machine does hits all alike, and
time is the processor's own. In the same rounds stand the bare limit (the same operations with the
same random switches at the same points, and nobody who looks on or judges) and the thread engine,
so that ratios hold on any machine. Nothing in the tests asserts a speed: this is where it is said.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.text import Text

import cleanrace
from cleanrace import Scenario, Target
from fuzz import report, store

FORMAT = 1
SECONDS = 60.0
ROUNDS = 20
SCHEDULES = 10**12  # no limit: time is one
SAMPLERS = ("random", "uniform", "pct", "surw")
EXPLORERS = ("dpor", "dfs")
POINTS = ("all", "sync")
PROMOTION_SECONDS = 0.2
NANOSECONDS = 1e9

# What each thread does; every file system is a local one.
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "C1": ("register 0", "mount a"),
    "C2": ("register 0", "mount a", "mount b"),
    "C3": ("register 0", "mount a", "mount b", "mount c; unmount c"),
    "C4": ("register 0", "register 1", "mount a", "mount b"),
}


@dataclass(kw_only=True)
class Sample:
    """One turn: schedules, their decision points, and the processor's seconds for them."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Cell:
    """One line of the measurement; engine "explorer" is for dpor and dfs."""

    configuration: str
    engine: str
    policy: str
    points: str
    detect: bool = False
    samples: list[Sample] = field(default_factory=list)

    @property
    def scenario(self) -> Scenario:
        """What runs."""
        return scenario(self.configuration)

    @property
    def rates(self) -> list[float]:
        """Schedules per second, by round."""
        return [one.schedules / max(one.seconds, 1e-9) for one in self.samples]

    @property
    def steps(self) -> float:
        """Decision points of a schedule."""
        schedules = sum(one.schedules for one in self.samples)
        return sum(one.steps for one in self.samples) / max(1, schedules)

    @property
    def nanoseconds(self) -> list[float]:
        """Of one decision point, by round."""
        return [NANOSECONDS * one.seconds / max(1, one.steps) for one in self.samples]

    def ratio(self, other: "Cell") -> float:
        """How many times as fast as another one, by the median of the rounds."""
        pairs = zip(self.rates, other.rates, strict=True)
        return median(mine / theirs if theirs else 0.0 for mine, theirs in pairs)


@dataclass(kw_only=True)
class Bench:
    """All cells of a measurement; seconds: asked for by the rounds that there were."""

    target: Target
    cells: list[Cell]
    seconds: float = 0.0
    rounds: int = 0

    def bare(self, cell: Cell) -> Cell:
        """The bare limit at the same points."""
        points = "all" if cell.engine == "thread" else cell.points
        return self.find(cell.configuration, "bare", points)

    def thread(self, cell: Cell) -> Cell:
        """The thread engine."""
        return self.find(cell.configuration, "thread", "all")

    def find(self, configuration: str, engine: str, points: str) -> Cell:
        """The one cell of a reference engine."""
        wanted = (configuration, engine, points)
        return next(
            cell for cell in self.cells if (cell.configuration, cell.engine, cell.points) == wanted
        )


def scenario(configuration: str) -> Scenario:
    """The scenario of C1, C2, C3 or C4."""
    threads = CONFIGURATIONS[configuration]
    mounted = [name for name in "abc" if any(f"mount {name}" in thread for thread in threads)]
    lines = [f"fs {name} local" for name in mounted] + [f"thread {thread}" for thread in threads]
    return Scenario.from_text("\n".join(("cleanrace 1", *lines)))


def title(configuration: str) -> str:
    """What a configuration is about: "register | mount | mount"."""
    threads = (
        ", ".join(operation.split()[0] for operation in thread.split(";"))
        for thread in CONFIGURATIONS[configuration]
    )
    return " | ".join(threads)


def cells() -> Iterator[Cell]:
    """Every cell: those that are compared stand next to each other."""
    for name in CONFIGURATIONS:
        yield Cell(configuration=name, engine="thread", policy="random", points="all")
        for points in POINTS:
            yield Cell(configuration=name, engine="bare", policy="random", points=points)
            for policy in (*SAMPLERS, *EXPLORERS):
                engine = "explorer" if policy in EXPLORERS else "fiber"
                for detect in (False, True):
                    yield Cell(
                        configuration=name,
                        engine=engine,
                        policy=policy,
                        points=points,
                        detect=detect,
                    )


def run(
    target: Target,
    *,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
    show: Callable[[str], None] | None = None,
) -> Iterator[Bench]:
    """Measure everything, for so many seconds altogether: the same Bench again after each round."""
    bench = Bench(target=target, cells=list(cells()))
    promoted = {
        name: cleanrace.explore(target, scenario(name), seconds=PROMOTION_SECONDS).promoted
        for name in CONFIGURATIONS
    }
    share = seconds / rounds / len(bench.cells)
    for number in range(rounds):
        if show is not None:
            show(f"round {number + 1} of {rounds}")
        made = [
            _sample(target, cell, share, promoted=promoted[cell.configuration], seed=number)
            for cell in bench.cells
        ]
        for cell, sample in zip(bench.cells, made, strict=True):
            cell.samples.append(sample)
        bench.rounds += 1
        bench.seconds += seconds / rounds
        yield bench


def _sample(
    target: Target, cell: Cell, seconds: float, *, promoted: tuple[int, ...], seed: int
) -> Sample:
    if cell.engine == "explorer":
        return _explored(target, cell, seconds, promoted)
    target.promote(promoted)
    return _searched(target, cell, seconds, seed=seed)


def _searched(target: Target, cell: Cell, seconds: float, *, seed: int) -> Sample:
    begin = time.process_time()
    met = cleanrace.search(
        target,
        cell.scenario,
        schedules=SCHEDULES,
        seconds=seconds,
        policy=cell.policy,
        seed=seed,
        engine=cell.engine,
        points=cell.points,
        detect=cell.detect,
    )
    return Sample(schedules=met.schedules, steps=met.steps, seconds=time.process_time() - begin)


def _explored(target: Target, cell: Cell, seconds: float, promoted: tuple[int, ...]) -> Sample:
    """Explorations one after the other; what Python does between two of them does not count.

    Whole ones, unless one takes longer than all of the time.
    Their own seconds are of the clock on the wall: a share of them was the processor's. That is
    an estimate, and what the processor spent in the calls is a bound on it.
    """
    sample = Sample()
    clock, cpu = time.perf_counter(), time.process_time()
    spent = called = 0.0
    while spent == 0.0 or time.perf_counter() - clock < seconds:
        explorer = cleanrace.Explorer(
            target,
            cell.scenario,
            policy=cell.policy,
            points=cell.points,
            promoted=promoted,
            detect=cell.detect,
        )
        before = time.process_time()
        now = explorer.go_on(seconds=seconds)
        called += time.process_time() - before
        sample.schedules += now.executions
        sample.steps += now.steps
        spent += now.seconds
    share = (time.process_time() - cpu) / max(1e-9, time.perf_counter() - clock)
    sample.seconds = min(called, spent * min(1.0, share))
    return sample


# What people see, and what programs do.


def to_json(bench: Bench, *, command: list[str]) -> dict[str, Any]:
    """Everything that was measured; times are the processor's."""
    target = bench.target
    return {
        "format": FORMAT,
        "command": command,
        "target": report.identity(target),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "seconds": bench.seconds,
        "rounds": bench.rounds,
        "rows": [_row(bench, cell) for cell in bench.cells],
    }


def write_json(path: Path, bench: Bench, *, command: list[str]) -> None:
    """Write what was measured; OSError if the file cannot be written."""
    store.write(path, json.dumps(to_json(bench, command=command), indent=2) + "\n")


def _row(bench: Bench, cell: Cell) -> dict[str, Any]:
    return {
        "configuration": cell.configuration,
        "scenario": title(cell.configuration),
        "engine": cell.engine,
        "policy": cell.policy,
        "points": cell.points,
        "detect": cell.detect,
        "schedules_per_second": {
            "median": round(median(cell.rates), 1),
            "best": round(max(cell.rates), 1),
        },
        "points_per_schedule": round(cell.steps, 2),
        "nanoseconds_per_point": {
            "median": round(median(cell.nanoseconds), 2),
            "best": round(min(cell.nanoseconds), 2),
        },
        "times_bare": round(cell.ratio(bench.bare(cell)), 4),
        "times_thread": round(cell.ratio(bench.thread(cell)), 4),
    }


_HEAD = (
    "                         detectors off                 detectors on",
    "policy  points/sched   sched/s      best ns/p bare   sched/s      best ns/p bare",
)


def lines(bench: Bench) -> Iterator[str]:
    """The tables, 80 columns wide: one for each configuration."""
    for name in CONFIGURATIONS:
        yield f"{name} {title(name)}"
        yield from _HEAD
        mine = [cell for cell in bench.cells if cell.configuration == name]
        for cell in mine:
            if cell.detect:
                continue
            other = next((one for one in mine if one.detect and _same(one, cell)), None)
            yield _line(bench, cell, other)
        yield ""
    yield "per core and second of processor time: median of the rounds, and the best;"
    yield "ns/p: nanoseconds per decision point; bare: times the bare limit at the same"
    yield "points; the thread engine takes all cores it gets"


def _same(one: Cell, cell: Cell) -> bool:
    return (one.engine, one.policy, one.points) == (cell.engine, cell.policy, cell.points)


def _line(bench: Bench, cell: Cell, detecting: Cell | None) -> str:
    name = cell.policy if cell.engine in ("fiber", "explorer") else cell.engine
    text = f"{name:8}{cell.points:>5}{cell.steps:7.1f}{_figures(cell, bench)}"
    return text if detecting is None else text + _figures(detecting, bench)


def _figures(cell: Cell, bench: Bench) -> str:
    return (
        f"{median(cell.rates):10,.0f}{max(cell.rates):10,.0f}"
        f"{median(cell.nanoseconds):5.0f}{cell.ratio(bench.bare(cell)):5.2f}"
    )


def print_bench(console: Console, bench: Bench) -> None:
    """The tables for people."""
    target = bench.target
    report.say(
        console,
        f"{target.name} {target.version}, build {target.build_id}, {bench.rounds} rounds,"
        f" {bench.seconds:.0f} s",
    )
    for line in lines(bench):
        console.print(Text(line), soft_wrap=True)
