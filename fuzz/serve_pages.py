# SPDX-License-Identifier: GPL-2.0-only
"""What the dashboard's pages say: from the statistics, the shelf and the certificates, read anew.

Nothing here writes. All text is escaped by the templates (fuzz/templates/), and pictures of the
shelf are shown as images, in which nothing runs.
"""

import base64
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fuzz import page, serve_charts, serve_folder, shelf, store
from fuzz.looks import printable
from fuzz.serve_db import EVENTS, Reader
from fuzz.serve_folder import Layout

TEMPLATES = store.ROOT / "fuzz" / "templates"
CERTIFICATES = store.ROOT / "corpus" / "certificates"
CERTIFICATE_MAX = 32 << 20
PAGE_MAX = 8 << 20
STALE_SECONDS = 15.0  # after which a service that says nothing was killed
# What HyperLogLog is off by; a smaller growth says nothing.
HLL_ERROR = 0.016
MODEL = "by construction of the model {}, which is tested against its contract"
PREMISES = (
    (
        "a",
        "iterate_supers skips only super blocks that have begun ->kill_sb",
        MODEL.format("csrc/kernel/super.c"),
    ),
    (
        "b",
        "where iterate_supers meets one whose ->mount has not ended, it waits for that",
        MODEL.format("csrc/kernel/super.c"),
    ),
    (
        "c",
        "mounting calls cleancache_init_fs, and ->kill_sb calls cleancache_invalidate_fs",
        MODEL.format("csrc/kernel/filesystem.c"),
    ),
    (
        "d",
        "iterate_supers is called after cleancache_ops has been set",
        "by the order of the kernel's file itself",
    ),
)
ACTIONS = {
    "pause": "Searching pauses now.",
    "resume": "Searching goes on.",
    "recheck": "The finding is run again; what comes out will stand below.",
    "minimise": "The finding is minimised once more, with more time.",
}


def environment() -> jinja2.Environment:
    """The templates, in which every text is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    made.filters |= {
        "count": lambda value: f"{value:,.0f}",
        "percent": lambda value: f"{100 * value:.0f} %",
        "bytes": _bytes,
        "ago": _ago,
        "time": _time,
        "lasting": lasting,
        "short_ago": _short_ago,
        "some": lambda value: "unknown" if value is None else f"{value:,.2g}",
    }
    made.globals |= {"style": Markup(page.STYLE), "premises": PREMISES}  # noqa: S704 - ours
    return made


def _bytes(value: float) -> str:
    return f"{value / (1 << 20):,.0f} MiB"


def _time(value: float | None) -> str:
    if value is None:
        return "never"
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(value: float | None) -> str:
    return "never" if value is None else f"{lasting(max(0.0, time.time() - value))} ago"


def _short_ago(value: float | None) -> str:
    """As short as a card is wide."""
    return _ago(value).replace("minutes", "min").replace("seconds", "s").replace("hours", "h")


def lasting(seconds: float) -> str:
    """A duration in words."""
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


@dataclass(frozen=True)
class Shown:
    """Everything that the pages of one moment show. actions: whether a service would hear them."""

    layout: Layout
    findings: Path
    certificates: Path = CERTIFICATES
    actions: bool = False

    def told(self) -> dict[str, Any]:
        """The last snapshot; whether the disk is full is looked at, which no snapshot may say."""
        told = Reader(self.layout.database).now()
        if told and told["running"] and not serve_folder.room(self.layout.root):
            line = f"{self.layout.root}: the disk is full; what cannot be written is tried again"
            told |= {"full": True, "health": [line, *told["health"]]}
        return told

    def entries(self) -> tuple[list[shelf.Entry], list[str]]:
        """The shelf."""
        return shelf.entries(self.findings)

    def entry(self, name: str) -> shelf.Entry | None:
        """A finding by its name, which is looked up and never made a path of."""
        return next((entry for entry in self.entries()[0] if entry.name == name), None)

    def run_page(self, entry: shelf.Entry) -> str | None:
        """The page of a finding's run, if the service drew one."""
        return read_text(self.layout.pages / f"{entry.name}.html", PAGE_MAX)

    def overview(self) -> dict[str, Any]:
        """What the first page shows."""
        reader = Reader(self.layout.database)
        told = self.told()
        entries, unreadable = self.entries()
        samples = reader.samples()
        return {
            "told": told,
            "state": state(told),
            "entries": entries,
            "unreadable": unreadable,
            "checks": told.get("checks", {}),
            "charts": charts(samples, told),
            "proofs": self.proofs(),
            "fresh": fresh(told),
            "events": [event(one) for one in reader.events()],
            "quarantined": quarantined(self.layout),
            "folder": str(self.layout.root),
            "actions": self.actions,
        }

    def finding(self, entry: shelf.Entry) -> dict[str, Any]:
        """What the page of a finding shows."""
        told = Reader(self.layout.database).now()
        return {
            "entry": entry,
            "told": told,
            "checked": told.get("checks", {}).get(entry.name),
            "drawn": self.run_page(entry) is not None,
            "scenario": entry.case.to_text().rstrip(),
            "actions": self.actions,
        }

    def proof(self) -> dict[str, Any]:
        """What the proof's page shows."""
        canary = Reader(self.layout.database).now().get("canary")
        return {"proofs": self.proofs(), "canary": canary}

    def proofs(self) -> list[dict[str, Any]]:
        """The certificates that can be read."""
        found = [certificate(path) for path in sorted(self.certificates.glob("*.json"))]
        return [one for one in found if one]


