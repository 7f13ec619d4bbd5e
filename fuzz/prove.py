# SPDX-License-Identifier: GPL-2.0-only
"""The verb `prove`: every interleaving of every scenario within a bound (see fuzz/scenarios.py).

Workers (fuzz/executor.py) take one scenario after the other, the biggest first; in batches where
handing one out takes as long as a small scenario. Each result is a line in a journal in the
cache folder, so that whatever ends the run loses the running scenarios at most. What is said about
a scenario depends on it and on the build alone; so neither the number of workers, their deaths
and where they are, nor an interruption shows in the certificate.

A violated property does not stop the rest. Afterwards its smallest counterexample is looked
for among all scenarios that the violating ones cover: the fewest operations, then the fewest
preemptions, then the shortest tape.
"""

import hashlib
import json
import math
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cleanrace import Scenario, Simplest, Target
from fuzz import executor, scenarios, store
from fuzz.executor import Executor, Outcome, Unit
from fuzz.explore import Show, folder, interrupt
from fuzz.exploring import fewest

LISTEN_SECONDS = 0.2
LAST_BATCHES = 8  # per worker and of the effort that is left: so that all end together
LEAST_EFFORT = 256  # of a unit that is worth handing out, where it may have several scenarios

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. every: also the scenarios that others cover.

    cluster: where (fuzz/cluster.py), None for processes here.
    """

    bound: str = "default"
    every: bool = False
    jobs: int = 1
    seconds: float | None = None
    resume: bool = False
    cluster: str | None = None


@dataclass(kw_only=True)
class Counterexample:
    """The smallest scenario that violates a property, and its simplest schedule."""

    verdict: str
    scenario: Scenario
    simplest: Simplest


@dataclass(kw_only=True)
class Proof:
    """What was proved.

    within: how many scenarios the bound has. results: of the explored ones, in the bound's order.
    resumed: how many of them an earlier run had explored.
    """

    target: Target
    options: Options
    within: int
    wanted: int
    results: list[Result] = field(default_factory=list)
    races: list[list[Any]] = field(default_factory=list)
    counterexamples: dict[str, Counterexample] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    interrupted: bool = False
    resumed: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether every scenario was exhausted."""
        return len(self.results) == self.wanted and not self.broken and not self.interrupted

    def violated(self, verdict: str) -> list[Result]:
        """The results of scenarios with that verdict."""
        return [result for result in self.results if verdict in result["violations"]]

    @property
    def verdicts(self) -> list[str]:
        """Every verdict that some execution has."""
        return sorted({name for result in self.results for name in result["violations"]})

    @property
    def status(self) -> int:
        """The exit status."""
        if self.broken or store.LIMITS & set(self.verdicts):
            return 3
        if self.verdicts:
            return 1
        if self.interrupted:
            return 130
        return 0 if self.done else 3


class Journal:
    """Results as they came, a line each; a line that is damaged or not whole was lost."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, Result] = {}
        self.races: set[str] = set()
        kept = []
        for line in path.read_bytes().splitlines() if resume and path.exists() else ():
            result = _result(line)
            if result is not None:
                self._remember(result)
                kept.append(line.decode() + "\n")
        store.write(path, "".join(kept))  # whole: a kill here must not lose what there was
        self.file = path.open("a", encoding="utf-8")

    def add(self, result: Result) -> None:
        """One more, written at once, without the races that stand in it already."""
        fresh = [race for race in result["races"] if json.dumps(race) not in self.races]
        result = result | {"races": fresh}
        self._remember(result)
        self.file.write(json.dumps(result) + "\n")
        self.file.flush()

    def _remember(self, result: Result) -> None:
        self.results[result["scenario"]] = result
        self.races |= {json.dumps(race) for race in result["races"]}


def _result(line: bytes) -> Result | None:
    """The result in a line of a journal; None if the line is damaged or was not written whole."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    kinds: dict[str, type] = {
        "scenario": str, "executions": int, "classes": int, "states": int, "blocked": int,
        "violations": dict, "approximate": bool, "steps": int, "promoted": list, "marks": list,
        "races": list,
    }  # fmt: skip
    whole = isinstance(found, dict) and all(
        isinstance(found.get(name), kind) for name, kind in kinds.items()
    )
    return found if whole else None


@cache
def effort(line: str) -> int:
    """In how many ways a scenario's operations could be interleaved, if each were one step.

    Its executions grow with that, though each operation has many steps.
    """
    threads = [thread.count(";") + 1 for thread in line.split(" / thread ")[1:]]
    return math.factorial(sum(threads)) // math.prod(map(math.factorial, threads))


def batches(lines: Iterable[str], most: int, workers: int) -> Iterator[list[str]]:
    """What units are made of, the biggest scenarios first: alone, or up to `most` small ones."""
    ordered = sorted(lines, key=effort, reverse=True)
    left = sum(map(effort, ordered))
    batch: list[str] = []
    inside = 0
    for line in ordered:
        share = max(LEAST_EFFORT, left / (LAST_BATCHES * workers))
        if batch and (len(batch) == most or inside + effort(line) > share):
            yield batch
            left -= inside
            batch, inside = [], 0
        batch.append(line)
        inside += effort(line)
    if batch:
        yield batch


