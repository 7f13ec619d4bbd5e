#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Race a target and say what was found; without a verb, a whole campaign.

    python fuzz/run.py [--time SECONDS] [--target NAME | --kernel PATH] ...
    python fuzz/run.py explore FILE | prove | replay FILE | premises | targets

Exit status: 0 nothing new, 1 new findings (replay: the finding shows), 2 usage or build error,
3 the harness itself failed. An error of the user's is one line and never a traceback.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    import typer
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    import build
    import cleanrace
    from cleanrace import Target
except ModuleNotFoundError as error:
    print(
        f"the Python package {error.name} is not installed for {sys.executable}: run"
        " 'pip install -e .' in the checkout",
        file=sys.stderr,
    )
    sys.exit(2)

from fuzz import (  # noqa: E402
    bench,
    bugs,
    campaign,
    certificate,
    explore,
    places,
    prove,
    races,
    replaying,
    report,
    scenarios,
    store,
    tsan,
)

# The base of all usage errors; typer carries it under no public name of its own.
UsageFailure: Any = typer.BadParameter.__mro__[2]

LIVE_SECONDS = 0.1  # between two states of the live line
PLAIN_SECONDS = 10.0  # between two lines of progress where there is no terminal

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=__doc__,
)

TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="A target, see 'targets'.")
]
KernelOption = Annotated[
    Path | None,
    typer.Option("--kernel", metavar="PATH", help="A kernel tree of Linux 4.1 to 5.16."),
]


class Failure(Exception):
    """One line for the user, who can do something about it."""


def number(option: str, kind: type, least: int, most: int) -> dict[str, Any]:
    """How typer reads a number of this kind and range, with errors in our words."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise Failure(f"{option} {text}: expected {what} from {least} to {most}")
        return value

    return {"parser": parse, "metavar": "SECONDS" if kind is float else "N"}


def console() -> Console:
    """Standard output: as wide as the terminal, or 80 columns."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 80)
    return Console(width=width, highlight=False)


def ensure(out: Console, target: str | None, kernel: Path | None) -> Target:
    """Build the target if its build is stale, with progress, and load it."""
    if target is not None and kernel is not None:
        raise Failure("--target and --kernel exclude each other: give one of them")
    with progress(out) as show:
        info = build.ensure(target=target, kernel=kernel, progress=show)
    loaded = Target(info)
    loaded.table("verdicts")  # fails now rather than in the middle if it cannot be loaded
    report.notice(out, info)
    return loaded


@contextmanager
def progress(out: Console) -> Iterator[Callable[[str, int, int], None]]:
    """What build.ensure reports: a bar on a terminal, a line per stage elsewhere."""
    if not out.is_terminal:
        stages: set[str] = set()

        def plain(stage: str, _done: int, _total: int) -> None:
            if stage not in stages:
                stages.add(stage)
                out.print(Text(f"{stage} ..."))

        yield plain
        return
    with Live(console=out, auto_refresh=False, transient=True) as live:

        def bar(stage: str, done: int, total: int) -> None:
            width = max(5, min(30, out.width - len(stage) - 10))
            filled = width * done // max(1, total)
            text = f"{stage} [{'#' * filled}{'.' * (width - filled)}]"
            live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)

        yield bar


@contextmanager
def status(out: Console) -> Iterator[campaign.Shown]:
    """The campaign's progress: one live line on a terminal, plain lines elsewhere."""
    if not out.is_terminal:
        last: dict[str, Any] = {"phase": "", "seconds": 0.0}

        def plain(phase: str, done: float, now: campaign.Report) -> None:
            seconds = monotonic()
            if phase == last["phase"] and seconds - last["seconds"] < PLAIN_SECONDS:
                return
            last.update(phase=phase, seconds=seconds)
            out.print(Text(line(phase, done, now)), soft_wrap=True)

        yield plain
        return
    drawn = {"at": 0.0}
    with Live(console=out, auto_refresh=False, transient=True) as live:

        def show(phase: str, done: float, now: campaign.Report) -> None:
            clock = monotonic()
            if clock - drawn["at"] < LIVE_SECONDS:
                return
            drawn["at"] = clock
            text = Text(line(phase, done, now), overflow="ellipsis", no_wrap=True)
            live.update(text, refresh=True)

        yield show


