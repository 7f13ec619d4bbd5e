# SPDX-License-Identifier: GPL-2.0-only
"""The verbs `corpus merge`, `corpus minimise` and `corpus stats`: folders of fuzzer inputs.

What an input adds is counted in a process of its own that runs all of them in one order, the
smaller first: edges of the kernel side and interleaving pairs that none before it reached. An
input at which that process dies is left out and named. Files are added whole and removed one by
one, those that add nothing, so that a kill leaves a folder that reaches as much; and doing it
again changes nothing.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from cleanrace import Scenario, Target
from fuzz import places, serve_folder, store
from fuzz.command import (
    Failure,
    KernelOption,
    TargetOption,
    app,
    console,
    ensure,
    folder_there,
    planted_bugs,
    stages,
)
from fuzz.pool import Member, Pool
from fuzz.report import say
from fuzz.serve_folder import Layout
from fuzz.serve_supervisor import PROGRAM

LITMUS = store.ROOT / "corpus"
MERGED = "merged"  # what the names of inputs that were merged begin with
IN_FLIGHT = 200  # inputs that the process is given ahead

corpus_app = typer.Typer(
    help="Fuzzer inputs: merge folders, leave out what adds nothing, say what there is.",
    rich_markup_mode=None,
)
app.add_typer(corpus_app, name="corpus")

PlantedOption = Annotated[
    list[str] | None, typer.Option("--planted", metavar="BUG", help="Switch on a planted bug.")
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder of serve, or of inputs.")
]


@dataclass
class Measured:
    """What inputs reach. added: per input that adds something, how much; in the order of running.

    dead: inputs at which the process died, with its last words.
    """

    added: dict[Path, int] = field(default_factory=dict)
    dead: dict[Path, str] = field(default_factory=dict)
    edges: int = 0
    pairs: int = 0


def measure(
    target: Target,
    paths: Sequence[Path],
    *,
    planted: Sequence[str] = (),
    show: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run inputs in this order; begins anew without an input at which the process died."""
    dead: dict[Path, str] = {}
    while True:
        measured, died = _measure_once(
            target, [path for path in paths if path not in dead], planted=planted, show=show
        )
        measured.dead = dead
        if died is None:
            return measured
        dead[died[0]] = died[1]


def _measure_once(
    target: Target,
    paths: Sequence[Path],
    *,
    planted: Sequence[str],
    show: Callable[[str], None],
) -> tuple[Measured, tuple[Path, str] | None]:
    measured = Measured()
    heard = 0

    def hear(_member: Member, message: dict[str, Any]) -> None:
        nonlocal heard
        if "measured" in message:
            heard += 1
            if message["added"]:
                measured.added[Path(message["measured"])] = message["added"]
            measured.edges, measured.pairs = message["edges"], message["pairs"]

    job = {
        "parent": os.getpid(),
        "nice": 0,
        "post": "measure",
        "target": target.info,
        "planted": list(planted),
        "corpus": str(paths[0].parent.parent if paths else Path.cwd()),
        "findings": str(Path.cwd()),
        "deadline": 1e18,
    }
    with Pool(hear, program=PROGRAM) as pool:
        member = pool.start("measure", job, stay=True)
        given = 0
        while not member.ended:
            while given < len(paths) and given - heard < IN_FLIGHT:
                member.send({"input": str(paths[given])})
                given += 1
            if given == len(paths):
                member.close()
            pool.listen(0.2)
            show(f"{heard} of {len(paths)} inputs")
        if not member.done:
            path = Path(member.at.get("input", ""))
            if path not in paths:
                raise store.Broken(member.obituary())
            return measured, (path, f"exit status {member.process.returncode}")
    return measured, None


def inputs_of(folder: Path) -> list[Path]:
    """The inputs of a folder, the smaller first.

    It is one of `serve`, of one host or all in an exchange folder, of inputs, or of scenario files.
    """
    if folder.is_file():
        return [folder]
    inside = [folder / "inputs", *sorted(folder.glob("*/inputs"))]
    found = [path for one in inside if one.is_dir() for path in one.iterdir() if _is_visible(path)]
    if not any(one.is_dir() for one in inside):
        scenarios = sorted(folder.rglob(f"*{store.SUFFIX}"))
        found = scenarios or [path for path in folder.iterdir() if _is_visible(path)]
    sized = []
    for path in found:
        data = serve_folder.data_of(path)
        if data is not None and not serve_folder.is_micro(data):
            sized.append((len(data), path.name, path))
    return [path for _, _, path in sorted(sized)]


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")


