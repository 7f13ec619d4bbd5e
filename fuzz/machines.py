# SPDX-License-Identifier: GPL-2.0-only
"""Hypothesis stateful machines: one sequential, against the model; one concurrent.

SequentialMachine: each rule adds one operation, runs the whole sequence natively in one thread
and compares callbacks, results (a read's is the content) and counters with cleanrace.model.
ConcurrentMachine: rules give threads their operations, and one races them under thousands of
native schedules of a drawn seed. Scheduling is a drawn value, so Hypothesis sees no flakiness.

A difference from the model is raised (Difference). A violated property is a result about the
target: it goes to the machine's recorder, and is raised (Violation) only if `strict`.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import cleanrace
from cleanrace import Operation, Scenario, Summary, Target, model, strategies, words
from fuzz import store

SCHEDULES = 1500  # per race
THREADS_MAX = 4
CHUNK = 15  # examples of one machine before the other one's turn


class Difference(AssertionError):
    """The target did something else than the sequential model."""


class Violation(AssertionError):
    """A property was violated, and the machine is strict."""


class Over(KeyboardInterrupt):
    """The time is up; of the kind that Hypothesis lets through at once."""


class Recorder(Protocol):
    """Who is told what the machines run."""

    def begins(self, scenario: Scenario) -> None:
        """This is run now."""

    def ran(self, _scenario: Scenario, summary: Summary) -> None:
        """So much was executed."""

    def met(self, scenario: Scenario, summary: Summary, *, seed: int) -> None:
        """A search violated something."""

    def over(self) -> bool:
        """Whether the time is up."""


@dataclass
class Counts:
    """A recorder that counts and never ends: for tests."""

    summary: Summary = field(default_factory=Summary)
    violated: dict[str, list[tuple[Scenario, int]]] = field(default_factory=dict)

    def begins(self, _scenario: Scenario) -> None:
        """Who only counts need not know."""

    def ran(self, _scenario: Scenario, summary: Summary) -> None:
        """Add up."""
        self.summary.merge(summary)

    def met(self, scenario: Scenario, summary: Summary, *, seed: int) -> None:
        """Remember the scenarios per verdict."""
        for verdict in summary.violations:
            self.violated.setdefault(verdict, []).append((scenario, seed))

    def over(self) -> bool:
        """Never."""
        return False


def difference(target: Target, scenario: Scenario, *, planted: tuple[str, ...] = ()) -> str:
    """How a run of the threads one after the other differs from the model; empty if it does not."""
    result = cleanrace.run(target, scenario, planted=planted, full=False)
    expected = model.simulate(scenario)
    calls = [model.ModelCall(*call[2:]) for call in result.calls]
    returns = [value for thread in result.returns for value in thread]
    for what, seen, wanted in (
        ("callbacks", calls, expected.calls),
        ("results", returns, expected.returns),
    ):
        for number, (one, other) in enumerate(zip(seen, wanted, strict=False)):
            if one != other:
                return f"{what}, number {number}: the target has {one}, the model {other}"
        if len(seen) != len(wanted):
            return f"{what}: the target has {len(seen)}, the model {len(wanted)}"
    counters = target.counters()
    if counters and counters != expected.counters:
        return f"counters: the target has {counters}, the model {expected.counters}"
    return ""


def smallest(
    target: Target, scenario: Scenario, *, planted: tuple[str, ...] = ()
) -> tuple[Scenario, str]:
    """A shorter single-threaded scenario that still differs, and how."""
    how = difference(target, scenario, planted=planted)
    operations = scenario.threads[0]
    at = len(operations) - 1
    while at >= 0 and len(operations) > 1:
        fewer = operations[:at] + operations[at + 1 :]
        candidate = _with(scenario, (fewer,))
        less = difference(target, candidate, planted=planted)
        if less:
            operations, scenario, how = fewer, candidate, less
        at -= 1
    return scenario, how


def _with(scenario: Scenario, threads: tuple[tuple[Operation, ...], ...]) -> Scenario:
    return Scenario(
        file_systems=scenario.file_systems,
        threads=threads,
        ids=scenario.ids,
        capacity=scenario.capacity,
        init_fails=scenario.init_fails,
    )


class _Machine(RuleBasedStateMachine):
    """What both machines share; the class attributes are set by machine()."""

    target: Target
    recorder: Recorder
    planted: tuple[str, ...] = ()
    strict: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.empty = Scenario()
        self.threads: list[list[Operation]] = []

    @initialize(drawn=strategies.scenarios(threads_max=1, length_max=1))
    def begin(self, drawn: Scenario) -> None:
        """File systems and backends; the drawn operations are not used."""
        self.empty = _with(drawn, ())
        self.threads = []

    @property
    def room(self) -> bool:
        """Whether the format has room for another operation."""
        return sum(map(len, self.threads)) < words.OPERATIONS_MAX

    @property
    def scenario(self) -> Scenario:
        """What the rules made so far."""
        return _with(self.empty, tuple(tuple(thread) for thread in self.threads if thread))

    def go_on(self) -> None:
        """Raise Over when the time is up: rules may not behave otherwise by the clock."""
        if self.recorder.over():
            raise Over

    def violated(self, summary: Summary, *, seed: int) -> None:
        """Tell the recorder, and raise if strict."""
        if summary.violations:
            self.recorder.met(self.scenario, summary, seed=seed)
            if self.strict:
                raise Violation(", ".join(sorted(summary.violations)))


class SequentialMachine(_Machine):
    """One thread, compared with the model after each operation."""

    @precondition(lambda self: self.room)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        """Add an operation, run all, compare."""
        self.go_on()
        names = tuple(words.OPERATIONS)
        if store.kind(self.target) == "reference":
            # Linux initialises again at each remount, the reference does not, and the model
            # is of Linux.
            names = tuple(name for name in names if name != "remount")
        among = self.empty.file_systems
        operation = data.draw(strategies.operations(among=among, names=names))
        if not self.threads:
            self.threads = [[]]
        self.threads[0].append(operation)
        self.recorder.begins(self.scenario)
        how = difference(self.target, self.scenario, planted=self.planted)
        if how:
            scenario, how = smallest(self.target, self.scenario, planted=self.planted)
            text = scenario.to_text().replace("\n", " / ").strip(" /")
            raise Difference(f"{how}; scenario: {text}")
        # The same run through the search, which counts it and judges it.
        summary = cleanrace.search(self.target, self.scenario, schedules=1, planted=self.planted)
        self.recorder.ran(self.scenario, summary)
        self.violated(summary, seed=0)


class ConcurrentMachine(_Machine):
    """Threads with operations, raced."""

    @precondition(lambda self: self.room)
    @rule(
        number=st.integers(0, THREADS_MAX - 1),
        data=st.data(),
    )
    def give(self, number: int, data: st.DataObject) -> None:
        """Give a thread another operation."""
        operation = data.draw(strategies.operations(among=self.empty.file_systems))
        while len(self.threads) <= number:
            self.threads.append([])
        self.threads[number].append(operation)

    @precondition(lambda self: self.room and len(self.threads) < THREADS_MAX)
    @rule(data=st.data())
    def starter(self, data: st.DataObject) -> None:
        """A thread that registers or mounts, without which little can happen."""
        names = data.draw(st.sampled_from((("mount",), ("mount",), ("register",))))
        among = self.empty.file_systems
        self.threads.append([data.draw(strategies.operations(among=among, names=names))])

    @precondition(lambda self: any(self.threads))
    @rule(drawn=st.integers(0, 2**32 - 1))
    def race(self, drawn: int) -> None:
        """Run what there is under many schedules."""
        self.go_on()
        self.recorder.begins(self.scenario)
        summary = cleanrace.search(
            self.target, self.scenario, schedules=SCHEDULES, seed=drawn, planted=self.planted
        )
        self.recorder.ran(self.scenario, summary)
        self.violated(summary, seed=drawn)


def machine(
    kind: type[_Machine],
    target: Target,
    *,
    recorder: Recorder,
    planted: tuple[str, ...] = (),
    strict: bool = False,
) -> type[_Machine]:
    """A machine of this kind for one target, as Hypothesis wants it: a class."""
    attributes = {"target": target, "recorder": recorder, "planted": planted, "strict": strict}
    return type(kind.__name__, (kind,), attributes)


def quick(*, examples: int, steps: int = 20, shrink: bool = False) -> settings:
    """Settings that keep no database and know no deadline: a race takes as long as it takes."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


