# SPDX-License-Identifier: GPL-2.0-only
"""What fuzz/soak.py judges a disturbed `serve` by.

Findings: each that was met is on the shelf or pending, none is there twice, all are committed once.
Met is what the log says, and what was in the reserve when the service was killed.

Memory: less than 5 % more in the last sixth of the time than in the second one (minutes 25 to 30
against 5 to 10), kind of process by kind, as many of each as there were at first, since another
method is another size; a process that only just started and a kind that hardly ran are left out.
Kills make processes young again, so how much the longest-lived one of each
kind grew is told beside it.

Throughput: at least 75 % of the work of undisturbed runs, per second. Work is schedules, each
counted as the time that its method takes for one undisturbed: methods differ a thousandfold in
speed, and the budgets of two runs are not the same. What a run does first is left out, in the
disturbed one as in the others: then findings come thick, and the minimiser takes half of the
machine; short undisturbed runs would be little else, and any long run twice as fast as they are.

Time: how long a new finding took from being met to the shelf, to the dashboard's page (asked for
over HTTP) and to the commit, from the log and from what was seen.

Runs of less than five minutes say memory, throughput and time, and do not judge them.
"""

import json
import math
import sqlite3
import statistics
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fuzz import serve_db, serve_state, shelf, store
from fuzz.minimise import family_of

if TYPE_CHECKING:
    from fuzz.soak import Plan, Run, Size, Work

GROWTH_MAX = 0.05
THROUGHPUT = "throughput >= 75 %"
THROUGHPUT_MIN = 0.75
SOON_SECONDS = 60.0
WARM_SECONDS = 150.0  # of a run from nothing that are left out, half of a shorter one
WARM_AGAIN_SECONDS = 30.0  # of one that goes on from there, a quarter of a shorter one
PASSING = ("minimise", "commit")  # posts that come and go; their memory is not the service's
STARTING_SECONDS = 5.0  # of a process that are left out: it has not all that it needs yet
SAMPLES_MIN = 20  # of a kind in each of the two windows
YOUNG_SECONDS = 60.0  # of a process that are left out when it is asked how much it grew
LINES = 20  # of what was printed or logged


@dataclass(frozen=True)
class Check:
    """One line of the table. held: None if it is only told. detail: lines to understand it."""

    name: str
    told: str
    held: bool | None
    detail: list[str] = field(default_factory=list)


def logged(run: "Run") -> list[dict[str, Any]]:
    """Its log."""
    return list(serve_db.events(run.layout.log))


def last_words(run: "Run") -> list[str]:
    """What it printed and logged last."""
    printed = run.printed().splitlines()[-LINES:]
    return [*printed, *(json.dumps(told) for told in logged(run)[-LINES:])]


def survived(run: "Run", plan: "Plan") -> Check:
    """What was done to it was done, and nothing of it is left."""
    told = (
        f"{run.killed} workers killed, service killed -9 {run.service_killed} times"
        f" ({run.killed_when_full} without room), ended {run.fell} times by itself, disk full for"
        f" {run.filled:.0f} s, {run.orphans} orphans"
    )
    happened = run.killed and run.service_killed == plan.service_kills and not run.fell
    if plan.full_seconds:
        happened = happened and run.filled and (run.killed_when_full or not plan.service_kills)
    status = run.process.returncode if run.process else None
    if status:
        told += f", status {status}"
    held = bool(happened) and not run.orphans and status == 0
    return Check("it goes on", told, held, last_words(run))


def lost(run: "Run") -> Check:
    """Every finding that was met is on the shelf, or waits on disk."""
    log = logged(run)
    met = {told["signature"] for told in log if told["event"] == "finding_met"} | run.reserved
    kept = {family_of(entry.meta.signature) for entry in shelf.entries(run.findings)[0]}
    # A minimised finding may turn out to be of another family; the log says which became which.
    kept |= {
        told["of"]
        for told in log
        if told["event"] == "finding_kept" and (run.findings / told["name"]).is_dir()
    }
    pending = {
        path.name.removesuffix(store.SUFFIX)
        for path in (run.findings / shelf.PENDING).rglob(f"*{store.SUFFIX}")
    }
    missing = sorted(one for one in met - kept if one.replace(" ", "-") not in pending)
    told = (
        f"{len(met)} met, {len(run.reserved)} of them waiting for room at a kill,"
        f" {len(met & kept)} on the shelf, {len(pending)} pending"
    )
    if missing:
        told += f"; lost: {', '.join(missing)}"
    about = [json.dumps(told) for told in log if missing and str(told.get("signature")) in missing]
    return Check("no finding is lost", told, bool(met) and not missing, about)


