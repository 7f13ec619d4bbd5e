# SPDX-License-Identifier: GPL-2.0-only
"""The real ThreadSanitizer as a second opinion on data races.

The program replay-tsan plays scenarios on the thread engine: the very objects that every target
is made of, on real threads, watched by the runtime library of the compiler. It knows nothing of
our detector, and is told only which orders are the kernel's (csrc/engine/tsan.h). So what it
reports must be in the list that our detector prints. The other way round nothing is promised: it
sees what the machine happened to do. What atomic operations access it is told as marked accesses.
"""

import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

import build
import cleanrace
from cleanrace import Race, Scenario, Target
from fuzz import corpus

TEXT = "cr_ktext"
ROUNDS = 1_000  # per process, some tenths of a second
STUCK_SECONDS = 120.0  # no process takes that long
MARKED = "-marked"
TOLD = {"atomic": "write-marked", "atomic-read": "read-marked"}  # as what ThreadSanitizer is told
FRAME = r"\(\S+\+(0x[0-9a-f]+)\)(?: \(BuildId: \w+\))?$"  # the build's id is clang's


class TsanError(Exception):
    """ThreadSanitizer cannot run here, or said something that we cannot read: one line."""


class Side(NamedTuple):
    """An access as both lists name it: "function:line", and read, write, or one of them marked."""

    place: str
    kind: str


Pair = tuple[Side, Side]  # in their own order, since neither access comes first


class Code(NamedTuple):
    """Where a program has the kernel's text, and how its offsets are called."""

    start: int
    bytes: int
    target: Target


@dataclass(kw_only=True)
class Met:
    """What ThreadSanitizer reported, and in how much: pairs of accesses, rounds, scenarios."""

    pairs: set[Pair] = field(default_factory=set)
    rounds: int = 0
    scenarios: int = 0
    seconds: float = 0.0

    @property
    def plain(self) -> set[Pair]:
        """The pairs without a marked side: what must be in the detector's list."""
        return {pair for pair in self.pairs if not is_marked(pair)}


def is_marked(pair: Pair) -> bool:
    """Whether one of the two is marked, which ThreadSanitizer takes for plain accesses."""
    return any(side.kind.endswith(MARKED) for side in pair)


def told(pair: Pair) -> Pair:
    """A pair of our list as ThreadSanitizer would report it."""
    first, second = (Side(side.place, TOLD.get(side.kind, side.kind)) for side in pair)
    return _pair(first, second)


def listed(target: Target, races: Iterable[Race]) -> set[Pair]:
    """What our detector found, in the same form."""
    races = list(races)
    target.names.load({side.pc for race in races for side in (race.first, race.second)})
    return {
        _pair(*(Side(target.names.function_line(side.pc), side.kind)
                for side in (race.first, race.second)))
        for race in races
    }  # fmt: skip


# In the corpus threads do little, so that a search is done soon. Here they do much at once.
MORE = (
    """
    fs a local
    thread register 0; read a 0 0; unmount a; mount a; write a 0 1
    thread mount a; write a 0 0; reclaim a 0 0; read a 0 0; unmount a
    thread mount a; read a 0 0; writeback a 0 0; remount a; truncate a 0 0
    thread remount a; reclaim a 0 1; read a 0 1; reclaim a 0 0
    """,
    """
    fs a local handles
    fs b shared uuid 1
    thread mount a; read a 0 0; reclaim a 0 0; read a 0 0; unmount a
    thread mount b; write b 0 0; writeback b 0 0; reclaim b 0 0; read b 0 0; unmount b
    thread register 0; register 1; remount a; read b 0 0; truncate b 0 0
    thread read a 0 0; delete a 0; write a 0 1; read b 0 0; reclaim b 0 0
    """,
    """
    fs a local
    thread register 0; mount a; read a 0 0; read a 0 1; read a 1 0
    thread mount a; reclaim a 0 0; reclaim a 0 1; reclaim a 1 0; read a 1 1
    thread mount a; read a 1 0; read a 1 1; truncate a 1 0; reclaim a 0 0
    thread mount a; write a 1 0; truncate a 0 1; write a 0 1; delete a 1
    """,
    """
    fs a shared uuid 2
    fs b shared uuid 3
    fs c local
    thread register 0; mount c; unmount c
    thread register 1; mount a; remount a; unmount a
    thread mount a; read a 0 0; reclaim a 0 0; unmount a
    thread mount b; unmount b; mount b; mount-fail c
    thread mount c; remount c; read c 1 1; reclaim c 1 1; unmount c
    """,
)


def scenarios() -> list[Scenario]:
    """Those of the corpus in which two threads can race, each once, and some with more at once."""
    made = [Scenario.from_text(f"cleanrace 1\n{text}") for text in MORE]
    return [*made, *(one for one in dict.fromkeys(corpus.scenarios()) if len(one.threads) > 1)]


