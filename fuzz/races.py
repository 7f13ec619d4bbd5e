# SPDX-License-Identifier: GPL-2.0-only
"""The data races of a target: found by random search with detectors, each shown by a tape.

The scenarios are those of the corpus, some in which much happens at once, and drawn ones. A race
is listed once, as a pair of function:line with what each side did and which locks it held; those
on what the kernel documents as racy stand apart. Every entry carries a tape in which the two
accesses are neighbours, so that nobody needs to believe a relation: one after the other, and
nothing in between. Or it says why there is none: exhausted.py. The list is information: it does
not change the exit status.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.text import Text

import cleanrace
from cleanrace import Access, Case, Race, Scenario, Target
from fuzz import exhausted, generate, neighbours, report, store, tsan
from fuzz.exhausted import Looked
from fuzz.neighbours import Tape
from fuzz.racetable import wrapped
from fuzz.scenarios import line as scenario_line

FORMAT = 1
SECONDS = 30.0
SEED = 1
BATCH = 1000  # schedules of one scenario
POLICIES = ("random", "pct", "surw", "uniform")
SEARCH_SHARE = 0.6  # of the time; the rest is for tapes
EXHAUST_SHARE = 2.0  # more of it at most, where no tape has neighbours
RUNS_MAX = 4  # runs of each source that a tape is made of
SOURCES_MAX = 40
VERBS = {
    "read": "reads",
    "write": "writes",
    "read-marked": "reads (marked)",
    "write-marked": "writes (marked)",
    "atomic": "changes (atomic)",
    "atomic-read": "reads (atomic)",
}

Key = tsan.Pair


@dataclass(frozen=True, kw_only=True)
class Source:
    """A search that met a race: the number of the schedule is race.schedule."""

    race: Race
    scenario: Scenario
    policy: str
    seed: int


@dataclass(kw_only=True)
class Entry:
    """One race, and the runs that showed it first.

    sources: by the operations in the scenario, since what brings one access about, and keeps it
    from being the other one's neighbour, may be missing elsewhere. tape: a schedule with as little
    as possible between the two accesses, None as long as none was built. looked: what exhausted
    scenarios say, of one without neighbours.
    """

    race: Race
    count: int = 0
    sources: dict[frozenset[str], Source] = field(default_factory=dict)
    tape: Tape | None = None
    looked: Looked | None = None

    @property
    def never(self) -> bool:
        """Whether no exhausted scenario has the two as neighbours, and some have both."""
        return self.looked is not None and self.looked.never


@dataclass(kw_only=True)
class Races:
    """What was found, and in how much; exhausted: the scenarios that were."""

    target: Target
    entries: dict[Key, Entry]
    scenarios: int = 0
    schedules: int = 0
    seconds: float = 0.0
    exhausted: list[Scenario] = field(default_factory=list)
    met: tsan.Met | None = None

    @property
    def findings(self) -> list[Entry]:
        """Those that the kernel says nothing about, by name."""
        return [entry for _, entry in sorted(self.entries.items()) if not entry.race.documented]

    @property
    def documented(self) -> list[Entry]:
        """Those on what the kernel documents as racy."""
        return [entry for _, entry in sorted(self.entries.items()) if entry.race.documented]

    @property
    def without_tape(self) -> list[Entry]:
        """Those for which no schedule with the two as neighbours was built."""
        return [entry for _, entry in sorted(self.entries.items()) if entry.tape is None]

    @property
    def apart(self) -> list[Entry]:
        """Those whose second access comes about by what follows the first: see neighbours.py."""
        return [
            entry
            for _, entry in sorted(self.entries.items())
            if entry.tape is not None and entry.tape.between
        ]

    @property
    def never(self) -> list[Entry]:
        """Those of them whose two accesses are never neighbours in what was exhausted."""
        return [entry for entry in self.apart if entry.never]

    @property
    def unlisted(self) -> list[tsan.Pair]:
        """What ThreadSanitizer reported and is not in the list."""
        return (
            [] if self.met is None else sorted(p for p in self.met.plain if p not in self.entries)
        )

    @property
    def further(self) -> list[Entry]:
        """Those that ThreadSanitizer did not report, and so none but their tapes can show."""
        return [entry for _, entry in sorted(self.entries.items()) if self.reported(entry) is False]

    def reported(self, entry: Entry) -> bool | None:
        """Whether ThreadSanitizer reported it, too; None: it was not asked."""
        if self.met is None:
            return None
        return tsan.told(key_of(self.target, entry.race)) in self.met.pairs


def key_of(target: Target, race: Race) -> Key:
    """What makes a race one entry: both places and what was done there, in their own order."""
    line = target.names.function_line
    first, second = sorted(
        tsan.Side(line(side.pc), side.kind) for side in (race.first, race.second)
    )
    return first, second


def size(scenario: Scenario) -> tuple[int, int]:
    """How much there is in a scenario: operations and threads."""
    return sum(map(len, scenario.threads)), len(scenario.threads)


def scenarios(random: Random, listed: Sequence[Scenario]) -> Iterator[Scenario]:
    """The listed ones, then listed and drawn ones in turn, without end."""
    yield from listed
    while True:
        yield generate.scenario(random)
        if listed:
            yield random.choice(listed)


def collect(races: Races, scenario: Scenario, *, policy: str, seed: int, schedules: int) -> None:
    """Search one scenario and add what raced."""
    target = races.target
    target.forget_races()
    met = cleanrace.search(
        target,
        scenario,
        schedules=schedules,
        policy=policy,
        seed=seed,
        detect=True,
        judged=(),
    )
    races.schedules += met.schedules
    found = target.races()
    names = frozenset(operation.name for thread in scenario.threads for operation in thread)
    target.names.load({side.pc for race in found for side in (race.first, race.second)})
    for race in found:
        key = key_of(target, race)
        entry = races.entries.setdefault(key, Entry(race=race))
        entry.count += race.count
        if len(entry.sources) < SOURCES_MAX:
            source = Source(race=race, scenario=scenario, policy=policy, seed=seed)
            entry.sources.setdefault(names, source)


def search(
    target: Target,
    listed: Sequence[Scenario],
    *,
    seconds: float,
    seed: int = SEED,
    show: Callable[[str], None] | None = None,
) -> Races:
    """Random search with detectors: the listed scenarios by every policy, then others as well."""
    races = Races(target=target, entries={})
    random = Random(seed)
    begin = time.monotonic()
    for number, scenario in enumerate(scenarios(random, listed)):
        if number and time.monotonic() - begin >= seconds:
            break
        for policy in POLICIES:
            collect(races, scenario, policy=policy, seed=number, schedules=BATCH)
        races.scenarios += 1
        if show is not None and number % 20 == 0:
            show(f"searching: {races.schedules:,} schedules, {len(races.entries)} races")
    return races


def add_tapes(races: Races, *, seconds: float, show: Callable[[str], None] | None = None) -> None:
    """Build a tape for every entry, as far as the time allows."""
    end = time.monotonic() + seconds
    for number, entry in enumerate(races.entries.values()):
        if show is not None and number % 10 == 0:
            show(f"tapes: {number} of {len(races.entries)}")
        share = (end - time.monotonic()) / (len(races.entries) - number)
        entry.tape = tape_of(races.target, entry, seconds=share)


def tape_of(target: Target, entry: Entry, *, seconds: float) -> Tape | None:
    """The schedule with the least between the two, of the first runs that show the race."""
    end = time.monotonic() + seconds
    best: Tape | None = None
    for result, source in runs(target, entry):
        found = neighbours.build(
            target, result, source.scenario, source.race, apart=best is None, end=end
        )
        if found is not None and (best is None or found.between < best.between):
            best = found
        if (best is not None and best.between == 0) or time.monotonic() >= end:
            break
    return best


def runs(target: Target, entry: Entry) -> Iterator[tuple[cleanrace.Result, Source]]:
    """Runs in which the pair raced: the first one of each source, then others of each."""
    later = dict.fromkeys(entry.sources.values(), 0)
    for _ in range(RUNS_MAX):
        for source, first in list(later.items()):
            options: dict[str, Any] = {
                "policy": source.policy,
                "seed": source.seed,
                "judged": (),
                "detect": True,
            }
            schedule = _next(target, source, first, **options) if first else source.race.schedule
            if schedule is None:
                del later[source]
                continue
            later[source] = schedule + 1
            yield (
                cleanrace.run(target, source.scenario, schedule=schedule, **options),
                source,
            )


def exhaust(
    races: Races,
    *,
    listed: Sequence[Scenario],
    seconds: float,
    show: Callable[[str], None] | None = None,
) -> None:
    """Look for neighbours in every schedule of the listed scenarios, where no tape has them."""
    apart = {
        key: entry
        for key, entry in races.entries.items()
        if entry.tape is None or entry.tape.between
    }
    if not apart:
        return
    wanted = {key: Looked() for key in apart}
    races.exhausted = exhausted.look(
        races.target,
        wanted,
        lambda race: key_of(races.target, race),
        listed=listed,
        seconds=seconds,
        show=show,
    )
    for key, looked in wanted.items():
        apart[key].looked = looked
        if looked.tape is not None:
            apart[key].tape = looked.tape


def _next(target: Target, source: Source, first: int, **options: Any) -> int | None:
    """The first schedule from `first` on in which the source's pair races."""
    target.forget_races()
    cleanrace.search(target, source.scenario, schedules=BATCH, first=first, **options)
    again = (race for race in target.races() if neighbours.same(race, source.race))
    return next((race.schedule for race in again), None)


