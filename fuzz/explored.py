# SPDX-License-Identifier: GPL-2.0-only
"""What `explore` says about an exploration: on the terminal, as JSON, and in its exit status."""

import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import build
import cleanrace
from cleanrace import Case, Target, symmetry, words
from fuzz import keeping, minimise, racetable, replaying, store
from fuzz.explore import Options, Outcome
from fuzz.report import identity, say

RACES_SHOWN = 20


class Kept(NamedTuple):
    """Where a tape is kept, and the file of the corpus that is about the same fault."""

    path: Path
    known: Path | None


def report(
    out: Console,
    target: Target,
    outcome: Outcome,
    *,
    path: Path,
    case: Case,
    options: Options,
    json_file: Path | None = None,
) -> int:
    """Print what there is, and return the exit status."""
    if not outcome.counts["executions"] and not outcome.interrupted:
        outcome.broken = outcome.broken or "nothing was executed"
    title = f": {case.title}" if case.title else ""
    say(out, f"{store.shown(path)}{title}")
    planted = f", planted bug {', '.join(sorted(case.broken))}" if case.broken else ""
    say(out, f"on {target.name} {target.version}, build {target.build_id}{planted}")
    print_outcome(out, case, options, outcome)
    files = {
        verdict: keep(target, case, verdict, tape, options.findings)
        for verdict, (_, tape) in sorted(outcome.simplest.items())
        if verdict not in store.LIMITS
    }
    show_violations(out, target, case, outcome, files)
    if not outcome.done:
        say(out, where_it_stopped(target, path, options, outcome), style="bold yellow")
    if json_file is not None:
        found = {"file": str(path), **to_json(target, case, options, outcome, files)}
        store.write(json_file, json.dumps(found, indent=2) + "\n")
    return status(outcome)


def status(outcome: Outcome) -> int:
    """The exit status."""
    if outcome.broken or store.LIMITS & outcome.violations.keys():
        return 3
    if outcome.violations:
        return 1
    if outcome.interrupted:
        return 130
    return 0 if outcome.done else 3


def explored_images(case: Case, options: Options) -> int:
    """Of how many images of an execution one was explored."""
    reduced = options.symmetry and options.policy == "dpor"
    return symmetry.images(case.scenario, planted=case.broken) if reduced else 1


def print_outcome(out: Console, case: Case, options: Options, outcome: Outcome) -> None:
    """The counts, and what they are counts of."""
    counts = outcome.counts
    if options.points == "all":
        points = "every access"
    else:
        points = f"synchronisation and {len(outcome.promoted)} accesses that race"
    rate = counts["executions"] / outcome.worked if outcome.worked else 0.0
    what = "one per happens-before class" if options.policy == "dpor" else "one per interleaving"
    classes = f"at most {counts['classes']:,}"
    if outcome.classes is not None:
        classes = f"{outcome.classes:,}"
    rows = [
        ("executions", f"{counts['executions']:,} complete ones ({what})"),
        ("given up", f"{counts['blocked']:,}, since all that could go on was explored elsewhere"),
        ("classes", f"{classes} distinct happens-before classes"),
        ("final states", f"{counts['states']:,} distinct ones"),
        ("bound", reached(options, outcome)),
        ("points", points),
        ("steps", f"{counts['depth_max']:,} in the longest execution"),
        ("time", f"{outcome.seconds:.2f} s; {rate:,.0f} executions/s per core"),
    ]
    images = explored_images(case, options)
    if images > 1:
        families = [", ".join(map(str, some)) for some in symmetry.families(case.scenario)]
        alike = f"one of {images} images of an execution; alike are threads "
        rows.insert(3, ("symmetry", alike + " and ".join(families)))
    for name, value in rows:
        say(out, f"  {name:13}{value}")
    if outcome.approximate:
        say(out, "  a table was too small: the counts are lower bounds", style="bold yellow")
    if outcome.broken:
        say(out, f"HARNESS FAILED: {outcome.broken}", style="bold red")


def reached(options: Options, outcome: Outcome) -> str:
    """Which part of all interleavings was explored."""
    most = f"{outcome.counts['preemptions_max']} preemptions at most in one"
    if not outcome.done:
        return f"not exhausted; {most}"
    if options.bound is not None:
        return f"all interleavings with at most {options.bound} preemptions"
    return f"all interleavings ({most})"


