# SPDX-License-Identifier: GPL-2.0-only
"""`bisect`: which kernels have a finding, and which revision of a tree brought or ended it.

A finding travels by its named switches, so a kernel costs one build and one run. The two files
of a revision come out of git's objects into the cache; nothing is written to the user's tree, and
revisions with the same two files are built and run once. A revision that cannot be built is left
out, as `git bisect skip` does.

This module is not called bisect: scripts in this folder would import it instead of Python's own.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import build
import cleanrace
from cleanrace import Case, NotExpressible, Target
from fuzz import keeping, shelf, store
from fuzz.command import Failure, app, console, stages
from fuzz.report import say

SHOWS, DOES_NOT, NOT_EXPRESSIBLE = "shows", "does not show", "not expressible"
UNBUILDABLE = "cannot be built"
FILES = (build.UNIT, build.HEADER)
# Git's own variables would point it at another repository than the one that was named.
GIT_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finding on one build. state: SHOWS, DOES_NOT or NOT_EXPRESSIBLE; how: in words.

    tape: of a schedule of this build that shows the verdict, if it does.
    """

    state: str
    how: str
    tape: bytes = b""

    @property
    def shows(self) -> bool:
        """Whether the verdict was seen."""
        return self.state == SHOWS


def read_case(path: Path) -> Case:
    """The case of a scenario file or of a finding's folder; it must expect a verdict."""
    if not path.exists():
        raise Failure(f"{path}: there is no such file or folder, corpus/ has some")
    file = path
    if path.is_dir():
        file = path / shelf.SCENARIO
        if not file.is_file():
            raise Failure(f"{path}: it has no {shelf.SCENARIO}, name a finding's folder or a file")
    case = Case.read(file)
    if case.expect == "ok":
        raise Failure(f"{file}: it expects ok, name a file that expects a verdict")
    return case


def shows(target: Target, case: Case) -> Outcome:
    """Replay a finding on a build: its switches, or its tape in its own build; else a search."""
    options = keeping.options(case)
    state = DOES_NOT
    try:
        tape = keeping.tape(target, case)
        result = cleanrace.run(target, case.scenario, tape, full=False, **options)
        how = "by its tape"
        if case.found.get("build") != target.build_id:
            how = "by its switches" if case.switches else "by the first schedule"
        if case.expect in result.verdicts:
            return Outcome(state=SHOWS, how=how, tape=result.tape)
        how = f"not {how}"
    except NotExpressible as error:
        state, how = NOT_EXPRESSIBLE, f"switch {error.number} ({error.switch})"
    met = cleanrace.search(
        target,
        case.scenario,
        schedules=case.within,
        detect=True,
        stop_on=(case.expect,),
        **options,
    )
    searched = f"{how}; {met.schedules:,} schedules searched"
    if not met.violations.get(case.expect):
        return Outcome(state=state, how=searched)
    found = store.examine(
        target,
        case.scenario,
        case.expect,
        schedule=met.first[case.expect],
        planted=options["planted"],
        steps_max=case.steps_max,
    )
    return Outcome(state=SHOWS, how=searched, tape=found.tape)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kernel: outcome is None if it cannot be built, and `problem` says why."""

    name: str
    sha256: str
    outcome: Outcome | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of a git tree; files: the two files, None where one is missing."""

    commit: str
    date: str
    subject: str
    files: tuple[bytes, bytes] | None

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.commit[:12]} {self.date}"