def run(
    target: Target,
    *,
    seconds: float = SECONDS,
    tsan_seconds: float | None = None,
    listed: Sequence[Scenario] | None = None,
    show: Callable[[str], None] | None = None,
) -> Iterator[Races]:
    """Everything: the search, the tapes, and the real ThreadSanitizer if it is asked for.

    The list, and the same again with what more is known of it by then. Where no tape has
    neighbours, twice as many seconds are there to exhaust scenarios.
    """
    begin = time.monotonic()
    # The smallest first: what they show has the shortest tapes.
    known = [*tsan.scenarios(), *exhausted.more()] if listed is None else listed
    chosen = sorted(known, key=size)
    races = search(target, chosen, seconds=seconds * SEARCH_SHARE, show=show)
    races.seconds = time.monotonic() - begin
    yield races
    left = seconds - races.seconds
    add_tapes(races, seconds=max(left, seconds * (1 - SEARCH_SHARE)), show=show)
    exhaust(races, listed=exhausted.listed(), seconds=seconds * EXHAUST_SHARE, show=show)
    races.seconds = time.monotonic() - begin
    yield races
    if tsan_seconds is not None:
        if show is not None:
            show("ThreadSanitizer")
        races.met = tsan.run(target, chosen, tsan_seconds)
        yield races


