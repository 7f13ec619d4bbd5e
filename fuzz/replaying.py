# SPDX-License-Identifier: GPL-2.0-only
"""The verbs that show one race: `replay` and `premises`.

Replaying verifies: in the build that a finding is of, the trace must be the one that was found
(its digest). In another one its switches are followed, each at what the thread that stops was
about to do; where a build has no such step, the switch is named and a search looks anew.
"""

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import cleanrace
from cleanrace import Case, Result, Scenario, Target, words
from fuzz import corpus, keeping, minimise, racetable, store
from fuzz import premises as premises_module
from fuzz.report import say


def show_race(
    out: Console, result: Result, scenario: Scenario, target: Target, *, everything: bool = False
) -> None:
    """The race table and the sentence of its verdict."""
    width = max(racetable.WIDTH_MIN, out.width)
    lines = racetable.table(result, scenario, target, width=width, everything=everything)
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    sentences = target.table("verdicts")
    for name in sorted(result.verdicts):
        say(out, f"{name}: {sentences[name][1]}", style="bold red")
    if not result.verdicts:
        say(out, f"ok: {sentences['ok'][1]} in this schedule", style="bold")


def replay(
    out: Console, target: Target, path: Path, case: Case, *, everything: bool = False
) -> int:
    """Replay a case and show it; 1 if it violates, 0 if not, 3 if the same tape gave two traces."""
    if case.title:
        say(out, f"{store.shown(path)}: {case.title}")
    say(out, f"on {target.name} {target.version}, build {target.build_id}")
    if not corpus.applies(case, target):
        say(out, f"note: this expectation is for {case.target}, not for {target.name}")
    options: dict[str, Any] = {
        "planted": tuple(name for name in words.PLANTED if name in case.broken),
        "steps_max": case.steps_max,
    }
    if case.expect != "ok" and (case.switches or case.tape or "build" in case.found):
        status = _replay_schedule(out, target, case, everything=everything)
        if status is not None:
            return status
    return _search(out, target, case, options, everything=everything)


def _replay_schedule(out: Console, target: Target, case: Case, *, everything: bool) -> int | None:
    """Replay what the case keeps; None if it does not show the verdict here."""
    same_build = case.found.get("build") == target.build_id
    if not same_build and "build" in case.found:
        say(out, f"found in build {case.found['build']}: its switches are followed in this one")
    try:
        result = keeping.replayed(target, case)
    except cleanrace.NotExpressible as error:
        say(out, str(error), style="bold yellow")
        say(out, "so the scenario is searched again:")
        return None
    again = keeping.replayed(target, case)
    if result.digest != again.digest:
        raise store.Broken("determinism broken: the same tape gave two traces, report it")
    if case.expect not in result.verdicts:
        say(out, f"this schedule does not show {case.expect} here, so a search looks for it:")
        return None
    show_race(out, result, case.scenario, target, everything=everything)
    for number, switch in enumerate(case.switches, 1):
        say(out, f"switch {number}: {keeping.switch_text(switch, case)}")
    digest = f"{result.digest:016x}"
    if same_build and case.found.get("digest") == digest:
        say(out, f"replayed exactly: digest {digest}")
    elif same_build and "digest" in case.found:
        raise store.Broken(
            f"determinism broken: digest {case.found['digest']} was recorded in this very build,"
            f" now it is {digest}, report it"
        )
    options = keeping.options(case) | {"judged": None}
    whole = cleanrace.run(target, case.scenario, result.tape, full=False, **options)
    more = sorted(whole.verdicts - result.verdicts)
    if more:
        say(out, f"the same schedule also violates: {', '.join(more)}")
    return 1


