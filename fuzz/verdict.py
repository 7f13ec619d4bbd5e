# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of a campaign in words: what the mail's proof concludes, and whether it held.

Nothing stands without what was executed: a property that was not violated held in so many
schedules of random search, and the space was not exhausted.
"""

from fuzz import store
from fuzz.campaign import Found, Report

# The proof's two conclusions.
LEAST, MOST = "init-missing", "init-twice"
MET = "registration-met"


def proof(report: Report) -> list[str]:
    """Whether init_fs was called at least once and at most once, in what was executed."""
    own = report.own
    if not own.schedules:
        return ["No verdict about the proof: nothing was executed."]
    lines = []
    if report.broken:
        lines.append("The harness failed, so what follows is worth little.")
    name = report.target.name
    if report.options.planted:
        name += f" with planted bug {', '.join(report.options.planted)}"
    lines.append(f"The proof, in {own.schedules:,} schedules of {name}:")
    missed = own.violations.get(LEAST, 0)
    if missed:
        lines.append(f"  init at least once: VIOLATED in {missed:,} schedules ({LEAST})")
    elif not report.summary.marks.get(MET):
        lines.append("  init at least once: not tried, no registration met a mounted super block")
    else:
        lines.append(f"  init at least once: held, no super block was missed ({LEAST} 0)")
    lines.append(f"  init at most once: {_most(report)}")
    return lines


def _most(report: Report) -> str:
    own = report.own
    twice, unremounted = own.violations.get(MOST, 0), own.unremounted.get(MOST, 0)
    if not twice:
        return f"held ({MOST} 0)"
    if not unremounted:
        return (
            f"held in {own.plain:,} schedules without remount; {MOST} in {twice:,}"
            " schedules, each of a scenario that remounts"
        )
    return (
        f"VIOLATED in {twice:,} schedules ({MOST}),"
        f" {unremounted:,} of them without a remount operation"
    )


def findings(report: Report) -> list[tuple[Found, str]]:
    """Each finding, new ones first, with its line: the signature and what the verdict means."""
    sentences = report.target.table("verdicts")
    lines = []
    for found in (*report.new, *report.known):
        finding = found.finding
        kind = "new" if found.new else "known"
        more = " (not fully minimised)" if found.new and not found.minimised else ""
        sentence = sentences[finding.verdict][1]
        lines.append((found, f"  {kind}: {finding.signature}{more}: {sentence}"))
    return lines


def heading(report: Report) -> str:
    """How many findings, in how much, and what of the plan was left out."""
    if not report.new and not report.known:
        what = "no finding"
    else:
        what = f"findings: {len(report.new)} new, {len(report.known)} known,"
        if not report.new and not report.options.planted and store.kind(report.target) == "linux":
            what = f"findings: 0 new, {len(report.known)} known faults of this file (README.md),"
    parts = [f"{what} in {report.summary.schedules:,} schedules in {report.seconds:.1f} s"]
    if report.skipped:
        parts.append(f"{report.skipped} cases of the corpus were not replayed for lack of time")
    if report.interrupted:
        parts.append("the campaign was interrupted")
    parts.append("the space was not exhausted")
    return "; ".join(parts)
