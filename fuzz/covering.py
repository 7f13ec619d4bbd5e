# SPDX-License-Identifier: GPL-2.0-only
"""The verb `coverage`: what the corpus and a little of every method reach, as HTML.

One page, index.html, has the kernel side line by line and the interleavings of each pair of
functions; it leads to gcovr's pages about our C and coverage.py's about our Python. All four are
measured in the same process (covered.py): its module has the target's own instrumented objects,
so that decision points stay where they are, and an engine side that counts lines (the flavour
`coverage`). The page shows lines of a kernel's source, so it is refused inside the repository
unless git ignores the folder.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

import build
from cleanrace import Target
from fuzz import commit, covered_lines, page, places, premises, store
from fuzz.command import Failure, KernelOption, TargetOption, app, console, ensure, number, stages
from fuzz.report import say

FLAVOUR = "coverage"
COUNT = 5_000
NEEDED = ("gcovr", "coverage")
C_PAGES, PYTHON_PAGES = "c/index.html", "python/index.html"
INSTALL = "pip install -e '.[coverage]'"

STYLE = """
tr.hit td.number{border-left:4px solid #2f8f4e}tr.part td.number{border-left:4px solid #c58a00}
tr.miss td.number{border-left:4px solid #c0392b}td.number{padding-left:8px}
table.counts td{white-space:nowrap}
table.source td{border:0;padding:0 10px 0 8px;white-space:pre}
table.source{display:block;overflow-x:auto}
@media (max-width:760px){table.source,table.counts{display:block;overflow-x:auto}
table.counts td,table.counts th{padding:4px 14px 4px 0;white-space:nowrap}
table.source tbody,table.counts tbody{display:table-row-group}
table.source tr,table.counts tr{display:table-row}
table.source td,table.counts td,table.counts th{display:table-cell}}
"""
NOTES = """
Measured in one process: the corpus, random inputs, every policy, a small exploration, real
threads. Of our Python it is the modules that this loads; those of the other verbs are not here.

An edge is a basic block of the compiler's; a line is partly reached where one of its blocks was
not, as at a condition that always went the same way. What runs once, while the module is loaded,
is before any counting and so counts as not reached.

Interleavings: in sampled schedules of the corpus, a place of the first function touched an object
and a place of the second function, in another thread, was the next to touch it, at least one of
them writing. Distinct interleavings are happens-before classes in which that happened.
""".strip().split("\n\n")


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Two functions in whose accesses threads met, in this order."""

    first: str
    second: str
    places: int
    interleavings: int


@dataclass(kw_only=True)
class Covered:
    """All that was measured. c and python: (lines reached, lines, branches reached, branches)."""

    target: Target
    kernel: covered_lines.Kernel
    meetings: list[Meeting] = field(default_factory=list)
    scenarios: int = 0
    c: tuple[int, int, int, int] = (0, 0, 0, 0)
    python: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def rows(self) -> list[tuple[str, str, tuple[int, int], tuple[int, int]]]:
        """Name, page, lines and branches of each of the parts."""
        unit, models = [], []
        for file in self.kernel.files:
            (unit if file.name.startswith(covered_lines.SOURCE) else models).append(file)
        ours = self.target.info["kind"] == build.REFERENCE
        return [
            ("the reference" if ours else "the kernel's file", "", *self._of(unit)),
            ("what plays the kernel", "", *self._of(models)),
            ("our C", C_PAGES, self.c[:2], self.c[2:]),
            ("our Python", PYTHON_PAGES, self.python[:2], self.python[2:]),
        ]

    def _of(self, files: Sequence[covered_lines.File]) -> tuple[tuple[int, int], tuple[int, int]]:
        lines = [blocks for file in files for blocks in file.lines.values()]
        edges = {block for blocks in lines for block in blocks}
        return self.kernel.lines(lines), self.kernel.edges(edges)


def module(target: Target, into: Path) -> Path:
    """The target's module with an engine side that counts lines, and gcov's notes beside it."""
    program = build.program(target.name, flavour=FLAVOUR)
    folder = program.parent
    if folder != target.module.parent:
        raise Failure(f"{program} is not of build {target.build_id}: files have changed since")
    plan = build.make_plan(build.find(target.name, None, lambda *_: None))
    *kept, binding = sorted(folder.glob("objects/*.o"))
    *engine, _ = sorted(folder.glob(f"{FLAVOUR}/*.o"))  # main.c comes last
    output = into / target.module.name
    kept = kept[: len(plan.instrumented)]
    build.link(plan, output, "-shared", *plan.flags(FLAVOUR), *kept, *engine, binding)
    for notes in folder.glob(f"{FLAVOUR}/*.gcno"):
        shutil.copy(notes, into)
    return output


def measure(
    target: Target,
    into: Path,
    *,
    count: int = COUNT,
    seed: int = 1,
    show: Callable[[str], None] = lambda _: None,
) -> Covered:
    """Measure everything; gcovr's and coverage.py's pages go into a folder."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        show("build the flavour coverage")
        info = target.info | {"module": str(module(target, work))}
        (work / "info.json").write_text(json.dumps(info))
        # Counts go where the notes are, whatever folder the objects were compiled in.
        environment = os.environ | {"GCOV_PREFIX": folder, "GCOV_PREFIX_STRIP": "99"}
        show("run corpus, inputs and methods")
        script = [store.ROOT / "fuzz/covered.py", "info.json", "out.json", str(count), str(seed)]
        ours = ",".join(f"{store.ROOT / name}/*.py" for name in ("fuzz", "pybind/cleanrace"))
        options = ["--branch", "--data-file=python.data", f"--include={ours}"]
        _tool("coverage", "run", *options, *script, cwd=work, env=environment)
        _programs(build.program(target.name, flavour=FLAVOUR), work, environment)
        measured = json.loads((work / "out.json").read_text())
        show("write pages")
        own = Target(info)
        with ThreadPoolExecutor() as pool:
            c = pool.submit(_c_pages, work, into, info)
            python = pool.submit(_python_pages, work, into)
            return Covered(
                target=target,
                kernel=covered_lines.kernel(info, own.module, measured["edges"]),
                meetings=meetings(own, measured["pairs"]),
                scenarios=measured["scenarios"],
                c=c.result(),
                python=python.result(),
            )


def _programs(program: Path, work: Path, environment: dict[str, str]) -> None:
    """The plain program too, in each way that it can be started."""
    file = work / "input"
    file.write_bytes(premises.MAIN.to_bytes())
    for arguments in ([file], ["--threads", "5", file], ["--random", "500", "1"], []):
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode not in (0, 1, 2):
            raise Failure(f"{program} ended with status {done.returncode}: {done.stderr[:200]}")


def _tool(name: str, *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a tool that is a Python module, or say in one line why it failed."""
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
        raise Failure(f"{name} {arguments[0]} failed: {last}")


def _c_pages(work: Path, into: Path, info: dict[str, Any]) -> tuple[int, int, int, int]:
    out = into / C_PAGES
    out.parent.mkdir(parents=True, exist_ok=True)
    gcov = ["--gcov-executable", "llvm-cov gcov"] if "clang" in info["compiler"] else []
    found = ["--json-summary", work / "c.json", "--html-details", out]
    filters = ["--root", store.ROOT, "--filter", f"{store.ROOT}/csrc/"]
    _tool("gcovr", *gcov, *filters, *found, work, cwd=store.ROOT)
    said = json.loads((work / "c.json").read_text())
    keys = ("line_covered", "line_total", "branch_covered", "branch_total")
    return tuple(said[key] for key in keys)  # type: ignore[return-value]


def _python_pages(work: Path, into: Path) -> tuple[int, int, int, int]:
    data = "--data-file=python.data"
    folder = (into / PYTHON_PAGES).parent
    _tool("coverage", "html", data, "--title=our Python", f"--directory={folder}", cwd=work)
    _tool("coverage", "json", data, "-o", "python.json", cwd=work)
    said = json.loads((work / "python.json").read_text())["totals"]
    keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return tuple(said[key] for key in keys)  # type: ignore[return-value]


def meetings(target: Target, pairs: Sequence[tuple[int, int, list[int]]]) -> list[Meeting]:
    """The measured pairs of places by function, those with most interleavings first."""
    name = target.names.function_line
    target.names.load({pc for pair in pairs for pc in pair[:2]})
    where: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    classes: dict[tuple[str, str], set[int]] = defaultdict(set)
    for first, second, seen in pairs:
        both = name(first), name(second)
        functions = both[0].rpartition(":")[0], both[1].rpartition(":")[0]
        where[functions].add(both)
        classes[functions].update(seen)
    found = [
        Meeting(
            first=first,
            second=second,
            places=len(where[first, second]),
            interleavings=len(classes[first, second]),
        )
        for first, second in where
    ]
    return sorted(found, key=lambda one: (-one.interleavings, one.first, one.second))


def share(done: int, total: int) -> str:
    """How much of something, in words that a table has room for."""
    return f"{done:,} of {total:,} ({100 * done / total:.0f} %)" if total else "none"


def html(covered: Covered) -> str:
    """The page."""
    target = covered.target
    parts = [
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
        f"<meta http-equiv='Content-Security-Policy' content=\"{escape(page.POLICY)}\">",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Coverage of {escape(target.name)}</title>",
        f"<style>{page.STYLE}{STYLE}</style></head><body>",
        f"<h1 class='ok'>Coverage of {escape(target.name)}</h1>",
        f"<p class='soft'>{escape(target.version)}, build {escape(target.build_id)}</p>",
        *_summary(covered),
        *(f"<p class='soft'>{escape(note)}</p>" for note in NOTES),
        "<h2>Functions of the kernel side</h2>",
        *_functions(covered.kernel),
        f"<h2>Interleavings, in {covered.scenarios} scenarios of the corpus</h2>",
        *_meetings(covered.meetings),
        "<h2>Lines of the kernel side</h2>",
        *(text for file in covered.kernel.files for text in _file(covered.kernel, file)),
        f"<footer>{escape(page.NOT_FOR_GIT)}</footer></body></html>\n",
    ]
    return "\n".join(parts)


def _table(*heads: str) -> str:
    cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f"<table class='counts'><tr>{cells}</tr>"


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _summary(covered: Covered) -> Iterator[str]:
    yield _table("part", "lines", "branches, of the kernel side edges")
    for name, where, lines, branches in covered.rows:
        shown = f"<a href='{escape(where)}'>{escape(name)}</a>" if where else escape(name)
        yield _row(shown, share(*lines), share(*branches))
    yield "</table>"


def _functions(kernel: covered_lines.Kernel) -> Iterator[str]:
    yield _table("function", "file", "lines", "edges")
    for one in kernel.functions:
        lines, edges = kernel.lines(one.lines.values()), kernel.edges(one.blocks)
        cells = (f"<code>{escape(one.name)}</code>", escape(one.file))
        yield _row(*cells, share(*lines), share(*edges))
    yield "</table>"


def _meetings(listed: Sequence[Meeting]) -> Iterator[str]:
    yield _table("first", "then", "pairs of places", "distinct interleavings")
    for one in listed:
        names = (f"<code>{escape(name)}</code>" for name in (one.first, one.second))
        yield _row(*names, f"{one.places:,}", f"{one.interleavings:,}")
    yield "</table>"


def _file(kernel: covered_lines.Kernel, file: covered_lines.File) -> Iterator[str]:
    """The lines of one file, folded unless it is the target's own."""
    opened = " open" if file.name.startswith(covered_lines.SOURCE) else ""
    done = share(*kernel.lines(file.lines.values()))
    yield f"<details{opened}><summary>{escape(file.name)}: {done} lines</summary>"
    yield "<table class='source'>"
    for at in range(1, max([*file.lines, len(file.text)]) + 1):
        blocks = file.lines.get(at)
        text = file.text[at - 1].expandtabs(8) if at <= len(file.text) else ""
        hit, total = kernel.edges(blocks or ())
        state = "" if blocks is None else "hit" if hit == total else "part" if hit else "miss"
        counted = f"{hit}/{total}" if total else ""
        cells = f"<td class='number'>{at}</td><td>{counted}</td><td>{escape(text)}</td>"
        yield f"<tr class='{state}'>{cells}</tr>"
    yield "</table></details>"


def check_folder(folder: Path) -> None:
    """Failure if git could take up what is written there."""
    places.check_folder("-o", folder)
    root = store.ROOT.resolve()
    if not folder.resolve().is_relative_to(root):
        return
    git = commit.Git(root)
    if not git.holds("check-ignore", "--quiet", str(folder.resolve() / "index.html")):
        raise Failure(
            f"-o {folder}: it shows lines of a kernel's source, which must not get into this"
            " repository: name a folder outside of it"
        )


@app.command("coverage")
def coverage_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Where the pages go; default in the cache folder.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--random", **number("--random", int, 0, 10**8), help="Random inputs.")
    ] = COUNT,
    seed: Annotated[
        int, typer.Option(**number("--seed", int, 0, 2**63), help="Of the random inputs.")
    ] = 1,
) -> None:
    """Write an HTML report of what is covered: the kernel side, our C, our Python."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(f"{' and '.join(missing)} cannot be imported: {INSTALL} in the checkout")
    if folder is not None:
        check_folder(folder)
    out = console()
    loaded = ensure(out, target, kernel)
    into = folder or build.cache_folder() / "coverage" / loaded.name
    into.mkdir(parents=True, exist_ok=True)
    into = into.resolve()
    with stages(out) as show:
        covered = measure(loaded, into, count=count, seed=seed, show=show)
    index = into / "index.html"
    store.write(index, html(covered))
    for name, _, lines, branches in covered.rows:
        say(out, f"{name:<22} {share(*lines):>22} lines, {share(*branches):>22} branches")
    met = sum(one.interleavings for one in covered.meetings)
    say(out, f"interleavings: {len(covered.meetings)} pairs of functions, {met:,} distinct")
    say(out, f"report: {index}")
