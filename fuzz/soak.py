#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Disturb `serve` for as long as asked for, and see that it loses nothing.

    python fuzz/soak.py [--minutes 30] [--jobs 2] [--json FILE]

A worker is killed at random every 10 seconds, the service itself killed -9 five times and started
again, and its disk (a small tmpfs of our own) is full for a while soon after the start, when
findings come thick. Before and after it, for a sixth of the time each, `serve` runs undisturbed.

Then: every finding that was met is on the shelf or pending, none is there twice or was committed
twice, all are committed, no process is left over, the statistics are whole; memory grew less than
5 % from the second sixth of the time to the last one, kind of process by kind; and at least 75 %
of the work was done. Work: schedules, each counted as the time that its method takes for one
undisturbed, since methods differ a thousandfold in speed and the budgets of two runs are not the
same. Runs of less than five minutes say these two, and do not judge them.

The tmpfs needs root, or a user namespace, which is tried. Exit status: 0 all held, 1 not, 2 usage.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from fuzz import serve_db, serve_state, shelf, store  # noqa: E402
from fuzz.minimise import family_of  # noqa: E402
from fuzz.serve_folder import Layout  # noqa: E402
from fuzz.serve_posts import memory_of  # noqa: E402

INSIDE = "CLEANRACE_SOAK_NAMESPACE"  # set in the user namespace
PLANTED = ("b", "remount-twice")  # bugs with many findings
DISK_BYTES = 128 << 20
FULL_SECONDS = 20.0
FULL_AT = 4.0  # seconds after the first start
JUDGED_MINUTES = 5.0  # shorter runs say memory and throughput only
GROWTH_MAX = 0.05
THROUGHPUT = "throughput >= 75 %"
THROUGHPUT_MIN = 0.75
PASSING = ("minimise", "commit")  # posts that come and go; their memory is not the service's
GONE_SECONDS = 10.0
MENDED = 3.0  # seconds until all that waited for room is written


@dataclass
class Run:
    """One `serve`, with what was seen of it."""

    root: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    killed: int = 0
    service_killed: int = 0
    fell: int = 0  # times that it ended by itself
    orphans: int = 0
    filled: int = 0  # seconds that the disk was full
    memory: list[tuple[float, str, int]] = field(default_factory=list)  # when, who, bytes
    seconds: float = 0.0

    @property
    def layout(self) -> Layout:
        """Its folder."""
        return Layout(self.root / "corpus")

    @property
    def findings(self) -> Path:
        """Its shelf, in a repository of its own."""
        return self.root / "repository" / "findings"

    def start(self, seconds: float) -> None:
        """Start it for the rest of the time."""
        self.starts += 1
        with (self.root.parent / f"{self.root.name}.out").open("ab") as out:
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

    @property
    def workers(self) -> dict[int, str]:
        """Its processes: pid -> what each does."""
        assert self.process is not None
        return children(self.process.pid)

    def measure(self, clock: float) -> None:
        """Note its memory."""
        assert self.process is not None
        sizes = [("service", memory_of(self.process.pid))]
        sizes += [(kind, memory_of(pid)) for pid, kind in self.workers.items()]
        self.memory += [(clock, kind, size) for kind, size in sizes if size and kind not in PASSING]

    def kill_service(self) -> None:
        """Kill -9; what is left of it afterwards is an orphan."""
        assert self.process is not None
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

    def methods(self) -> dict[str, serve_state.Method]:
        """What its methods did."""
        state = serve_state.load(self.layout.state)
        return state.methods if state else {}


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
        """When the service is killed: spread, not too near the end."""
        part = self.seconds * 0.85 / max(1, self.service_kills)
        return [
            part * (number + 0.6 + 0.4 * self.random.random())
            for number in range(self.service_kills)
        ]


def undisturbed(run: Run, seconds: float) -> None:
    """Let it run, if there is time for that."""
    if not seconds:
        return
    run.prepare()
    run.start(seconds)
    assert run.process is not None
    run.process.wait()
    run.seconds = seconds


