# SPDX-License-Identifier: GPL-2.0-only
"""From a minimised finding to the three files of the shelf: name, facts and explanation."""

import math
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cleanrace
from cleanrace import Case, NotExpressible, Result, Switch, Target, schedule, words
from fuzz import eventwords, shelf, store
from fuzz.minimise import Minimal, Minimiser, family_of

if TYPE_CHECKING:
    from fuzz.units import Life

SEARCHED = 200_000  # of a search for the verdict of a case without a schedule that shows it
NEEDED_MAX = 1_000_000  # schedules in which another build is expected to show it, at most
HITS_MAX = 200  # schedules with the verdict that a search looks at for the family


def put(
    target: Target,
    minimal: Minimal,
    *,
    schedules: int | None = None,
    status: str = "open",
    root: Path = shelf.FOLDER,
) -> shelf.Kept:
    """Put a minimised finding on the shelf; schedules: how many it took to find it."""
    case, files = made(target, minimal)
    meta = to_meta(target, minimal, schedules=schedules, status=status)
    return shelf.keep(case, meta, root=root, **files)


def made(target: Target, minimal: Minimal) -> tuple[Case, dict[str, str]]:
    """The case of a minimised finding, and what else shelf.keep() needs, by argument."""
    from fuzz import picture

    case = to_case(target, minimal)
    result = replayed(target, case)
    return case, {
        "name": name(result, case),
        "explanation": explanation(target, case, result, how_few=minimal.schedule_words),
        "picture": picture.svg(result, case.scenario, target, title=name(result, case)),
    }


def minimise_unit(life: "Life", arguments: dict[str, Any]) -> dict[str, Any]:
    """A unit (fuzz/units.py): a case's finding, minimised; nothing if it does not show."""
    finding = raw(life.target, Case.from_text(arguments["case"]))
    if finding is None:
        return {}
    owner = life.kept.setdefault("minimiser", Minimiser(life.target))
    owner.seconds, owner.show = arguments["seconds"], life.show
    minimal = owner.minimise(finding)
    case, files = made(life.target, minimal)
    return {
        "case": case.to_text(),
        "meta": asdict(to_meta(life.target, minimal, schedules=None)),
        "files": files,
        "schedule": minimal.schedule_words,
        "finished": minimal.finished,
        "others": [other.to_json() for other in minimal.others],
    }


def to_case(target: Target, minimal: Minimal) -> Case:
    """The scenario file: the switches are what lasts, the tape is for this build."""
    finding = minimal.finding
    case = store.to_case(target, finding, switches=minimal.switches, within=needed(target, finding))
    found = {key: value for key, value in case.found.items() if key in ("build", "digest")}
    return Case(
        scenario=case.scenario,
        title=f"{finding.verdict}: {target.table('verdicts')[finding.verdict][1]}",
        target=case.target,
        broken=case.broken,
        expect=case.expect,
        within=case.within,
        steps_max=case.steps_max,
        tape=case.tape,
        found=found,
        switches=case.switches,
    )


def to_meta(
    target: Target, minimal: Minimal, *, schedules: int | None, status: str = "open"
) -> shelf.Meta:
    """What is known about it."""
    finding = minimal.finding
    found_by = finding.method
    if finding.schedule is not None:
        found_by += f", policy {finding.policy}, seed {finding.seed}, schedule {finding.schedule}"
    return shelf.Meta(
        signature=minimal.signature,
        status=status,
        target=target.name,
        planted=finding.planted,
        sha256=target.sha256,
        compiler=str(target.info["compiler"]),
        found_by=found_by,
        date=datetime.now(UTC).date().isoformat(),
        schedules=schedules,
        preemptions=minimal.preemptions,
        fewest=minimal.fewest,
    )


def known(
    target: Target, *, planted: tuple[str, ...] = (), root: Path = shelf.FOLDER
) -> tuple[dict[str, Path], list[str]]:
    """Family -> scenario file of what the shelf has about this kind of target.

    What shows without a planted bug shows with one, too. Also one line per unreadable folder.
    """
    entries, unreadable = shelf.entries(root)
    found = {}
    for entry in entries:
        fits = entry.case.target in ("any", store.kind(target))
        if fits and entry.case.broken <= frozenset(planted):
            found.setdefault(family_of(entry.meta.signature), entry.folder / shelf.SCENARIO)
    return found, unreadable


