# SPDX-License-Identifier: GPL-2.0-only
"""The verb `sanitize`: the corpus and random scenarios under each sanitizer that there is.

A flavour (build.program) is the plain C program with another engine side: `asan` has
AddressSanitizer and UndefinedBehaviorSanitizer at once, so there is no flavour of the latter alone;
`tsan` has ThreadSanitizer, on real threads. The instrumented objects are the target's own, so a
tape is valid in each flavour, and a replay whose digest is not the one that Python saw is a report.

The kernel's file races by design, so that ThreadSanitizer says a lot. What our own detector lists
too, and what is marked (READ_ONCE), is counted as known; everything else is a report.

What was played and what was said is kept in the cache folder, for whoever wants to see it again.
"""

import hashlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import build
import cleanrace
from cleanrace import Case, Scenario, Target, words
from fuzz import campaign, corpus, generate, keeping, tsan
from fuzz.command import Failure, KernelOption, TargetOption, app, console, ensure, number, stages
from fuzz.report import say

RANDOM = 20_000  # byte strings for asan
PER_SCENARIO = 500  # of them, one scenario for tsan: real threads are that much slower
ROUNDS = 100  # of a scenario on real threads
BATCHES = 8  # of random byte strings, each a process
SEARCHED = 2_000  # schedules for one that shows a case's verdict, where the case has no tape
DETECTED = (2_000, 50_000)  # schedules in which our detector should list a race, then surely
STUCK_SECONDS = 300.0  # no process takes that long
# A report must not look like a violation, whose status is 1.
OPTIONS = {
    "ASAN_OPTIONS": "exitcode=99",
    "LSAN_OPTIONS": "exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


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


def play(program: Path, one: Input, arguments: Sequence[str]) -> Report | None:
    """Run the program; what its sanitizer reported, or how it ended in another way."""
    command = [str(program), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=STUCK_SECONDS,
            stdin=subprocess.DEVNULL,
            env=os.environ | OPTIONS,
        )
    except subprocess.TimeoutExpired:
        return kept(program, one, command, summary="it hangs", text="")
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode in (0, 1) and not done.stderr and last.endswith(one.ends) and last:
        return None
    text = done.stderr or done.stdout
    summary = summary_of(done.stderr) or f"status {done.returncode}, it ended with {last!r}"
    if done.returncode in (0, 1) and not done.stderr:
        summary = f"another trace: {last!r} does not end with {one.ends!r}"
    return kept(program, one, command, summary=summary, text=text)


def summary_of(text: str) -> str:
    """The line of a sanitizer's report that says it all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for wanted in (r"runtime error:", r"^SUMMARY:", r"ERROR:"):
        for line in lines:
            if re.search(wanted, line):
                return line
    return lines[0] if lines else ""


def kept(program: Path, one: Input, command: Sequence[str], *, summary: str, text: str) -> Report:
    """The report, after its input and its text have been put where they can be looked at."""
    digest = hashlib.sha256(one.data + text.encode()).hexdigest()[:12]
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    again = list(command)
    if one.data:
        file = place / f"{program.name}-{digest}"
        file.write_bytes(one.data)
        again = [str(file) if Path(word).name == INPUT else word for word in command]
    (place / f"{program.name}-{digest}.txt").write_text(text)
    return Report(name=one.name, summary=summary, text=text, again=shlex.join(again))


INPUT = "input-of-sanitize"  # the file's name while it is played


@contextmanager
def threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that start nothing more once the block was left, as by an interrupt."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def asan_corpus(program: Path, listed: Sequence[Input], *, jobs: int) -> list[Report]:
    """Replay each input once."""

    def one(given: Input) -> Report | None:
        with TemporaryDirectory() as work:
            file = Path(work, INPUT)
            file.write_bytes(given.data)
            return play(program, given, [str(file), str(given.planted)])

    with threads(jobs) as pool:
        return [report for report in pool.map(one, listed) if report is not None]


def asan_random(program: Path, count: int, seed: int, *, jobs: int) -> list[Report]:
    """So many random byte strings, some in each process."""
    batches = min(BATCHES, count)
    shares = [count // batches + (number < count % batches) for number in range(batches)]

    def one(batch: tuple[int, int]) -> Report | None:
        number, share = batch
        given = Input(name=f"random, seed {seed + number}", data=b"")
        return play(program, given, ["--random", str(share), str(seed + number)])

    with threads(jobs) as pool:
        return [report for report in pool.map(one, enumerate(shares)) if report is not None]


def tsan_scenarios(
    program: Path, target: Target, listed: Sequence[Scenario], seed: int, *, jobs: int
) -> tuple[set[tsan.Pair], list[Report]]:
    """Races that were met and are known, and reports of everything else."""
    code = tsan.code_of(program, target)
    ours: set[tsan.Pair] = set()  # what our detector lists so far
    met: set[tsan.Pair] = set()
    reports = []

    def one(scenario: Scenario) -> str:
        try:
            return tsan.play(program, scenario, rounds=ROUNDS, seed=seed)
        except tsan.TsanError as error:
            if "FATAL" in str(error):
                raise  # it cannot run on this machine
            return str(error)

    with threads(jobs) as pool:
        for scenario, text in zip(listed, pool.map(one, listed), strict=True):
            pairs, others = races(text, code)
            for schedules in DETECTED:
                if any(not tsan.is_marked(pair) for pair in pairs - met - ours):
                    ours |= tsan.detect(target, [scenario], schedules=schedules)
            for pair in sorted(pairs - met - ours):
                if not tsan.is_marked(pair):
                    others.append(f"a race that our detector does not list: {_words(pair)}")
            met |= pairs  # each is reported once
            command = [str(program), "--threads", str(ROUNDS), INPUT, "0", str(seed)]
            title = " | ".join("; ".join(_names(thread)) for thread in scenario.threads)
            given = Input(name=title, data=scenario.to_bytes())
            reports += [
                kept(program, given, command, summary=summary, text=text) for summary in others
            ]
    return {pair for pair in met if pair in ours or tsan.is_marked(pair)}, reports


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
    for said in text.split("WARNING: ThreadSanitizer: ")[1:]:
        report = f"WARNING: ThreadSanitizer: {said}"
        found = tsan.pairs(report, code)
        pairs |= found
        lost = "failed to restore the stack" in said
        if not found and not (said.startswith("data race") and lost):
            others.append(summary_of(said))
    if "ThreadSanitizer" not in text and text.strip():
        others.append(summary_of(text))
    return pairs, others


def run(
    target: Target,
    *,
    count: int = RANDOM,
    seed: int = 1,
    jobs: int = 1,
    show: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Everything, row by row."""
    rows = []

    def row(flavour: str, what: str, count: int, play: Callable[[Row], list[Report]]) -> None:
        show(f"{flavour}: {what}")
        made = Row(flavour=flavour, what=what, inputs=count)
        begin = time.monotonic()
        made.reports = play(made) if count else []
        made.seconds = time.monotonic() - begin
        rows.append(made)

    def raced(made: Row, listed: Sequence[Scenario]) -> list[Report]:
        made.known, reports = tsan_scenarios(threaded, target, listed, seed, jobs=jobs)
        return reports

    show("build the flavours")
    plain = _program(target, "asan")
    show("look for the corpus's schedules")
    listed = list(inputs(target))
    row("asan", "corpus", len(listed), lambda _: asan_corpus(plain, listed, jobs=jobs))
    row("asan", "random", count, lambda _: asan_random(plain, count, seed, jobs=jobs))
    if not threadable(target):
        return rows
    threaded = _program(target, "tsan")
    scenarios = [one for one in dict.fromkeys(corpus.scenarios()) if len(one.threads) > 1]
    random = [generate.scenario(Random(seed + at)) for at in range(-(-count // PER_SCENARIO))]
    row("tsan", "corpus", len(scenarios), lambda made: raced(made, scenarios))
    row("tsan", "random", len(random), lambda made: raced(made, random))
    return rows


def threadable(target: Target) -> bool:
    """Whether ThreadSanitizer can be had: our hooks pass on to gcc's library only."""
    return "clang" not in str(target.info["compiler"])


def _program(target: Target, flavour: str) -> Path:
    """The flavour's program of this very build."""
    program = build.program(target.name, flavour=flavour)
    if program.parent != target.module.parent:
        raise Failure(f"{program} is not of build {target.build_id}: files have changed since")
    return program


def print_rows(out: Console, target: Target, rows: Sequence[Row]) -> None:
    """What is behind the table: what the flavours are, and each kind of report once."""
    say(out, "asan is AddressSanitizer and UndefinedBehaviorSanitizer in one program")
    print_races(out, target, rows)
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


def print_races(out: Console, target: Target, rows: Sequence[Row]) -> None:
    """What ThreadSanitizer met that is no report, or why it was not played."""
    if not threadable(target):
        say(out, "tsan was not played: it needs gcc, and this target was built with clang")
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
        typer.Option(**number("--jobs", int, 1, 1024), help="Processes; default all cores."),
    ] = None,
) -> None:
    """Replay the corpus, and random scenarios, under each sanitizer."""
    out = console()
    loaded = ensure(out, target, kernel)
    rows: list[Row] = []
    head = f"{'flavour':<9}{'what':<8}{'inputs':>11}{'seconds':>9}{'reports':>9}"

    with stages(out) as show:
        try:
            rows = run(loaded, count=count, seed=seed, jobs=jobs or campaign.cores(), show=show)
        except tsan.TsanError as error:
            raise Failure(str(error)) from None
    out.print(Text(head))
    for row in rows:
        line = f"{row.flavour:<9}{row.what:<8}{row.inputs:>11,}{row.seconds:>9.1f}"
        out.print(Text(f"{line}{len(row.reports):>9}"))
    print_rows(out, loaded, rows)
    raise typer.Exit(1 if any(row.reports for row in rows) else 0)
