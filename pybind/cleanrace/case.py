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
NUMBERED: Final = ("seed", "schedule")  # facts that are whole numbers
SEED_MAX: Final = 2**64 - 1
EDGES: Final = ("start", "end")  # kinds of switches where no thread was about to do anything


@dataclass(frozen=True, slots=True)
class Switch:
    """One choice of a schedule that is not the default: thread `thread` stops, `to` goes on.

    It is named by what `thread` was about to do, so that it means the same in every build that
    has that step: in its operation number `operation` (from 1), for the `count`-th time there
    (from 1), `kind` on `object` in `function`. kind is an access of the events table with the
    object's name, or a callback ("cb-put") with the object "pool". kind "end":
    the thread has ended; "start": nobody ran yet, and `thread` means nothing; operation and count
    are 0 then, function and object "-".
    """

    thread: int
    to: int
    operation: int
    function: str
    kind: str
    object: str
    count: int

    def __post_init__(self) -> None:
        checks.number("thread", self.thread, 0, words.THREADS_MAX - 1)
        checks.number("to", self.to, 0, words.THREADS_MAX - 1)
        checks.word("function", self.function)
        checks.word("kind", self.kind)
        checks.word("object", self.object)
        if self.kind in EDGES:
            checks.number("operation", self.operation, 0, 0)
            checks.number("count", self.count, 0, 0)
            if (self.function, self.object) != ("-", "-") or (
                self.kind == "start" and self.thread != self.to
            ):
                raise ValueError(f"kind={self.kind}: such a switch has only threads, use edge()")
        else:
            checks.number("operation", self.operation, 1, words.OPERATIONS_MAX)
            checks.number("count", self.count, 1, NUMBER_MAX)

    @staticmethod
    def edge(kind: str, thread: int, to: int) -> "Switch":
        """A switch where `thread` has ended, or at the start."""
        return Switch(thread, to, 0, "-", kind, "-", 0)

    def __str__(self) -> str:
        """As scenario files write it."""
        if self.kind == "start":
            return f"start->{self.to}"
        if self.kind == "end":
            return f"{self.thread}->{self.to} end"
        what = f"{self.operation} {self.function} {self.kind} {self.object} {self.count}"
        return f"{self.thread}->{self.to} {what}"


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario file.

    target: which targets the expectation is for: "any", "reference" or "linux" (every real
    kernel file). broken: planted bugs that are switched on. expect: "ok", or the verdict that
    some schedule must have in its set. within: how many schedules of `random` must show it, or
    must not. steps_max: decision points per run, 0 for the default. tape: the choices of a
    finding in one build, stored without trailing zeros, which mean nothing. found: facts about a
    finding by key (words.FOUND). switches: the same choices for every build. comments: the file's
    comment lines, without "# ". ValueError names what cannot be.
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
            if key in NUMBERED:
                number = int(value) if value.isascii() and value.isdecimal() else value
                checks.number(f"found {key}", number, 0, SEED_MAX)
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
        source = Path(path)
        with source.open("rb") as file:
            data = file.read(words.TEXT_MAX + 1)
        return Case.from_data(data, source=str(source))

    @staticmethod
    def from_data(data: bytes, *, source: str = "") -> "Case":
        """Parse a scenario file's bytes, whatever they are; as from_text."""
        from cleanrace.text import parse_bytes

        return parse_bytes(data, source=source)

    @staticmethod
    def from_text(text: str, *, source: str = "") -> "Case":
        """Parse a scenario file's text; `source` names it in errors (ScenarioError)."""
        from cleanrace.text import parse

        return parse(text, source=source)

    def to_text(self) -> str:
        """The scenario file of this case; from_text gives the same case back."""
        from cleanrace.text import case_text

        return case_text(self)