class Tree:
    """A git tree of the user's, which is only read."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("git"):
            raise Failure("git was not found in PATH: apt-get install git")
        if not folder.is_dir():
            raise Failure(f"--tree {folder}: there is no such folder")
        self.folder = folder
        self.git("rev-parse", "--git-dir")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {key: value for key, value in os.environ.items() if key not in GIT_VARIABLES}
        return subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )

    def git(self, *arguments: str) -> str:
        """What a git command prints; Failure with git's own reason."""
        done = self._run(*arguments)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed"
            raise Failure(f"--tree {self.folder}: {said.splitlines()[0]}")
        return done.stdout.decode(errors="replace")

    def commit(self, name: str) -> str:
        """The full id of a revision that the user named."""
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        done = self._run(*asked)
        if done.returncode != 0:
            raise Failure(f"--range: {self.folder} has no revision {name!r}")
        return done.stdout.decode().strip()

    def revision(self, commit: str) -> Revision:
        """A revision with its two files."""
        date, subject = self.git("show", "-s", "--format=%as%x00%s", commit).strip().split("\0", 1)
        blobs = [self._run("cat-file", "blob", f"{commit}:./{file}") for file in FILES]
        files = None
        if all(blob.returncode == 0 for blob in blobs):
            files = (blobs[0].stdout, blobs[1].stdout)
        return Revision(commit=commit, date=date, subject=subject, files=files)

    def revisions(self, named: str) -> list[Revision]:
        """The good end of a range GOOD..BAD, then all that change the files, oldest first."""
        good, dots, bad = named.partition("..")
        if not (good and dots and bad) or bad.startswith("."):
            raise Failure(f"--range {named}: expected GOOD..BAD, two revisions of the tree")
        first, last = self.commit(good), self.commit(bad)
        if self._run("merge-base", "--is-ancestor", first, last).returncode != 0:
            raise Failure(f"--range {named}: {good} is no ancestor of {bad}")
        listed = ("log", "--reverse", "--topo-order", "--format=%H", f"{first}..{last}", "--")
        commits = self.git(*listed, *FILES).split()
        if not commits:
            raise Failure(f"--range {named}: no revision in it changes {' or '.join(FILES)}")
        found = [self.revision(commit) for commit in (first, *commits)]
        end = self.revision(last)
        # Beside a merge the last one of the list may not be what the end has.
        return found if end.files == found[-1].files else [*found, end]


@dataclass(kw_only=True)
class Runner:
    """Builds kernels and runs the finding on them, each pair of files once."""

    case: Case
    show: Callable[[str], None]
    rows: dict[str, Row] = field(default_factory=dict)

    def on(self, name: str, info: dict[str, object]) -> Row:
        """The finding on a target that is built."""
        self.show(f"running it on {name}")
        target = Target(info)
        return Row(name=name, sha256=target.sha256, outcome=shows(target, self.case))

    def revision(self, revision: Revision) -> Row:
        """The finding on a revision."""
        if revision.files is None:
            problem = f"it lacks {' or '.join(FILES)}"
            return Row(name=revision.name, sha256="-", outcome=None, problem=problem)
        key = hashlib.sha256(b"\0".join(revision.files)).hexdigest()
        if key not in self.rows:
            self.rows[key] = self._build(revision)
        known = self.rows[key]
        return Row(
            name=revision.name, sha256=known.sha256, outcome=known.outcome, problem=known.problem
        )

    def _build(self, revision: Revision) -> Row:
        assert revision.files is not None
        self.show(f"building {revision.name}")
        build.cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=build.cache_folder(), prefix=".revision-") as place:
            for file, content in zip(FILES, revision.files, strict=True):
                path = Path(place, file)
                path.parent.mkdir(parents=True)
                path.write_bytes(content)
            try:
                info = build.ensure(kernel=Path(place))
            except build.BuildError as error:
                digest = hashlib.sha256(revision.files[0]).hexdigest()
                problem = str(error).replace(f"{Path(place).resolve()}/", "")
                return Row(name=revision.name, sha256=digest, outcome=None, problem=problem)
        return self.on(revision.name, info)


def first_change(
    count: int, test: Callable[[int], bool | None], *, first: bool
) -> tuple[int, list[int]]:
    """Where a row of `count` changes from `first` to its opposite, which its last one has.

    test says how number n is, None if that cannot be known; it is asked at most log2 times where
    it always can. Also which ones just before the change are not known.
    """
    low, high = 0, count - 1
    unknown: set[int] = set()
    while True:
        between = [number for number in range(low + 1, high) if number not in unknown]
        if not between:
            return high, sorted(number for number in unknown if low < number < high)
        middle = min(between, key=lambda number: abs(2 * number - low - high))
        found = test(middle)
        if found is None:
            unknown.add(middle)
        elif found == first:
            low = middle
        else:
            high = middle


def kernels(names: Sequence[str], runner: Runner) -> list[Row]:
    """The finding on each kernel: a tree, or the name of a target. All are looked at first."""
    asked: list[tuple[str, str | None, Path | None]] = []
    for name in names:
        is_path = os.sep in name or Path(name).is_dir()
        target, kernel = (None, Path(name)) if is_path else (name, None)
        build.find(target, kernel, lambda *_: None)
        asked.append((name, target, kernel))
    rows = []
    for name, target, kernel in asked:
        shown = name if kernel is None else store.shown(kernel)
        runner.show(f"building {shown}")
        try:
            rows.append(runner.on(shown, build.ensure(target=target, kernel=kernel)))
        except build.BuildError as error:
            rows.append(Row(name=shown, sha256="-", outcome=None, problem=str(error)))
    return rows


