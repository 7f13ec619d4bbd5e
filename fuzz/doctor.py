# SPDX-License-Identifier: GPL-2.0-only
"""The verb `doctor`: what can fail silently on this machine, each with the command that mends it.

A check is one row of CHECKS: a function of the Place it looks at, which says what it measured. It
measures the thing itself: it compiles, fuzzes, finds a planted bug; it does not read settings that
should lead there. What a check needs is named in its row; if that failed, it is not tried, so
that the fault at the bottom is the one that is read.

Exit status: 0 no check failed, 1 one did, 2 usage.
"""

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from rich.text import Text

import build
import cleanrace
from fuzz import corpus, harness, premises, serve_folder, store
from fuzz.command import Failure, TargetOption, app, console
from fuzz.doctor_machine import clock, cores, disk, identity
from fuzz.doctor_place import ATHERIS, FAIL, OK, RUNS, WARN, Place, Said, Untried, said_by

NAME_WIDTH = 13
INDENT = 5 + NAME_WIDTH

# Imported by a process of its own; what a campaign cannot do without comes first.
NEEDED = ("cffi", "elftools", "hypothesis", "rich", "typer")

# Any access and any branch: what the instrumentation must see.
PROBE = "int shared; int probe(int n); int probe(int n) { if (n) shared = n; return shared; }\n"
HOOKS = ("__tsan_read4", "__tsan_write4", "__sanitizer_cov_trace_pc")


def packages(_: Place) -> Said:
    """Python's version, and that what is needed can be imported."""
    script = (
        "import importlib, importlib.metadata as m, sys\n"
        "name = sys.argv[1]\n"
        "importlib.import_module(name)\n"
        "print(m.version({'elftools': 'pyelftools'}.get(name, name)))\n"
    )
    versions, missing = {}, []
    with tempfile.TemporaryDirectory() as work:
        for name in (*NEEDED, ATHERIS):
            try:
                said = said_by([sys.executable, "-c", script, name], cwd=Path(work))
                versions[name] = said.splitlines()[-1]
            except store.Broken as error:
                missing.append(f"{name} ({str(error).partition(': ')[2]})")
    mend = f"{shlex.quote(sys.executable)} -m pip install -e {shlex.quote(str(store.ROOT))}"
    if missing:
        only = missing[0].startswith(f"{ATHERIS} ")
        what = f"cannot be imported: {', '.join(missing)}"
        if only and platform.machine() != "x86_64":
            return Said(state=WARN, text=f"{what}; there is none for this machine", mend=mend)
        return Said(state=FAIL, text=what, mend=mend)
    shown = [f"{name} {versions[name]}" for name in (ATHERIS, "hypothesis", "cffi")]
    return Said(state=OK, text=f"Python {platform.python_version()}, {', '.join(shown)}")