def twice(run: "Run") -> Check:
    """None is on the shelf twice."""
    entries = shelf.entries(run.findings)[0]
    counts = Counter(entry.key for entry in entries)
    again = [entry for entry in entries if counts[entry.key] > 1]
    told = f"{len(counts)} distinct, {len(entries) - len(counts)} twice"
    detail = [f"{entry.name}: {entry.meta.signature}" for entry in again]
    return Check("no finding is there twice", told, not again, detail)


def committed(run: "Run") -> Check:
    """Each is committed, and was added once."""
    left = run.git("status", "--porcelain", "--untracked-files=all").splitlines()
    left = [line for line in left if shelf.PENDING not in line]
    added = Counter(
        line
        for line in run.git("log", "--format=", "--name-only", "--diff-filter=A").splitlines()
        if line
    )
    again = [name for name, count in added.items() if count > 1]
    commits = int(run.git("rev-list", "--count", "HEAD")) - 1
    told = f"{commits} commits, {len(left)} files not committed, {len(again)} added twice"
    about = ("commit_failed", "committed")
    detail = [json.dumps(told) for told in logged(run) if told["event"] in about]
    held = bool(commits) and not left and not again
    return Check("all are committed, once", told, held, [*left, *again, *detail[-LINES:]])


def whole(run: "Run") -> Check:
    """The files can be read, and the database is sound."""
    state = serve_state.load(run.layout.state)
    with closing(sqlite3.connect(run.layout.database)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
    _, unreadable = shelf.entries(run.findings)
    told = f"statistics {said}, {len(unreadable)} unreadable findings"
    held = state is not None and said == "ok" and not unreadable
    return Check("files are whole", told, held, unreadable)


def _at(told: dict[str, Any]) -> float:
    return datetime.fromisoformat(told["at"]).timestamp()


def taken(run: "Run") -> dict[str, dict[str, float]]:
    """Each finding that was kept: seconds from being met until it was somewhere."""
    met: dict[str, float] = {}
    begins: dict[str, float] = {}
    took: dict[str, dict[str, float]] = {}
    for told in logged(run):
        if told["event"] == "finding_met":
            met.setdefault(told["signature"], _at(told))
        elif told["event"] == "finding_kept" and told["of"] in met and told["name"] not in took:
            name = told["name"]
            begins[name] = met[told["of"]]
            took[name] = {"shelf": _at(told) - begins[name]}
            if name in run.shown:
                took[name]["dashboard"] = run.shown[name] - begins[name]
            elif _at(told) < run.answered:
                took[name]["dashboard"] = math.inf  # it answered, and did not show it
        elif told["event"] == "committed":
            for name in begins.keys() & set(told["names"]):
                took[name].setdefault("commit", _at(told) - begins[name])
    return took


def soon(run: "Run", how: str, *, judged: bool) -> Check:
    """How long findings took from being met to the shelf, the dashboard and the commit."""
    name = f"from met to shown, {how}"
    took = taken(run)
    if not took:
        return Check(name, "no finding was kept", False if judged else None, last_words(run))
    said = []
    for where in ("shelf", "dashboard", "commit"):
        seconds = [one[where] for one in took.values() if where in one]
        if seconds:
            said.append(f"{where} {statistics.median(seconds):.1f} s, {max(seconds):.1f} s at most")
    told = f"{len(took)} findings, median: {'; '.join(said)}"
    missing = sum("dashboard" not in one for one in took.values())
    if missing:
        told += f"; {missing} came when nobody looked at the dashboard any more"
    held = missing < len(took) and all(max(one.values()) <= SOON_SECONDS for one in took.values())
    detail = [
        f"{finding}: {', '.join(f'{where} {seconds:.1f} s' for where, seconds in one.items())}"
        for finding, one in took.items()
    ]
    return Check(name, told, held if judged else None, detail)


def grown(run: "Run", *, judged: bool) -> Check:
    """Memory in the last sixth of the time against the second one."""
    window = run.seconds / 6
    kinds: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    born: dict[int, float] = {}
    for one in run.memory:
        if one.at - born.setdefault(one.pid, one.at) < STARTING_SECONDS or one.kind in PASSING:
            continue
        for part, begin in zip(kinds, (window, run.seconds - window), strict=True):
            if begin <= one.at < begin + window:
                part.setdefault(one.kind, []).append(one.bytes)
    first, last = kinds
    both = sorted(
        kind
        for kind in first.keys() & last.keys()
        if min(len(first[kind]), len(last[kind])) >= SAMPLES_MIN
    )
    lives = [line for kind in sorted({one.kind for one in run.memory}) for line in life(run, kind)]
    if not both:
        return Check("memory grows < 5 %", "not measured", False if judged else None, lives)
    before = sum(sum(first[kind]) for kind in both)
    after = sum(len(first[kind]) * statistics.fmean(last[kind]) for kind in both)
    growth = after / before - 1
    each = [
        f"{kind} {statistics.fmean(first[kind]) / 2**20:.0f} ->"
        f" {statistics.fmean(last[kind]) / 2**20:.0f}"
        for kind in both
    ]
    told = f"{100 * growth:+.1f} % (MiB each: {', '.join(each)})"
    counts = [f"{kind}: {len(first[kind])} and {len(last[kind])} samples" for kind in both]
    held = growth < GROWTH_MAX if judged else None
    return Check("memory grows < 5 %", told, held, [*counts, *lives])


def life(run: "Run", kind: str) -> list[str]:
    """How much the longest-lived process of a kind grew after its first minute."""
    lives: dict[int, list[Size]] = {}
    for one in run.memory:
        if one.kind == kind:
            lives.setdefault(one.pid, []).append(one)
    longest = max(lives.values(), key=lambda sizes: sizes[-1].at - sizes[0].at)
    old = [one for one in longest if one.at - longest[0].at >= YOUNG_SECONDS]
    if len(old) < 2:
        return []
    sizes = f"{old[0].bytes / 2**20:.1f} -> {old[-1].bytes / 2**20:.1f} MiB"
    return [f"{kind}, the longest-lived process: {sizes} in {old[-1].at - old[0].at:.0f} s"]


def done(run: "Run", begin: float) -> tuple[dict[str, tuple[float, float]], float]:
    """Schedules and seconds of each method from a moment to the end, and how long that was."""
    seen: list[Work] = [one for one in run.work if one.at >= begin]
    if len(seen) < 2:
        return {}, 0.0
    first, last = seen[0], seen[-1]
    did = {}
    for name, (schedules, seconds) in last.methods.items():
        old = first.methods.get(name, (0.0, 0.0))
        did[name] = (schedules - old[0], seconds - old[1])
    return did, last.at - first.at


def throughput(run: "Run", others: list["Run"], *, judged: bool) -> Check:
    """Work per second against that of undisturbed runs; all of them without their beginning."""
    schedules: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    alone = 0.0
    for number, other in enumerate(others):
        warm = min(WARM_SECONDS, other.seconds / 2)
        if number:
            warm = min(WARM_AGAIN_SECONDS, other.seconds / 4)
        did, lasted = done(other, warm)
        alone += lasted
        for name, (made, took) in did.items():
            schedules[name] += made
            seconds[name] += took
    did, lasted = done(run, min(WARM_SECONDS, run.seconds / 2))
    if not alone or not lasted or not sum(seconds.values()):
        return Check(THROUGHPUT, "not measured", False if judged else None)
    work = 0.0
    lines = []
    for name, (made, took) in sorted(did.items()):
        usual = schedules[name] / seconds[name] if seconds[name] else 0.0
        # What no undisturbed run did cannot be compared, and counts for the time that it took.
        work += made / usual if usual else took
        lines.append(
            f"{name}: {took:.0f} s of searching at {made / max(took, 1e-9):,.0f} schedules/s;"
            f" undisturbed {seconds[name]:.0f} s at {usual:,.0f}"
        )
    ratio = (work / lasted) / (sum(seconds.values()) / alone)
    told = (
        f"{100 * ratio:.0f} % of the work, over {lasted:.0f} and {alone:.0f} s;"
        f" {sum(made for made, _ in did.values()) / lasted:,.0f} schedules/s, undisturbed"
        f" {schedules.total() / alone:,.0f}; {sum(took for _, took in did.values()) / lasted:.2f}"
        f" searches at once, undisturbed {sum(seconds.values()) / alone:.2f}"
    )
    return Check(THROUGHPUT, told, ratio >= THROUGHPUT_MIN if judged else None, lines)
