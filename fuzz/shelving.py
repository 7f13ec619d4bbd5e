# SPDX-License-Identifier: GPL-2.0-only
"""The verbs about findings that are kept: `findings` lists and checks them, `minimise` makes them.

`minimise` takes scenario files or folders with a schedule or a search behind them, and what
campaigns left waiting. What it finds goes on the shelf; what waited goes once it is there.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cleanrace import Case, Target
from fuzz import cluster, executor, keeping, places, shelf, smaller, store
from fuzz.command import (
    Failure,
    KernelOption,
    TargetOption,
    app,
    console,
    ensure,
    folder_there,
    number,
    planted_bugs,
    stages,
)
from fuzz.executor import Executor, Outcome, Unit
from fuzz.minimise import Show
from fuzz.report import say

CHECK_SCHEDULES = 20_000  # of a search for a finding whose switches do not show it
LISTEN_SECONDS = 0.2
WIDE = 70  # columns from which on a table has all of its columns

raw = keeping.raw

FindingsOption = Annotated[
    Path,
    typer.Option(
        "--findings",
        metavar="DIR",
        help="The shelf; default corpus/findings/.",
        show_default=False,  # it is below this checkout, wherever that is
    ),
]


@app.command("findings")
def findings_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Replay each on this target and update its status.")
    ] = False,
    planted: Annotated[
        list[str] | None,
        typer.Option(metavar="BUG", help="With --check: a planted bug that is there now."),
    ] = None,
    findings: FindingsOption = shelf.FOLDER,
) -> None:
    """List the findings that are kept; with --check, replay every one."""
    folder_there("--findings", findings)
    bugs = planted_bugs(planted)
    out = console()
    entries, unreadable = shelf.entries(findings)
    if not check:
        if target is not None or kernel is not None or planted:
            raise Failure("--target, --kernel and --planted need --check: add it")
        _list(out, entries)
        status = 0
    else:
        status = _check(out, ensure(out, target, kernel), entries, bugs)
    for line in unreadable:
        print(f"run.py: {line}", file=sys.stderr)
    raise typer.Exit(2 if unreadable else status)


def _list(out: Console, entries: Sequence[shelf.Entry]) -> None:
    if not entries:
        say(out, "no findings are kept")
        return
    table = Table(show_edge=False, pad_edge=False)
    columns = ("finding", "status", "target", "found by", "date")
    shown = columns if out.width >= WIDE else columns[:2]
    for column in shown:
        table.add_column(column, overflow="fold")
    for entry in entries:
        planted = "".join(f"+{bug}" for bug in entry.meta.planted)
        by = entry.meta.found_by.partition(",")[0]
        cells = (entry.name, entry.meta.status, entry.meta.target + planted, by, entry.meta.date)
        table.add_row(*cells[: len(shown)])
    out.print(table)
    counts = {status: sum(e.meta.status == status for e in entries) for status in shelf.STATUSES}
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    say(out, f"{len(entries)} findings: {listed}")


def _check(
    out: Console, target: Target, entries: Sequence[shelf.Entry], planted: Sequence[str]
) -> int:
    """Replay all; 1 if one shows that should not, or does not show and is expected to."""
    say(out, f"on {target.name} {target.version}, build {target.build_id}")
    amiss = checked = 0
    for entry in entries:
        if entry.case.target not in ("any", store.kind(target)):
            say(out, f"  {entry.name}: not for this kind of target")
            continue
        checked += 1
        met, how = keeping.check(target, entry, planted=planted, schedules_max=CHECK_SCHEDULES)
        status = entry.meta.status
        if status != "expected":
            status = "open" if met else "fixed"
        amiss += met != (entry.meta.status == "expected")
        changed = f", was {entry.meta.status}" if status != entry.meta.status else ""
        say(out, f"  {entry.name}: {'shows' if met else 'does not show'}, {how}; {status}{changed}")
        if changed:
            try:
                shelf.update(replace(entry, meta=replace(entry.meta, status=status)))
            except shelf.Unreadable as error:
                say(out, f"WARNING: {error}", style="bold yellow")
    if not checked:
        say(out, "nothing was checked: no finding is for this kind of target")
        return 3
    say(out, f"checked {checked}: {checked - amiss} as they should be, {amiss} not")
    return 1 if amiss else 0


@dataclass
class _Done:
    """What a minimisation of many files came to."""

    raw: int = 0
    new: list[shelf.Entry] = field(default_factory=list)
    known: dict[str, shelf.Entry] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@app.command("minimise")
def minimise_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE|FOLDER", help="Findings; default those that wait on the shelf."
        ),
    ] = None,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    time: Annotated[
        float,
        typer.Option(**number("--time", float, 1, 10**6), help="Seconds at most for each."),
    ] = 60.0,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Workers; default this process."),
    ] = None,
    on: cluster.ClusterOption = None,
    findings: FindingsOption = shelf.FOLDER,
) -> None:
    """Minimise findings: the fewest threads, operations and preemptions that show the same bug."""
    cluster.check(on)
    cases = _named(paths) if paths else _waiting(findings)
    if not cases:
        say(console(), f"nothing waits in {store.shown(findings)} to be minimised")
        return
    places.check_folder("--findings", findings)
    out = console()
    loaded = ensure(out, target, kernel)
    done = _Done()
    where = {"jobs": cluster.jobs(jobs, on) if on or jobs else 0, "cluster": on}
    with stages(out) as show:
        try:
            with executor.opened(loaded, **where, ahead=1, show=show) as workers:
                for path, case, outcome in _minimised(workers, cases, time, show):
                    _keep(out, loaded, (path, case, outcome), done, root=findings)
        except KeyboardInterrupt:
            say(out, "interrupted: what is on the shelf is whole, the rest is where it was")
    total = len(done.new) + len(done.known)
    say(
        out,
        f"{done.raw} of {len(cases)} findings minimised: {total} distinct, {len(done.new)} of"
        f" them new on the shelf",
    )
    for line in done.failed:
        say(out, line, style="bold yellow")
    for line in done.broken:
        say(out, f"HARNESS FAILED: {line}", style="bold red")
    raise typer.Exit(3 if done.broken else 1 if done.failed else 0)


def _minimised(
    workers: Executor, cases: Sequence[tuple[Path, Case]], seconds: float, show: Show
) -> Iterator[tuple[Path, Case, Outcome]]:
    """What becomes of each, the simplest first, in the same order whoever is done first."""
    waiting: deque[tuple[Path, Case, Unit]] = deque()
    for path, case in sorted(cases, key=lambda one: smaller.rank(one[1].scenario)):
        arguments = {"case": case.to_text(), "seconds": seconds}
        waiting.append((path, case, Unit(kind="minimise", arguments=arguments, about=str(path))))
        workers.submit(waiting[-1][-1])
    outcomes: dict[Unit, Outcome] = {}
    while waiting:
        outcomes |= workers.results(LISTEN_SECONDS)
        while waiting and waiting[0][-1] in outcomes:
            path, case, unit = waiting.popleft()
            yield path, case, outcomes[unit]
        show(f"minimising: {len(cases) - workers.left} of {len(cases)}")


def _named(paths: Sequence[Path]) -> list[tuple[Path, Case]]:
    """The cases in files and folders that the user named; Failure where there is none."""
    for path in paths:
        if not path.exists():
            raise Failure(f"{path}: there is no such file or folder")
    found = _cases(paths)
    if not found:
        where = ", ".join(map(str, paths))
        raise Failure(f"{where}: there are no scenario files (*{store.SUFFIX}) there")
    return found


def _waiting(findings: Path) -> list[tuple[Path, Case]]:
    """The cases that wait on a shelf."""
    folder_there("--findings", findings)
    return _cases([findings / shelf.PENDING] if (findings / shelf.PENDING).is_dir() else [])


def _cases(paths: Sequence[Path]) -> list[tuple[Path, Case]]:
    cases = [(path, Case.read(path)) for path in _files(paths)]
    for path, case in cases:
        if case.expect == "ok":
            raise Failure(f"{path}: it expects ok, so there is nothing to minimise")
    return cases


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.rglob(f"*{store.SUFFIX}") if file.is_file())
        # What the thread engine met once and no tape repeats is kept, and is no finding.
        found += [file for file in inside if file.parent.name != "unreproduced"]
    return list(dict.fromkeys(found))


def _keep(
    out: Console,
    target: Target,
    minimised: tuple[Path, Case, Outcome],
    done: _Done,
    *,
    root: Path,
) -> None:
    """Put on the shelf what came out of a file, with what else was met on the way."""
    path, case, outcome = minimised
    answer = outcome.answer
    if outcome.broken:
        done.broken.append(outcome.broken)
        return
    if not answer:
        done.failed.append(f"{store.shown(path)}: {case.expect} does not show here")
        return
    minimal = Case.from_text(answer["case"])
    meta = shelf.Meta(**(answer["meta"] | {"planted": tuple(answer["meta"]["planted"])}))
    kept = shelf.keep(minimal, meta, root=root, **answer["files"])
    done.raw += 1  # only now: an interrupt leaves it where it was
    for line in kept.aside:
        say(out, f"WARNING: {line}", style="bold yellow")
    key = "+".join((kept.entry.meta.signature, *kept.entry.meta.planted))
    if kept.new:
        done.new.append(kept.entry)
    elif kept.entry.folder not in [entry.folder for entry in done.new]:
        done.known[key] = kept.entry
    unfinished = "" if answer["finished"] else ", not finished in the time"
    threads = minimal.scenario.threads
    say(
        out,
        f"{store.shown(path)}: {'new' if kept.new else 'known'}, {store.shown(kept.entry.folder)}:"
        f" {len(threads)} threads, {sum(map(len, threads))} operations,"
        f" {answer['schedule']}{unfinished}",
    )
    if shelf.PENDING in path.parts:
        for other in map(store.Finding.from_json, answer["others"]):
            where = store.folder_of(root / shelf.PENDING, target, other.planted)
            file = where / store.file_name(other)
            known, _ = keeping.known(target, planted=other.planted, root=root)
            if other.signature not in known:
                store.keep(file, store.to_case(target, other))
                say(out, f"  it also met {other.signature}: {store.shown(file)}")
        path.unlink()  # last, so that whoever ends us loses nothing
