# SPDX-License-Identifier: GPL-2.0-only
"""What the service remembers: totals, budgets, and the counts behind its estimates.

Budgets. Time is given out in shifts. Each method has a right to FLOOR of an equal share; the rest
goes by news per second of its recent shifts (older ones fade), so that time moves to what still
finds something; while nobody finds anything, the shares are equal. The next shift is of the
method that is owed most. News: a finding that was not known counts FINDING_NEWS, an edge that no
search reached before 1, an input that added coverage to the corpus 1.

Estimates. The unit of sampling is one shift, because within a shift each finding and edge is told
once. With q1 and q2 things met in exactly one and exactly two of t shifts, the next shift is
expected to bring q1 / t new ones (Good and Turing), and at least (t-1)/t * q1 (q1-1) / (2 (q2+1))
exist that no shift met (Chao2, bias-corrected). Both take shifts for alike and independent, which
they are only roughly: methods differ, the corpus grows. And both speak of what these methods can
reach at all, so a 0 never says that there is nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cleanrace import Summary
from fuzz import store
from fuzz.worker import summary_from_json, summary_to_json

FORMAT = 1
FLOOR = 0.4
FADE = 0.8  # of the weight of a method's shifts, per shift of it
FINDING_NEWS = 10.0
EXHAUSTED_MAX = 50_000


class Unreadable(Exception):
    """A state file that is not as it should be: one line."""


@dataclass(kw_only=True)
class Method:
    """What one method did so far. credit: seconds that it is owed."""

    schedules: int = 0
    inputs: int = 0
    seconds: float = 0.0
    shifts: int = 0
    deaths: int = 0
    news: float = 0.0
    findings: int = 0
    recent_news: float = 0.0
    recent_seconds: float = 0.0
    credit: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """An estimate of what is left. seen: kinds met; expected: new ones in the next shift."""

    seen: int
    once: int
    twice: int
    shifts: int
    expected: float | None
    unseen: float | None


def unseen(counts: Iterable[int], shifts: int) -> Unseen:
    """The estimate from how many shifts met each thing; None in it before there was a shift."""
    listed = list(counts)
    once, twice = listed.count(1), listed.count(2)
    known = shifts > 0
    chao2 = (shifts - 1) / max(1, shifts) * once * max(0, once - 1) / (2 * (twice + 1))
    return Unseen(
        seen=len(listed),
        once=once,
        twice=twice,
        shifts=shifts,
        expected=once / shifts if known else None,
        unseen=chao2 if known else None,
    )


@dataclass(kw_only=True)
class State:
    """Everything that outlives the process. target, planted: what the folder is about."""

    target: str
    planted: list[str]
    build_id: str
    starts: int = 0
    shifts: int = 0
    seconds: float = 0.0
    paused: bool = False
    new_at: float | None = None  # when something new was met last, in seconds since 1970
    methods: dict[str, Method] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)
    coverage: dict[str, int] = field(
        default_factory=lambda: {"edges": 0, "pairs": 0, "inputs": 0}
    )  # of the corpus
    edges: dict[int, int] = field(default_factory=dict)  # offset -> shifts that reached it
    signatures: dict[str, int] = field(default_factory=dict)  # -> shifts that met it
    exhausted: list[str] = field(default_factory=list)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {
            "format": FORMAT,
            "methods": {name: asdict(method) for name, method in self.methods.items()},
            "summary": summary_to_json(self.summary),
            "edges": {str(offset): count for offset, count in self.edges.items()},
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "State":
        """What to_json() gave."""
        given = dict(values)
        if given.pop("format", None) != FORMAT:
            raise Unreadable("its format is not known")
        given["methods"] = {name: Method(**one) for name, one in given["methods"].items()}
        given["summary"] = summary_from_json(given["summary"])
        given["edges"] = {int(offset): count for offset, count in given["edges"].items()}
        return State(**given)

    def save(self, path: Path) -> None:
        """Write the file, whole. OSError."""
        store.write(path, json.dumps(self.to_json()))

    def shares(self, methods: Iterable[str]) -> dict[str, float]:
        """Which part of the time each of these methods has a right to."""
        names = list(methods)
        rates = {}
        for name in names:
            one = self.method(name)
            rates[name] = one.recent_news / one.recent_seconds if one.recent_seconds else 0.0
        total = sum(rates.values())
        if not total:
            return dict.fromkeys(names, 1 / len(names))
        return {
            name: FLOOR / len(names) + (1 - FLOOR) * rate / total for name, rate in rates.items()
        }

    def method(self, name: str) -> Method:
        """The counts of a method."""
        return self.methods.setdefault(name, Method())

    def next_method(self, methods: Iterable[str], seconds: float) -> str:
        """The method of the next shift, which is charged with its seconds."""
        shares = self.shares(methods)
        for name, share in shares.items():
            self.method(name).credit += share * seconds
        chosen = max(shares, key=lambda name: self.method(name).credit)
        self.method(chosen).credit -= seconds
        return chosen

    def copied(self) -> "State":
        """A copy whose counts may be changed."""
        summary = Summary()
        summary.merge(self.summary)
        methods = {name: replace(one) for name, one in self.methods.items()}
        return replace(self, methods=methods, summary=summary)

    def counted(self, name: str, stats: Mapping[str, Any]) -> None:
        """Add what a shift did, or did so far."""
        one = self.method(name)
        summary = summary_from_json(stats["summary"])
        one.schedules += summary.schedules
        one.inputs += stats["inputs"]
        one.seconds += stats["seconds"]
        self.summary.merge(summary)
        self.seconds += stats["seconds"]

    def ended(
        self,
        name: str,
        stats: Mapping[str, Any],
        *,
        news: float,
        findings: int,
        signatures: Iterable[str],
    ) -> None:
        """A shift is over: its last counts, and what it met."""
        one = self.method(name)
        one.shifts += 1
        one.news += news
        one.findings += findings
        if not stats:
            return
        self.counted(name, stats)
        one.recent_news = one.recent_news * FADE + news
        one.recent_seconds = one.recent_seconds * FADE + stats["seconds"]
        self.shifts += 1
        for offset in stats["edges"]:
            self.edges[offset] = self.edges.get(offset, 0) + 1
        for signature in signatures:
            self.signatures[signature] = self.signatures.get(signature, 0) + 1

    def rebuilt(self, build_id: str) -> bool:
        """Whether the target's build is another one now, whose edges have other numbers."""
        if build_id == self.build_id:
            return False
        self.build_id = build_id
        self.edges.clear()
        self.exhausted.clear()
        self.summary.registers = Summary().registers
        return True


def load(path: Path) -> State | None:
    """The state of a folder, None if it has none yet. Unreadable says what is wrong."""
    try:
        return State.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (Unreadable, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{store.shown(path)}: {error}") from None