def needed(target: Target, finding: store.Finding) -> int:
    """In how many schedules of seed 0 another build should show the verdict: with some reserve."""
    summary = cleanrace.search(
        target,
        finding.scenario,
        schedules=NEEDED_MAX,
        seconds=1.0,
        planted=finding.planted,
        judged=(finding.verdict,),
        steps_max=finding.steps_max,
        detect=True,
        stop_on=(finding.verdict,),
    )
    wanted = 10 * summary.schedules if summary.violations else NEEDED_MAX
    return max(store.WITHIN, int(10 ** math.ceil(math.log10(max(1, wanted)))))


def _planted(case: Case) -> tuple[str, ...]:
    return tuple(name for name in words.PLANTED if name in case.broken)


def options(case: Case) -> dict[str, Any]:
    """How a finding's case is run: as it was found, its own verdict alone being judged."""
    return {
        "planted": _planted(case),
        "judged": (case.expect,),
        "steps_max": case.steps_max,
    }


def replayed(target: Target, case: Case) -> Result:
    """The finding's run with a full trace: from its tape in its own build, else by its switches.

    NotExpressible if this build does not have a step that a switch names.
    """
    return cleanrace.run(target, case.scenario, tape(target, case), **options(case))


def tape(target: Target, case: Case) -> bytes:
    """The tape of a case for this build; NotExpressible as for follow()."""
    if case.found.get("build") == target.build_id or not (case.switches or "build" in case.found):
        return case.tape
    return cleanrace.follow(target, case.scenario, case.switches, **options(case))


def name(result: Result, case: Case) -> str:
    """The verdict and the operations that clash: "pool-dead-reclaim+unmount"."""
    met = [event for event in (result.violation, result.cause) if event is not None]
    listed: list[str] = []
    for event in met:
        number = _operation_at(result, event)
        if number is not None:
            listed.append(eventwords.operation_text(case.scenario, number).split()[0])
    if not listed:
        listed = [thread[-1].name for thread in case.scenario.threads]
    return f"{case.expect}-{'+'.join(dict.fromkeys(listed))}"


def _operation_at(result: Result, wanted: object) -> int | None:
    """The number of the operation that an event is part of."""
    inside: dict[int, int] = {}
    for event in result.trace:
        if event.kind == "op-begin":
            inside[event.thread] = event.object
        if event is wanted:
            return inside.get(event.thread)
    return None


def switch_text(switch: Switch, case: Case) -> str:
    """A switch in words."""
    if switch.kind == "start":
        return f"thread {switch.to} starts"
    if switch.kind == "end":
        return f"when thread {switch.thread} has ended, thread {switch.to} goes on"
    operation = case.scenario.threads[switch.thread][switch.operation - 1]
    doing = f"thread {switch.thread}, in its operation {switch.operation} ({operation.name}),"
    if switch.kind == schedule.WAIT:
        return f"{doing} has to wait; thread {switch.to} goes on"
    verb = eventwords.VERBS.get(switch.kind, f"calls {switch.kind.removeprefix('cb-')} of the")
    what = switch.object.removesuffix(eventwords.LOCK_FIELD)
    again = f", time {switch.count}" if switch.count > 1 else ""
    return (
        f"{doing} is about to do in {switch.function}: {verb} {what}{again};"
        f" thread {switch.to} goes on instead"
    )


