# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign says at its end: a table for people, the same as JSON for programs.

"No finding" never stands alone: what was executed stands beside it, and what was never reached.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cleanrace import Target
from fuzz import ci, store, verdict
from fuzz.campaign import Found, Report, Row

FORMAT = 1
# The marks that say whether a registration raced with anything; JSON has them all.
REGISTRATION = ("registration-met", "registration-waited", "registration-gave-pool")
WIDE = 70  # columns from which on the table is shown whole


def identity(target: Target) -> dict[str, Any]:
    """Which target this is."""
    return {
        "name": target.name,
        "version": target.version,
        "sha256": target.sha256,
        "build_id": target.build_id,
        "compiler": target.info["compiler"],
    }


def to_json(report: Report, *, command: list[str]) -> dict[str, Any]:
    """Everything the table says, as JSON values."""
    target, options = report.target, report.options
    planted = report.planted
    return {
        "format": FORMAT,
        "command": command,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(report.seconds, 2),
        "interrupted": report.interrupted,
        "status": report.status,
        "target": {
            **identity(target),
            "kind": target.info["kind"],
            "notice": target.info.get("notice"),
        },
        "time": options.seconds,
        "jobs": options.jobs,
        "seed": options.seed,
        "engine": options.engine,
        "broken": list(options.planted),
        "planted": None
        if planted is None
        else {
            "name": planted.premise,
            "found": planted.found,
            "seconds": round(planted.seconds, 4),
            "schedules": planted.schedules,
        },
        "schedules_per_second_per_core": round(report.speed),
        "schedules": report.summary.schedules,
        "interleavings": round(report.summary.interleavings),
        "coverage": {
            "edges_seen": len(report.edges),
            "edges_total": target.info["edges"],
            "pairs_seen": report.pairs,
        },
        "methods": [_row(row) for row in report.rows.values()],
        "replay": {
            "cases": len(_applied(report)),
            "met": sum(bool(outcome.get("met")) for outcome in _applied(report)),
            "missed": _missed(report),
            "skipped": report.skipped,
        },
        "proof": {
            "schedules": report.own.schedules,
            "violating_runs": dict(sorted(report.own.violations.items())),
            "schedules_without_remount": report.own.plain,
            "violating_runs_without_remount": dict(sorted(report.own.unremounted.items())),
            "verdict": verdict.proof(report),
        },
        "marks": dict(sorted(report.summary.marks.items())),
        "never_happened": report.vacuous,
        "limits": report.limits,
        "findings": [_found(found) for found in (*report.new, *report.known)],
        "unreproduced": report.hints,
        "absent": report.absent,
        "failures": report.broken,
        "next": next_commands(report),
    }


def write_json(path: Path, report: Report, *, command: list[str]) -> None:
    """Write the report; OSError if the file cannot be written."""
    store.write(path, json.dumps(to_json(report, command=command), indent=2) + "\n")


def _row(row: Row) -> dict[str, Any]:
    registers = any(row.summary.registers)
    return {
        "method": row.method,
        "schedules": row.summary.schedules,
        "inputs": row.inputs,
        "policies": row.policies,
        "seconds": round(row.seconds, 2),
        "schedules_per_second": round(_rate(row)),
        "interleavings": round(row.summary.interleavings) if registers else None,
        "findings_new": row.new,
        "findings_known": row.known,
        "violating_runs": dict(sorted(row.summary.violations.items())),
    }


def _found(found: Found) -> dict[str, Any]:
    finding = found.finding
    return {
        "verdict": finding.verdict,
        "signature": finding.signature,
        "new": found.new,
        "path": str(found.path) if found.unsaved is None else None,
        "unsaved": found.unsaved,
        "minimised": found.minimised,
        "methods": found.methods,
        "threads": len(finding.scenario.threads),
        "operations": sum(map(len, finding.scenario.threads)),
        "switches": sum(map(bool, finding.tape)),
    }


def _rate(row: Row) -> float:
    return row.summary.schedules / row.seconds if row.seconds else 0.0


def _applied(report: Report) -> list[dict[str, Any]]:
    return [
        outcome for outcome in report.outcomes if outcome["applies"] and not outcome.get("skipped")
    ]


def _missed(report: Report) -> list[str]:
    return [
        outcome["path"]
        for outcome in _applied(report)
        if outcome.get("complete") and not outcome["met"]
    ]


def next_commands(report: Report) -> list[str]:
    """What to type next."""
    name = report.target.name
    which = "" if name == "linux-5.10" else f" --target {name}"
    saved = [found.path for found in report.new if found.unsaved is None]
    commands = [f"python fuzz/run.py replay {store.shown(path)}{which}" for path in saved[:3]]
    if not commands and report.known:
        commands.append(f"python fuzz/run.py replay {store.shown(report.known[0].path)}{which}")
    commands.append(f"python fuzz/run.py premises{which}")
    seed = report.options.seed + 1
    planted = "".join(f" --planted {bug}" for bug in report.options.planted)
    commands.append(f"python fuzz/run.py --time 600 --seed {seed}{which}{planted}")
    return commands


