# SPDX-License-Identifier: GPL-2.0-only
"""What all verbs of the command line share: the app, their options, progress, and their errors.

A module with verbs registers them on `app` and is imported by run.py. Errors of the user's are
raised (Failure, or what a part raises for a bad argument) and become one line in run.py.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

import build
from cleanrace import Target, words
from fuzz import campaign, report

HELP = """Race a target and say what was found; without a verb, a whole campaign.

    python fuzz/run.py [--time SECONDS] [--target NAME | --kernel PATH] ...

Exit status: 0 nothing new, 1 new findings (replay: the finding shows), 2 usage or build error,
3 the harness itself failed, or what was to be exhausted was not; 130 interrupted.
An error of the user's is one line and never a traceback.
"""

_Item = TypeVar("_Item")

LIVE_SECONDS = 0.1  # between two states of the live line
PLAIN_SECONDS = 10.0  # between two lines of progress where there is no terminal

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=HELP,
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


def given(context: typer.Context) -> dict[str, str]:
    """The options that the user gave himself: the name of each in Python, and how it is written."""
    return {
        str(option.name): option.opts[0]
        for option in context.command.params
        if option.param_type_name == "option" and _by_user(context, str(option.name))
    }


def _by_user(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def planted_bugs(names: Iterable[str] | None) -> tuple[str, ...]:
    """The bugs of --planted in their usual order; Failure if one is none."""
    asked = tuple(names or ())
    for bug in asked:
        if bug not in words.PLANTED:
            raise Failure(f"--planted {bug}: expected one of {', '.join(words.PLANTED)}")
    return tuple(name for name in words.PLANTED if name in asked)


def folder_there(option: str, folder: Path) -> None:
    """Failure unless the folder exists."""
    if not folder.is_dir():
        raise Failure(f"{option} {folder}: there is no such folder".lstrip())


class _Output(Console):
    """A console that says when nobody reads it; rich's own would end with status 1, as findings do.

    What waits in its buffer is dropped, so that it is not written again at the end.
    """

    def on_broken_pipe(self) -> None:
        """Nothing more can be said: an error like a full disk, and main() tells it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failure("standard output: nobody reads it any more")


def console() -> Console:
    """Standard output: as wide as the terminal, or 80 columns."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 80)
    return _Output(width=width, highlight=False)


def ensure(out: Console, target: str | None, kernel: Path | None) -> Target:
    """Build the target if its build is stale, with progress, and load it."""
    if target == "":
        raise Failure("--target: the name is empty, see 'targets'")
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


def collect(items: Iterable[_Item]) -> tuple[list[_Item], bool]:
    """What comes, and whether Ctrl-C cut it short: what there is by then is still told.

    Whoever has told it calls leave(). If nothing came, there is nothing to tell.
    """
    made = []
    try:
        for item in items:
            made.append(item)  # noqa: PERF402 - list() would lose them
    except KeyboardInterrupt:
        if made:
            return made, True
        raise
    return made, False


def leave(out: Console, done: str) -> NoReturn:
    """Say how much was done, behind everything that was cut short."""
    report.say(out, f"interrupted: this is what was done so far, {done}")
    raise KeyboardInterrupt


def line(phase: str, done: float, now: campaign.Report) -> str:
    """The status line, the most important first, since a narrow terminal cuts it."""
    parts = [f"{phase} {100 * done:.0f} %"]
    if now.rows:
        parts.append(f"{now.summary.schedules:,} schedules")
        parts.append(f"{len(now.new)} new, {len(now.known)} known")
        parts.append(f"{len(now.edges)} edges")
    return ", ".join(parts)