def show_violations(
    out: Console, target: Target, case: Case, outcome: Outcome, files: dict[str, Kept]
) -> None:
    """Each verdict with the race table of its simplest execution; races apart."""
    sentences = target.table("verdicts")
    total = outcome.counts["executions"]
    for verdict, count in sorted(outcome.violations.items()):
        preemptions, tape = outcome.simplest[verdict]
        out.print()
        say(
            out,
            f"{verdict}: in {count:,} of {total:,} executions, the simplest with"
            f" {preemptions} preemptions",
            style="bold red",
        )
        if verdict in store.LIMITS:
            say(out, f"{sentences[verdict][1]}: report it", style="bold red")
            continue
        result = cleanrace.run(target, case.scenario, tape, judged=(verdict,), **_options(case))
        replaying.show_race(out, result, case.scenario, target)
        path, known = files[verdict]
        say(out, f"to see it again: python fuzz/run.py replay {store.shown(path)}")
        if known is not None:
            say(out, f"known: {store.shown(known)}")
    if not outcome.violations and outcome.done:
        what = "every judged property held in all of them"
        say(out, f"no violation: {what}", style="bold green")
    elif not outcome.violations:
        say(out, "no violation so far")
    print_races(out, target, outcome.races)


def print_races(out: Console, target: Target, races: list[dict[str, Any]]) -> None:
    """Pairs of accesses in no order: no violation by themselves."""
    if not races:
        return
    names = [race_to_names(target, race) for race in races]
    fresh = [race for race in names if not race["documented"]]
    out.print()
    say(out, f"data races: {len(fresh)}, and {len(names) - len(fresh)} that are documented")
    for race in fresh[:RACES_SHOWN]:
        first, second = race["accesses"]
        say(out, f"  {first} / {second} on {race['object']}")
    if len(fresh) > RACES_SHOWN:
        say(out, f"  and {len(fresh) - RACES_SHOWN} more, see 'python fuzz/run.py races'")


def race_to_names(target: Target, race: dict[str, Any]) -> dict[str, Any]:
    """A race as people read it."""
    target.names.load(race["pc"])
    return {
        "accesses": [
            f"{target.names.function_line(pc)} {racetable.VERBS.get(kind, kind)}"
            for pc, kind in zip(race["pc"], race["kind"], strict=True)
        ],
        "object": target.names.object(race["object"]),
        "documented": race["documented"],
    }


def _options(case: Case) -> dict[str, Any]:
    planted = tuple(name for name in words.PLANTED if name in case.broken)
    return {"planted": planted, "steps_max": case.steps_max}


def keep(target: Target, case: Case, verdict: str, tape: bytes, findings: Path) -> Kept:
    """Save the simplest execution with a verdict."""
    finding = store.examine(target, case.scenario, verdict, tape=tape, **_options(case))
    minimal = minimise.Minimiser(target).shorten(finding)
    finding, switches = minimal.finding, minimal.switches
    path = store.folder_of(findings, target, case.broken) / store.file_name(finding)
    store.keep(path, store.to_case(target, finding, switches=switches))
    known, _ = keeping.known(target, planted=tuple(case.broken))
    return Kept(path, known.get(finding.signature))


def where_it_stopped(target: Target, path: Path, options: Options, outcome: Outcome) -> str:
    """How to go on."""
    why = "interrupted" if outcome.interrupted else "the time is over"
    if outcome.broken:
        why = "failed"
    if outcome.broken and not outcome.kept:
        return why
    if not outcome.kept:
        return f"{why}; there is no checkpoint, since the exploration is too large for one"
    more = ["--resume"]
    if target.name != build.DEFAULT:
        more.append(f"--target {target.name}")
    if options.policy != "dpor":
        more.append(f"--policy {options.policy}")
    if options.bound is not None:
        more.append(f"--bound {options.bound}")
    if options.points != "sync":
        more.append(f"--points {options.points}")
    if not options.symmetry:
        more.append("--no-symmetry")
    if options.jobs != 1:
        more.append(f"--jobs {options.jobs}")
    file = shlex.quote(store.shown(path))
    return f"{why}; to go on: python fuzz/run.py explore {file} {' '.join(more)}"


def to_json(
    target: Target, case: Case, options: Options, outcome: Outcome, files: dict[str, Kept]
) -> dict[str, Any]:
    """Everything as JSON."""
    target.names.load(outcome.promoted)
    return {
        "target": identity(target),
        "scenario": case.scenario.to_text(),
        "planted": sorted(case.broken),
        "policy": options.policy,
        "preemptions_bound": options.bound,
        "points": options.points,
        "symmetry": explored_images(case, options),
        "done": outcome.done,
        **outcome.counts,
        "classes": outcome.classes,
        "approximate": outcome.approximate,
        "promoted": [target.names.function_line(pc) for pc in outcome.promoted],
        "marks": outcome.marks,
        "violations": {
            verdict: {
                "executions": count,
                "preemptions": outcome.simplest[verdict][0],
                "tape": list(outcome.simplest[verdict][1]),
                "replay": str(files[verdict].path) if verdict in files else None,
            }
            for verdict, count in sorted(outcome.violations.items())
        },
        "races": [race_to_names(target, race) for race in outcome.races],
        "seconds": round(outcome.seconds, 3),
        "failed": outcome.broken or None,
    }