def print_rows(out: Console, rows: Sequence[Row], case: Case) -> None:
    """The table, and below it what does not fit into it."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("kernel", overflow="fold")
    table.add_column("sha256", no_wrap=True)
    table.add_column(case.expect, no_wrap=True)
    details: dict[str, list[str]] = {}
    for row in rows:
        state = UNBUILDABLE if row.outcome is None else row.outcome.state
        table.add_row(row.name, row.sha256[:12], state)
        how = row.problem if row.outcome is None else row.outcome.how
        details.setdefault(f"{state}: {how}", []).append(row.name.split()[0])
    out.print(table)
    for detail, names in details.items():
        say(out, f"{', '.join(names)}: {detail}")


def print_range(out: Console, revisions: Sequence[Revision], runner: Runner, *, every: bool) -> int:
    """Search the range, or run all of it; 0 if the verdict changes in it, 1 if not."""
    tested: dict[int, Row] = {}

    def test(number: int) -> bool | None:
        tested[number] = row = runner.revision(revisions[number])
        return None if row.outcome is None else row.outcome.shows

    ends = []
    for number in (0, len(revisions) - 1):
        end = test(number)
        if end is None:
            raise Failure(f"--range: {revisions[number].name}: {tested[number].problem}")
        ends.append(end)
    changes: list[tuple[int, list[int]]] = []
    if every:
        states = [test(number) for number in range(len(revisions))]
        changes = _changes(states)
    elif ends[0] != ends[1]:
        changes = [first_change(len(revisions), test, first=ends[0])]
    print_rows(out, [tested[number] for number in sorted(tested)], runner.case)
    ran = sum(row.outcome is not None for row in runner.rows.values())
    say(out, f"{len(revisions) - 1} revisions change the files; {ran} pairs of files were run")
    if any(row.outcome and row.outcome.state == NOT_EXPRESSIBLE for row in tested.values()):
        say(out, "(not expressible counts as not showing: the kernel lacks a step of it)")
    for number, unknown in changes:
        row = tested[number]
        brought = row.outcome is not None and row.outcome.shows
        what = "first bad revision" if brought else "fixed by revision"
        found = revisions[number]
        say(out, f"{what}: {found.name} {found.subject}", style="bold")
        if unknown:
            names = ", ".join(revisions[at].commit[:12] for at in unknown)
            say(out, f"or one of these, which cannot be built: {names}")
    if not changes:
        again = "" if every else "; --all runs what lies between"
        state = "shows" if ends[0] else "does not show"
        say(out, f"no change: {runner.case.expect} {state} at both ends{again}", style="bold")
    return 0 if changes else 1


def _changes(states: Sequence[bool | None]) -> list[tuple[int, list[int]]]:
    """Every change in a row, and the unknown ones just before it."""
    found: list[tuple[int, list[int]]] = []
    before, unknown = states[0], []
    for number, state in enumerate(states):
        if state is None:
            unknown.append(number)
            continue
        if state != before:
            found.append((number, unknown))
        before, unknown = state, []
    return found


@app.command("bisect")
def bisect_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file or a finding.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="KERNEL", help="Kernel trees, or names of targets."),
    ] = None,
    *,
    tree: Annotated[
        Path | None, typer.Option("--tree", metavar="PATH", help="Instead: a git tree of Linux.")
    ] = None,
    between: Annotated[
        str | None, typer.Option("--range", metavar="GOOD..BAD", help="Its revisions.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run every revision instead of searching.")
    ] = False,
) -> None:
    """Say which kernels have a finding, or which revision of a git tree brought or fixed it."""
    if (tree is None) != (between is None):
        raise Failure("--tree PATH and --range GOOD..BAD belong together: give both")
    if bool(names) == (tree is not None):
        raise Failure("give kernels, or --tree and --range, but not both")
    if every and tree is None:
        raise Failure("--all: only --tree and --range have revisions")
    case = read_case(file)
    out = console()
    if tree is None:
        with stages(out) as show:
            rows = kernels(names or (), Runner(case=case, show=show))
        print_rows(out, rows, case)
        raise typer.Exit(2 if any(row.outcome is None for row in rows) else 0)
    revisions = Tree(tree).revisions(str(between))
    with stages(out) as show:
        status = print_range(out, revisions, Runner(case=case, show=show), every=every)
    raise typer.Exit(status)
