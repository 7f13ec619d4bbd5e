#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Disturb `serve` for as long as asked for, and see that it loses nothing.

    python fuzz/soak.py [--minutes 30] [--jobs 2] [--json FILE]

A worker is killed at random every 10 seconds, the service itself killed -9 five times and started
again, and its disk (a small tmpfs of our own) is full for a while soon after the start, when
findings come thick; the first of the five kills falls into that. Before, for a sixth of the time,
`serve` runs undisturbed from nothing, and afterwards as long over what the disturbed one left.
fuzz/soak_checks.py says what is judged and how.

The tmpfs needs root, or a user namespace, which is tried. Exit status: 0 all held, 1 not, 2 usage.
What a run left is kept where something did not hold.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from fuzz import serve_db, soak_checks, store  # noqa: E402
from fuzz.serve_folder import Layout  # noqa: E402
from fuzz.serve_posts import memory_of  # noqa: E402
from fuzz.serve_reserve import Reserve  # noqa: E402
from fuzz.soak_checks import Check  # noqa: E402

INSIDE = "CLEANRACE_SOAK_NAMESPACE"  # set in the user namespace
PLANTED = ("b", "remount-twice")  # bugs with many findings
DISK_BYTES = 256 << 20
FULL_SECONDS = 20.0
FULL_AT = 4.0  # seconds after the first start
JUDGED_MINUTES = 5.0  # shorter runs say memory and throughput only
GONE_SECONDS = 10.0
LOOK_SECONDS = 2.0  # between two looks at the statistics and the dashboard
PROGRESS_SECONDS = 30.0
LINKS = re.compile(r'href="/findings/([^"/]+)"')


@dataclass(frozen=True)
class Work:
    """What all methods did until a moment: schedules and seconds of searching."""

    at: float
    methods: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Size:
    """What a process took at a moment."""

    at: float
    kind: str
    bytes: int
    pid: int = 0


