# SPDX-License-Identifier: GPL-2.0-only
"""The verb `doctor`: what can fail silently on this machine, each with the command that mends it.

A check is one row of CHECKS: a function of the Place it looks at, which says what it measured. It
measures the thing itself: it compiles, fuzzes, finds a planted bug; it does not read settings that
should lead there. What a check needs is named in its row; if that failed, it is not tried, so
that the fault at the bottom is the one that is read.

Exit status: 0 no check failed, 1 one did, 2 usage.
"""

import hashlib
import importlib.util
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
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from rich.text import Text

import build
import cleanrace
from cleanrace import Target
from fuzz import campaign, commit, corpus, harness, places, premises, serve_folder, store
from fuzz.command import Failure, TargetOption, app, console

OK, WARN, FAIL = "ok", "warn", "FAIL"
STUCK_SECONDS = 120.0  # no process that is started here takes that long
RUNS = 300  # of the harness: enough for coverage to grow and for every kind of mutation
ROOM_LEAST, ROOM_LITTLE = 64, 1024  # MB
FILES_LEAST = 1000  # that a disk can still take
YEAR_LAST = 2100
NAME_WIDTH = 13
INDENT = 5 + NAME_WIDTH

# Imported by a process of its own; what a campaign cannot do without comes first.
NEEDED = ("cffi", "elftools", "hypothesis", "rich", "typer")
ATHERIS = "atheris"

# Any access and any branch: what the instrumentation must see.
PROBE = "int shared; int probe(int n); int probe(int n) { if (n) shared = n; return shared; }\n"
HOOKS = ("__tsan_read4", "__tsan_write4", "__sanitizer_cov_trace_pc")


class Untried(Exception):
    """A check that makes no sense on this machine: one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a check measured, and the command that mends it unless it is ok."""

    state: str
    text: str
    mend: str = ""


@dataclass(kw_only=True)
class Place:
    """What is looked at: a target, the folder of `serve`, the checkout, the system's groups."""

    target: str = build.DEFAULT
    corpus: Path = serve_folder.FOLDER
    repository: Path = store.ROOT
    groups: Path = Path("/sys/fs/cgroup")

    @property
    def sources(self) -> Path:
        """Where build.py keeps the target's sources."""
        return build.cache_folder() / "sources" / self.target

    @property
    def record(self) -> Path:
        """The file that says which build is the newest."""
        return build.cache_folder() / "targets" / f"{self.target}.json"

    @property
    def again(self) -> str:
        """The command that builds the target whatever is there."""
        return f"python build.py --target {self.target} --force"

    @cached_property
    def info(self) -> dict[str, Any]:
        """The record of the newest build."""
        return build.read_json(self.record, "build_id", "module", "program", "name")

    @cached_property
    def loaded(self) -> Target:
        """The target of that record."""
        return Target(self.info)

    @cached_property
    def fuzzed(self) -> str:
        """What a short run of the harness says."""
        return self._harness(f"-runs={RUNS}", "-seed=1")

    def _harness(self, *arguments: str | Path) -> str:
        if platform.machine() != "x86_64" and importlib.util.find_spec(ATHERIS) is None:
            raise Untried("there is no Atheris for this machine; other methods go on without it")
        program = store.ROOT / "fuzz" / "harness.py"
        with tempfile.TemporaryDirectory() as work:
            command = [sys.executable, program, "--target", self.target, "--findings", work]
            return said_by([*command, *arguments], cwd=Path(work))

    def merged(self, into: Path, given: Path) -> str:
        """What merging a folder says, for which libFuzzer starts the harness again."""
        return self._harness("-merge=1", into, given)