class Proving:
    """One run of `prove`; run() returns what was proved, also after an interrupt."""

    def __init__(self, target: Target, options: Options, show: Show) -> None:
        self.target = target
        self.options = options
        self.show = show
        self.begin = time.monotonic()
        show("listing the scenarios")
        self.rows = scenarios.parse(options.bound)
        within = scenarios.within(self.rows)
        chosen = within if options.every else scenarios.uncovered(within)
        self.shapes = {scenarios.line(scenarios.scenario(shape)): shape for shape in chosen}
        self.proof = Proof(
            target=target, options=options, within=len(within), wanted=len(self.shapes)
        )
        name = f"{scenarios.name(self.rows)} {options.every}"
        key = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.path = folder(target) / f"prove-{key}.jsonl"
        self.deadline = float("inf")
        self.shown = 0.0

    def run(self) -> Proof:
        """Explore everything, then look for counterexamples."""
        proof = self.proof
        self.journal = Journal(self.path, resume=self.options.resume)
        proof.resumed = sum(line in self.journal.results for line in self.shapes)
        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            self._prove()
        except KeyboardInterrupt:
            proof.interrupted = True
        finally:
            signal.signal(signal.SIGTERM, before)
            self.journal.file.close()
        known = self.journal.results
        proof.results = [known[line] for line in self.shapes if line in known]
        proof.races = sorted(map(json.loads, self.journal.races))
        proof.seconds = time.monotonic() - self.begin
        if not proof.results and not proof.interrupted and not proof.broken:
            proof.broken.append("nothing was executed")
        return proof

    def _prove(self) -> None:
        where = {"jobs": self.options.jobs, "cluster": self.options.cluster}
        with executor.opened(self.target, **where, show=self.show) as workers:
            self.begin = time.monotonic()  # a cluster takes its time to start
            if self.options.seconds is not None:
                self.deadline = self.begin + self.options.seconds
            try:
                self._explore(workers, self.shapes)
                if not self.proof.broken and not self._late():
                    self._counterexamples(workers)
            finally:
                workers.stop()
                self._hear(workers, 0)

    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    def _explore(self, workers: Executor, shapes: dict[str, scenarios.Shape]) -> None:
        """Have those explored that are not in the journal."""
        lines = [line for line in shapes if line not in self.journal.results]
        for batch in batches(lines, workers.workers.batch, workers.workers.count):
            more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
            about = f"scenario {batch[0]}{more}"
            workers.submit(Unit(kind="prove", arguments={"scenarios": batch}, about=about))
        while workers.left and not self.proof.broken and not self._late():
            self._hear(workers, LISTEN_SECONDS)
            if time.monotonic() - self.shown > LISTEN_SECONDS:  # the line counts all results
                self.shown = time.monotonic()
                self.show(self._line())

    def _hear(self, workers: Executor, seconds: float) -> None:
        for unit, outcome in workers.results(seconds):
            self._heard(unit, outcome)

    def _heard(self, _unit: Unit, outcome: Outcome) -> None:
        if outcome.broken:
            self.proof.broken.append(outcome.broken)
        for result in outcome.answer.get("results", ()):
            self.journal.add(result)

    def _line(self) -> str:
        results = self.journal.results.values()
        executions = sum(result["executions"] for result in results)
        met = sorted({name for result in results for name in result["violations"]})
        left = sum(line not in self.journal.results for line in self.shapes)
        done = f"{self.proof.wanted - left:,} of {self.proof.wanted:,} scenarios"
        spent = f"{time.monotonic() - self.begin:.0f} s"
        line = f"proving: {done}, {executions:,} executions, {spent}"
        return f"{line}; violated: {', '.join(met)}" if met else line

    def _counterexamples(self, workers: Executor) -> None:
        """The smallest of each violated property."""
        self.deadline = float("inf")  # few more scenarios, and the point of it all
        known = self.journal.results
        for verdict in sorted({name for line in self.shapes for name in known[line]["violations"]}):
            if verdict in store.LIMITS:
                continue
            self.show(f"looking for the smallest counterexample: {verdict}")
            violating = (
                shape for line, shape in self.shapes.items() if verdict in known[line]["violations"]
            )
            found = self._smallest(workers, verdict, violating)
            if found is not None:
                self.proof.counterexamples[verdict] = found

    def _smallest(
        self, workers: Executor, verdict: str, violating: Iterable[scenarios.Shape]
    ) -> Counterexample | None:
        """The smallest of what they cover, explored from the fewest operations upwards."""
        covered = scenarios.covered_by(violating)
        for size in sorted({scenarios.size(shape) for shape in covered}):
            level = {
                scenarios.line(scenarios.scenario(shape)): shape
                for shape in covered
                if scenarios.size(shape) == size
            }
            self._explore(workers, level)
            if self.proof.broken:
                return None
            known = self.journal.results
            shown = [line for line in level if verdict in known[line]["violations"]]
            if shown:
                return self._simplest(verdict, shown)
        raise store.Broken(f"determinism broken: {verdict} was met and not met again, report it")

    def _simplest(self, verdict: str, lines: Iterable[str]) -> Counterexample:
        """The simplest schedule of any of these scenarios."""
        found = []
        for line in lines:
            simplest = fewest(self.target, scenarios.from_line(line), verdict)
            assert simplest is not None, line
            order = (simplest.preemptions, len(simplest.tape), simplest.tape, line)
            found.append((order, simplest))
        (*_, line), simplest = min(found)
        return Counterexample(
            verdict=verdict, scenario=scenarios.from_line(line), simplest=simplest
        )