@contextmanager
def stages(out: Console) -> Iterator[Callable[[str], None]]:
    """What a verb is doing: one live line on a terminal, a line now and then elsewhere."""
    if not out.is_terminal:
        last = {"at": -PLAIN_SECONDS}

        def plain(text: str) -> None:
            if monotonic() - last["at"] >= PLAIN_SECONDS:
                last["at"] = monotonic()
                out.print(Text(f"{text} ..."), soft_wrap=True)

        yield plain
        return
    with Live(console=out, auto_refresh=False, transient=True) as live:

        def show(text: str) -> None:
            live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)

        yield show


def line(phase: str, done: float, now: campaign.Report) -> str:
    """The status line, the most important first, since a narrow terminal cuts it."""
    parts = [f"{phase} {100 * done:.0f} %"]
    if now.rows:
        parts.append(f"{now.summary.schedules:,} schedules")
        parts.append(f"{len(now.new)} new, {len(now.known)} known")
        parts.append(f"{len(now.edges)} edges")
    return ", ".join(parts)


@app.callback(invoke_without_command=True)
def main_command(
    context: typer.Context,
    *,
    time: Annotated[
        float,
        typer.Option(
            **number("--time", float, 1, 10**6), help="Seconds for everything after the build."
        ),
    ] = 60.0,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Processes; default all cores."),
    ] = None,
    target: TargetOption = None,
    kernel: KernelOption = None,
    seed: Annotated[
        int, typer.Option(**number("--seed", int, 0, 2**63), help="Of everything drawn.")
    ] = 1,
    engine: Annotated[
        str, typer.Option(help="fiber (every choice ours) or thread (real threads).")
    ] = "fiber",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything as JSON, too.")
    ] = None,
    findings: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where new findings are kept; default findings/ in the checkout.",
            show_default=False,
        ),
    ] = store.FINDINGS,
    planted: Annotated[
        list[str] | None,
        typer.Option(metavar="BUG", help="Switch on a planted bug: see what findings look like."),
    ] = None,
) -> None:
    """Race a target: a planted bug, the corpus, random search, Atheris, Hypothesis."""
    if context.invoked_subcommand is not None:
        return
    if engine not in ("fiber", "thread"):
        raise Failure(f"--engine {engine}: expected fiber or thread")
    names = cleanrace.words.PLANTED
    for bug in planted or ():
        if bug not in names:
            raise Failure(f"--planted {bug}: expected one of {', '.join(names)}")
    if json is not None:
        places.check_file("--json", json)
    places.check_folder("--findings", findings)
    out = console()
    loaded = ensure(out, target, kernel)
    places.check_folder("--findings", folder(findings, loaded, planted))
    options = campaign.Options(
        seconds=time,
        jobs=jobs or campaign.cores(),
        seed=seed,
        engine=engine,
        planted=tuple(name for name in names if name in (planted or ())),
        findings=findings,
    )
    with status(out) as show:
        done = campaign.Campaign(loaded, options, show=show).run()
    report.print_report(out, done)
    if json is not None:
        report.write_json(json, done, command=sys.argv[1:])
    raise typer.Exit(done.status)


def folder(findings: Path, target: Target, planted: list[str] | None) -> Path:
    """Where findings will go; --findings itself as long as that is missing or empty."""
    path = store.folder_of(findings, target, planted or ())
    return path if findings.exists() else findings


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file.")],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Fold nothing.")] = False,
) -> None:
    """Replay a scenario file: its tape, or a search where it has none; show the race."""
    if not file.exists():
        raise Failure(f"{file}: there is no such scenario file, corpus/litmus/ has some")
    case = cleanrace.Case.read(file)
    out = console()
    loaded = ensure(out, target, kernel)
    raise typer.Exit(replaying.replay(out, loaded, file, case, everything=everything))


