# SPDX-License-Identifier: GPL-2.0-only
"""Exhaustive search over the schedules of one scenario, for as long as there is time.

C keeps one exploration per process and target, so an Explorer is that exploration until the next
one begins. It goes on in slices of a tenth of a second, between which an interrupt is noticed
and loses nothing: the Explorer can be asked, saved, or gone on with.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from cleanrace import checks, words
from cleanrace._native import EXPLORES, POINTS, Config
from cleanrace.result import Race
from cleanrace.scenario import Scenario
from cleanrace.symmetry import twins
from cleanrace.target import Target

PARTS_MAX: Final = 1024
SPLIT_MAX: Final = 64
APART: Final = frozenset({"race"})  # groups of verdicts that are not judged unless asked for
_SLICE_NANOSECONDS: Final = 100_000_000  # between two looks at Ctrl-C
_UNBOUNDED: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF
_OFFSET_MAX: Final = 0xFFFFFFFF
_owners: dict[str, "Explorer"] = {}  # the newest exploration of each loaded target


class Simplest(NamedTuple):
    """The execution with the fewest preemptions among those that had one verdict.

    tape: its choices at every access; run(target, scenario, tape) repeats it.
    """

    tape: bytes
    preemptions: int


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What was explored so far.

    done: everything was. executions: complete ones. blocked: given up, because all that could go
    on was explored elsewhere. cut: beyond the bound, or another part's. classes: distinct
    happens-before classes of the complete executions. states: distinct final states. restarts:
    how often it began anew because accesses turned out to race; promoted: these, as offsets into
    the kernel's text. depth_max: steps of the longest execution. preemptions_max: most
    preemptions of one. approximate: a table was too small, so that counts are lower bounds.
    steps: of all executions. seconds: time spent. violations: verdict -> executions that have it;
    simplest: the simplest one each. marks: mark -> executions. races: every pair of accesses that
    were in no order, whether or not data races are judged.
    """

    done: bool
    executions: int
    blocked: int
    cut: int
    classes: int
    states: int
    restarts: int
    promoted: tuple[int, ...]
    depth_max: int
    preemptions_max: int
    approximate: bool
    steps: int
    seconds: float
    violations: dict[str, int] = field(default_factory=dict)
    simplest: dict[str, Simplest] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    races: tuple[Race, ...] = ()


class How(TypedDict, total=False):
    """The arguments of an Explorer besides target and scenario; it says what they mean."""

    policy: str
    bound: int | None
    points: str
    promoted: Collection[int]
    planted: Iterable[str]
    judged: Iterable[str] | None
    detect: bool
    steps_max: int
    stop_on: Iterable[str]
    symmetry: bool
    order: int
    part: int
    parts: int
    split: int
    resume: bytes


