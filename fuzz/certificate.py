# SPDX-License-Identifier: GPL-2.0-only
"""Certificates: what `prove` proved, for anyone to check.

A certificate is JSON with no time and no name of a machine in it: whoever repeats it with the same
build gets the same bytes. `sample` and `differences` check one by exploring some of its scenarios
again, chosen by hash so that nobody chooses them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import cleanrace
from cleanrace import Case, Target, schedule
from fuzz import keeping, racetable, scenarios, store
from fuzz.prove import Counterexample, Proof
from fuzz.report import identity, say

FORMAT = 1
COLUMNS = ("executions", "classes", "states", "blocked")  # of a scenario, after its text
UNPROVED = frozenset({"none", "harness", "race"})  # groups of verdicts that are no properties

RESTS_ON = """
The file is compiled as it is, with this compiler and these flags; another compiler may make other
code of it.

Super blocks, inodes, page cache and file systems are models (csrc/kernel/). Premises a and b of the
proof hold by construction of kernel/super.c, which is tested against fs/super.c's contract;
premise c holds by construction of kernel/filesystem.c, premise d by the order of the file itself.

Memory is sequentially consistent: reorderings that only weak memory allows were not explored.

Nothing is said about scenarios beyond the bound, whose exact meaning is at the head of
fuzz/scenarios.py.