def print_report(console: Console, report: Report) -> None:
    """The summary for people; at most as wide as the terminal."""
    target = report.target
    notice(console, target.info)
    say(
        console,
        f"{target.name} {target.version}, sha256 {target.sha256[:12]}, build"
        f" {target.build_id}, seed {report.options.seed}",
    )
    if report.planted is not None and report.planted.found:
        say(
            console,
            f"planted bug {report.planted.premise}: found after"
            f" {report.planted.schedules:,} schedules, {report.planted.seconds:.3f} s",
        )
    if report.rows:
        console.print(_table(report, width=console.width))
        say(
            console,
            "(new, known: distinct findings this method met; seconds: summed over processes;"
            " inputs: scenarios, or a fuzzer's inputs)",
        )
    if _applied(report):
        met = sum(bool(outcome.get("met")) for outcome in _applied(report))
        say(console, f"corpus: {met} of {len(_applied(report))} expectations met")
    for path in _missed(report):
        say(console, f"not as expected: {store.shown(Path(path))}")
    if report.summary.schedules:
        _executed(console, report)
    _warnings(console, report)
    if report.interrupted:
        say(console, "interrupted: this is what was done so far", style="bold yellow")
    for line in report.broken:
        say(console, f"HARNESS FAILED: {line}", style="bold red")
    _unsaved(console, report)
    _verdict(console, report)
    say(console, "next:")
    for command in next_commands(report):
        say(console, f"  {command}")
    console.print()
    say(console, ci.summary(report))


def _warnings(console: Console, report: Report) -> None:
    """What makes this campaign weaker than it looks."""
    for line in report.warnings:
        say(console, f"WARNING: {line}", style="yellow")
    for method in report.absent:
        say(console, f"WARNING: {method} is not installed here and did not run", style="yellow")
    if report.limits:
        say(
            console,
            f"WARNING: {report.limits:,} runs were too large for our tables and judged"
            " only up to there",
            style="bold yellow",
        )


def _executed(console: Console, report: Report) -> None:
    """How much was executed, and what never happened in it."""
    target, total = report.target, report.summary
    say(
        console,
        f"distinct interleavings: about {total.interleavings:,.0f}; native coverage:"
        f" {len(report.edges)} of {target.info['edges']} edges, {report.pairs} pairs",
    )
    for row in report.rows.values():
        if row.policies:
            shares = ", ".join(f"{name} {count:,}" for name, count in row.policies.items())
            say(console, f"{row.method}, schedules by policy: {shares}")
    say(console, f"one core: {report.speed:,.0f} schedules/s of register | mount | mount")
    marks = ", ".join(
        f"{name.removeprefix('registration-')} {total.marks.get(name, 0):,}"
        for name in REGISTRATION
    )
    say(console, f"registration, in so many schedules: {marks}")
    for name in report.vacuous:
        sentence = target.table("marks")[name][0]
        say(console, f"WARNING: never happened: {sentence}", style="bold yellow")


def _table(report: Report, *, width: int) -> Table:
    """One row per method; a narrow terminal gets the columns that matter most."""
    titles = ("method", "schedules", "new", "known", "per second", "seconds", "inputs")
    shown = titles if width >= WIDE else titles[:4]
    table = Table(show_edge=False, pad_edge=False)
    for title in shown:
        table.add_column(title, justify="left" if title == "method" else "right", no_wrap=True)
    for row in report.rows.values():
        cells = (
            row.method,
            f"{row.summary.schedules:,}",
            str(row.new),
            str(row.known),
            f"{_rate(row):,.0f}",
            f"{row.seconds:.1f}",
            f"{row.inputs:,}",
        )
        table.add_row(*cells[: len(shown)])
    return table


def _unsaved(console: Console, report: Report) -> None:
    """The text of what could not be written, so that nothing is lost."""
    texts = [found.unsaved for found in report.new] + [hint.get("text") for hint in report.hints]
    for text in texts:
        if text is not None:
            say(console, "not written to any file, so here is its text:", style="bold red")
            console.print(Text(text), soft_wrap=True)


def _verdict(console: Console, report: Report) -> None:
    """The last word: the proof's conclusions, then the findings, with what was executed."""
    console.print()
    for line in verdict.proof(report):
        say(console, line, style="bold red" if "VIOLATED" in line else "bold")
    say(console, verdict.heading(report), style="bold red" if report.new else "bold")
    for found, line in verdict.findings(report):
        say(console, line, style="red" if found.new else "")
        if found.new and found.unsaved is None:
            say(console, f"    {store.shown(found.path)}")
    for hint in report.hints:
        where = "not written" if hint["path"] is None else store.shown(Path(hint["path"]))
        say(console, f"  unreproduced (thread engine): {hint['verdict']}, {where}")
    console.print()


def notice(console: Console, info: dict[str, Any]) -> None:
    """Say loudly that this is not the kernel's file, and what the build warned of."""
    if info.get("notice"):
        say(console, f"NOTICE: {info['notice']}", style="bold white on red")
    if info.get("warning"):
        say(console, f"warning: {info['warning']}", style="yellow")


def say(console: Console, line: str, *, style: str = "") -> None:
    """One paragraph, wrapped to the terminal; nothing in it is markup."""
    console.print(Text(line, style=style), soft_wrap=not console.is_terminal)
