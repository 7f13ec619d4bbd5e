# SPDX-License-Identifier: GPL-2.0-only
"""Finite batches of work: units that are handed out, carried out anywhere, and tried again.

A unit is a kind (fuzz/units.py has the table) and JSON: everything it needs but the target, which
whoever carries it out has loaded. It changes nothing outside of its process, so it can be repeated,
and its answer is the same wherever that is. Who carries units out is one of three `Workers`:
this process (Here), processes of this machine (Processes), or those of a Ray cluster
(fuzz/cluster.py). A worker that dies is replaced. The unit it was at is tried once more, and is
broken if that kills another worker; those it had not begun go back to the queue.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cleanrace import Target
from fuzz import store, units
from fuzz.pool import Member, Pool

TRIES = 2  # workers that may die of one unit
AHEAD = 2  # units that a worker has been given and not answered


@dataclass(frozen=True, eq=False, kw_only=True)
class Unit:
    """A piece of work. about: what it is about, for whoever reads that it failed."""

    kind: str
    arguments: dict[str, Any]
    about: str = ""


class Outcome(NamedTuple):
    """What became of a unit: its answer, or one line that says how it broke."""

    answer: dict[str, Any]
    broken: str = ""


class Said(NamedTuple):
    """What a worker said, or what is known of it.

    what: "ready" for units; "answer", value being that of the first unit it was given and has not
    answered; "broken", value being a line about that unit; "gone", and in value why.
    """

    worker: Hashable
    what: str
    value: Any = None


class Workers(Protocol):
    """Who carries units out, each worker one after the other.

    count: how many at a time. batch: how many small things a unit should be made of, so that
    handing it out costs little.
    """

    count: int
    batch: int

    def start(self) -> Hashable:
        """One more worker; it will say that it is ready, or be gone."""

    def give(self, worker: Hashable, unit: Unit) -> None:
        """One more unit for a worker."""

    def listen(self, seconds: float) -> list[Said]:
        """What was said since, waiting for at most so long; after stop() what is left of it."""

    def stop(self) -> None:
        """End all of them; what they are at may be answered with what is there so far."""


class Executor:
    """Hands units to workers and collects what becomes of them, in any order."""

    def __init__(self, workers: Workers, *, ahead: int = AHEAD) -> None:
        """ahead: units per worker; more than 1 only of units that are small and short."""
        self.workers = workers
        self.ahead = ahead
        self.queue: deque[Unit] = deque()
        self.starting: set[Hashable] = set()
        self.given: dict[Hashable, deque[Unit]] = {}
        self.tried: Counter[Unit] = Counter()
        self.failed = 0  # workers that were gone before they were ready, one after the other
        self.stopped = False

    def submit(self, unit: Unit) -> None:
        """One more unit, after those that wait."""
        self.queue.append(unit)

    @property
    def left(self) -> int:
        """Units without an outcome."""
        return len(self.queue) + sum(map(len, self.given.values()))

    def results(self, seconds: float) -> list[tuple[Unit, Outcome]]:
        """Units with an outcome; waits for at most so long until there are some."""
        self._feed()
        heard = [self._heard(said) for said in self.workers.listen(seconds)]
        self._feed()
        return [result for result in heard if result is not None]

    def stop(self) -> None:
        """End every worker; results(0) then has what was answered in the last moment."""
        self.stopped = True
        self.workers.stop()

    def _feed(self) -> None:
        """Give each worker something to do, and start those that are missing for the rest."""
        if self.stopped:
            return
        for ahead in range(1, self.ahead + 1):
            for worker, given in self.given.items():
                if len(given) < ahead and self.queue:
                    given.append(self.queue.popleft())
                    self.workers.give(worker, given[-1])
        while len(self.starting) < min(len(self.queue), self.workers.count - len(self.given)):
            self.starting.add(self.workers.start())

    def _heard(self, said: Said) -> tuple[Unit, Outcome] | None:
        if said.what == "ready":
            self.starting.discard(said.worker)
            self.failed = 0
            self.given[said.worker] = deque()
        elif said.what == "answer":
            return self.given[said.worker].popleft(), Outcome(said.value)
        elif said.what == "broken":
            return self.given[said.worker].popleft(), Outcome({}, said.value)
        elif not self.stopped:
            return self._gone(said.worker, said.value)
        return None

    def _gone(self, worker: Hashable, why: str) -> tuple[Unit, Outcome] | None:
        """What the worker had not answered is tried once more; it was at the first of that."""
        left = self.given.pop(worker, deque())
        if worker in self.starting:
            self.starting.discard(worker)
            self.failed += 1
            if self.failed % TRIES == 0 and self.queue:
                return self.queue.popleft(), Outcome({}, why)
        suspect = left.popleft() if left else None
        self.queue.extendleft(reversed(left))
        if suspect is None:
            return None
        self.tried[suspect] += 1
        if self.tried[suspect] < TRIES:
            self.queue.appendleft(suspect)
            return None
        about = f"; it was at {suspect.about}" if suspect.about else ""
        return suspect, Outcome({}, f"{suspect.kind}: {why}{about}")


class Here:
    """This process as the only worker. show: hears what a unit says about where it is."""

    count = 1
    batch = 1

    def __init__(self, target: Target, show: Callable[[str], None]) -> None:
        self.life = units.Life(target, show=show)
        self.said: list[Said] = []
        self.units: deque[Unit] = deque()

    def start(self) -> Hashable:
        """It has begun long since."""
        self.said.append(Said(self, "ready"))
        return self

    def give(self, worker: Hashable, unit: Unit) -> None:
        """Remember the unit."""
        assert worker is self
        self.units.append(unit)

    def listen(self, seconds: float) -> list[Said]:
        """Carry out one unit, however long that takes."""
        del seconds
        if self.units and not self.said:
            unit = self.units.popleft()
            try:
                self.said.append(Said(self, "answer", self.life.do(unit.kind, unit.arguments)))
            except store.Broken as error:
                self.said.append(Said(self, "broken", str(error)))
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        """Nothing more is carried out."""
        self.units.clear()


class Processes:
    """Processes of this machine (fuzz/worker.py); the target is that of its cache folder."""

    batch = 1

    def __init__(self, target: Target, count: int, *, program: Path | None = None) -> None:
        self.target, self.count = target, count
        self.pool = Pool(self._heard, program=program)
        self.said: list[Said] = []

    def start(self) -> Member:
        """Start a process."""
        job = {"target": self.target.info, "deadline": float("inf")}
        return self.pool.start("units", job, stay=True)

    def give(self, worker: Hashable, unit: Unit) -> None:
        """A line for its standard input."""
        assert isinstance(worker, Member)
        worker.send({"kind": unit.kind, "arguments": unit.arguments})

    def listen(self, seconds: float) -> list[Said]:
        """Hear all processes."""
        if not self.said:
            self.pool.listen(seconds)
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        """Politely, then by force."""
        self.pool.stop()

    def _heard(self, member: Member, message: dict[str, Any]) -> None:
        for what in ("ready", "answer", "broken"):
            if what in message:
                self.said.append(Said(member, what, message[what]))
        if message.get("ended"):
            self.said.append(Said(member, "gone", member.obituary()))


@contextmanager
def opened(
    target: Target,
    *,
    jobs: int,
    cluster: str | None = None,
    ahead: int = AHEAD,
    show: Callable[[str], None] = lambda _: None,
) -> Iterator[Executor]:
    """An executor with so many workers: of the cluster, or this machine; 0 is this process.

    Leaving the block ends them, whatever happens in it.
    """
    workers: Workers
    if cluster is not None:
        from fuzz.cluster import Ray

        show("starting Ray" if cluster == "local" else f"connecting to Ray at {cluster}")
        workers = Ray(target, max(1, jobs), cluster)
    elif jobs:
        workers = Processes(target, jobs)
    else:
        workers = Here(target, show)
    executor = Executor(workers, ahead=ahead)
    try:
        yield executor
    finally:
        executor.stop()
