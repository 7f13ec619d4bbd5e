# SPDX-License-Identifier: GPL-2.0-only
"""A campaign as SARIF 2.1.0, which code scanning and editors read.

One result per finding, and in it one thread flow per thread: read in their execution order, they
are the schedule. Rules are the verdicts, a fingerprint is a finding's signature. Paths are
relative: `mm/cleancache.c` in the kernel's tree, `csrc/...` in ours. Names and numbers only, no
kernel text.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

import cleanrace
from cleanrace import Case, NotExpressible, Result, ScenarioError, Target
from fuzz import keeping, steps, store
from fuzz.campaign import Found, Report

VERSION = "2.1.0"
SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
FINGERPRINT = "cleanraceSignature/v1"
# How the build names the file under test and its header, and what else is on the kernel side.
UNIT, OURS = "kernel/", "csrc/kernel/"
REFERENCE = "csrc/reference/cleancache.c"


def to_sarif(report: Report) -> dict[str, Any]:
    """The log, as JSON values."""
    target = report.target
    listed = [*report.new, *report.known]
    sentences = target.table("verdicts")
    rules = sorted({found.finding.verdict for found in listed})
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "cleanrace",
                        "rules": [_rule(name, sentences[name][1]) for name in rules],
                    }
                },
                "automationDetails": {"id": f"cleanrace/{target.name}/"},
                "invocations": [_invocation(report)],
                "artifacts": [_unit(target)],
                "columnKind": "utf16CodeUnits",
                "results": [
                    _result(target, found, rules.index(found.finding.verdict), sentences)
                    for found in listed
                ],
                "properties": {
                    "target": target.name,
                    "build": target.build_id,
                    "schedules": report.summary.schedules,
                },
            }
        ],
    }


def write_sarif(path: Path, report: Report) -> None:
    """Write the log; OSError if the file cannot be written."""
    store.write(path, json.dumps(to_sarif(report), indent=1) + "\n")


def _rule(verdict: str, sentence: str) -> dict[str, Any]:
    return {
        "id": verdict,
        "shortDescription": {"text": _capital(sentence)},
        "fullDescription": {"text": _capital(sentence)},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [cleanrace.words.VERDICTS[verdict], "concurrency"]},
    }


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}."


def _invocation(report: Report) -> dict[str, Any]:
    """Whether the campaign itself went well: new findings are no failure of it."""
    return {
        "executionSuccessful": not report.broken,
        "exitCode": report.status,
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": line}} for line in report.broken
        ]
        + [{"level": "warning", "message": {"text": line}} for line in report.warnings],
    }


def _unit(target: Target) -> dict[str, Any]:
    """The file under test, which is in no repository of ours."""
    return {
        "location": {"uri": _shown(f"{UNIT}mm/cleancache.c", target)},
        "description": {"text": f"{target.name} {target.version}, build {target.build_id}"},
        "hashes": {"sha-256": target.sha256},
    }


def _result(target: Target, found: Found, rule: int, sentences: dict[str, Any]) -> dict[str, Any]:
    finding = found.finding
    text = _capital(sentences[finding.verdict][1])
    result: dict[str, Any] = {
        "ruleId": finding.verdict,
        "ruleIndex": rule,
        "kind": "fail",
        "level": "error" if found.new else "note",
        "baselineState": "new" if found.new else "unchanged",
        "message": {"text": f"{text} {finding.signature}"},
        "locations": [_file_location(_shown(f"{UNIT}mm/cleancache.c", target))],
        "partialFingerprints": {FINGERPRINT: _fingerprint(found)},
        "properties": {"methods": found.methods, "planted": list(finding.planted)},
    }
    path = _relative(found.path) if found.unsaved is None else None
    if path is not None:
        command = f"python fuzz/run.py replay {path}"
        if target.name != "linux-5.10":
            command += f" --target {target.name}"
        result["message"]["text"] += f". Replay: {command}"
        result["properties"]["replay"] = command
    run = witness(target, found)
    if run is not None:
        result |= _flows(target, found, run)
    return result


def _fingerprint(found: Found) -> str:
    planted = "+".join(found.finding.planted)
    return found.finding.signature + (f" planted {planted}" if planted else "")


def _relative(path: Path) -> str | None:
    """The path from the checkout; None for one elsewhere, whose place is nobody's business."""
    try:
        return path.resolve().relative_to(store.ROOT).as_posix()
    except ValueError:
        return None


def witness(target: Target, found: Found) -> Result | None:
    """A run with a full trace that shows the finding; None if this build cannot show it.

    From its tape, or, where that is of another build, by the switches of its file.
    """
    finding = found.finding
    options: dict[str, Any] = {
        "planted": finding.planted,
        "judged": (finding.verdict,),
        "steps_max": finding.steps_max,
    }
    for detect in (True, False):
        run = cleanrace.run(target, finding.scenario, finding.tape, detect=detect, **options)
        if finding.verdict in run.verdicts:
            return run
    try:
        run = keeping.replayed(target, Case.read(found.path))
    except (NotExpressible, ScenarioError, OSError):
        return None
    return run if finding.verdict in run.verdicts else None