class Explorer:
    """The exploration of one scenario; the process has one per target, the newest.

    policy: "dpor", one execution per happens-before class, or "dfs", every interleaving. bound:
    preemptions at most, of "dfs" only; None for any. points: decision points, "sync" at
    synchronisation and at promoted accesses, or "all" at every access. promoted: accesses that
    are promoted from the beginning. planted, judged, steps_max: as for run(). detect: lock rules,
    guarded fields and data races are judged as well. stop_on: verdicts after which it pauses.
    symmetry: of executions that differ only in which of several interchangeable threads is which
    (symmetry.py), one is explored; it has no bound. order: another number explores in another
    order, which must not make a difference to what is found (dpor: nor to `classes`).
    part, parts, split: this process takes part number `part` of `parts`, of the subtrees below
    depth `split`; counts of all parts add up, except that of final states. resume: what save()
    gave, of an exploration with the same arguments. ValueError names an argument that cannot be.
    """

    def __init__(
        self,
        target: Target,
        scenario: Scenario,
        *,
        policy: str = "dpor",
        bound: int | None = None,
        points: str = "sync",
        promoted: Collection[int] = (),
        planted: Iterable[str] = (),
        judged: Iterable[str] | None = None,
        detect: bool = True,
        steps_max: int = 0,
        stop_on: Iterable[str] = (),
        symmetry: bool = False,
        order: int = 0,
        part: int = 0,
        parts: int = 1,
        split: int = 0,
        resume: bytes = b"",
    ) -> None:
        checks.instance("target", target, Target)
        checks.instance("scenario", scenario, Scenario)
        checks.choice("policy", policy, EXPLORES)
        checks.choice("points", points, POINTS)
        if bound is not None:
            checks.number("bound", bound, 0, words.STEPS_MAX)
            if policy != "dfs":
                raise ValueError(
                    f"bound={bound}: only the policy dfs has a bound, leave it out or pass"
                    ' policy="dfs"'
                )
        checks.instance("symmetry", symmetry, bool)
        if symmetry and bound is not None:
            raise ValueError(
                f"symmetry=True: not with bound={bound}, since a mirror image may need more"
                " preemptions; leave one of the two out"
            )
        checks.instance("detect", detect, bool)
        checks.number("order", order, 0, _OFFSET_MAX)
        checks.number("steps_max", steps_max, 0, words.STEPS_MAX)
        checks.number("parts", parts, 1, PARTS_MAX)
        checks.number("part", part, 0, parts - 1)
        checks.number("split", split, 0, SPLIT_MAX)
        checks.instance("resume", resume, bytes)
        for offset in promoted:
            checks.number("promoted", offset, 0, _OFFSET_MAX)
        planted = tuple(planted)
        every = [line[0] for line in target.native.tables["verdicts"] if line[1] not in APART]
        config = Config(
            engine="fiber",
            policy="tape",
            planted=target.bits("planted", planted, argument="planted"),
            judged=target.bits("verdicts", every if judged is None else judged, argument="judged"),
            steps_max=steps_max,
            full=False,
            points=points,
            detect=detect,
            seed=0,
            schedule=0,
        )
        earlier = twins(scenario, planted=planted) if symmetry else ()
        self._stop_on = target.bits("verdicts", stop_on, argument="stop_on")
        how: dict[str, int | list[int]] = {
            "sections": points == "sync",
            "bound": _UNBOUNDED if bound is None else bound,
            "part": part,
            "parts": parts,
            "split": split,
            "stop_on": self._stop_on,
            "order": order,
            "twin": [0 if twin is None else twin + 1 for twin in earlier],
        }
        self.target = target
        self.scenario = scenario
        native = target.native
        native.promote(sorted(promoted))
        native.races_forget()
        native.explore_begin(native.config(config), scenario.to_bytes(), policy, how)
        _owners[str(target.module)] = self
        if resume and not native.explore_load(resume):
            raise ValueError("resume: these bytes are not of this exploration with this build")
        self._explored: Any = None

    def go_on(
        self, *, seconds: float | None = None, executions_max: int | None = None
    ) -> Exploration:
        """Go on until it is done, `seconds` have passed or so many more executions were tried.

        It pauses after an execution that has a verdict in stop_on, too.
        """
        self._own()
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"seconds={checks.shown(seconds)}: expected a number from 0, or None")
        if executions_max is not None:
            checks.number("executions_max", executions_max, 1, _U64)
        nanoseconds = 0 if seconds is None else max(1, int(seconds * 1e9))
        self._explored = self.target.native.explore_go_on(executions_max or 0, nanoseconds)
        return self.now()

    @property
    def stopped(self) -> bool:
        """Whether a verdict in stop_on was met."""
        met = self._explored
        return met is not None and any(
            met.violations[n] for n in range(self._stop_on.bit_length()) if self._stop_on >> n & 1
        )

    @property
    def last(self) -> Simplest | None:
        """The last execution that had a verdict in stop_on: the one it paused after."""
        self._own()
        found = self.target.native.explore_tape(0)
        return None if found is None else Simplest(found[0].rstrip(b"\0"), found[1])

    def now(self) -> Exploration:
        """Where it is."""
        self._own()
        if self._explored is None:
            raise ValueError("nothing was explored yet: call go_on() first")
        met, target = self._explored, self.target
        tables = target.native.tables
        verdicts = enumerate(line[0] for line in tables["verdicts"])
        violated = {name: n for n, name in verdicts if met.violations[n]}
        return Exploration(
            done=bool(met.done),
            executions=met.executions,
            blocked=met.blocked,
            cut=met.cut,
            classes=met.classes,
            states=met.states,
            restarts=met.restarts,
            promoted=tuple(target.native.promoted()) if met.promoted else (),
            depth_max=met.depth_max,
            preemptions_max=met.preemptions_max,
            approximate=bool(met.approximate),
            steps=met.steps,
            seconds=met.nanoseconds / 1e9,
            violations={name: met.violations[n] for name, n in violated.items()},
            simplest={name: self._simplest(n) for name, n in violated.items()},
            marks={line[0]: met.marks[n] for n, line in enumerate(tables["marks"]) if met.marks[n]},
            races=tuple(target.races()),
        )

    def _simplest(self, verdict: int) -> Simplest:
        found = self.target.native.explore_tape(verdict)
        assert found is not None, "an execution was counted and not kept"
        return Simplest(found[0].rstrip(b"\0"), found[1])

    def states(self) -> frozenset[int]:
        """Hashes of the distinct final states; they mean the same in every process."""
        self._own()
        return frozenset(self.target.native.explore_states())

    def save(self) -> bytes:
        """The exploration as bytes, for `resume`; empty if it is too large for that."""
        self._own()
        return self.target.native.explore_save()

    def _own(self) -> None:
        if _owners.get(str(self.target.module)) is not self:
            raise ValueError("another exploration of this target has begun since")


def explore(
    target: Target,
    scenario: Scenario,
    *,
    seconds: float | None = None,
    executions_max: int | None = None,
    progress: Callable[[Exploration], None] | None = None,
    **how: Unpack[How],
) -> Exploration:
    """Explore the schedules of `scenario`: all of them, unless a limit is met.

    seconds: at most, rounded up to a slice of 0.1 s. executions_max: at most so many are tried.
    progress: called after each slice; it must not run anything. how: the arguments of Explorer,
    among them stop_on. An interrupt (Ctrl-C) is noticed within about 0.1 s.
    """
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"seconds={checks.shown(seconds)}: expected a number from 0, or None")
    if executions_max is not None:
        checks.number("executions_max", executions_max, 1, _U64)
    explorer = Explorer(target, scenario, **how)
    if executions_max is not None:
        # Slices would count executions that are no complete ones, so there is one.
        return explorer.go_on(seconds=seconds, executions_max=executions_max)
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _SLICE_NANOSECONDS / 1e9
        if end is not None:
            left = min(left, max(0.001, end - time.monotonic()))
        now = explorer.go_on(seconds=left)
        if progress is not None:
            progress(now)
        if now.done or explorer.stopped or (end is not None and time.monotonic() >= end):
            return now