@app.command("explore")
def explore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file.")],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    policy: Annotated[
        str, typer.Option(help="dpor (one execution per class) or dfs (every interleaving).")
    ] = "dpor",
    bound: Annotated[
        int | None,
        typer.Option(**number("--bound", int, 0, 1000), help="Preemptions at most, with dfs."),
    ] = None,
    points: Annotated[
        str, typer.Option(help="sync (synchronisation and what races) or all (every access).")
    ] = "sync",
    jobs: Annotated[int, typer.Option(**number("--jobs", int, 1, 64), help="Processes.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupt stopped it.")
    ] = False,
    time: Annotated[
        float | None, typer.Option(**number("--time", float, 0.1, 10**6), help="Seconds at most.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
    findings: Annotated[
        Path, typer.Option(metavar="DIR", help="Where tapes are kept.", show_default=False)
    ] = store.FINDINGS,
) -> None:
    """Exhaust one scenario: every interleaving, or the simplest that violates a property."""
    for option, value, known in (
        ("--policy", policy, ("dpor", "dfs")),
        ("--points", points, ("sync", "all")),
    ):
        if value not in known:
            raise Failure(f"{option} {value}: expected {' or '.join(known)}")
    if bound is not None and policy != "dfs":
        raise Failure(f"--bound {bound}: only --policy dfs has a bound, give both")
    if not file.exists():
        raise Failure(f"{file}: there is no such scenario file, corpus/litmus/ has some")
    case = cleanrace.Case.read(file)
    if json is not None:
        places.check_file("--json", json)
    places.check_folder("--findings", findings)
    out = console()
    loaded = ensure(out, target, kernel)
    options = explore.Options(
        policy=policy,
        bound=bound,
        points=points,
        jobs=jobs,
        seconds=time,
        resume=resume,
        findings=findings,
    )
    with explore.shown(out, PLAIN_SECONDS) as show:
        outcome = explore.Exploring(loaded, case, options, show).run()
    status = explore.report(
        out, loaded, outcome, path=file, case=case, options=options, json_file=json
    )
    raise typer.Exit(status)


@app.command("prove")
def prove_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    bound: Annotated[
        str,
        typer.Option(
            metavar="BOUND",
            help="default, small, apart, larger, or registrations/mounts/unmounts/page operations.",
        ),
    ] = "default",
    every: Annotated[
        bool, typer.Option("--every", help="Also the scenarios that others cover.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Processes; default all cores."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last run of this bound stopped.")
    ] = False,
    time: Annotated[
        float | None, typer.Option(**number("--time", float, 0.1, 10**6), help="Seconds at most.")
    ] = None,
    certificate_file: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Where the certificate goes."),
    ] = None,
    findings: Annotated[
        Path, typer.Option(metavar="DIR", help="Where tapes are kept.", show_default=False)
    ] = store.FINDINGS,
) -> None:
    """Exhaust every scenario within a bound, and write a certificate."""
    scenarios.parse(bound)
    if certificate_file is not None:
        places.check_file("--certificate", certificate_file)
    places.check_folder("--findings", findings)
    out = console()
    loaded = ensure(out, target, kernel)
    options = prove.Options(
        bound=bound,
        every=every,
        jobs=jobs or campaign.cores(),
        seconds=time,
        resume=resume,
    )
    with explore.shown(out, PLAIN_SECONDS) as show:
        proving = prove.Proving(loaded, options, show)
        proof = proving.run()
    files = certificate.keep(proof, findings)
    certificate.print_proof(out, proof, files)
    if proof.done:
        path = certificate_file or proving.path.with_suffix(".json")
        explore.write_promoted(loaded, [pc for one in proof.results for pc in one["promoted"]])
        store.write(path, certificate.text(certificate.certificate(proof, files)))
        report.say(out, f"certificate: {store.shown(path)}")
    else:
        more = " ".join(arg for arg in sys.argv[1:] if arg != "--resume")
        report.say(out, f"not finished; to go on: python fuzz/run.py {more} --resume")
    raise typer.Exit(proof.status)


