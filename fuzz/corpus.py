# SPDX-License-Identifier: GPL-2.0-only
"""corpus/: reading its cases and replaying them.

A case says what must be seen: a verdict that some schedule of `random` shows within so many, or
`ok`, that none shows any. A finding's own schedule is tried first, by its tape in the build that
it is of and by its switches in others; where that does not show the verdict the search decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cleanrace
from cleanrace import Case, Scenario, Target, words
from fuzz import keeping, store

FOLDER = store.ROOT / "corpus"
FOLDERS = (FOLDER / "litmus", FOLDER / "findings")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What replaying one case gave.

    met: the expectation holds. violated: verdict -> number of the first schedule, of seed 0.
    ours: a miss is the harness's fault, since the case plants its bug or tests the engine.
    """

    path: Path
    case: Case
    met: bool
    schedules: int
    seconds: float
    violated: dict[str, int]
    complete: bool

    @property
    def ours(self) -> bool:
        """Whether the case holds on every target, so that a miss is the harness's fault."""
        return bool(self.case.broken) or self.case.scenario.micro


def paths(folders: Iterable[Path] = FOLDERS) -> list[Path]:
    """All scenario files of the corpus, sorted."""
    found = (path for folder in folders for path in folder.rglob(f"*{store.SUFFIX}"))
    return sorted(path for path in found if not _waits(path))


def _waits(path: Path) -> bool:
    """Whether it is among those that wait to be minimised, or was set aside."""
    return any(part.startswith(".") or ".unreadable" in part for part in path.parts[-4:-1])


def scenarios() -> list[Scenario]:
    """The corpus's scenarios, without those that test only the engine."""
    cases = map(Case.read, paths())
    return [case.scenario for case in cases if not case.scenario.micro]


def seeds() -> list[bytes]:
    """The corpus as fuzzer inputs: scenario and tape."""
    cases = [case for case in map(Case.read, paths()) if not case.scenario.micro]
    return [case.scenario.to_bytes() + case.tape for case in cases]


def applies(case: Case, target: Target) -> bool:
    """Whether the case says something about this kind of target."""
    return case.target in ("any", store.kind(target))


def replay(
    path: Path,
    case: Case,
    target: Target,
    *,
    seconds: float | None = None,
    schedules_max: int | None = None,
    into: cleanrace.Summary | None = None,
) -> Outcome:
    """Replay one case: its tape if it has one, else a search of `within` schedules of seed 0.

    At most `seconds` (None: without limit) and `schedules_max` schedules, in which case the
    outcome is not complete.
    """
    if case.expect != "ok" and (case.switches or case.tape or "build" in case.found):
        result = _by_its_schedule(case, target)
        if result is not None and case.expect in result.verdicts:
            return Outcome(
                path=path,
                case=case,
                met=True,
                schedules=1,
                seconds=0.0,
                violated={},
                complete=True,
            )
    planted = tuple(name for name in words.PLANTED if name in case.broken)
    wanted = min(case.within, schedules_max or case.within)
    summary = cleanrace.search(
        target,
        case.scenario,
        schedules=wanted,
        seconds=seconds,
        planted=planted,
        judged=case.judged,
        steps_max=case.steps_max,
        detect=True,
        stop_on=() if case.expect == "ok" else (case.expect,),
    )
    if into is not None:
        into.merge(summary)
    violated = {name: summary.first[name] for name, count in summary.violations.items() if count}
    met = not violated if case.expect == "ok" else case.expect in violated
    return Outcome(
        path=path,
        case=case,
        met=met,
        schedules=summary.schedules,
        seconds=summary.seconds,
        violated=violated,
        complete=met or summary.schedules >= case.within,
    )


def _by_its_schedule(case: Case, target: Target) -> cleanrace.Result | None:
    """The run that the case keeps; None if this build does not have its steps."""
    try:
        return keeping.replayed(target, case)
    except cleanrace.NotExpressible:
        return None


def shards(listed: Sequence[Path], count: int) -> list[list[Path]]:
    """`listed` dealt out to `count` workers."""
    return [list(listed[number::count]) for number in range(count)]