# What people see, and what programs do.


def to_json(races: Races, *, command: list[str]) -> dict[str, Any]:
    """The whole list."""
    target = races.target
    return {
        "format": FORMAT,
        "command": command,
        "target": report.identity(target),
        "scenarios": races.scenarios,
        "schedules": races.schedules,
        "seconds": round(races.seconds, 2),
        "races": [_row(races, entry) for entry in races.findings],
        "documented": [_row(races, entry) for entry in races.documented],
        "apart": len(races.apart),
        "never": len(races.never),
        "without_tape": len(races.without_tape),
        "exhausted": [scenario_line(one) for one in races.exhausted],
        "tsan": None if races.met is None else _tsan(races, races.met),
    }


def write_json(path: Path, races: Races, *, command: list[str]) -> None:
    """Write the list; OSError if the file cannot be written."""
    store.write(path, json.dumps(to_json(races, command=command), indent=2) + "\n")


def _row(races: Races, entry: Entry) -> dict[str, Any]:
    target, race, tape = races.target, entry.race, entry.tape
    shown: dict[str, Any] | None = None
    if tape is not None:
        case = Case(scenario=tape.scenario, expect="ok", tape=tape.tape)
        shown = {
            "step": tape.step,
            "between": tape.between,
            "tape": tape.tape.hex(),
            "case": case.to_text(),
        }
    return {
        "sides": [_side(target, side) for side in (race.first, race.second)],
        "object": target.names.object(race.object),
        "documented": race.documented,
        "count": entry.count,
        "neighbours": shown,
        "never": _never(target, entry.looked) if entry.never and entry.looked else None,
        "tsan": races.reported(entry),
    }


def _never(target: Target, looked: Looked) -> dict[str, Any]:
    after = exhausted.after(target, looked)
    return {
        "scenarios": len(looked.scenarios),
        "executions": looked.executions,
        "after": None if after is None else list(after),
        "smallest": scenario_line(min(looked.scenarios, key=size)),
    }


def _side(target: Target, side: Access) -> dict[str, Any]:
    return {
        "place": target.names.function_line(side.pc),
        "kind": side.kind,
        "held": [target.names.object(lock) for lock in side.held],
    }