def _search(
    out: Console, target: Target, case: Case, options: dict[str, Any], *, everything: bool
) -> int:
    """Search as long as the case says, and show the first violation or what was executed."""
    stop_on = (case.expect,) if case.expect != "ok" else tuple(set(words.VERDICTS) - {"ok"})
    summary = cleanrace.search(
        target,
        case.scenario,
        schedules=case.within,
        judged=case.judged,
        detect=True,
        stop_on=stop_on,
        **options,
    )
    met = [verdict for verdict in stop_on if summary.violations.get(verdict)]
    executed = (
        f"{summary.schedules:,} schedules, about {summary.interleavings:,.0f} distinct"
        " interleavings"
    )
    if not met:
        what = "no violation" if case.expect == "ok" else f"no {case.expect}"
        say(out, f"{what} in {executed} of random search; the space was not exhausted")
        return 0
    verdict = met[0]
    finding = store.examine(
        target, case.scenario, verdict, schedule=summary.first[verdict], **options
    )
    finding = minimise.shorten(target, finding)
    result = cleanrace.run(target, case.scenario, finding.tape, judged=(verdict,), **options)
    say(out, f"{verdict} after {executed}; its schedule, shortened:")
    show_race(out, result, case.scenario, target, everything=everything)
    return 1


def premises(
    out: Console,
    target: Target,
    searches: Sequence[premises_module.Hit],
    *,
    json: Path | None = None,
) -> int:
    """What came of each broken premise, with one race, then of all intact."""
    if json is not None:
        store.write(json, json_module.dumps(_to_json(target, searches), indent=2) + "\n")
    for premise in premises_module.PREMISES:
        hits = [hit for hit in searches if hit.premise == premise]
        if hits:
            _broken(out, target, premise, hits)
    whole = [hit for hit in searches if hit.premise is None]
    if whole:
        _intact(out, target, whole)
    missed = premises_module.blind(searches)
    if missed:
        say(out, f"HARNESS FAILED: broken premise {', '.join(missed)} not found", style="bold red")
        return 3
    return 1 if any(hit.found for hit in whole) else 0


def _broken(
    out: Console, target: Target, premise: str, hits: Sequence[premises_module.Hit]
) -> None:
    """One premise: its searches, and the race table of the simplest schedule."""
    out.print()
    say(out, f"premise {premise} broken: {target.table('planted')[premise][0]}", style="bold")
    for hit in hits:
        how = (
            f"found in {hit.seconds:.4f} s, {hit.schedules:,} schedules;"
            f" {hit.rate:,.0f} hits/s per core"
            if hit.found
            else f"not found in {hit.schedules:,} schedules, {hit.seconds:.1f} s"
        )
        say(out, f"  {hit.scenario}: {how}")
    simplest = premises_module.simplest(target, hits)
    if simplest is not None:
        _show_finding(out, target, simplest)


def _intact(out: Console, target: Target, hits: Sequence[premises_module.Hit]) -> None:
    """The searches with nothing planted, and what they found about the target."""
    out.print()
    say(out, "all four premises intact:", style="bold")
    for hit in hits:
        what = "VIOLATED" if hit.found else "no violation"
        say(
            out,
            f"  {hit.scenario}: {what} in {hit.schedules:,} schedules, about"
            f" {hit.summary.interleavings:,.0f} distinct interleavings, {hit.seconds:.1f} s",
        )
    for hit in hits:
        if hit.finding is not None:
            _show_finding(out, target, hit.finding)


def _show_finding(out: Console, target: Target, finding: store.Finding) -> None:
    result = cleanrace.run(
        target,
        finding.scenario,
        finding.tape,
        planted=finding.planted,
        judged=premises_module.JUDGED,
    )
    out.print()
    show_race(out, result, finding.scenario, target)


def _to_json(target: Target, hits: Sequence[premises_module.Hit]) -> dict[str, Any]:
    return {
        "target": {
            "name": target.name,
            "version": target.version,
            "sha256": target.sha256,
            "build_id": target.build_id,
            "notice": target.info.get("notice"),
        },
        "searches": [
            {
                "broken": hit.premise,
                "scenario": hit.scenario,
                "found": hit.found,
                "schedules": hit.schedules,
                "seconds": round(hit.seconds, 4),
                "hits_per_second_per_core": round(hit.rate),
            }
            for hit in hits
        ],
    }
