# SPDX-License-Identifier: GPL-2.0-only
"""The verb `sanitize`: the corpus and random scenarios under each sanitizer that there is.

A flavour (build.program) is the plain C program with another engine side: `asan` has
AddressSanitizer and UndefinedBehaviorSanitizer at once, so there is no flavour of the latter alone;
`tsan` has ThreadSanitizer, on real threads. The instrumented objects are the target's own, so a
tape is valid in each flavour, and a replay whose digest is not the one that Python saw is a report.

The kernel's file races by design, so that ThreadSanitizer says a lot. What our own detector lists
too, and what is marked (READ_ONCE), is counted as known; everything else is a report. So is
silence: where the whole corpus shows no race at all, ThreadSanitizer is blind. It watches the
kernel's side only: the engine's locks, if it saw them, would order all that the kernel leaves open.

gcc and clang can both do it. Where a compiler has not the library of a flavour, the other flavour
is played, and the status is 2.

What was played and what was said is kept in the cache folder, for whoever wants to see it again.
"""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import build
import cleanrace
from cleanrace import Case, Scenario, Target, words
from fuzz import cluster, corpus, executor, generate, keeping, sanitizing, store, tsan
from fuzz.command import (
    Failure,
    KernelOption,
    TargetOption,
    app,
    collect,
    console,
    ensure,
    leave,
    number,
    stages,
)
from fuzz.executor import Executor, Outcome, Unit
from fuzz.report import say
from fuzz.sanitizing import INPUT, summary_of

FLAVOURS = ("asan", "tsan")
RANDOM = 20_000  # byte strings for asan
PER_SCENARIO = 500  # of them, one scenario for tsan: real threads are that much slower
ROUNDS = 100  # of a scenario on real threads
BATCHES = 8  # of random byte strings at least, each a unit
BATCH_MOST = 5_000  # of them in a unit
SEARCHED = 2_000  # schedules for one that shows a case's verdict, where the case has no tape
DETECTED = (2_000, 50_000)  # schedules in which our detector should list a race, then surely
LISTEN_SECONDS = 0.2
WARNING = "WARNING: ThreadSanitizer: "  # how each of its reports begins


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is replayed: scenario and tape, and what the replay must end with, if that is known."""

    name: str
    data: bytes
    planted: int = 0
    ends: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a sanitizer said: its summary, all of it, and the command that shows it again."""

    name: str
    summary: str
    text: str
    again: str


@dataclass(kw_only=True)
class Row:
    """One line of the table. known: races that were met and are the kernel's own."""

    flavour: str
    what: str
    inputs: int = 0
    seconds: float = 0.0
    known: set[tsan.Pair] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)


def quiet(_text: str) -> None:
    """Show nothing."""


def folder() -> Path:
    """Where inputs and texts of reports are kept."""
    return build.cache_folder() / "sanitize"


def inputs(target: Target) -> Iterator[Input]:
    """The corpus as inputs: with the tape that shows a case's verdict, where there is one."""
    for path in corpus.paths():
        case = Case.read(path)
        if not corpus.applies(case, target):
            continue
        planted = tuple(bug for bug in words.PLANTED if bug in case.broken)
        tape = _tape(target, case, planted)
        # As the program runs it: with everything judged, and its own limit of steps.
        result = cleanrace.run(target, case.scenario, tape, planted=planted)
        bits = target.bits("planted", planted, argument="planted")
        name = path.parent.name if path.stem == "scenario" else path.stem
        ends = f"digest {result.digest:016x}"
        yield Input(name=name, data=case.scenario.to_bytes() + tape, planted=bits, ends=ends)


def _tape(target: Target, case: Case, planted: tuple[str, ...]) -> bytes:
    """The schedule that the case keeps, or one that a short search meets, or the default one."""
    if case.switches or case.tape:
        try:
            return keeping.replayed(target, case).tape
        except cleanrace.NotExpressible:
            return case.tape
    if case.expect == "ok":
        return case.tape
    how = {"planted": planted, "judged": case.judged, "steps_max": case.steps_max}
    met = cleanrace.search(
        target, case.scenario, schedules=SEARCHED, stop_on=(case.expect,), detect=True, **how
    )
    if not met.violations.get(case.expect):
        return case.tape
    first = met.first[case.expect]
    return cleanrace.run(target, case.scenario, policy="random", schedule=first, **how).tape


