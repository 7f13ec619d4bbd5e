# SPDX-License-Identifier: GPL-2.0-only
"""The verb `explore`: every schedule of one scenario, by as many workers as asked for.

The subtrees are shared out into as many parts. A part goes on slice by slice, from checkpoint to
checkpoint, each with whatever worker is free (fuzz/executor.py), so that one that dies costs a
slice. Accesses that turn out to race become decision points in all parts: where one met some that
another one did not, all begin again with them. What was promoted is kept in the cache folder beside
the checkpoints, per build of a target.
"""

import base64
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

import build
from cleanrace import Case, Target, words
from fuzz import executor, places, store
from fuzz.executor import Executor, Unit
from fuzz.executor import Outcome as Done
from fuzz.exploring import COUNTS, states_from_json

SPLIT = 6  # depth of the subtrees that processes share out
LISTEN_SECONDS = 0.1
FIRST_SECONDS = 0.25  # of a part's first slice; each is twice the one before, up to
LAST_SECONDS = 4.0
RACE = {"pc", "kind", "object", "documented", "count"}  # what race_to_json() tells
SAVED_SECONDS = 5.0  # between two times that checkpoints are written

# Called some ten times a second with a line about where it is.
Show = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. seconds: at most, None without limit. cluster: where.

    symmetry: of executions that differ only in which of several threads alike is which, one is
    explored; with dpor.
    """

    policy: str = "dpor"
    bound: int | None = None
    points: str = "sync"
    jobs: int = 1
    seconds: float | None = None
    resume: bool = False
    findings: Path = store.FINDINGS
    cluster: str | None = None
    symmetry: bool = True


@dataclass
class Part:
    """One part, and what was said about it last. slice: seconds of the next one."""

    explored: dict[str, Any] = field(default_factory=dict)
    states: list[int] = field(default_factory=list)
    races: list[dict[str, Any]] = field(default_factory=list)  # of all slices
    checkpoint: str = ""
    written: str = ""
    slice: float = field(default_factory=lambda: FIRST_SECONDS)
    broken: str = ""

    @property
    def kept(self) -> bool:
        """Whether it can be gone on with."""
        return bool(self.checkpoint)


@dataclass(kw_only=True)
class Outcome:
    """What the parts found together.

    simplest: verdict -> (preemptions, tape). classes: None where parts may share some. seconds: on
    the wall; worked: of all parts, without starting their processes.
    """

    done: bool
    counts: dict[str, int]
    classes: int | None
    approximate: bool
    promoted: list[int]
    violations: dict[str, int]
    simplest: dict[str, tuple[int, bytes]]
    marks: dict[str, int]
    races: list[dict[str, Any]]
    seconds: float
    worked: float
    interrupted: bool = False
    kept: bool = False
    broken: str = ""


def folder(target: Target) -> Path:
    """Where what is known about a build of a target is kept."""
    return build.cache_folder() / "explored" / target.build_id


def read_promoted(target: Target) -> list[int]:
    """Accesses promoted in earlier explorations of this build; none if that cannot be read."""
    try:
        promoted = json.loads((folder(target) / "promoted.json").read_text())
    except (FileNotFoundError, ValueError):
        promoted = []
    return promoted if _are_places(promoted) else []


def write_promoted(target: Target, promoted: list[int]) -> None:
    """Remember promoted accesses, together with those known already."""
    every = sorted({*read_promoted(target), *promoted})
    store.write(folder(target) / "promoted.json", json.dumps(every) + "\n")


class Exploring:
    """One exploration of a case; run() returns its outcome, also after an interrupt."""

    def __init__(self, target: Target, case: Case, options: Options, show: Show) -> None:
        self.target = target
        self.case = case
        self.options = options
        self.show = show
        self.how: dict[str, Any] = {
            "policy": options.policy,
            "bound": options.bound,
            "points": options.points,
            "planted": [name for name in words.PLANTED if name in case.broken],
            "steps_max": case.steps_max,
            "symmetry": options.symmetry and options.policy == "dpor",
            "parts": options.jobs,
            "split": SPLIT if options.jobs > 1 else 0,
        }
        key = json.dumps([self.case.scenario.to_bytes().hex(), self.how], sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder = folder(target) / name
        self.begin = time.monotonic()
        self.before = 0.0  # seconds spent before the checkpoint
        self.met: list[dict[str, Any]] = []  # races met before it
        self.parts: list[Part] = []

    def run(self) -> Outcome:
        """Explore until everything is done, the time is over or an interrupt."""
        promoted = read_promoted(self.target) if self.options.points == "sync" else []
        resume = self.options.resume and self._read_checkpoint()
        if isinstance(resume, dict):
            promoted, self.before = resume["promoted"], resume["seconds"]
            self.met = resume["races"]
        before = signal.signal(signal.SIGTERM, interrupt)
        where = {"jobs": self.options.jobs, "cluster": self.options.cluster}
        try:
            with executor.opened(self.target, **where, ahead=1, show=self.show) as workers:
                self.begin = time.monotonic()  # a cluster takes its time to start
                outcome = self._rounds(workers, promoted, resume=bool(resume))
        finally:
            signal.signal(signal.SIGTERM, before)
        if outcome.done:
            self._forget_checkpoint()
        # What a planted bug brings about may be inside of sections, and others would pay for it.
        if self.options.points == "sync" and not self.how["planted"]:
            write_promoted(self.target, outcome.promoted)
        return outcome

    def _rounds(self, workers: Executor, promoted: list[int], *, resume: bool) -> Outcome:
        """Again and again, until no part promotes what another one did not."""
        while True:
            outcome = self._round(workers, promoted, resume=resume)
            if not outcome.done or all(
                part.explored["promoted"] == outcome.promoted for part in self.parts
            ):
                return outcome
            promoted, resume = outcome.promoted, False

    def _round(self, workers: Executor, promoted: list[int], *, resume: bool) -> Outcome:
        """All parts from that set of promoted accesses on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = [Part() for _ in range(self.options.jobs)]
        self.parts[0].races = self.met if resume else []
        if not resume:
            for path in self.folder.glob("part-*"):
                path.unlink()  # of another round, whose points were other ones
        interrupted = False
        try:
            self._work(workers, promoted, resume=resume)
        except KeyboardInterrupt:
            interrupted = True
            workers.stop()
            for unit, done in workers.results(0):
                self._heard(unit, done)
        self._save(promoted)
        outcome = self._sum(promoted)
        outcome.interrupted = interrupted
        outcome.broken = next(filter(None, (part.broken for part in self.parts)), "")
        return outcome

    def _work(self, workers: Executor, promoted: list[int], *, resume: bool) -> None:
        for number, part in enumerate(self.parts):
            path = self._path(number)
            if resume and path.exists():
                part.checkpoint = base64.b64encode(_unsealed(path)).decode()
            workers.submit(self._slice(number, promoted))
        saved = time.monotonic()
        while workers.left:
            for unit, done in workers.results(LISTEN_SECONDS):
                self._heard(unit, done)
                number = unit.arguments["how"]["part"]
                if self._goes_on(self.parts[number]):
                    workers.submit(self._slice(number, promoted))
            if time.monotonic() - saved > SAVED_SECONDS:
                self._save(promoted)
                saved = time.monotonic()
            self.show(self._line())

    def _slice(self, number: int, promoted: list[int]) -> Unit:
        """The next slice of a part."""
        part, left = self.parts[number], self._left()
        arguments = {
            "scenario": self.case.scenario.to_bytes().hex(),
            "how": self.how | {"part": number, "promoted": promoted},
            "checkpoint": part.checkpoint,
            "seconds": part.slice if left is None else min(part.slice, left),
            "most": left,
        }
        part.slice = min(2 * part.slice, LAST_SECONDS)
        return Unit(kind="explore", arguments=arguments)

    def _left(self) -> float | None:
        """Seconds until the user's time is over, at least what one look at the clock takes."""
        if self.options.seconds is None:
            return None
        return max(LISTEN_SECONDS, self.begin + self.options.seconds - time.monotonic())

    def _goes_on(self, part: Part) -> bool:
        seconds = self.options.seconds
        over = seconds is not None and time.monotonic() >= self.begin + seconds
        return not (part.broken or part.explored["done"] or over) and part.kept

    def _heard(self, unit: Unit, done: Done) -> None:
        part = self.parts[unit.arguments["how"]["part"]]
        part.broken = done.broken
        if not done.broken:
            part.explored = done.answer["explored"]
            part.races = merged_races([*part.races, *part.explored["races"]])
            part.states = states_from_json(done.answer["states"])
            part.checkpoint = done.answer["checkpoint"]

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number}"

    def _save(self, promoted: list[int]) -> None:
        """Write what has changed since the last time; races are in no checkpoint."""
        meta = {"promoted": promoted, "seconds": self.before + time.monotonic() - self.begin}
        races = merged_races(race for part in self.parts for race in part.races)
        store.write(self.folder / "exploration.json", json.dumps(meta | {"races": races}) + "\n")
        for number, part in enumerate(self.parts):
            if part.kept and part.checkpoint != part.written:
                path = self._path(number)
                fresh = path.with_name(f"new-{path.name}")
                fresh.write_bytes(_sealed(base64.b64decode(part.checkpoint)))
                fresh.replace(path)
                part.written = part.checkpoint

    def _line(self) -> str:
        """Where it is, the most important first, since a narrow terminal cuts it."""
        explored = [part.explored for part in self.parts if part.explored]
        executions = sum(one["executions"] for one in explored)
        blocked = sum(one["blocked"] for one in explored)
        met = {name for one in explored for name in one["violations"]}
        spent = time.monotonic() - self.begin
        line = f"exploring: {executions:,} executions, {blocked:,} given up, {spent:.0f} s"
        return f"{line}; {', '.join(sorted(met))}" if met else line

    def _sum(self, promoted: list[int]) -> Outcome:
        """The parts together; a part that never said anything counts nothing."""
        parts = [part for part in self.parts if part.explored]
        explored = [part.explored for part in parts]
        counts = {name: sum(one[name] for one in explored) for name in COUNTS}
        for name in ("restarts", "depth_max", "preemptions_max"):
            counts[name] = max((one[name] for one in explored), default=0)
        states = {state for part in parts for state in part.states}
        counts["states"] = len(states)
        exact = self.options.jobs == 1 or self.options.policy == "dpor"
        simplest: dict[str, tuple[int, bytes]] = {}
        for one in explored:
            for verdict, (preemptions, tape) in one["simplest"].items():
                found = (preemptions, bytes.fromhex(tape))
                simplest[verdict] = min(simplest.get(verdict, found), found, key=_simple)
        return Outcome(
            done=len(parts) == self.options.jobs and all(one["done"] for one in explored),
            counts=counts,
            classes=counts["classes"] if exact else None,
            approximate=any(one["approximate"] for one in explored),
            promoted=sorted({*promoted, *(pc for one in explored for pc in one["promoted"])}),
            violations=_added(one["violations"] for one in explored),
            simplest=simplest,
            marks=_added(one["marks"] for one in explored),
            races=merged_races(race for part in parts for race in part.races),
            seconds=self.before + time.monotonic() - self.begin,
            worked=sum(one["seconds"] for one in explored),
            kept=bool(parts) and all(part.kept for part in parts),
        )

    def _read_checkpoint(self) -> dict[str, Any]:
        """What an interrupted run left; NoCheckpoint if there is nothing to go on from."""
        try:
            found = json.loads((self.folder / "exploration.json").read_text())
        except (FileNotFoundError, ValueError):
            found = None
        if not _is_meta(found) or not list(self.folder.glob("part-*")):
            raise NoCheckpoint(
                "--resume: no checkpoint of this scenario with these options and this build"
                f" {self.target.build_id} in {self.folder.parent}, leave --resume out"
            )
        return found

    def _forget_checkpoint(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def _sealed(checkpoint: bytes) -> bytes:
    """With its hash before it: a tree with a flipped bit would pass for exhausted."""
    return hashlib.sha256(checkpoint).digest() + checkpoint


def _unsealed(path: Path) -> bytes:
    """The checkpoint in a file; NoCheckpoint if the file is not as it was written."""
    data = path.read_bytes()
    size = hashlib.sha256().digest_size
    if data != _sealed(data[size:]):
        raise NoCheckpoint(f"--resume: {path} is damaged, leave --resume out")
    return data[size:]


def _is_meta(found: object) -> bool:
    """Whether that is what _save() writes."""
    return (
        isinstance(found, dict)
        and _are_places(found.get("promoted"))
        and isinstance(found.get("seconds"), int | float)
        and isinstance(found.get("races"), list)
        and all(isinstance(race, dict) and race.keys() >= RACE for race in found["races"])
    )


def _are_places(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(pc, int) and pc >= 0 for pc in found)


class NoCheckpoint(places.Unwritable):
    """There is nothing to resume."""


def _simple(found: tuple[int, bytes]) -> tuple[int, int, bytes]:
    return found[0], len(found[1]), found[1]


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def merged_races(races: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each pair of accesses once, in the order of the code."""
    total: dict[tuple[Any, ...], dict[str, Any]] = {}
    for race in races:
        key = (*race["pc"], *race["kind"])
        if key in total:
            total[key] = total[key] | {"count": total[key]["count"] + race["count"]}
        else:
            total[key] = race
    return [total[key] for key in sorted(total)]


def interrupt(_number: int, _frame: object) -> None:
    """The handler of SIGTERM while workers run: as if it had been Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def shown(out: Console, seconds: float) -> Iterator[Show]:
    """A line of progress: redrawn on a terminal, every so many seconds elsewhere."""
    last = time.monotonic()

    def plain(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            out.print(Text(line), soft_wrap=True)

    if not out.is_terminal:
        yield plain
        return
    with Live(console=out, auto_refresh=False, transient=True) as live:

        def redraw(line: str) -> None:
            live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)

        yield redraw