@app.command("premises")
def premises_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
) -> None:
    """Break the proof's four premises one at a time, then search with all intact."""
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    raise typer.Exit(replaying.premises(out, loaded, json=json))


@app.command("bench")
def bench_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    time: Annotated[
        float, typer.Option(**number("--time", float, 1, 10**6), help="Seconds of measuring.")
    ] = bench.SECONDS,
    bugs_only: Annotated[
        bool, typer.Option("--bugs", help="Instead: how soon each policy finds each known bug.")
    ] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Instead: policies, points and mixes compared.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(**number("--seeds", int, 1, 10**4), help="Searches per policy and bug."),
    ] = None,
    cap: Annotated[
        int, typer.Option(**number("--cap", int, 1, 10**9), help="Schedules of such a search.")
    ] = bugs.CAP,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """Measure how fast schedules are, beside the bare limit and the thread engine."""
    if bugs_only and ablation:
        raise Failure("--bugs and --ablation exclude each other: give one of them")
    if seeds is not None and not (bugs_only or ablation):
        raise Failure(f"--seeds {seeds}: only --bugs and --ablation search from seeds")
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    with stages(out) as show:
        if bugs_only or ablation:
            wanted = bugs.Wanted(seeds=seeds, cap=cap, ablation=ablation)
            bugs.print_bugs(out, loaded, wanted, json, command=sys.argv[1:], show=show)
        else:
            done = bench.run(loaded, seconds=time, show=show)
            bench.print_bench(out, done)
            if json is not None:
                bench.write_json(json, done, command=sys.argv[1:])


@app.command("races")
def races_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    time: Annotated[
        float, typer.Option(**number("--time", float, 1, 10**6), help="Seconds of searching.")
    ] = races.SECONDS,
    tsan_seconds: Annotated[
        float | None,
        typer.Option(
            "--tsan",
            **number("--tsan", float, 1, 10**6),
            help="Seconds of the real ThreadSanitizer, too.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """List the data races of a target, each with a tape that has both sides next to each other."""
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    with stages(out) as show:
        try:
            found = races.run(loaded, seconds=time, tsan_seconds=tsan_seconds, show=show)
        except tsan.TsanError as error:
            raise Failure(f"--tsan: {error}") from None
    races.print_races(out, found)
    if json is not None:
        races.write_json(json, found, command=sys.argv[1:])


@app.command("targets")
def targets_command() -> None:
    """List the targets that are built, and those that can be."""
    out = console()
    built = {found.name: found for found in cleanrace.targets()}
    for name in sorted({build.DEFAULT, build.REFERENCE} | set(built)):
        if name in built:
            found = built[name]
            text = f"{name}: version {found.version}, sha256 {found.sha256[:12]}, build"
            report.say(out, f"{text} {found.build_id}")
        else:
            report.say(out, f"{name}: not built, run 'python build.py --target {name}'")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        result = app(args=arguments, prog_name="run.py", standalone_mode=False)
        status = result if isinstance(result, int) else 0
    except typer.Exit as error:
        status = int(error.exit_code)
    except UsageFailure as error:
        status = failed(f"{error.format_message()} (see --help)", 2)
    except (typer.Abort, KeyboardInterrupt):
        status = failed("interrupted", 130)
    except store.Broken as error:
        status = failed(str(error), 3)
    except (
        Failure,
        places.Unwritable,
        scenarios.BadBound,
        build.BuildError,
        cleanrace.TargetError,
        cleanrace.ScenarioError,
    ) as error:
        status = failed(str(error), 2)
    except OSError as error:
        name = error.filename or "input or output"
        status = failed(f"{name}: {error.strerror or error}", 2)
    return status


def failed(line: str, status: int) -> int:
    """One line on standard error."""
    print("run.py: " + " ".join(line.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