def kept(
    target: Target, one: Input, command: Sequence[str], *, flavour: str, summary: str, text: str
) -> Report:
    """The report, after its input and its text have been put where they can be looked at.

    The names are those of the input and the summary: a text has addresses.
    """
    program = sanitizing.program(target, flavour)
    about = [one.name, one.data.hex(), *command, summary]
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{program.name}-{digest}"
    if one.data:
        file.write_bytes(one.data)
    file.with_name(f"{file.name}.txt").write_text(text)
    again = [str(file) if word == INPUT else word for word in command]
    return Report(
        name=one.name, summary=summary, text=text, again=shlex.join([str(program), *again])
    )


def answers(
    workers: Executor, units: Sequence[Unit], show: Callable[[str], None] = quiet
) -> Iterator[dict[str, Any]]:
    """The answer to each unit, in their order, whoever is done first; show: how far it is."""
    outcomes: dict[Unit, Outcome] = {}
    for unit in units:
        workers.submit(unit)
    for unit in units:
        while unit not in outcomes:
            outcomes |= workers.results(LISTEN_SECONDS)
            show(f"{len(units) - workers.left:,} of {len(units):,}")
        answer, broken = outcomes.pop(unit)
        if broken:
            raise store.Broken(broken)
        if "lacks" in answer:
            raise Failure(answer["lacks"])
        yield answer


def asan_units(
    workers: Executor,
    target: Target,
    listed: Sequence[tuple[Input, list[str]]],
    show: Callable[[str], None],
) -> list[Report]:
    """Start the program once for each, with these arguments."""
    units = []
    for one, command in listed:
        arguments = {"flavour": "asan", "command": command, "data": one.data.hex()}
        arguments["ends"] = one.ends
        units.append(Unit(kind="sanitize", arguments=arguments, about=one.name))
    return [
        kept(target, one, command, flavour="asan", **answer)
        for (one, command), answer in zip(listed, answers(workers, units, show), strict=True)
        if answer
    ]


def asan_corpus(
    workers: Executor,
    target: Target,
    listed: Sequence[Input],
    show: Callable[[str], None] = quiet,
) -> list[Report]:
    """Replay each input once."""
    return asan_units(workers, target, [(one, [INPUT, str(one.planted)]) for one in listed], show)


