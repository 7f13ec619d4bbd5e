# SPDX-License-Identifier: GPL-2.0-only
"""The verb `draw`: the picture of a scenario file or a finding, as SVG and as an HTML page.

It shows the run of the file's tape; where that is of another build, a search looks for the
verdict anew, as `replay` does. The page has the lines of local kernel sources beside the steps,
so both files go to the user's folder, never into corpus/.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

import cleanrace
from cleanrace import Case, NotExpressible, Result, Target
from fuzz import corpus, keeping, minimise, page, picture, places, shelf, store
from fuzz.command import Failure, KernelOption, TargetOption, app, console, ensure
from fuzz.report import say


@app.command("draw")
def draw_command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE|FOLDER", help="A scenario file, or a finding's folder."),
    ],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    svg: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the SVG goes; default NAME.svg.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the page goes; default NAME.html.")
    ] = None,
) -> None:
    """Draw a run: a lane per thread, and what went wrong; as SVG and as an HTML page."""
    entry = _entry(file)
    case = Case.read(file) if entry is None else entry.case
    name = file.stem if entry is None else entry.name
    wanted = {
        "--svg": svg or (None if html else Path(f"{name}.svg")),
        "--html": html or (None if svg else Path(f"{name}.html")),
    }
    for option, path in wanted.items():
        if path is not None:
            places.check_file(option, path)
    places.check_apart(wanted)
    page_file = wanted["--html"]
    if page_file is not None and corpus.FOLDER in page_file.resolve().parents:
        raise Failure(f"--html {page_file}: it has lines of kernel sources, so not in corpus/")
    out = console()
    loaded = ensure(out, target, kernel)
    result = showing(loaded, case)
    if wanted["--svg"] is not None:
        text = picture.svg(result, case.scenario, loaded, title=case.title)
        store.write(wanted["--svg"], text)
        say(out, store.shown(wanted["--svg"]))
    if wanted["--html"] is not None:
        text = page.html(
            result,
            case,
            loaded,
            meta=facts(case, file, entry),
            commands=commands(file, target, kernel),
            sources=True,
            explanation="" if entry is None else entry.explanation,
        )
        store.write(wanted["--html"], text)
        say(out, store.shown(wanted["--html"]))


def showing(target: Target, case: Case) -> Result:
    """A run of a case with a full trace that shows what it expects; Failure if none was met."""
    options = keeping.options(case)
    if case.expect == "ok":
        return cleanrace.run(target, case.scenario, case.tape, **options | {"judged": None})
    if case.switches or case.tape or "build" in case.found:
        try:
            result = keeping.replayed(target, case)
        except NotExpressible:
            result = None
        if result is not None and case.expect in result.verdicts:
            return result
    summary = cleanrace.search(
        target,
        case.scenario,
        schedules=case.within,
        detect=True,
        stop_on=(case.expect,),
        **options | {"judged": case.judged},
    )
    if not summary.violations.get(case.expect):
        raise Failure(
            f"no {case.expect} on {target.name} in {summary.schedules:,} schedules, so there is"
            " nothing to draw"
        )
    finding = store.examine(
        target,
        case.scenario,
        case.expect,
        schedule=summary.first[case.expect],
        planted=options["planted"],
        steps_max=case.steps_max,
    )
    finding = minimise.shorten(target, finding)
    return cleanrace.run(target, case.scenario, finding.tape, **options)


def commands(file: Path, target: str | None = None, kernel: Path | None = None) -> list[str]:
    """The commands that show the run again, from the checkout."""
    path = file.resolve()
    shown = path.relative_to(store.ROOT) if store.ROOT in path.parents else path
    if file.is_dir():
        shown /= shelf.SCENARIO
    more = ["--target", target] if target else ["--kernel", str(kernel)] if kernel else []
    return [
        shlex.join(["python", "fuzz/run.py", verb, str(shown), *more])
        for verb in ("replay", "draw")
    ]


def facts(case: Case, file: Path, entry: shelf.Entry | None = None) -> dict[str, str]:
    """What is known about a finding: its meta file if it has one, and what its case says."""
    known = {"file": store.shown(file)}
    if case.broken:
        known["planted bugs"] = ", ".join(sorted(case.broken))
    if entry is None:
        return known | {f"found: {key}": value for key, value in case.found.items()}
    meta = entry.meta
    return known | {
        "signature": meta.signature,
        "status": meta.status,
        "found on": f"{meta.target}, sha256 {meta.sha256}",
        "found with": meta.compiler,
        "found by": meta.found_by,
        "date": meta.date,
        "schedules until found": "" if meta.schedules is None else f"{meta.schedules:,}",
        "preemptions": f"{meta.preemptions}{', none shows it with fewer' if meta.fewest else ''}",
    }


def _entry(file: Path) -> shelf.Entry | None:
    """The finding on the shelf that is meant; None if it is a scenario file."""
    if not file.exists():
        raise Failure(f"{file}: there is no such scenario file, corpus/litmus/ has some")
    try:
        return shelf.read(file) if file.is_dir() else None
    except shelf.Unreadable as error:
        raise Failure(str(error)) from None