def disturbed(run: Run, plan: Plan) -> None:
    """Kill, fill and restart it until the time is over, then let it end by itself."""
    run.prepare()
    begin = time.monotonic()
    kills = plan.service_times()
    next_kill = plan.kill_every
    full_until = 0.0
    fill = run.root / "fill"
    run.start(plan.seconds)
    while (clock := time.monotonic() - begin) < plan.seconds:
        assert run.process is not None
        if run.process.poll() is not None:
            run.fell += 1
            run.start(plan.seconds - clock)  # as a service manager does
        if not full_until and clock > FULL_AT and plan.full_seconds:
            full_until = clock + plan.full_seconds
        if full_until and clock < full_until:
            fill_up(fill)
            run.filled = round(plan.full_seconds)
        elif full_until:
            fill.unlink(missing_ok=True)
        if clock > next_kill:
            next_kill += plan.kill_every
            run.killed += kill_one(run, plan.random)
        # What is in memory only, since there is no room, would be lost: not both at once.
        if kills and clock > kills[0] and clock > full_until + MENDED:
            kills.pop(0)
            run.kill_service()
            run.start(plan.seconds - (time.monotonic() - begin))
        run.measure(clock)
        time.sleep(0.5)
    fill.unlink(missing_ok=True)
    run.seconds = plan.seconds
    assert run.process is not None
    run.process.wait()


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


@dataclass(frozen=True)
class Check:
    """One line of the table. held: None if it is only told."""

    name: str
    told: str
    held: bool | None


def lost(run: Run) -> Check:
    """Every finding that was met is on the shelf, or waits on disk."""
    met = {
        told["signature"]
        for told in serve_db.events(run.layout.log)
        if told["event"] == "finding_met"
    }
    kept = {family_of(entry.meta.signature) for entry in shelf.entries(run.findings)[0]}
    # A minimised finding may turn out to be of another family; the log says which became which.
    kept |= {
        told["of"]
        for told in serve_db.events(run.layout.log)
        if told["event"] == "finding_kept" and (run.findings / told["name"]).is_dir()
    }
    pending = {
        path.name.removesuffix(store.SUFFIX)
        for path in (run.findings / shelf.PENDING).rglob(f"*{store.SUFFIX}")
    }
    missing = sorted(one for one in met - kept if one.replace(" ", "-") not in pending)
    told = f"{len(met)} met, {len(met & kept)} on the shelf, {len(pending)} pending"
    if missing:
        told += f"; lost: {', '.join(missing)}"
    return Check("no finding is lost", told, bool(met) and not missing)


def twice(run: Run) -> Check:
    """None is on the shelf twice."""
    counts = Counter(entry.key for entry in shelf.entries(run.findings)[0])
    again = sum(count - 1 for count in counts.values())
    return Check("no finding is there twice", f"{len(counts)} distinct, {again} twice", not again)


def committed(run: Run) -> Check:
    """Each is committed, and was added once."""
    left = run.git("status", "--porcelain", "--untracked-files=all").splitlines()
    left = [line for line in left if shelf.PENDING not in line]
    added = Counter(
        line
        for line in run.git("log", "--format=", "--name-only", "--diff-filter=A").splitlines()
        if line
    )
    again = sum(count > 1 for count in added.values())
    commits = int(run.git("rev-list", "--count", "HEAD")) - 1
    told = f"{commits} commits, {len(left)} files not committed, {again} added twice"
    return Check("all are committed, once", told, bool(commits) and not left and not again)


