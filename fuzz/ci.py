# SPDX-License-Identifier: GPL-2.0-only
"""A campaign in one line, for logs that nobody reads to their end."""

from fuzz.campaign import Report


def summary(report: Report) -> str:
    """What was found, in what, and what must not be overlooked."""
    target = report.target
    name = f"{target.name} build {target.build_id}"
    if report.options.planted:
        name += f" with planted bug {', '.join(report.options.planted)}"
    known = len(report.known)
    line = (
        f"cleanrace: {name}: {len(report.new)} new, {known} known finding{'s' * (known != 1)} in"
        f" {report.summary.schedules:,} schedules in {report.seconds:.0f} s"
    )
    if report.skipped:
        line += f"; {report.skipped} cases not replayed"
    if report.interrupted:
        line += "; interrupted"
    if report.broken:
        line += f"; HARNESS FAILED ({len(report.broken)})"
    return line
