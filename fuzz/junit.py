# SPDX-License-Identifier: GPL-2.0-only
"""A campaign as JUnit XML, which most CI servers show.

Three suites: `corpus` has a test case per case of the corpus, `findings` one per finding, of which
only new ones fail, and `harness` one for cleanrace itself. What was not done is skipped, and says
why.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from fuzz import ci, store
from fuzz.campaign import Found, Report

COUNTS = {"tests": None, "failures": "failure", "errors": "error", "skipped": "skipped"}


def to_junit(report: Report) -> str:
    """The XML document."""
    root = Element("testsuites", name="cleanrace")
    _corpus(root, report)
    _findings(root, report)
    _harness(root, report)
    stamp = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    for number, suite in enumerate(root):
        _count(suite)
        # Nobody measured each of them: the last suite has the time of the campaign.
        last = number == len(root) - 1
        suite.set("time", f"{report.seconds if last else 0:.3f}")
        suite.set("timestamp", stamp)
    _count(root)
    root.set("time", f"{report.seconds:.3f}")
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def write_junit(path: Path, report: Report) -> None:
    """Write the document; OSError if the file cannot be written."""
    store.write(path, to_junit(report))


def _count(element: Element) -> None:
    for name, tag in COUNTS.items():
        count = sum(tag is None or case.find(tag) is not None for case in element.iter("testcase"))
        element.set(name, str(count))


def _suite(root: Element, report: Report, name: str) -> Element:
    suite = SubElement(root, "testsuite", name=f"cleanrace.{name}")
    properties = SubElement(suite, "properties")
    target = report.target
    for key, value in (
        ("target", target.name),
        ("build", target.build_id),
        ("sha256", target.sha256),
        ("seed", str(report.options.seed)),
    ):
        SubElement(properties, "property", name=key, value=value)
    return suite


def _case(suite: Element, classname: str, name: str, *, seconds: float = 0.0) -> Element:
    return SubElement(
        suite, "testcase", classname=classname, name=_clean(name), time=f"{seconds:.3f}"
    )


def _mark(case: Element, tag: str, message: str, text: str = "", **more: str) -> None:
    mark = SubElement(case, tag, message=_clean(message), **more)
    mark.text = _clean(text) or None


def _clean(text: str) -> str:
    """What XML can hold: paths and output of others may have anything."""
    return "".join(c if c in "\n\t" or (c.isprintable() and c <= "\ufffd") else "?" for c in text)


def _shown(path: Path) -> str:
    """A path from the checkout, or the last parts of one elsewhere."""
    try:
        return path.resolve().relative_to(store.ROOT).as_posix()
    except ValueError:
        return "/".join(path.parts[-2:])


def _corpus(root: Element, report: Report) -> None:
    suite = _suite(root, report, "corpus")
    for outcome in sorted(report.outcomes, key=lambda outcome: str(outcome["path"])):
        _outcome(suite, outcome, report)


def _outcome(suite: Element, outcome: dict[str, Any], report: Report) -> None:
    path = _shown(Path(outcome["path"]))
    case = _case(suite, "cleanrace." + path.rpartition("/")[0].replace("/", "."), path)
    if not outcome["applies"]:
        _mark(case, "skipped", f"it says nothing about {report.target.name}")
    elif outcome.get("skipped"):
        _mark(case, "skipped", "the time was too short to replay it")
    elif not outcome["met"] and not outcome.get("complete"):
        _mark(case, "skipped", "the time was too short to see what it expects")
    elif not outcome["met"]:
        _mark(
            case,
            "failure",
            f"expected {outcome['expect']} and did not get it",
            f"python fuzz/run.py replay {path} --target {report.target.name}",
            type="missed",
        )


def _findings(root: Element, report: Report) -> None:
    suite = _suite(root, report, "findings")
    sentences = report.target.table("verdicts")
    for found in (*report.new, *report.known):
        finding = found.finding
        case = _case(suite, "cleanrace.findings", finding.signature)
        sentence = sentences[finding.verdict][1]
        if found.new:
            text = _told(report, found)
            _mark(case, "failure", f"{finding.verdict}: {sentence}", text, type=finding.verdict)
        else:
            SubElement(case, "system-out").text = _clean(
                f"known: {sentence}\n{_told(report, found)}"
            )
    for hint in report.hints:
        case = _case(suite, "cleanrace.findings", f"{hint['verdict']} (thread engine)")
        _mark(case, "skipped", "met by the thread engine, not reproduced by the fiber engine")


def _told(report: Report, found: Found) -> str:
    """The scenario, who met the finding, and how to see it again."""
    lines = found.finding.scenario.to_text().splitlines()[1:]
    lines.append(f"found by {', '.join(found.methods)}")
    if found.unsaved is None:
        where = f"{_shown(found.path)} --target {report.target.name}"
        lines.append(f"python fuzz/run.py replay {where}")
    else:
        lines += ["not written to any file, so here is its text:", found.unsaved]
    return "\n".join(lines)


def _harness(root: Element, report: Report) -> None:
    suite = _suite(root, report, "harness")
    case = _case(suite, "cleanrace.harness", "campaign", seconds=report.seconds)
    if report.broken:
        _mark(case, "error", report.broken[0], "\n".join(report.broken), type="harness")
    elif report.interrupted:
        _mark(case, "skipped", "interrupted: the report has what was done so far")
    SubElement(case, "system-out").text = _clean(
        "\n".join([ci.summary(report), *(f"warning: {line}" for line in report.warnings)])
    )