def _tsan(races: Races, met: tsan.Met) -> dict[str, Any]:
    return {
        "seconds": round(met.seconds, 2),
        "rounds": met.rounds,
        "scenarios": met.scenarios,
        "pairs": len(met.pairs),
        "marked": len(met.pairs) - len(met.plain),
        "unlisted": [[list(side) for side in pair] for pair in races.unlisted],
        "further": dict(zip(("races", "neighbours", "never"), _further(races), strict=True)),
    }


def lines(races: Races, *, width: int = 80) -> Iterator[str]:
    """The list for people."""
    yield from _list(races, races.findings, width=width, what="races")
    yield ""
    yield from _list(races, races.documented, width=width, what="documented as racy")
    yield ""
    apart, without = len(races.apart), len(races.without_tape)
    yield from wrapped(
        f"{len(races.findings)} races and {len(races.documented)} documented ones, in"
        f" {races.schedules:,} schedules of {races.scenarios:,} scenarios in"
        f" {races.seconds:.0f} s; with both accesses next to each other on a tape:"
        f" {len(races.entries) - without - apart}; never so in"
        f" {len(races.exhausted):,} exhausted scenarios: {len(races.never)}; neither:"
        f" {apart - len(races.never)}; on no tape: {without}",
        width,
    )
    if races.met is not None:
        yield from _compared(races, races.met, width=width)


def _list(races: Races, entries: Iterable[Entry], *, width: int, what: str) -> Iterator[str]:
    target, listed = races.target, list(entries)
    yield f"{what}: {len(listed) or 'none'}"
    for number, entry in enumerate(listed, 1):
        race = entry.race
        yield ""
        for at, side in enumerate((race.first, race.second)):
            held = ", ".join(target.names.object(lock) for lock in side.held) or "nothing"
            text = f"{target.names.function_line(side.pc)} {VERBS.get(side.kind, side.kind)}"
            head = f"{number:3}. " if at == 0 else " " * 5
            yield from wrapped(f"{head}{text}, holding {held}", width, indent=" " * 7)
        text = f"     {target.names.object(race.object)}; {entry.count:,} times;"
        yield from wrapped(f"{text} {_shown(entry.tape)}", width, indent=" " * 7)
        if entry.never and entry.looked is not None:
            why = exhausted.words(target, entry.looked)
            yield from wrapped(f"     {why}", width, indent=" " * 7)
        if races.met is not None:
            yield from wrapped(f"     {_second(races, entry)}", width, indent=" " * 7)


def _second(races: Races, entry: Entry) -> str:
    """What ThreadSanitizer says of a race."""
    reported = races.reported(entry)
    return f"ThreadSanitizer {'reports it, too' if reported else 'did not report it'}"


def _further(races: Races) -> tuple[int, int, int]:
    """How many ThreadSanitizer did not report; of these with neighbours on a tape; never so."""
    further = races.further
    beside = sum(entry.tape is not None and not entry.tape.between for entry in further)
    return len(further), beside, sum(entry.never for entry in further)


def _shown(tape: Tape | None) -> str:
    """What the tape shows of a race."""
    if tape is None:
        return "no tape with the two next to each other was built"
    if not tape.between:
        return f"next to each other at step {tape.step} of a tape"
    return f"at step {tape.step} of a tape, {tape.between} accesses apart"


def _compared(races: Races, met: tsan.Met, *, width: int) -> Iterator[str]:
    """The second opinion."""
    yield ""
    unlisted = races.unlisted
    said = "each is in the list" if not unlisted else f"{len(unlisted)} are NOT in the list:"
    yield from wrapped(
        f"ThreadSanitizer, {met.rounds:,} rounds of {met.scenarios} scenarios on real threads in"
        f" {met.seconds:.0f} s: {len(met.pairs)} pairs, {len(met.pairs) - len(met.plain)} of them"
        f" with a marked access; of the others {said}",
        width,
    )
    for one, other in unlisted:
        yield from wrapped(f"  {one.place} {one.kind}, {other.place} {other.kind}", width)
    further, beside, never = _further(races)
    yield from wrapped(
        f"of the {len(races.entries)} in the list it reported {len(races.entries) - further}; of"
        f" the other {further}, {beside} have both accesses next to each other on a tape, {never}"
        f" never do, as said there; neither: {further - beside - never}",
        width,
    )


def print_races(console: Console, races: Races) -> None:
    """The list for people."""
    target = races.target
    report.say(console, f"{target.name} {target.version}, build {target.build_id}")
    for line in lines(races, width=console.width):
        console.print(Text(line), soft_wrap=True)