def explanation(target: Target, case: Case, result: Result, *, how_few: str) -> str:
    """The generated part of explanation.md."""
    from fuzz import steps

    sentence = target.table("verdicts")[case.expect][1]
    lines = [f"# {case.expect}", "", f"{sentence[0].upper()}{sentence[1:]}.", ""]
    if case.broken:
        lines += [f"With the planted bug {', '.join(sorted(case.broken))}.", ""]
    lines += ["## The scenario", ""]
    lines += [f"    {line}" for line in case.scenario.to_text().splitlines()[1:] if line]
    lines += ["", f"## The schedule: {how_few}", ""]
    lines += [f"* {switch_text(switch, case)}" for switch in case.switches] or [
        "* each thread runs to its end, in order"
    ]
    lines += ["", f"![Who does what, from top to bottom]({shelf.PICTURE})", ""]
    lines += ["## Step by step", ""]
    for step in steps.steps(result, case.scenario, target):
        where = f"`{step.where}`: " if step.where else ""
        held = f" (holds {', '.join(step.held)})" if step.held else ""
        role = f" **{step.role}**" if step.role else ""
        lines.append(f"{step.number}. thread {step.thread}: {where}{step.text}{held}{role}")
        if step.then:
            lines.append(f"   - {step.then}")
    return "\n".join(lines) + "\n"


def raw(
    target: Target, case: Case, *, seconds: float | None = None, method: str = ""
) -> store.Finding | None:
    """The finding behind a case: its schedule where that shows it, else a search; None if none.

    seconds: of the search with each policy. method: who found it, else what the case says.
    """
    how = options(case)
    more = {"planted": how["planted"], "steps_max": case.steps_max}
    method = method or case.found.get("method", "file")
    try:
        result = replayed(target, case)
    except NotExpressible:
        result = None
    if result is not None and case.expect in result.verdicts:
        return store.examine(
            target, case.scenario, case.expect, tape=result.tape, method=method, **more
        )
    for policy in ("surw", "pct-3", "random"):
        met = cleanrace.search(
            target,
            case.scenario,
            schedules=max(SEARCHED, case.within),
            seconds=seconds,
            policy=policy,
            detect=True,
            stop_on=(case.expect,),
            **how,
        )
        if met.violations.get(case.expect):
            return store.examine(
                target,
                case.scenario,
                case.expect,
                policy=policy,
                schedule=met.first[case.expect],
                method=method,
                **more,
            )
    return None


def check(
    target: Target,
    entry: shelf.Entry,
    *,
    planted: Collection[str] = (),
    schedules_max: int | None = None,
) -> tuple[bool, str]:
    """Whether a finding shows on this target, and how that was seen, in words.

    Its switches are followed; where they do not show it the scenario is searched again. It shows
    when its family does: the same verdict about other events is another bug. planted: bugs that
    are switched on, if the finding is of them.
    """
    case = entry.case
    how = options(case) | {"planted": tuple(bug for bug in _planted(case) if bug in planted)}
    family = family_of(entry.meta.signature)
    try:
        if set(how["planted"]) == case.broken:
            result = replayed(target, case)
        else:
            by = cleanrace.follow(target, case.scenario, case.switches, **how)
            result = cleanrace.run(target, case.scenario, by, **how)
        if _is_of(result, case, family, target):
            return True, "by its switches"
        why = "not by its switches"
    except NotExpressible as error:
        why = str(error)
    wanted = min(case.within, schedules_max or case.within)
    number = _searched(target, case, family, how, wanted)
    if number is not None:
        return True, f"{why}; found by a search of {number + 1:,} schedules"
    return False, f"{why}; not in {wanted:,} schedules of a search either"


def _is_of(result: Result, case: Case, family: str, target: Target) -> bool:
    shows = case.expect in result.verdicts
    return shows and store.signature(result, case.expect, target) == family


def _searched(
    target: Target, case: Case, family: str, how: dict[str, Any], schedules: int
) -> int | None:
    """The number of the first schedule of `random` that shows the family, None if none does."""
    first = looked = 0
    while first < schedules and looked < HITS_MAX:
        met = cleanrace.search(
            target,
            case.scenario,
            schedules=schedules - first,
            first=first,
            detect=True,
            stop_on=(case.expect,),
            **how,
        )
        if not met.violations.get(case.expect):
            return None
        number = met.first[case.expect]
        result = cleanrace.run(target, case.scenario, policy="random", schedule=number, **how)
        if _is_of(result, case, family, target):
            return number
        first, looked = number + 1, looked + 1
    return None