def state(told: Mapping[str, Any]) -> tuple[str, str]:
    """One word for the colour, and what the service does, in words."""
    if not told:
        return "none", "nothing was served in this folder yet"
    if not told["running"]:
        return "stopped", f"stopped, {_ago(told['at'])}"
    if time.time() - told["at"] > STALE_SECONDS:
        return "killed", f"it was killed or hangs: its last word was {_ago(told['at'])}"
    if told["paused"]:
        return "paused", "paused"
    return "runs", f"running for {lasting(told['uptime'])}"


def fresh(told: Mapping[str, Any]) -> str:
    """How likely the next schedule is an interleaving that none was, in words."""
    if not told or not told["fresh"]["schedules"]:
        return "unknown: nothing was run in the last half minute"
    new, ran = told["fresh"]["interleavings"], told["fresh"]["schedules"]
    if new <= HLL_ERROR * told["totals"]["interleavings"]:
        return "too small to tell: fewer new ones than the estimate of their number is off by"
    return f"about {min(1.0, new / ran):.2g}, from the last {told['fresh']['seconds']:.0f} seconds"


def charts(samples: list[dict[str, float]], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What changed over time."""
    rates = []
    counts = [(one["at"], one["schedules"]) for one in samples]
    for piece in serve_charts.pieces(counts):
        for (begin, before), (end, after) in itertools.pairwise(piece):
            if end > begin and after >= before:  # fewer: counting began anew
                rates.append((end, (after - before) / (end - begin)))
    of = f" of {told['target']['edges']:,}" if told else ""
    rows: list[tuple[str, str, list[tuple[float, float]]]] = [
        ("Schedules per second", "", rates),
        *(
            (title, more, [(one["at"], one[column]) for one in samples])
            for title, more, column in (
                ("Distinct interleavings", "", "interleavings"),
                ("Native coverage: edges", of, "edges"),
                ("Interleaving coverage: pairs", "", "pairs"),
                ("Inputs in the corpus", "", "inputs"),
                ("Memory of all processes: MiB", "", "memory"),
            )
        ),
    ]
    drawn = []
    for title, more, points in rows:
        if title.endswith("MiB"):
            points = [(at, value / (1 << 20)) for at, value in points]  # noqa: PLW2901
        drawn.append(
            {
                "title": title,
                "last": serve_charts.compact(points[-1][1]) + more if points else "",
                "svg": Markup(serve_charts.line(points, name=title)),  # noqa: S704 - numbers only
            }
        )
    return drawn


def event(told: Mapping[str, Any]) -> dict[str, str]:
    """A line of the log for people: what it is about first, and no more than a line or two."""
    rest = {key: value for key, value in told.items() if key not in ("at", "event", "pid")}
    if "name" in rest:  # of a finding, which says more than what it was met as
        rest = {key: value for key, value in rest.items() if key not in ("signature", "of")}
    return {
        "at": str(told["at"])[:19].replace("T", " "),
        "name": str(told["event"]),
        "means": EVENTS.get(str(told["event"]), ""),
        "text": "; ".join(filter(None, (_said(key, value) for key, value in rest.items())))[:400],
    }


def _said(key: str, value: object) -> str:
    """One value of an event."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return key if value else f"not {key}"
    if value is None or value == "":
        return ""
    if key in ("name", "signature", "what", "why"):
        return str(value)
    if key == "seconds":
        return f"after {value} s"
    return f"{key} {value}"


def quarantined(layout: Layout) -> list[dict[str, str]]:
    """The inputs that were set aside, the last ones."""
    listed = []
    for path in sorted(layout.quarantine.glob("*.json"))[-20:]:
        text = read_text(path, 65_536)
        try:
            about = json.loads(text or "{}")
        except ValueError:
            about = {}
        if not isinstance(about, dict):
            about = {}
        listed.append(
            {
                "name": path.stem,
                "why": str(about.get("why", "unknown"))[:300],
                "scenario": str(about.get("scenario", ""))[:4000].strip(),
            }
        )
    return listed


def read_text(path: Path, most: int) -> str | None:
    """A plain file's text; None if it is none, no UTF-8, or larger."""
    data = serve_folder.read_input(path, most=most)
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def certificate(path: Path) -> dict[str, Any]:
    """What a certificate says; empty if it cannot be read."""
    text = read_text(path, CERTIFICATE_MAX)
    try:
        found = json.loads(text or "")
        return {
            "file": path.name,
            "again": str(found["again"]),
            "target": {key: str(found["target"][key]) for key in _TARGET},
            "bound": found["bound"],
            "totals": found["totals"],
            "approximate": bool(found["approximate"]),
            "rests_on": [str(line) for line in found["rests_on"]],
            "rows": [
                {
                    "verdict": verdict,
                    "holds": bool(row["holds"]),
                    "violation": str(row["violation"]),
                    "scenarios": int(row["scenarios"]),
                    "executions": int(row["executions"]),
                    "example": str(row.get("counterexample", {}).get("scenario", "")),
                }
                for verdict, row in found["properties"].items()
            ],
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


_TARGET = ("name", "version", "sha256", "compiler", "build_id")


def data_address(picture: str) -> str:
    """A picture as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()


def export(shown: Shown) -> str:
    """All pages as one HTML file that asks nobody for anything."""
    entries, _ = shown.entries()
    return (
        environment()
        .get_template("export.html")
        .render(
            shown.overview()
            | shown.proof()
            | {
                "findings": [
                    shown.finding(entry) | {"picture": data_address(entry.picture)}
                    for entry in entries
                ],
                "actions": False,
                "written": time.time(),
                "exported": True,
            }
        )
    )