def said_by(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Both outputs of a process; store.Broken if it hangs or fails, with its last line."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=STUCK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise store.Broken(f"{Path(command[1]).name} hung for {STUCK_SECONDS:.0f} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
        line = (errors or lines or ["it said nothing"])[-1]
        raise store.Broken(f"{Path(command[1]).name} ended with {done.returncode}: {line}")
    return done.stdout


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


def clock(
    place: Place,
    *,
    steady: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Said:
    """That time goes on, in both clocks alike, and that the date is one that can be."""
    mend = "timedatectl set-ntp true"
    for _ in range(3):  # what stops this process between two looks is no fault of the clocks
        begun, date = steady(), wall()
        time.sleep(0.02)
        went, changed = steady() - begun, wall() - date
        if abs(went - changed) < 0.5:
            break
    else:
        what = f"the date went on by {changed:.1f} s in {went:.2f} s"
        return Said(state=FAIL, text=what, mend=mend)
    if went <= 0:
        return Said(state=FAIL, text="the monotonic clock stands still", mend="reboot")
    folders = (place.repository / name for name in ("csrc", "fuzz", "pybind"))
    times = [file.stat().st_mtime for folder in folders for file in folder.rglob("*.[ch]")]
    times += [file.stat().st_mtime for folder in folders for file in folder.rglob("*.py")]
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(date))
    if date < max(times, default=0) - 60:
        what = f"it is {shown}: before the newest file of this checkout"
        return Said(state=FAIL, text=what, mend=mend)
    if time.gmtime(date).tm_year > YEAR_LAST:
        return Said(state=FAIL, text=f"it is {shown}", mend=mend)
    return Said(state=OK, text=f"{shown} UTC, after the newest file, and both clocks go on")


def disk(place: Place) -> Said:
    """That there is room, and leave to write, where builds, corpus and temporary files go."""
    folders = {
        "cache": build.cache_folder(),
        "corpus": place.corpus,
        "temporary": Path(tempfile.gettempdir()),
    }
    parts, state, mend = [], OK, ""
    for what, folder in folders.items():
        at = next(above for above in (folder, *folder.parents) if above.exists())
        there = os.statvfs(at)
        free, files = there.f_bavail * there.f_frsize >> 20, there.f_favail
        look = f"du -xsh {shlex.quote(str(at))}; make room there"
        if what == "cache":
            look += ", or set XDG_CACHE_HOME to another disk"
        limited = there.f_files > 0  # some file systems have no such limit
        if free < ROOM_LEAST or (limited and files < FILES_LEAST):
            full = f"the disk of {at} is full: {free} MB and {files:,} files are free"
            return Said(state=FAIL, text=full, mend=look)
        try:
            places.check_folder(what, at)
        except places.Unwritable as error:
            if there.f_flag & os.ST_RDONLY:
                at = next(above for above in (at, *at.parents) if above.is_mount())
                mend = f"mount -o remount,rw {shlex.quote(str(at))}"
            elif not at.is_dir():
                mend = f"mv {shlex.quote(str(at))} {shlex.quote(str(at))}.old"
            else:
                mend = f"chmod u+w {shlex.quote(str(at))}"
            return Said(state=FAIL, text=str(error), mend=mend)
        parts.append(f"{what} {free / 1024:.1f} GB" if free > ROOM_LITTLE else f"{what} {free} MB")
        if free < ROOM_LITTLE and state == OK:
            state, mend = WARN, look
    return Said(state=state, text=f"free: {', '.join(parts)}", mend=mend)


def cores(place: Place) -> Said:
    """How many cores there are, and how many of them we may use."""
    usable, all_of_them = campaign.cores(), os.cpu_count() or 1
    quota = _quota(place.groups)
    text = f"{usable} of {all_of_them}"
    if quota is not None and quota < usable - 0.01:
        what = f"{text}, but this control group has the time of {quota:.2g}"
        return Said(state=WARN, text=what, mend=f"python fuzz/run.py --jobs {max(1, int(quota))}")
    if usable < all_of_them:
        what = f"{text}: this process is kept off the others"
        return Said(state=WARN, text=what, mend=f"taskset -pc 0-{all_of_them - 1} $$")
    load = os.getloadavg()[0]
    return Said(state=OK, text=f"{text}, no limit below that; load {load:.1f}")


def _quota(groups: Path) -> float | None:
    """The cores that the control groups of this process leave it; None without a limit."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        top = groups / names if names else groups
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder == groups.parent:
                break
            found += [limit for limit in (_limit(folder),) if limit is not None]
    return min(found, default=None)


def _limit(folder: Path) -> float | None:
    """The limit of one group, as either version of the interface has it."""
    new, quota, period = (
        folder / name for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    if new.is_file():
        share, of = new.read_text().split()
        return None if share == "max" else int(share) / int(of)
    if quota.is_file() and period.is_file() and int(quota.read_text()) > 0:
        return int(quota.read_text()) / int(period.read_text())
    return None


def identity(place: Place) -> Said:
    """That git would take a commit from here, which is asked only when --commit is given."""
    git = commit.Git(place.repository)
    if not git.holds("rev-parse", "--is-inside-work-tree"):
        mend = f"git clone it; or git -C {shlex.quote(str(place.repository))} init"
        return Said(state=WARN, text="not a git repository, --commit cannot work", mend=mend)
    strict = ("-c", "user.useConfigOnly=true", "var")
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if not git.holds(*strict, who):
            mend = "git config user.name NAME; git config user.email ADDRESS"
            return Said(state=WARN, text="git does not know you, --commit cannot work", mend=mend)
    return Said(state=OK, text=git.ask(*strict, "GIT_AUTHOR_IDENT").rpartition(">")[0] + ">")


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