def pairs(text: str, code: Code) -> set[Pair]:
    """The pairs of accesses in what ThreadSanitizer printed, without names, for such a program.

    An access is where the kernel's code made it. Above a marked one stands the function that
    stood in for it, which is none of the kernel's. A report without one of its two places, because
    the thread did too much since, is no pair; nor is one about the engine.
    """
    reports = [list(_sides(report, code)) for report in text.split("WARNING: ThreadSanitizer: ")]
    known = [sides for sides in reports if len(sides) == 2 and None not in sides]
    code.target.names.load({side[0] for sides in known for side in sides if side})
    name = code.target.names.function_line
    return {_pair(*(Side(name(side[0]), side[1]) for side in sides if side)) for sides in known}


def _pair(first: Side, second: Side) -> Pair:
    return (first, second) if first <= second else (second, first)


def _sides(report: str, code: Code) -> Iterator[tuple[int, str] | None]:
    """The accesses of one report as (offset into the kernel's text, kind); None: not known."""
    pattern = r"^  (?:Previous )?(read|write) of size .*\n((?:    #.*\n)*)"
    for kind, frames in re.findall(pattern, report, re.MULTILINE | re.IGNORECASE):
        offsets = [
            int(offset, 16) - code.start for offset in re.findall(FRAME, frames, re.MULTILINE)
        ]
        at = next((n for n, offset in enumerate(offsets) if 0 <= offset < code.bytes), None)
        yield None if at is None else (offsets[at] - 1, kind.lower() + (MARKED if at else ""))


def code_of(program: Path, target: Target) -> Code:
    """Where the program has the kernel's text; it must be made of the target's own objects."""
    if program.parent != target.module.parent:
        raise TsanError(f"{program} is not of build {target.build_id}: files have changed since")
    with program.open("rb") as file:
        elf: Any = ELFFile(file)
        section = elf.get_section_by_name(TEXT)
        return Code(section["sh_addr"], section["sh_size"], target)


def play(program: Path, scenario: Scenario, *, rounds: int, seed: int = 0) -> str:
    """Let the program play a scenario, and return what ThreadSanitizer said."""
    how = ["--threads", str(rounds), "/dev/stdin", "0", str(seed)]
    try:
        done = subprocess.run(
            [*tied(), *_steady(), str(program), *how],
            input=scenario.to_bytes(),
            capture_output=True,
            check=False,
            timeout=STUCK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise TsanError(f"{program} hangs: {rounds} rounds, seed {seed}") from None
    text = done.stderr.decode(errors="replace")
    if done.returncode not in (0, 1) or not done.stdout.startswith(b"rounds "):
        said = (text.splitlines() or ["nothing was said"])[0]
        raise TsanError(f"{program} ended with status {done.returncode}: {said}")
    return text


@cache
def tied() -> Sequence[str]:
    """How to start a program that ends with this process, however that ends, where there is one."""
    start = ("setpriv", "--pdeathsig", "KILL")
    try:
        done = subprocess.run([*start, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return start if done.returncode == 0 else ()


@cache
def _steady() -> Sequence[str]:
    """How to start a program at fixed addresses, where that is allowed.

    Older runtime libraries refuse to run where the system draws addresses from a large range.
    """
    try:
        fixed = subprocess.run(["setarch", "-R", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return ("setarch", "-R") if fixed.returncode == 0 else ()


def run(target: Target, scenarios: Sequence[Scenario], seconds: float) -> Met:
    """Play the scenarios in turn, each at least once, for so many seconds.

    TsanError if ThreadSanitizer cannot run here, build.BuildError if the program cannot be built.
    """
    program = build.program(target.name, flavour="tsan")
    code = code_of(program, target)
    begin = time.monotonic()
    met = Met(scenarios=len(scenarios))
    seed = 0
    while scenarios and (seed == 0 or time.monotonic() - begin < seconds):
        for scenario in scenarios:
            if seed and time.monotonic() - begin >= seconds:
                break
            met.pairs |= pairs(play(program, scenario, rounds=ROUNDS, seed=seed), code)
            met.rounds += ROUNDS
        seed += 1
    met.seconds = time.monotonic() - begin
    return met


def detect(target: Target, scenarios: Sequence[Scenario], *, schedules: int) -> set[Pair]:
    """What our detector lists after so many schedules of each, marked accesses and all."""
    for scenario in scenarios:
        for policy in ("random", "uniform"):
            cleanrace.search(
                target, scenario, schedules=schedules, policy=policy, detect=True, judged=()
            )
    return listed(target, target.races())
