#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Race a target and say what was found; without a verb, a whole campaign.

    python fuzz/run.py [--time SECONDS] [--target NAME | --kernel PATH] ...
    python fuzz/run.py replay FILE | premises | targets

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

from fuzz import campaign, places, replaying, report, store  # noqa: E402

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
