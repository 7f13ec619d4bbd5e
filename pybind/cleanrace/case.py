# SPDX-License-Identifier: GPL-2.0-only
"""A scenario file as an object: a scenario, what is expected, and what was found.

Like a Scenario, a Case that exists can be written and read back unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cleanrace import checks, words
from cleanrace.scenario import Scenario

WITHIN: Final = 20_000
NUMBER_MAX: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Switch:
    """One preemption of a finding.

    At decision point `step` thread `thread` was about to do `kind` to `object` at `where`
    ("function:line"), and thread `to` went on instead.
    """

    step: int
    thread: int
    to: int
    where: str
    kind: str
    object: str

    def __post_init__(self) -> None:
        checks.number("step", self.step, 0, NUMBER_MAX)
        checks.number("thread", self.thread, 0, words.THREADS_MAX - 1)
        checks.number("to", self.to, 0, words.THREADS_MAX - 1)
        checks.word("where", self.where)
        checks.word("kind", self.kind)
        checks.word("object", self.object)


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario file.

    target: which targets the expectation is for: "any", "reference" or "linux" (every real
    kernel file). broken: planted bugs that are switched on. expect: "ok", or the verdict that
    some schedule must have in its set. within: how many schedules of `random` must show it, or
    must not. steps_max: decision points per run, 0 for the default. tape: the choices of a
    finding, stored without trailing zeros, which mean nothing. found: facts about a finding by
    key (words.FOUND). switches: its preemptions. comments: the file's comment lines, without
    "# ". ValueError names what cannot be.
    """

    scenario: Scenario
    title: str = ""
    target: str = "any"
    broken: frozenset[str] = frozenset()
    expect: str = "ok"
    within: int = WITHIN
    steps_max: int = 0
    tape: bytes = b""
    found: Mapping[str, str] = field(default_factory=dict, hash=False)
    switches: tuple[Switch, ...] = ()
    comments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.instance("scenario", self.scenario, Scenario)
        if self.title:
            checks.line("title", self.title)
        checks.choice("target", self.target, words.TARGETS)
        checks.choice("expect", self.expect, words.VERDICTS)
        checks.items("broken", self.broken, frozenset, str)
        for name in self.broken:
            checks.choice("broken", name, words.PLANTED)
        checks.number("within", self.within, 1, NUMBER_MAX)
        checks.number("steps_max", self.steps_max, 0, words.STEPS_MAX)
        checks.instance("tape", self.tape, bytes)
        if len(self.tape) > words.TAPE_MAX:
            raise ValueError(f"tape has {len(self.tape)} bytes: expected {words.TAPE_MAX} at most")
        checks.items("switches", self.switches, tuple, Switch)
        checks.items("comments", self.comments, tuple, str)
        for comment in filter(None, self.comments):
            checks.line("comments", comment, leading=True)
        checks.instance("found", self.found, Mapping)
        for key, value in self.found.items():
            checks.choice("found", key, words.FOUND)
            checks.line(f"found {key}", value)
        object.__setattr__(self, "tape", self.tape.rstrip(b"\0"))
        object.__setattr__(self, "found", dict(self.found))

    @property
    def judged(self) -> tuple[str, ...] | None:
        """What must be judged so that it can be seen: None, as in run(), or a race alone."""
        return (self.expect,) if words.VERDICTS[self.expect] == "race" else None

    @staticmethod
    def read(path: str | Path) -> "Case":
        """Read a scenario file.

        ScenarioError with line and column for its content, OSError if it cannot be read; a file
        that is far too long is not read to its end.
        """
        from cleanrace import text

        source = Path(path)
        with source.open("rb") as file:
            data = file.read(text.TEXT_MAX + 1)
        return text.parse_bytes(data, source=str(source))

    @staticmethod
    def from_text(text: str, *, source: str = "") -> "Case":
        """Parse a scenario file's text; `source` names it in errors (ScenarioError)."""
        from cleanrace.text import parse

        return parse(text, source=source)

    def to_text(self) -> str:
        """The scenario file of this case; from_text gives the same case back."""
        from cleanrace.text import case_text

        return case_text(self)