def compiler(_: Place) -> Said:
    """That the compiler builds a library and puts in the hooks that all hangs on."""
    build.check_machine()
    plan = build.make_plan(build.OURS)
    with tempfile.TemporaryDirectory() as work:
        source, obj = Path(work, "probe.c"), Path(work, "probe.o")
        source.write_text(PROBE)
        flags = plan.flags("instrumented", "foreign")
        made = build.run(*plan.compiler, *flags, "-c", source, "-o", obj)
        mend = "apt-get install gcc; unset CC CFLAGS"
        if made.returncode != 0:
            error = build.first_error(made.stderr)
            return Said(state=FAIL, text=f"{plan.version}: {error}", mend=mend)
        with obj.open("rb") as file:
            elf: Any = ELFFile(file)
            symbols = {symbol.name for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
    lacking = [hook for hook in HOOKS if hook not in symbols]
    if lacking:
        what = f"{plan.version} leaves out calls of {', '.join(lacking)}"
        return Said(state=FAIL, text=what, mend=mend)
    return Said(state=OK, text=f"{plan.version}: hooks at accesses and edges")


def sources(place: Place) -> Said:
    """That the kernel's files are there, and are those that are known."""
    if place.target == build.REFERENCE:
        return Said(state=OK, text="our own, in this checkout")
    if not place.sources.is_dir():
        fetch = "python build.py --fetch"
        return Said(state=FAIL, text=f"{place.sources} is not there", mend=fetch)
    source = build.load(place.target, place.sources)
    files = build.KNOWN.get(place.target, ("", "", {}))[2]
    unit = build.sha256(source.folder / source.unit)
    how = f"{len(files)} files as pinned" if files else "of a tree of yours, not pinned"
    return Said(state=OK, text=f"{place.target} {source.version}, sha256 {unit[:12]}, {how}")


def built(place: Place) -> Said:
    """That the newest build is of the files, the compiler and the flags that there are now."""
    usual = place.again.removesuffix(" --force")
    if not place.record.is_file():
        return Said(state=FAIL, text=f"{place.target} is not built", mend=usual)
    plan = build.make_plan(build.find(place.target, None, lambda *_: None))
    now, then = plan.folder.name, place.info["build_id"]
    if now != then:
        what = f"stale: the build is {then}, of the files and the compiler now it would be {now}"
        return Said(state=FAIL, text=what, mend=usual)
    for key in ("module", "program"):
        file = Path(place.info[key])
        if file.parent != plan.folder:
            what = f"{file} is not in {plan.folder}: the cache was copied or moved"
            return Said(state=FAIL, text=what, mend=place.again)
        if not file.is_file():
            return Said(state=FAIL, text=f"{file} is not there", mend=place.again)
    edges = place.info.get("edges", 0)
    return Said(state=OK, text=f"build {now} is of the files as they are, {edges} edges")


def names(place: Place) -> Said:
    """That places and objects of a trace have names."""
    result = cleanrace.run(place.loaded, premises.MAIN)
    accesses = [event for event in result.trace if event.kind in cleanrace.schedule.ACCESSES]
    table = place.loaded.names
    table.load({event.pc for event in accesses if event.pc})
    lines = {table.function_line(event.pc) for event in accesses if event.pc}
    objects = {table.object(event.object) for event in accesses}
    unknown = {line for line in lines if line.startswith("?")}
    unknown |= {thing for thing in objects if "+0x" in thing}
    made_up = {line for line in lines if line.endswith(":0")}  # by the compiler: few have no line
    unknown |= made_up if len(made_up) > len(lines) / 4 else set()
    if unknown or not lines:
        shown = ", ".join(sorted(unknown)[:2])
        what = f"{len(unknown)} of {len(lines | objects)} have none: {shown}"
        return Said(state=FAIL, text=what, mend=place.again)
    return Said(state=OK, text=f"all {len(lines)} places and {len(objects)} objects of a run")


def determinism(place: Place) -> Said:
    """That a tape gives the same trace twice, and in the plain program too."""
    first, second = (cleanrace.run(place.loaded, premises.MAIN, b"\0\1\0\1\1") for _ in range(2))
    digests = [f"{first.digest:016x}", f"{second.digest:016x}"]
    with tempfile.TemporaryDirectory() as work:
        file = Path(work, "input")
        file.write_bytes(premises.MAIN.to_bytes() + b"\0\1\0\1\1")
        done = build.run(place.info["program"], file)
    digests.append((done.stdout.split() or ["nothing"])[-1])
    if len(set(digests)) > 1:
        what = f"the same tape gave the digests {', '.join(digests)}"
        return Said(state=FAIL, text=what, mend=place.again)
    text = f"digest {digests[0]} twice and in the plain program, {first.steps} steps"
    return Said(state=OK, text=text)


def planted(place: Place) -> Said:
    """That the search finds a bug that is there."""
    hit = premises.canary(place.loaded)
    spent = f"{hit.schedules:,} schedules, {hit.seconds:.2f} s"
    if not hit.found:
        what = f"premise {premises.CANARY} is broken and was not found: {spent}"
        return Said(state=FAIL, text=what, mend=place.again)
    return Said(state=OK, text=f"broken premise {premises.CANARY} found: {spent}")


def counters(place: Place) -> Said:
    """That libFuzzer has our counters and sees them grow."""
    mend = "pip install --force-reinstall 'atheris>=3.0'"
    count = re.search(r"\((\d+) inline 8-bit counters\)", place.fuzzed)
    cover = [int(number) for number in re.findall(r" cov: (\d+) ", place.fuzzed)]
    if count is None:
        return Said(state=FAIL, text="libFuzzer was given no counters of ours", mend=mend)
    if not cover or cover[-1] <= cover[0]:
        shown = f"{cover[0]} to {cover[-1]}" if cover else "none"
        what = f"{count[1]} counters, coverage in {RUNS} runs: {shown}, it does not grow"
        return Said(state=FAIL, text=what, mend=place.again)
    grown = f"coverage {cover[0]} to {cover[-1]} in {RUNS} runs"
    return Said(state=OK, text=f"libFuzzer has {count[1]}, {grown}")


def mutator(place: Place) -> Said:
    """That libFuzzer calls the mutator that knows what a scenario is."""
    calls = len(re.findall(r"MS: \d+ \S*Custom-", place.fuzzed))
    if not calls:
        mend = "unset LD_PRELOAD; pip install --force-reinstall 'atheris>=3.0'"
        return Said(state=FAIL, text="libFuzzer never called ours", mend=mend)
    return Said(state=OK, text=f"ours made {calls} of the inputs that libFuzzer kept")


def restarts(place: Place) -> Said:
    """That libFuzzer can start the harness again, as for -fork and -merge."""
    if not os.access(harness.WRAPPER, os.X_OK):
        what = f"{store.shown(harness.WRAPPER)} is not executable: -fork and -merge do nothing"
        return Said(state=FAIL, text=what, mend=f"chmod +x {shlex.quote(str(harness.WRAPPER))}")
    with tempfile.TemporaryDirectory() as work:
        given, kept = Path(work, "given"), Path(work, "kept")
        given.mkdir()
        kept.mkdir()
        for number, tape in enumerate((b"", b"\1")):
            (given / str(number)).write_bytes(premises.MAIN.to_bytes() + tape)
        said = place.merged(kept, given)
        count = len(list(kept.iterdir()))
    features = re.search(r"with (\d+) new features", said)
    if count == 0 or features is None or features[1] == "0":
        what = f"-merge kept {count} of 2 inputs: what libFuzzer started did not run them"
        mend = f"git -C {shlex.quote(str(store.ROOT))} checkout fuzz/harness.sh"
        return Said(state=FAIL, text=what, mend=mend)
    return Said(state=OK, text=f"-merge kept {count} of 2 inputs with {features[1]} features")


def runtimes(place: Place) -> Said:
    """That there is at most one AddressSanitizer, and none inside the module."""
    preloaded = [
        word
        for word in re.split(r"[:\s]+", os.environ.get("LD_PRELOAD", ""))
        if re.search(r"asan|sanitizer_with_fuzzer", Path(word).name)
    ]
    with Path(place.info["module"]).open("rb") as file:
        elf: Any = ELFFile(file)
        tags = elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")
        linked = [tag.needed for tag in tags if "asan" in tag.needed]
    if linked:
        what = f"the module is linked to {', '.join(linked)}, beside which no other can run"
        both = f"; {', '.join(preloaded)} is preloaded as well" if preloaded else ""
        return Said(state=FAIL, text=what + both, mend=f"unset LDFLAGS; {place.again}")
    if len(preloaded) > 1:
        what = f"{len(preloaded)} are preloaded: {', '.join(preloaded)}"
        return Said(state=FAIL, text=what, mend="unset LD_PRELOAD")
    if preloaded and "with_fuzzer" not in preloaded[0]:
        what = f"{preloaded[0]} is preloaded: everything runs slower, and finds no more"
        return Said(state=WARN, text=what, mend="unset LD_PRELOAD")
    return Said(state=OK, text=f"{preloaded[0] if preloaded else 'none'} preloaded, none linked")


def cases(place: Place) -> Said:
    """That the corpus is there and can be read: nothing replayed looks like nothing found."""
    paths = corpus.paths()
    broken = []
    for path in paths:
        try:
            cleanrace.Case.read(path)
        except (OSError, cleanrace.ScenarioError) as error:
            broken.append(f"{store.shown(path)} ({error})")
    if broken or not paths:
        what = f"cannot be read: {broken[0]}" if broken else f"{corpus.FOLDER} has no case"
        mend = f"git -C {shlex.quote(str(place.repository))} checkout corpus"
        return Said(state=FAIL, text=what, mend=mend)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return Said(state=OK, text=f"{len(paths)} cases, sha256 {digest[:12]}")


@dataclass(frozen=True, kw_only=True)
class Check:
    """A row. needs: the rows without which it cannot be tried; mend: where it says no other."""

    name: str
    looks: Callable[[Place], Said]
    needs: tuple[str, ...] = ()
    mend: str = "python build.py --force"


PIP = "python -m pip install -e ."
CHECKS = (
    Check(name="packages", looks=packages, mend=PIP),
    Check(name="clock", looks=clock),
    Check(name="disk", looks=disk),
    Check(name="cores", looks=cores),
    Check(name="compiler", looks=compiler, mend="apt-get install gcc binutils python3-dev"),
    Check(name="sources", looks=sources, mend="python build.py --fetch --force"),
    Check(name="build", looks=built, needs=("compiler", "sources")),
    Check(name="names", looks=names, needs=("build",), mend="apt-get install binutils"),
    Check(name="determinism", looks=determinism, needs=("build",)),
    Check(name="planted bug", looks=planted, needs=("build",)),
    Check(name="corpus", looks=cases),
    Check(name="ASan runtimes", looks=runtimes, needs=("build",)),
    Check(name="counters", looks=counters, needs=("build", "packages"), mend=PIP),
    Check(name="mutator", looks=mutator, needs=("build", "packages"), mend=PIP),
    Check(name="fork, merge", looks=restarts, needs=("build", "packages"), mend=PIP),
    Check(name="git", looks=identity, mend="apt-get install git"),
)


def examine(
    place: Place,
    *,
    checks: Sequence[Check] = CHECKS,
    show: Callable[[Check, Said], None] = lambda *_: None,
) -> dict[str, Said]:
    """Every check in turn. One whose needs failed says that it was not tried."""
    done: dict[str, Said] = {}
    blocked: dict[str, str] = {}  # check -> the fault at the bottom
    for check in checks:
        faults = [blocked[need] for need in check.needs if need in blocked]
        if faults:
            blocked[check.name] = faults[0]
            said = Said(state=WARN, text=f"not tried, since {faults[0]} failed")
        else:
            said = _looked(check, place)
            if said.state == FAIL:
                blocked[check.name] = check.name
        done[check.name] = said
        show(check, said)
    return done


def _looked(check: Check, place: Place) -> Said:
    try:
        return check.looks(place)
    except Untried as reason:
        return Said(state=WARN, text=f"not tried: {reason}")
    except (
        OSError,
        ValueError,
        subprocess.SubprocessError,
        ELFError,
        Failure,
        store.Broken,
        build.BuildError,
        cleanrace.TargetError,
    ) as error:
        return Said(state=FAIL, text=" ".join(str(error).split()), mend=check.mend)


@app.command("doctor")
def doctor_command(
    target: TargetOption = None,
    *,
    folder: Annotated[
        Path,
        typer.Option(
            "--corpus",
            metavar="DIR",
            help="The folder that serve works in; default findings/service/.",
            show_default=False,
        ),
    ] = serve_folder.FOLDER,
) -> None:
    """Check everything that can fail silently, and say what mends it."""
    name = target or build.DEFAULT
    place = Place(target=name, corpus=folder.absolute())
    known = name in build.KNOWN or name == build.REFERENCE
    if not known and (Path(name).name != name or not place.sources.is_dir()):
        raise Failure(f"--target {name}: there is no such target, see 'python build.py --list'")
    out = console()
    styles = {OK: "green", WARN: "yellow", FAIL: "bold red"}

    def show(check: Check, said: Said) -> None:
        first = f"{said.state:<5}{check.name:<{NAME_WIDTH}} "
        rest = " " * (INDENT + 1)
        lines = textwrap.wrap(
            said.text,
            out.width - 1,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        text = Text("\n".join(lines))
        text.stylize(styles[said.state], 0, len(said.state))
        out.print(text, soft_wrap=True)
        if said.state != OK and said.mend:
            out.print(Text(f"     to mend it: {said.mend}"), soft_wrap=True)

    begin = time.monotonic()
    states = [said.state for said in examine(place, show=show).values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in (OK, WARN, FAIL))
    out.print(Text(f"{len(states)} checks in {time.monotonic() - begin:.1f} s: {counts}"))
    raise typer.Exit(1 if FAIL in states else 0)