@dataclass
class Run:
    """One `serve`, with what was seen of it. Times are seconds since it began."""

    root: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    begin: float = 0.0
    starts: int = 0
    killed: int = 0
    service_killed: int = 0
    killed_when_full: int = 0
    fell: int = 0  # times that it ended by itself
    orphans: int = 0
    filled: float = 0.0  # seconds that the disk was full
    reserved: set[str] = field(default_factory=set)  # findings without room when it was killed
    shown: dict[str, float] = field(default_factory=dict)  # finding -> when the dashboard had it
    memory: list[Size] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    seconds: float = 0.0
    looked: float = 0.0
    answered: float = 0.0  # when its dashboard did last, in seconds since 1970

    @property
    def layout(self) -> Layout:
        """Its folder."""
        return Layout(self.root / "corpus")

    @property
    def findings(self) -> Path:
        """Its shelf, in a repository of its own."""
        return self.root / "repository" / "findings"

    @property
    def output(self) -> Path:
        """What it printed."""
        return self.root.parent / f"{self.root.name}.out"

    @property
    def clock(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begin

    def start(self, seconds: float) -> None:
        """Start it for the rest of the time."""
        self.starts += 1
        if not self.begin:
            self.begin = time.monotonic()
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / "fuzz" / "run.py"), "serve"),
                    *("--corpus", str(self.layout.root), "--findings", str(self.findings)),
                    *("--port", "0", "--commit", "--time", str(max(1.0, seconds))),
                    *(f"--seed={self.starts}", *self.arguments),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def finish(self) -> None:
        """Wait until it ends by itself, looking on."""
        assert self.process is not None
        while self.process.poll() is None:
            self.look()
            time.sleep(0.5)

    @property
    def workers(self) -> dict[int, str]:
        """Its processes: pid -> what each does."""
        assert self.process is not None
        return children(self.process.pid)

    def look(self) -> None:
        """Note its memory and, now and then, what it did and what its dashboard shows."""
        assert self.process is not None
        clock = self.clock
        listed = {self.process.pid: "service"} | self.workers
        sizes = (Size(clock, kind, memory_of(pid), pid) for pid, kind in listed.items())
        self.memory += [one for one in sizes if one.bytes]
        if clock - self.looked < LOOK_SECONDS:
            return
        self.looked = clock
        told = serve_db.Reader(self.layout.database).now()
        if told and told["totals"]["schedules"]:
            at = told["at"] - time.time() + clock
            if not self.work or at > self.work[-1].at:
                rows = told["methods"]
                did = {row["name"]: (row["schedules"], row["seconds"]) for row in rows}
                self.work.append(Work(at, did))
        for name in self.dashboard():
            self.shown.setdefault(name, time.time())

    def dashboard(self) -> list[str]:
        """The findings that the dashboard links to, empty if it does not answer now."""
        said = re.findall(r"dashboard: (http://127\.0\.0\.1:\d+/)", self.printed())
        if not said:
            return []
        try:
            with urllib.request.urlopen(said[-1], timeout=1) as answer:  # noqa: S310 - loopback
                page = answer.read().decode()
        except (OSError, ValueError):
            return []
        self.answered = time.time()
        return linked(page)

    def printed(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def kill_service(self) -> None:
        """Kill -9; what is left of it afterwards is an orphan."""
        assert self.process is not None
        self.reserved |= {one.signature for one in Reserve(self.layout.reserve).findings()}
        workers = list(self.workers)
        self.process.kill()
        self.process.wait()
        self.service_killed += 1
        end = time.monotonic() + GONE_SECONDS
        while any(map(memory_of, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        self.orphans += sum(map(bool, map(memory_of, workers)))

    def prepare(self) -> None:
        """Folders, and a repository with one commit."""
        self.layout.root.mkdir(parents=True)
        self.findings.mkdir(parents=True)
        for command in (
            ("init", "--quiet"),
            ("config", "user.name", "soak"),
            ("config", "user.email", "soak@localhost"),
            ("commit", "--quiet", "--allow-empty", "--message", "begin"),
        ):
            self.git(*command)

    def git(self, *arguments: str) -> str:
        """What git says in the repository."""
        return subprocess.run(
            ["git", *arguments],
            cwd=self.findings.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout


def linked(page: str) -> list[str]:
    """The findings that a page of the dashboard links to."""
    return [urllib.parse.unquote(name) for name in LINKS.findall(page)]


def children(parent: int) -> dict[int, str]:
    """The children of a process: pid -> last word of its command line."""
    found = {}
    try:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return {}
    for pid in map(int, listed):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        found[pid] = words[-1].decode(errors="replace")
    return found


@dataclass
class Plan:
    """When what happens, in seconds from the beginning."""

    seconds: float
    kill_every: float
    service_kills: int
    full_seconds: float
    random: Random

    def service_times(self) -> list[float]:
        """When the service is killed: in the middle of the full disk, then spread, and not late."""
        first = [FULL_AT + self.full_seconds / 2] if self.full_seconds else []
        first = first[: self.service_kills]
        left = self.service_kills - len(first)
        begin = FULL_AT + self.full_seconds
        part = max(0.0, self.seconds * 0.85 - begin) / max(1, left)
        later = [begin + part * (at + 0.6 + 0.4 * self.random.random()) for at in range(left)]
        return first + later


class Progress:
    """Lines that say how far it is, at once and every now and then."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.said = 0.0

    def say(self, line: str) -> None:
        """One line."""
        self.said = time.monotonic()
        minutes, seconds = divmod(int(self.said - self.begin), 60)
        print(f"{minutes:3}:{seconds:02} {line}", flush=True)

    def of(self, run: Run) -> None:
        """How a run stands, if it was not said just now."""
        if time.monotonic() - self.said < PROGRESS_SECONDS:
            return
        kept = sum(1 for told in serve_db.events(run.layout.log) if told["event"] == "finding_kept")
        did = sum(schedules for schedules, _ in run.work[-1].methods.values()) if run.work else 0
        self.say(
            f"{run.root.name}: {run.clock:.0f} s, {did:,.0f} schedules, {kept} findings kept,"
            f" {run.killed} workers killed, service killed {run.service_killed} times"
        )


def undisturbed(run: Run, seconds: float, progress: Progress) -> None:
    """Let it run, if there is time for that."""
    if not seconds:
        return
    progress.say(f"{run.root.name}: undisturbed for {seconds:.0f} s")
    run.start(seconds)
    run.seconds = seconds
    assert run.process is not None
    while run.process.poll() is None:
        run.look()
        progress.of(run)
        time.sleep(0.5)


def disturbed(run: Run, plan: Plan, progress: Progress) -> None:
    """Kill, fill and restart it until the time is over, then let it end by itself."""
    progress.say(f"{run.root.name}: disturbed for {plan.seconds:.0f} s")
    run.seconds = plan.seconds
    kills = plan.service_times()
    next_kill = plan.kill_every
    full_until = FULL_AT + plan.full_seconds
    fill = run.root / "fill"
    run.start(plan.seconds)
    while (clock := run.clock) < plan.seconds:
        assert run.process is not None
        if run.process.poll() is not None:
            run.fell += 1
            progress.say(f"the service ended by itself, status {run.process.returncode}")
            run.start(plan.seconds - clock)  # as a service manager does
        due = plan.service_kills and not run.killed_when_full  # the kill that falls into it
        full = bool(plan.full_seconds) and clock > FULL_AT and (clock < full_until or bool(due))
        if full:
            if not fill.exists():
                progress.say("the disk is full")
            run.filled = clock - FULL_AT
            fill_up(fill)
        elif fill.exists():
            fill.unlink()
            progress.say("there is room again")
        if clock > next_kill:
            next_kill += plan.kill_every
            run.killed += kill_one(run, plan.random)
        if kills and clock > kills[0]:
            kills.pop(0)
            run.kill_service()
            run.killed_when_full += full
            progress.say(f"the service was killed -9{', while the disk is full' if full else ''}")
            run.start(plan.seconds - run.clock)
        run.look()
        progress.of(run)
        time.sleep(0.5)
    fill.unlink(missing_ok=True)
    run.finish()


def kill_one(run: Run, random: Random) -> int:
    """Kill one of its processes; how many that were."""
    workers = sorted(run.workers)
    if not workers:
        return 0
    try:
        os.kill(random.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def fill_up(path: Path) -> None:
    """Take all the room that is left on the disk."""
    block = bytes(1 << 16)
    with path.open("ab", buffering=0) as file:
        for size in (len(block), 4096, 512):
            try:
                while file.write(block[:size]):
                    pass
            except OSError:
                continue  # not even that much room


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A small tmpfs of our own at this folder."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "cleanrace-soak", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        fail(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fail(line: str) -> None:
    """One line, and the end."""
    print(f"soak.py: {line}", file=sys.stderr)
    sys.exit(2)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak.py", description="Disturb serve, see what is lost.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--undisturbed", type=float, help="minutes, each time; default a sixth")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--service-kills", type=int, default=5, metavar="N")
    parser.add_argument("--full", type=float, default=FULL_SECONDS, metavar="SECONDS")
    parser.add_argument("--shift", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--target", default="linux-5.10")
    parser.add_argument("--planted", action="append", metavar="BUG")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy what it leaves there")
    given = parser.parse_args(arguments)
    if given.minutes <= 0 or given.kill_every <= 0 or given.jobs < 1 or given.service_kills < 0:
        parser.error("expected numbers above 0")
    return given


def main(arguments: list[str] | None = None) -> int:
    """All runs and the table."""
    given = parse(arguments)
    if os.geteuid() and INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        if shutil.which("unshare") is None:
            fail("filling a disk needs root, or unshare of util-linux")
        os.execvp("unshare", ["unshare", "-Urm", sys.executable, *sys.argv])  # noqa: S606
    built(given.target)
    seconds = given.minutes * 60
    alone = seconds / 6 if given.undisturbed is None else given.undisturbed * 60
    bugs = given.planted or PLANTED
    common = ["--jobs", str(given.jobs), "--shift", str(given.shift), "--target", given.target]
    common += [f"--planted={bug}" for bug in bugs]
    plan = Plan(seconds, given.kill_every, given.service_kills, given.full, Random(given.seed))
    progress = Progress()
    whole = (2 * alone + seconds) / 60
    progress.say(
        f"{given.target}, planted {', '.join(bugs)}, {given.jobs} searches on {os.cpu_count()}"
        f" cores: {alone / 60:.1f} + {given.minutes:.1f} + {alone / 60:.1f} minutes and what they"
        f" take to end, {whole:.0f} to {whole + 4:.0f} in all"
    )
    with tempfile.TemporaryDirectory(prefix="cleanrace-soak-") as name, disk(Path(name) / "disk"):
        parts = ("before", "disturbed", "after")
        runs = [Run(Path(name) / "disk" / part, common) for part in parts]
        early = all_of(runs, plan, alone, progress)
        checks = judged(runs, plan, judge=given.minutes >= JUDGED_MINUTES and not early)
        if early:
            checks.append(Check("it ran to its end", early, held=False))
        if given.json is not None:
            told = {one.name: asdict(one) for one in checks}
            store.write(given.json, json.dumps(told, indent=2) + "\n")
        show(checks)
        failed = any(one.held is False for one in checks)
        keep = given.keep
        if failed and keep is None:
            keep = Path(tempfile.mkdtemp(prefix="cleanrace-soak-failed-"))
        if keep is not None:
            shutil.copytree(Path(name), keep, dirs_exist_ok=True, symlinks=True)
            print(f"what it left: {keep}")
    return int(failed)


def built(target: str) -> None:
    """Build the target, or fail."""
    import build

    try:
        build.ensure(target=target)
    except build.BuildError as error:
        fail(str(error))


def all_of(runs: list[Run], plan: Plan, alone: float, progress: Progress) -> str:
    """The three runs one after the other; why they ended early, empty if they did not."""
    before, run, after = runs
    try:
        before.prepare()
        undisturbed(before, alone, progress)
        run.prepare()
        disturbed(run, plan, progress)
        if alone:
            # Over the same corpus and shelf, so that both have the same to do.
            shutil.copytree(run.root, after.root, symlinks=True)
        undisturbed(after, alone, progress)
    except KeyboardInterrupt:
        return "it was interrupted"
    except (OSError, subprocess.SubprocessError) as error:
        return repr(error)
    finally:
        for one in runs:
            end(one)
    return ""


def judged(runs: list[Run], plan: Plan, *, judge: bool) -> list[Check]:
    """All checks; one that cannot be made does not hold, and the others are made all the same."""
    before, run, after = runs
    others = [before, after]
    made: dict[str, Callable[[], Check]] = {
        "it goes on": lambda: soak_checks.survived(run, plan),
        "no finding is lost": lambda: soak_checks.lost(run),
        "no finding is there twice": lambda: soak_checks.twice(run),
        "all are committed, once": lambda: soak_checks.committed(run),
        "files are whole": lambda: soak_checks.whole(run),
        "time, undisturbed": lambda: soak_checks.soon(
            before, "undisturbed", judged=judge and bool(before.seconds)
        ),
        "time, disturbed": lambda: soak_checks.soon(run, "disturbed", judged=False),
        "memory": lambda: soak_checks.grown(run, judged=judge),
        "throughput": lambda: soak_checks.throughput(run, others, judged=judge),
    }
    checks = []
    for name, make in made.items():
        try:
            checks.append(make())
        except (
            OSError,
            ValueError,
            LookupError,
            sqlite3.Error,
            subprocess.SubprocessError,
        ) as error:
            checks.append(Check(name, f"it cannot be checked: {error!r}", held=False))
    return checks


def end(run: Run) -> None:
    """Nothing of it outlives us."""
    if run.process is not None and run.process.poll() is None:
        run.process.terminate()
        try:
            run.process.wait(30)
        except subprocess.TimeoutExpired:
            run.process.kill()
            run.process.wait()


def show(checks: list[Check]) -> None:
    """The table, and what there is to say about what did not hold."""
    table = Table(box=None)
    for column in ("", "held", "what was seen"):
        table.add_column(column, no_wrap=column == "held")
    words = {True: "yes", False: "NO", None: "-"}
    for one in checks:
        table.add_row(one.name, words[one.held], one.told)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False)
    console.print(table)
    for one in checks:
        if one.held is False and one.detail:
            console.print(f"\n{one.name}:")
            for line in one.detail:
                console.print(f"    {line}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