def _flows(target: Target, found: Found, run: Result) -> dict[str, Any]:
    """The code flow of a run up to its violation, and where that is."""
    scenario = found.finding.scenario
    telling = {row.index: row for row in steps.steps(run, scenario, target) if not row.stuck}
    stuck = [row for row in steps.steps(run, scenario, target) if row.stuck]
    listed = steps.every(run, scenario, target)
    last = max((at for at, row in enumerate(listed) if row.role), default=len(listed) - 1)
    rows = [*listed[: last + 1], *stuck]
    places = _places(target, rows)
    threads: dict[int, list[dict[str, Any]]] = {}
    for order, (row, place) in enumerate(zip(rows, places, strict=True), 1):
        importance = "important" if row.index in telling else "unimportant"
        if row.role or row.stuck:
            importance = "essential"
        threads.setdefault(row.thread, []).append(
            {"location": place, "executionOrder": order, "importance": importance}
        )
    flows = [
        {"id": f"thread {thread}", "message": {"text": _does(found, thread)}, "locations": mine}
        for thread, mine in sorted(threads.items())
    ]
    flow = {"message": {"text": "The schedule, in execution order."}, "threadFlows": flows}
    result: dict[str, Any] = {"codeFlows": [flow]}
    by_role = {row.role: place for row, place in zip(rows, places, strict=True)}
    violation = by_role.get("violation", places[-1] if stuck else {})
    if "physicalLocation" in violation:
        result["locations"] = [violation]
    if "cause" in by_role:
        result["relatedLocations"] = [{"id": 1} | by_role["cause"]]
    return result


def _does(found: Found, thread: int) -> str:
    lines = [
        line for line in found.finding.scenario.to_text().splitlines() if line.startswith("thread ")
    ]
    return lines[thread].removeprefix("thread ")


def _places(target: Target, rows: Sequence[steps.Step]) -> list[dict[str, Any]]:
    """Where each step was, and what it did.

    What the backend does, and a thread that waits for ever, is where the thread was last.
    """
    places: list[dict[str, Any]] = []
    last: dict[int, dict[str, Any]] = {}
    for row in rows:
        function, _, line = row.where.rpartition(":")
        file = files(target).get(function)
        place: dict[str, Any] = last.get(row.thread, {})
        if file is not None and line.isdigit() and int(line) > 0:
            place = _file_location(file)
            place["physicalLocation"]["region"] = {"startLine": int(line)}
            place["logicalLocations"] = [{"fullyQualifiedName": function, "kind": "function"}]
            last[row.thread] = place
        held = f" [holds {', '.join(row.held)}]" if row.held else ""
        inside = f"{row.where}: " if row.where and not function else ""
        text = row.text or row.operation or "goes on"
        places.append(place | {"message": {"text": f"{inside}{text}{held}"}})
    return places


def _file_location(file: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": file}}}


@cache
def files(target: Target) -> dict[str, str]:
    """Function -> the file that defines it, of all the functions on the kernel side."""
    with target.names.module.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        found = {}
        for unit in dwarf.iter_CUs():
            top = unit.get_top_DIE()
            name = _text(top, "DW_AT_name").removeprefix("./")
            if not name.startswith((UNIT, OURS)):
                continue
            program = dwarf.line_program_for_CU(unit)
            for die in top.iter_children():
                if die.tag != "DW_TAG_subprogram" or "DW_AT_decl_file" not in die.attributes:
                    continue
                number = die.attributes["DW_AT_decl_file"].value
                path = _shown(_path(program, number), target)
                if "DW_AT_inline" in die.attributes or "DW_AT_low_pc" in die.attributes:
                    found[_text(die, "DW_AT_name")] = path
        return {function: path for function, path in found.items() if not path.startswith("/")}


def _text(die: Any, attribute: str) -> str:
    value = die.attributes.get(attribute)
    return value.value.decode() if value is not None else ""


def _path(program: Any, number: int) -> str:
    """File `number` of a line program; before DWARF 5 they and their folders count from 1."""
    header = program.header
    old = header["version"] < 5
    entry = header["file_entry"][number - 1 if old else number]
    folder = entry["dir_index"] - 1 if old else entry["dir_index"]
    base = header["include_directory"][folder].decode() if folder >= 0 else "."
    return (Path(base) / entry["name"].decode()).as_posix()


def _shown(path: str, target: Target) -> str:
    """A file as its own project calls it."""
    if not path.startswith(UNIT):
        return path
    return REFERENCE if store.kind(target) == "reference" else path.removeprefix(UNIT)