def whole(run: Run) -> Check:
    """The files can be read, and a new database says what the old one says."""
    state = serve_state.load(run.layout.state)
    with closing(sqlite3.connect(run.layout.database)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
    _, unreadable = shelf.entries(run.findings)
    told = f"statistics {said}, {len(unreadable)} unreadable findings"
    return Check("files are whole", told, state is not None and said == "ok" and not unreadable)


def survived(run: Run, plan: Plan) -> Check:
    """What was done to it was done, and nothing of it is left."""
    told = (
        f"{run.killed} workers killed, service killed -9 {run.service_killed} times,"
        f" ended {run.fell} times by itself, disk full for {run.filled} s, {run.orphans} orphans"
    )
    happened = run.killed and run.service_killed == plan.service_kills and not run.fell
    status = run.process.returncode if run.process else None
    return Check("it goes on", told, bool(happened) and not run.orphans and status == 0)


def soon(run: Run) -> Check:
    """How long findings took from being met to the shelf, which the disk may have held up."""
    seconds = [
        told["seconds"]
        for told in serve_db.events(run.layout.log)
        if told["event"] == "finding_kept" and told["seconds"] is not None
    ]
    told = f"{max(seconds):.1f} s at most" if seconds else "none kept"
    return Check("from being met to the shelf", told, None)


def grown(run: Run, *, judged: bool) -> Check:
    """Memory in the last sixth of the time against the second one.

    Kind by kind, as many of each as there were at first: another method is another size.
    """
    window = run.seconds / 6
    kinds: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    for at, kind, size in run.memory:
        for part, begin in zip(kinds, (window, run.seconds - window), strict=True):
            if begin <= at < begin + window:
                part.setdefault(kind, []).append(size)
    first, last = kinds
    both = first.keys() & last.keys()
    if not both:
        return Check("memory grows < 5 %", "not measured", False if judged else None)
    before = sum(sum(first[kind]) for kind in both)
    after = sum(len(first[kind]) * statistics.fmean(last[kind]) for kind in both)
    growth = after / before - 1
    told = ", ".join(
        f"{kind} {statistics.fmean(first[kind]) / 2**20:.0f} ->"
        f" {statistics.fmean(last[kind]) / 2**20:.0f}"
        for kind in sorted(both)
    )
    told = f"{100 * growth:+.1f} % (MiB each: {told})"
    return Check("memory grows < 5 %", told, growth < GROWTH_MAX if judged else None)


def throughput(run: Run, others: list[Run], *, judged: bool) -> Check:
    """Work against that of undisturbed runs."""
    if not any(other.seconds for other in others):
        return Check(THROUGHPUT, "not measured", False if judged else None)
    schedules: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for other in others:
        for name, method in other.methods().items():
            schedules[name] += method.schedules
            seconds[name] += method.seconds
    plain = sum(schedules.values()) / sum(other.seconds for other in others)
    work = done = 0.0
    for name, method in run.methods().items():
        done += method.schedules
        if schedules[name]:
            work += method.schedules * seconds[name] / schedules[name]
        else:
            work += method.seconds
    ratio = work / run.seconds / (sum(seconds.values()) / sum(o.seconds for o in others))
    told = (
        f"{100 * ratio:.0f} % of the work; {done / run.seconds:,.0f} schedules/s, undisturbed"
        f" {plain:,.0f}"
    )
    return Check(THROUGHPUT, told, ratio >= THROUGHPUT_MIN if judged else None)


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
    import build

    try:
        build.ensure(target=given.target)
    except build.BuildError as error:
        fail(str(error))
    seconds = given.minutes * 60
    alone = seconds / 6 if given.undisturbed is None else given.undisturbed * 60
    common = ["--jobs", str(given.jobs), "--shift", str(given.shift), "--target", given.target]
    common += [f"--planted={bug}" for bug in given.planted or PLANTED]
    plan = Plan(seconds, given.kill_every, given.service_kills, given.full, Random(given.seed))
    judged = given.minutes >= JUDGED_MINUTES
    with tempfile.TemporaryDirectory(prefix="cleanrace-soak-") as name, disk(Path(name) / "disk"):
        runs = [
            Run(Path(name) / "disk" / part, common) for part in ("before", "disturbed", "after")
        ]
        undisturbed(runs[0], alone)
        disturbed(runs[1], plan)
        undisturbed(runs[2], alone)
        run, others = runs[1], [runs[0], runs[2]]
        checks = [
            survived(run, plan),
            lost(run),
            twice(run),
            committed(run),
            whole(run),
            soon(run),
            grown(run, judged=judged),
            throughput(run, others, judged=judged),
        ]
        if given.keep is not None:
            shutil.copytree(Path(name), given.keep, dirs_exist_ok=True)
    show(checks)
    if given.json is not None:
        told: dict[str, Any] = {one.name: {"told": one.told, "held": one.held} for one in checks}
        store.write(given.json, json.dumps(told, indent=2) + "\n")
    return int(any(one.held is False for one in checks))


def show(checks: list[Check]) -> None:
    """The table."""
    table = Table(box=None)
    for column in ("", "held", "what was seen"):
        table.add_column(column, no_wrap=column == "held")
    words = {True: "yes", False: "NO", None: "-"}
    for one in checks:
        table.add_row(one.name, words[one.held], one.told)
    Console(width=None if sys.stdout.isatty() else 110, highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