def run(made: type[_Machine], *, chosen: settings, drawn: int) -> None:
    """Run a machine with a seed of its own."""
    seed(drawn)(made)
    run_state_machine_as_test(made, settings=chosen)


@dataclass
class _WorkerRecorder:
    """Passes on to a campaign's worker (fuzz/worker.py)."""

    worker: Any

    def begins(self, scenario: Scenario) -> None:
        self.worker.begins(scenario)

    def ran(self, scenario: Scenario, summary: Summary) -> None:
        self.worker.inputs += 1
        self.worker.ran(scenario, summary)
        self.worker.tick()

    def met(self, scenario: Scenario, summary: Summary, *, seed: int) -> None:
        self.worker.met(scenario, summary, seed=seed, method="hypothesis")

    def over(self) -> bool:
        return bool(self.worker.inputs and self.worker.left <= 0)


def campaign(worker: Any) -> None:
    """Both machines in turn until the worker's time is up."""
    recorder = _WorkerRecorder(worker)
    random = Random(f"{worker.job['seed']}/{worker.job['index']}/machines")
    kinds: list[type[_Machine]] = [ConcurrentMachine, SequentialMachine]
    if worker.planted:
        kinds.remove(SequentialMachine)  # the model knows no planted bugs
    turn = 0
    while worker.inputs == 0 or worker.left > 0:
        made = machine(
            kinds[turn % len(kinds)], worker.target, recorder=recorder, planted=worker.planted
        )
        worker.say(at={"machine": made.__name__})
        try:
            run(made, chosen=quick(examples=CHUNK), drawn=random.getrandbits(64))
        except Difference as error:
            raise store.Broken(f"the target and the sequential model disagree: {error}") from None
        except Over:
            break
        turn += 1