def asan_random(
    workers: Executor,
    target: Target,
    count: int,
    seed: int,
    show: Callable[[str], None] = quiet,
) -> list[Report]:
    """So many random byte strings, some in each unit."""
    batches = min(count, max(BATCHES, -(-count // BATCH_MOST)))
    listed = []
    for batch in range(batches):
        share = count // batches + (batch < count % batches)
        one = Input(name=f"random, seed {seed + batch}", data=b"")
        listed.append((one, ["--random", str(share), str(seed + batch)]))
    return asan_units(workers, target, listed, show)


def tsan_scenarios(
    workers: Executor,
    target: Target,
    listed: Sequence[Scenario],
    seed: int,
    show: Callable[[str], None] = quiet,
) -> tuple[set[tsan.Pair], list[Report]]:
    """Races that were met and are known, and reports of everything else."""
    ours: set[tsan.Pair] = set()  # what our detector lists so far
    met: set[tsan.Pair] = set()
    reports = []
    inputs = [Input(name=_title(scenario), data=scenario.to_bytes()) for scenario in listed]
    units = []
    for one in inputs:
        arguments = {"flavour": "tsan", "rounds": ROUNDS, "seed": seed, "data": one.data.hex()}
        units.append(Unit(kind="sanitize", arguments=arguments, about=one.name))
    for scenario, one, said in zip(listed, inputs, answers(workers, units, show), strict=True):
        text = said["text"]
        pairs, others = races(text, tsan.Code(said["start"], said["bytes"], target))
        for schedules in DETECTED:
            if any(not tsan.is_marked(pair) for pair in pairs - met - ours):
                ours |= tsan.detect(target, [scenario], schedules=schedules)
        for pair in sorted(pairs - met - ours):
            if not tsan.is_marked(pair):
                others.append(f"a race that our detector does not list: {_words(pair)}")
        met |= pairs  # each is reported once
        command = ["--threads", str(ROUNDS), INPUT, "0", str(seed)]
        reports += [
            kept(target, one, command, flavour="tsan", summary=summary, text=text)
            for summary in others
        ]
    return {pair for pair in met if pair in ours or tsan.is_marked(pair)}, reports


def _title(scenario: Scenario) -> str:
    return " | ".join("; ".join(_names(thread)) for thread in scenario.threads)


def _names(operations: Iterable[cleanrace.Operation]) -> list[str]:
    return [operation.name for operation in operations]


def _words(pair: tsan.Pair) -> str:
    return " and ".join(f"{side.kind} at {side.place}" for side in pair)


def races(text: str, code: tsan.Code) -> tuple[set[tsan.Pair], list[str]]:
    """What ThreadSanitizer said: pairs of accesses of the kernel, and summaries of all else.

    A race without one of its two places, because the thread did too much since, says nothing.
    """
    pairs: set[tsan.Pair] = set()
    others = []
    for said in text.split(WARNING)[1:]:
        report = f"{WARNING}{said}"
        found = tsan.pairs(report, code)
        pairs |= found
        lost = "failed to restore the stack" in said
        if not found and not (said.startswith("data race") and lost):
            others.append(summary_of(said))
    if WARNING not in text and text.strip():  # it died, maybe with ThreadSanitizer's own words
        others.append(summary_of(text))
    return pairs, others


def lacking(flavour: str) -> str:
    """Why the compiler cannot link a flavour, or nothing."""
    plan = build.make_plan(build.OURS)
    with TemporaryDirectory() as work:
        empty = Path(work, "empty.c")
        empty.write_text("int main(void) { return 0; }\n")
        flags = plan.flags(flavour, f"{flavour} link")
        made = build.run(*plan.compiler, *flags, empty, "-o", Path(work, "empty"))
        if made.returncode == 0:
            return ""
        error = build.first_error(made.stderr)
        return f"{plan.version} cannot link it ({error}): install its library, or set another CC"


def run(
    target: Target,
    *,
    count: int = RANDOM,
    seed: int = 1,
    jobs: int = 1,
    cluster: str | None = None,
    show: Callable[[str], None] = quiet,
) -> Iterator[Row]:
    """Everything, row by row, by so many workers (see executor.opened)."""
    now = ""

    def shown(far: str) -> None:
        show(f"{now}, {far}")

    def row(flavour: str, what: str, count: int, play: Callable[[Row], list[Report]]) -> Row:
        nonlocal now
        now = f"{flavour}: {what}"
        show(now)
        made = Row(flavour=flavour, what=what, inputs=count)
        begin = time.monotonic()
        made.reports = play(made) if count else []
        made.seconds = time.monotonic() - begin
        return made

    def raced(made: Row, listed: Sequence[Scenario]) -> list[Report]:
        made.known, reports = tsan_scenarios(workers, target, listed, seed, shown)
        return reports

    show("build the flavours")
    there = [flavour for flavour in FLAVOURS if not lacking(flavour)]
    for flavour in there:
        _built(target, flavour)
    show("look for the corpus's schedules")
    listed = list(inputs(target)) if "asan" in there else []
    with executor.opened(target, jobs=jobs, cluster=cluster, show=show) as workers:
        if "asan" in there:
            yield row("asan", "corpus", len(listed),
                      lambda _: asan_corpus(workers, target, listed, shown))  # fmt: skip
            yield row("asan", "random", count,
                      lambda _: asan_random(workers, target, count, seed, shown))  # fmt: skip
        if "tsan" in there:
            scenarios = [one for one in dict.fromkeys(corpus.scenarios()) if len(one.threads) > 1]
            drawn = -(-count // PER_SCENARIO)
            random = [generate.scenario(Random(seed + at)) for at in range(drawn)]
            first = row("tsan", "corpus", len(scenarios), lambda made: raced(made, scenarios))
            first.reports += blind(sanitizing.program(target, "tsan"), first)
            yield first
            yield row("tsan", "random", len(random), lambda made: raced(made, random))


def blind(program: Path, played: Row) -> list[Report]:
    """A report, unless ThreadSanitizer met a race in the corpus, which has many."""
    if played.known or played.reports or not played.inputs:
        return []
    what = f"ThreadSanitizer is blind: {played.inputs} scenarios that race showed no race at all"
    again = shlex.join([str(program), "--threads", str(ROUNDS), "FILE"])
    return [Report(name="the corpus", summary=what, text="", again=again)]


def _built(target: Target, flavour: str) -> None:
    """Make the flavour's program of this very build."""
    try:
        sanitizing.program(target, flavour)
    except sanitizing.Lacking as error:
        raise Failure(str(error)) from None


def print_rows(out: Console, rows: Sequence[Row]) -> None:
    """What is behind the table: what the flavours are, and each kind of report once."""
    say(out, "asan is AddressSanitizer and UndefinedBehaviorSanitizer in one program")
    print_races(out, rows)
    alike: dict[tuple[str, str], list[Report]] = {}
    for row in rows:
        for report in row.reports:
            alike.setdefault((row.flavour, report.summary), []).append(report)
    for (flavour, summary), reports in alike.items():
        more = f" (and {len(reports) - 1} more such)" if len(reports) > 1 else ""
        say(out, f"{flavour}, {reports[0].name}: {summary}{more}")
        out.print(Text(f"  {reports[0].again}"), soft_wrap=True)
    if alike:
        say(out, f"texts and inputs are in {folder()}")


def print_races(out: Console, rows: Sequence[Row]) -> None:
    """What ThreadSanitizer met that is no report."""
    if not any(row.flavour == "tsan" for row in rows):
        return
    known = set().union(*(row.known for row in rows))
    marked = sum(map(tsan.is_marked, known))
    say(
        out,
        f"tsan plays {ROUNDS} rounds of each scenario on real threads; it met {len(known) - marked}"
        f" races that are in the list of 'run.py races' and {marked} of marked accesses, which are"
        " no reports",
    )


@app.command("sanitize")
def sanitize_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    count: Annotated[
        int,
        typer.Option(
            "--random", **number("--random", int, 0, 10**9), help="Random byte strings, too."
        ),
    ] = RANDOM,
    seed: Annotated[
        int, typer.Option(**number("--seed", int, 0, 2**32), help="Of what is random.")
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Workers; default all cores."),
    ] = None,
    on: cluster.ClusterOption = None,
) -> None:
    """Replay the corpus, and random scenarios, under each sanitizer."""
    cluster.check(on)
    out = console()
    loaded = ensure(out, target, kernel)
    head = f"{'flavour':<9}{'what':<8}{'inputs':>11}{'seconds':>9}{'reports':>9}"

    with stages(out) as show:
        where = {"jobs": cluster.jobs(jobs, on), "cluster": on}
        rows, cut = collect(run(loaded, count=count, seed=seed, **where, show=show))
    out.print(Text(head))
    for row in rows:
        line = f"{row.flavour:<9}{row.what:<8}{row.inputs:>11,}{row.seconds:>9.1f}"
        out.print(Text(f"{line}{len(row.reports):>9}"))
    print_rows(out, rows)
    if cut:
        leave(out, f"{len(rows)} of {2 * len(FLAVOURS)} rows")
    if any(row.reports for row in rows):
        raise typer.Exit(1)
    missing = {flavour: why for flavour in FLAVOURS if (why := lacking(flavour))}
    if missing:
        raise Failure(f"{' and '.join(missing)} cannot be played: {next(iter(missing.values()))}")