A scenario that another one covers (each of its threads is the beginning of one of the other's)
holds with it, since a verdict once reached stays.

Decision points are synchronisation (locks, waits, marked accesses, atomics, begin and end of
operations) and the accesses listed under promoted, which none of that orders. A step from one point
to the next touches nothing plainly that another thread touches in no order with it; this is checked
in every execution, and where it fails the scenario begins anew with more points.

One execution per happens-before class was run (source sets with sleep sets); tests compare this
with plain enumeration.

Of executions that differ only in which of several interchangeable threads is which, one was run:
the others are the same under other names (csrc/engine/turns.h), if the file takes pool ids and
addresses as they come. Counts are of what was run.

Sections of a spinlock commute unless what they touch conflicts; a field that is touched without its
lock is the verdict unguarded.

The backend is correct and takes one lock of its own per callback.

Data races are listed; they are no violated property.
"""


def certificate(proof: Proof, files: dict[str, Path]) -> dict[str, Any]:
    """Everything that was proved; `files` are those of the counterexamples."""
    target, results = proof.target, proof.results
    promoted = sorted({pc for result in results for pc in result["promoted"]})
    target.names.load({*promoted, *(side[0] for race in proof.races for side in race[:2])})
    marks = [mark for result in results for mark in result["marks"]]
    bound = scenarios.name(scenarios.parse(proof.options.bound))
    every = " --every" if proof.options.every else ""
    totals = {name: sum(result[name] for result in results) for name in COLUMNS}
    return {
        "format": FORMAT,
        "again": f"python fuzz/run.py prove --target {target.name} --bound {bound}{every}",
        "target": identity(target) | {"flags": target.info["flags"]},
        "bound": {
            "rows": bound,
            "columns": "registrations/mounts/unmounts/page operations",
            "scenarios": proof.within,
            "explored": proof.wanted,
            "every": proof.options.every,
        },
        "rests_on": [" ".join(part.split()) for part in RESTS_ON.split("\n\n")],
        "totals": totals,
        "approximate": any(result["approximate"] for result in results),
        "met": {mark: marks.count(mark) for mark in sorted(target.table("marks"))},
        "properties": {
            name: _property(proof, name, files)
            for name, (group, _) in target.table("verdicts").items()
            if group not in UNPROVED
        },
        "promoted": [target.names.function_line(pc) for pc in promoted],
        "races": sorted({_race(target, race) for race in proof.races}),
        "columns": ["scenario", *COLUMNS, "violations"],
        "scenarios": [
            [result["scenario"], *(result[name] for name in COLUMNS), result["violations"]]
            for result in results
        ],
    }


def _property(proof: Proof, verdict: str, files: dict[str, Path]) -> dict[str, Any]:
    violated = proof.violated(verdict)
    found = {
        "violation": proof.target.table("verdicts")[verdict][1],
        "holds": not violated,
        "scenarios": len(violated),
        "executions": sum(result["violations"][verdict] for result in violated),
    }
    example = proof.counterexamples.get(verdict)
    if example is None:
        return found
    return found | {
        "counterexample": {
            "scenario": scenarios.line(example.scenario),
            "preemptions": example.simplest.preemptions,
            "tape": list(example.simplest.tape),
            "file": files[verdict].name,
        }
    }


def _race(target: Target, race: list[Any]) -> str:
    first, second, documented = race
    sides = " / ".join(
        f"{target.names.function_line(pc)} {racetable.VERBS.get(kind, kind)}"
        for pc, kind in (first, second)
    )
    return f"{sides} (documented)" if documented else sides


def text(found: dict[str, Any]) -> str:
    """The certificate as a file: one line per scenario."""
    head = json.dumps(
        {name: value for name, value in found.items() if name != "scenarios"}, indent=1
    )
    rows = ",\n  ".join(json.dumps(row) for row in found["scenarios"])
    return f'{head[:-2]},\n "scenarios": [\n  {rows}\n ]\n}}\n'


def sample(found: dict[str, Any], count: int) -> list[list[Any]]:
    """So many of its scenarios, chosen by their hash."""

    def key(row: list[Any]) -> str:
        return hashlib.sha256(row[0].encode()).hexdigest()

    return sorted(found["scenarios"], key=key)[:count]


def differences(target: Target, rows: list[list[Any]]) -> list[str]:
    """Where exploring again says something else than these rows; a line each."""
    lines = []
    for row in rows:
        now = cleanrace.explore(target, scenarios.from_line(row[0]), symmetry=True)
        again = [*(getattr(now, name) for name in COLUMNS), dict(sorted(now.violations.items()))]
        if again != row[1:]:
            lines.append(f"{row[0]}: certified {row[1:]}, now {again}")
    return lines


def keep(proof: Proof, findings: Path) -> dict[str, Path]:
    """Save the counterexamples as scenario files, each under its finding's signature."""
    files = {}
    for verdict, example in proof.counterexamples.items():
        case = case_of(proof.target, example)
        name = store.file_name(store.from_case(case))
        files[verdict] = store.folder_of(findings, proof.target) / name
        store.keep(files[verdict], case)
    return files


def case_of(target: Target, example: Counterexample) -> Case:
    """The scenario file that keeps a counterexample."""
    scenario, verdict = example.scenario, example.verdict
    finding = store.examine(target, scenario, verdict, tape=example.simplest.tape)
    how = schedule.How(judged=(verdict,))
    switches = schedule.switches(target, scenario, finding.tape, how)
    return store.to_case(target, finding, switches=switches)


def _rate(proof: Proof, executions: int) -> str:
    """Of a run from the beginning: one that was resumed had some of its executions before."""
    if proof.resumed:
        return f", and what came before: {proof.resumed:,} scenarios were done already"
    return f", {executions / proof.seconds:,.0f} executions/s" if proof.seconds else ""


def print_proof(out: Console, proof: Proof, files: dict[str, Path]) -> None:
    """The table of properties, and what was executed."""
    target, results = proof.target, proof.results
    totals = {name: sum(result[name] for result in results) for name in COLUMNS}
    bound = scenarios.name(scenarios.parse(proof.options.bound))
    say(out, f"on {target.name} {target.version}, build {target.build_id}")
    covers = "" if proof.options.every else ", which cover the others"
    say(out, f"  bound        {bound} (registrations/mounts/unmounts/page operations)")
    say(out, f"  scenarios    {proof.within:,} up to symmetry; {proof.wanted:,} to explore{covers}")
    say(out, f"  exhausted    {len(results):,}")
    say(out, f"  executions   {totals['executions']:,}; {totals['blocked']:,} more were given up")
    say(out, f"  classes      {totals['classes']:,} distinct within a scenario, up to symmetry")
    say(out, f"  time         {proof.seconds:.1f} s{_rate(proof, totals['executions'])}")
    vacuous = [
        mark for mark in target.table("marks") if not any(mark in r["marks"] for r in results)
    ]
    if vacuous and results:
        say(out, f"  never met    {', '.join(vacuous)}", style="yellow")
    out.print()
    if results:
        _print_properties(out, proof, files)
    for line in proof.broken:
        say(out, f"HARNESS FAILED: {line}", style="bold red")


def _print_properties(out: Console, proof: Proof, files: dict[str, Path]) -> None:
    known, _ = keeping.known(proof.target)
    held = "holds" if proof.done else "held so far"
    for name, (group, _) in proof.target.table("verdicts").items():
        if group in UNPROVED:
            continue
        violated = proof.violated(name)
        if not violated:
            say(out, f"  {name:18}{held}")
            continue
        say(out, f"  {name:18}VIOLATED in {len(violated):,} scenarios", style="bold red")
        example = proof.counterexamples.get(name)
        if example is None:
            continue
        case = case_of(proof.target, example)
        say(out, f"  {'':18}smallest: {scenarios.line(example.scenario)}")
        say(out, f"  {'':18}preemptions: {example.simplest.preemptions}")
        say(out, f"  {'':18}replay: python fuzz/run.py replay {store.shown(files[name])}")
        found = known.get(case.found["signature"])
        if found is not None:
            say(out, f"  {'':18}known: {store.shown(found)}")