@corpus_app.command("merge")
def merge_command(
    into: FolderArgument,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FROM", help="Folders of inputs; default the scenarios of corpus/."),
    ] = None,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    planted: PlantedOption = None,
) -> None:
    """Copy what adds native or interleaving coverage into DIR/inputs."""
    for source in sources or ():
        if not source.exists():
            raise Failure(f"{source}: there is no such folder or file")
    places.check_folder("DIR", into)
    names = planted_bugs(planted)
    out = console()
    loaded = ensure(out, target, kernel)
    folder = Layout(into).inputs
    folder.mkdir(parents=True, exist_ok=True)
    have = inputs_of(into)
    offered = sorted(
        (path for source in sources or [LITMUS] for path in inputs_of(source)),
        key=lambda path: (len(serve_folder.data_of(path) or b""), path.name),
    )
    with stages(out) as show:
        measured = measure(loaded, [*have, *offered], planted=names, show=show)
    known = set(have)
    new = [path for path in measured.added if path not in known]
    for path in new:
        data = serve_folder.data_of(path)
        if data is not None:
            serve_folder.put(folder, f"{MERGED}-{serve_folder.digest(data)}", data)
    _dead(out, measured)
    say(
        out,
        f"{len(new)} of {len(offered)} inputs added to {len(have)}: {measured.edges} edges,"
        f" {measured.pairs} interleaving pairs",
    )


@corpus_app.command("minimise")
def minimise_command(
    folder: FolderArgument,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    planted: PlantedOption = None,
) -> None:
    """Remove the inputs of DIR that add nothing to smaller ones."""
    folder_there("", folder)
    names = planted_bugs(planted)
    out = console()
    loaded = ensure(out, target, kernel)
    try:
        with Layout(folder).locked():
            have = inputs_of(folder)
            with stages(out) as show:
                measured = measure(loaded, have, planted=names, show=show)
            gone = [path for path in have if path not in measured.added | measured.dead]
            for path in gone:
                path.unlink(missing_ok=True)
    except serve_folder.Busy as error:
        raise Failure(str(error)) from None
    _dead(out, measured)
    say(
        out,
        f"{len(gone)} of {len(have)} inputs removed: {measured.edges} edges,"
        f" {measured.pairs} interleaving pairs, as before",
    )


@corpus_app.command("stats")
def stats_command(
    folder: FolderArgument = serve_folder.FOLDER,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    planted: PlantedOption = None,
) -> None:
    """Say what the inputs of DIR are and what they reach."""
    folder_there("", folder)
    names = planted_bugs(planted)
    out = console()
    loaded = ensure(out, target, kernel)
    have = inputs_of(folder)
    with stages(out) as show:
        measured = measure(loaded, have, planted=names, show=show)
    sizes = sorted(len(serve_folder.data_of(path) or b"") for path in have)
    methods = Counter(
        path.name.partition("-")[0] if "-" in path.name else "atheris" for path in have
    )
    lengths = Counter(_operations(path) for path in have)
    say(out, f"inputs      {len(have):,}, {len(measured.added):,} of them add something")
    if sizes:
        say(out, f"bytes       {sum(sizes):,}; median {sizes[len(sizes) // 2]}, most {sizes[-1]}")
    say(out, f"edges       {measured.edges:,} of {loaded.info['edges']:,}")
    say(out, f"pairs       {measured.pairs:,}")
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(methods.items()))
    say(out, f"brought by  {told or 'nobody'}")
    told = ", ".join(f"{count:,} with {length}" for length, count in sorted(lengths.items()))
    say(out, f"operations  {told or 'none'}")
    quarantined = len(list(Layout(folder).quarantine.glob("*.json")))
    say(out, f"quarantine  {quarantined:,}")
    _dead(out, measured)


def _operations(path: Path) -> int:
    data = serve_folder.data_of(path)
    return 0 if data is None else sum(map(len, Scenario.from_bytes(data).threads))


def _dead(out: Any, measured: Measured) -> None:
    for path, why in measured.dead.items():
        say(
            out, f"the process died at {store.shown(path)} ({why}): it was left out", style="yellow"
        )
