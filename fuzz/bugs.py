# SPDX-License-Identifier: GPL-2.0-only
"""How soon each policy finds what is known to be wrong: planted bugs and findings.

A bug is a case of the corpus that expects a verdict. It is looked for from many seeds, each until
it is found or the cap is met, so what stands in the tables is how many schedules a search needs.
What a mix of policies needs follows from what each of them needs: it has found a bug when the
first of them has.

Where most seeds met the bug within the cap, the others go on until they do, to PATIENCE times as
many. Where most did not, a table never guesses: it has what uniform needs from the tree of all
schedules, exactly, or else what the schedules that were run say about the probability of one.

Beside them stands the thread engine with a limit of time, and what Burckhardt's bound promises of
pct (cleanrace.pct). The same bound says when a bug was not missed by bad luck: if pct-2 had found
every bug of depth 2 in what was searched but for one case in a billion, this one is deeper.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.text import Text

import cleanrace
from cleanrace import Case, Scenario, Target, pct, words
from fuzz import corpus, rarity, store, tree

POLICIES = ("random", "uniform", "pct-1", "pct-2", "pct-3", "pct", "surw")
FORMAT = 1
SEEDS = 100
ABLATION_SEEDS = 30
# The baseline chooses anew at each access, and then hardly lets a thread get anywhere. It is looked
# at with reduced points as well, where that is not so.
SLICES = (*((policy, "all") for policy in POLICIES), ("uniform", "sync"))
CAP = 200_000  # schedules of one search
PATIENCE = 10  # times as many where most searches needed fewer
SHORT_CAP = 20_000  # of the ablation, and where somebody waits for one bug
VAIN_MAX = 10  # searches in vain from the first seeds on, after which no more are made
STATES_MAX = 40_000  # of a tree that is counted where most searches were in vain
TREE_THREADS = 2  # of three threads such trees are too large, and finding that out takes a minute
# Cases in which both threads have as much to do before they meet. There the baseline finds what it
# hardly ever does elsewhere; to compare policies, each of these bugs is there once already.
ABREAST = "-abreast"
THREAD_SEEDS = 5
THREAD_SECONDS = 1.0  # of one search by the thread engine
SHARE = 0.95
# Verdicts that only a run that detects has: real threads show none of them.
DETECTED = frozenset(
    name for name, group in words.VERDICTS.items() if group in ("rule", "race")
) | {"lock-misuse"}
PROMOTION_SECONDS = 0.5
LUCK = 1e-9  # a bound that was missed with less probability was not missed by luck

# Shares of the schedules: what the ablation compares, each as {(policy, points): share}.
Mix = Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A case that expects a verdict. name: its file's. detect: only detectors show it."""

    name: str
    case: Case

    @property
    def detect(self) -> bool:
        """Whether only a run that detects shows it."""
        return self.case.expect in DETECTED

    def options(self) -> dict[str, Any]:
        """What run() and search() are asked for besides the policy."""
        return {
            "planted": tuple(sorted(self.case.broken)),
            "judged": (self.case.expect,),
            "steps_max": self.case.steps_max,
        }


@dataclass(kw_only=True)
class Cell:
    """One policy on one bug.

    schedules: per seed the number until the bug was found, None: not within the limit. searched:
    the seeds that were looked from; the others are taken to be in vain. limit: schedules from a
    seed at most. ran, seconds: all schedules and their time. steps: of a schedule, as the policy's
    profile says, or 0. chance: that a schedule shows it, counted exactly; None: not counted, or
    the tree is too large.
    """

    policy: str
    points: str
    schedules: list[int | None] = field(default_factory=list)
    searched: int = 0
    limit: int = 0
    ran: int = 0
    seconds: float = 0.0
    steps: int = 0
    chance: float | None = None

    @property
    def missed(self) -> int:
        """Seeds that did not find it."""
        return self.schedules.count(None)

    def quantile(self, share: float) -> int | None:
        """So many schedules were enough for that share of the seeds; None: the cap was not."""
        ordered = sorted(math.inf if n is None else n for n in self.schedules)
        found = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
        return None if found == math.inf else int(found)

    @property
    def schedule_seconds(self) -> float:
        """Of one schedule."""
        return self.seconds / max(1, self.ran)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the chance is, as far as what was run says: see rarity.py."""
        return rarity.bounds(len(self.schedules) - self.missed, self.ran)


@dataclass(kw_only=True)
class Row:
    """One bug, with every policy.

    thread: seconds per seed, None where it was not found.
    """

    bug: Bug
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    thread: list[float | None] | None = None

    @property
    def trivial(self) -> bool:
        """Whether the very first schedule shows it, whatever the policy."""
        return all(set(cell.schedules) == {1} for cell in self.cells.values())


def listed(target: Target) -> list[Bug]:
    """Every case with a verdict that two threads bring about, or that a detector gives."""
    bugs = []
    for path in corpus.paths(corpus.FOLDERS[:1]):
        case = Case.read(path)
        group = words.VERDICTS[case.expect]
        raced = len(case.scenario.threads) > 1
        if corpus.applies(case, target) and group != "none" and (raced or _planted_detector(case)):
            bugs.append(Bug(name=path.stem, case=case))
    return bugs


def _planted_detector(case: Case) -> bool:
    return bool(case.broken) and words.VERDICTS[case.expect] in ("rule", "race", "engine")


def promoted(target: Target, scenario: Scenario, **options: Any) -> tuple[int, ...]:
    """The accesses that a run with reduced points needs, as an exploration finds them."""
    now = cleanrace.explore(target, scenario, seconds=PROMOTION_SECONDS, **options)
    return now.promoted


def look(
    target: Target, bug: Bug, cell: Cell, *, seeds: Sequence[int], cap: int, patience: int = 1
) -> None:
    """Look for the bug from each seed until it is found, in so many schedules at most.

    A policy that misses it from each of the first seeds is taken to miss it from all. patience:
    times as many schedules if the bug was found from at least half of the seeds.
    """
    cell.limit = cap
    for seed in seeds:
        vain = len(cell.schedules) >= VAIN_MAX and cell.missed == len(cell.schedules)
        cell.searched += not vain
        cell.schedules.append(None if vain else _look(target, bug, cell, seed, range(cap)))
    if cell.missed and cell.quantile(0.5) is not None:
        cell.limit = cap * patience
        for at, seed in enumerate(seeds):
            if cell.schedules[at] is None and patience > 1:
                cell.schedules[at] = _look(target, bug, cell, seed, range(cap, cell.limit))


def _look(target: Target, bug: Bug, cell: Cell, seed: int, numbers: range) -> int | None:
    """Search these schedules of a seed: how many there are up to the one that shows the bug."""
    begin = time.process_time()
    met = cleanrace.search(
        target,
        bug.case.scenario,
        schedules=len(numbers),
        first=numbers.start,
        seed=seed,
        policy=cell.policy,
        points=cell.points,
        detect=bug.detect,
        stop_on=(bug.case.expect,),
        **bug.options(),
    )
    cell.seconds += time.process_time() - begin
    cell.ran += met.schedules
    cell.steps = max(cell.steps, met.steps_profiled)
    return numbers.start + met.schedules if met.violations.get(bug.case.expect) else None


def chance(
    target: Target, bug: Bug, *, points: str = "all", states_max: int = STATES_MAX
) -> float | None:
    """The exact probability that a schedule of uniform shows it; None: the tree is too large."""
    if len(bug.case.scenario.threads) > TREE_THREADS:
        return None
    schedules = tree.Schedules(target=target, case=bug.case, points=points, states_max=states_max)
    try:
        return schedules.count(b"").chance
    except tree.TooLarge:
        return None


def look_by_threads(target: Target, bug: Bug, *, seeds: int, seconds: float) -> list[float | None]:
    """Seconds until real threads met the bug, per seed; None: not within so many."""
    found: list[float | None] = []
    for seed in range(seeds):
        met = cleanrace.search(
            target,
            bug.case.scenario,
            schedules=10**9,
            seconds=seconds,
            seed=seed,
            engine="thread",
            stop_on=(bug.case.expect,),
            **bug.options(),
        )
        found.append(met.seconds if met.violations.get(bug.case.expect) else None)
    return found


def run(
    target: Target,
    bugs: Sequence[Bug],
    *,
    seeds: int = SEEDS,
    cap: int = CAP,
    patience: int = 1,
    slices: Sequence[tuple[str, str]] = SLICES,
    thread_seeds: int = THREAD_SEEDS,
    counts: int = 0,
    show: Callable[[str], None] | None = None,
) -> Iterator[Row]:
    """Every policy, with its points, on every bug, one bug after the other.

    patience: see look(). counts: states of a tree at most, to count what uniform needs where most
    of its searches were in vain.
    """
    for number, bug in enumerate(bugs):
        row = Row(bug=bug)
        for policy, points in slices:
            if points == "sync":
                target.promote(promoted(target, bug.case.scenario, **bug.options()))
            if show is not None:
                show(f"{bug.name} ({number + 1} of {len(bugs)}): {policy} {points}")
            cell = row.cells[policy, points] = Cell(policy=policy, points=points)
            look(target, bug, cell, seeds=range(seeds), cap=cap, patience=patience)
            if counts and policy == "uniform" and cell.quantile(0.5) is None:
                cell.chance = chance(target, bug, points=points, states_max=counts)
        if thread_seeds and not bug.detect:
            row.thread = look_by_threads(target, bug, seeds=thread_seeds, seconds=THREAD_SECONDS)
        yield row


# The ablation: policies alone, and mixes of them.


def _even(*slices: tuple[str, str]) -> Mix:
    return dict.fromkeys(slices, 1 / len(slices))


ABLATION = tuple((policy, points) for policy in POLICIES for points in ("all", "sync"))
MIXES: Mapping[str, Mix] = {
    "random, surw": _even(("random", "all"), ("surw", "all")),
    "random, pct-3": _even(("random", "all"), ("pct-3", "all")),
    "surw, pct-3": _even(("surw", "all"), ("pct-3", "all")),
    "random, surw, pct-3": _even(("random", "all"), ("surw", "all"), ("pct-3", "all")),
    "surw sync, pct-3": _even(("surw", "sync"), ("pct-3", "all")),
}


@dataclass(kw_only=True)
class Score:
    """One line of the ablation, over all bugs that do not show at once.

    schedules: geometric mean of the medians. seconds: geometric mean of the mean times to find.
    worst, worst_seconds: the bug that took longest. missed: searches that did not find theirs.
    """

    name: str
    schedules: float
    seconds: float
    worst: str
    worst_seconds: float
    missed: int


def score(rows: Sequence[Row], name: str, mix: Mix, *, cap: int = CAP) -> Score:
    """What a mix needs: the first of its policies to find a bug has found it.

    A policy with share w has made its n-th schedule when the mix has made n / w of them. A search
    in vain counts as one that ended at the cap.
    """
    medians, means = [], {}
    missed = 0
    for row in rows:
        cells = [(row.cells[key], share) for key, share in mix.items()]
        one = sum(share * cell.schedule_seconds for cell, share in cells)
        found = [_first(cells, at) for at in range(len(cells[0][0].schedules))]
        missed += sum(n > cap for n in found)
        counted = [min(n, cap) for n in found]
        medians.append(median(counted))
        means[row.bug.name] = one * sum(counted) / len(counted)
    worst = max(means, key=lambda bug: means[bug])
    return Score(
        name=name,
        schedules=_geometric(medians),
        seconds=_geometric(means.values()),
        worst=worst,
        worst_seconds=means[worst],
        missed=missed,
    )


def _first(cells: Sequence[tuple[Cell, float]], seed: int) -> float:
    """The schedule of the mix that finds the bug first."""
    found = [(cell.schedules[seed], share) for cell, share in cells]
    return min((math.ceil(n / share) for n, share in found if n is not None), default=math.inf)


def _geometric(values: Iterable[float]) -> float:
    logs = [math.log(max(value, 1e-12)) for value in values]
    return math.exp(sum(logs) / len(logs))


def scores(rows: Sequence[Row], *, cap: int = CAP) -> list[Score]:
    """Every policy alone with each sort of points, then the mixes."""
    hard = [row for row in rows if not row.trivial]
    if not hard:
        return []
    alone = [
        score(hard, f"{policy}{' sync' if points == 'sync' else ''}", {(policy, points): 1.0},
              cap=cap)
        for policy, points in hard[0].cells
    ]  # fmt: skip
    known = set(hard[0].cells)
    mixed = [score(hard, name, mix, cap=cap) for name, mix in MIXES.items() if set(mix) <= known]
    return alone + mixed


# What people see, and what programs do.


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for; None is the default of either table."""

    seeds: int | None = None
    cap: int | None = None
    ablation: bool = False

    @property
    def searches(self) -> int:
        """Seeds per policy and bug."""
        return self.seeds or (ABLATION_SEEDS if self.ablation else SEEDS)

    @property
    def schedules(self) -> int:
        """Schedules of one search at most."""
        return self.cap or (SHORT_CAP if self.ablation else CAP)


def chosen(target: Target, wanted: Wanted) -> list[Bug]:
    """The bugs of either table."""
    bugs = listed(target)
    return [bug for bug in bugs if not (wanted.ablation and bug.name.endswith(ABREAST))]


def measure(
    target: Target, wanted: Wanted, *, show: Callable[[str], None] | None = None
) -> Iterator[Row]:
    """The rows of either table, as they come."""
    return run(
        target,
        chosen(target, wanted),
        seeds=wanted.searches,
        cap=wanted.schedules,
        patience=1 if wanted.ablation else PATIENCE,
        slices=ABLATION if wanted.ablation else SLICES,
        thread_seeds=0 if wanted.ablation else THREAD_SEEDS,
        counts=0 if wanted.ablation else STATES_MAX,
        show=show,
    )


def print_bugs(
    console: Console,
    target: Target,
    rows: Sequence[Row],
    wanted: Wanted,
    path: Path | None,
    *,
    command: list[str],
) -> None:
    """Print either table; OSError if the file cannot be written."""
    seeds, cap = wanted.searches, wanted.schedules
    table = ablation_markdown(rows, seeds=seeds, cap=cap) if wanted.ablation else None
    for line in table or markdown(rows, seeds=seeds):
        console.print(Text(line), soft_wrap=True)
    if path is not None:
        said = {
            "format": FORMAT,
            "command": command,
            "target": {"name": target.name, "build_id": target.build_id},
            "seeds": seeds,
            **to_json(rows, cap=cap),
        }
        store.write(path, json.dumps(said, indent=2) + "\n")


def promise(row: Row) -> tuple[str, int] | None:
    """The lowest depth whose pct found the bug from every seed, and what its bound asks for.

    That is how many schedules make it 95 % probable that a bug of that depth was met.
    """
    for depth in range(1, pct.DEPTH_MAX + 1):
        cell = row.cells.get((f"pct-{depth}", "all"))
        if cell is None or cell.missed or not cell.steps:
            continue
        threads = len(row.bug.case.scenario.threads)
        one = pct.met(threads=threads, steps=cell.steps, depth=depth)
        return cell.policy, 1 if one >= 1 else math.ceil(math.log(1 - SHARE) / math.log1p(-one))
    return None


def needs(row: Row, cell: Cell) -> int | None:
    """The depth that a bug needs if that is why this cell of pct-1, pct-2 never found it, or None.

    All bugs of the cell's depth, and of those up to the first depth that found it, must have been
    found but for LUCK, by pct's bound.
    """
    depths = {f"pct-{depth}": depth for depth in range(1, pct.DEPTH_MAX + 1)}
    if cell.policy not in depths or cell.points != "all":
        return None
    threads = len(row.bug.case.scenario.threads)
    for depth in range(depths[cell.policy], pct.DEPTH_MAX + 1):
        one = row.cells.get((f"pct-{depth}", "all"))
        if one is None or not one.schedules:
            return None
        if one.missed < len(one.schedules):
            return depth if depth > depths[cell.policy] else None
        if not one.steps:
            return None
        luck = pct.missed(threads=threads, steps=one.steps, depth=depth, schedules=one.ran)
        if luck > LUCK:
            return None
    return None


def markdown(rows: Sequence[Row], *, seeds: int) -> Iterator[str]:
    """The table of bugs, ready for README.md."""
    hard = [row for row in rows if not row.trivial]
    slices = list(rows[0].cells) if rows else []
    yield (
        f"Schedules until found, median / 95 % over {seeds} seeds. *> N*: most seeds did not find"
        f" it in so many ({VAIN_MAX} in vain from the first ones on count for all), and p, the"
        " probability of one schedule, is with 95 % where all that was run leaves it; *counted*:"
        " not run, but exact, from the tree of all schedules. *Needs depth*: a bug of less depth"
        " would have been found. *Sync*: points at synchronisation and what races. *Bound*: what"
        " cleanrace.pct asks for, for 95 %, of the lowest depth that finds it. *Threads*: the"
        " thread engine, median of the seeds that found it."
    )
    yield ""
    heads = [policy if points == "all" else f"{policy} {points}" for policy, points in slices]
    yield f"| bug | verdict | {' | '.join(heads)} | bound | threads |"
    yield f"|---|---|{'---|' * (len(heads) + 2)}"
    for row in hard:
        cells = [_cell(row, row.cells[one]) for one in slices]
        bound = promise(row)
        said = "" if bound is None else f"{bound[1]:,} ({bound[0]})"
        name, verdict = row.bug.name, row.bug.case.expect
        yield f"| {name} | {verdict} | {' | '.join(cells)} | {said} | {_threads(row)} |"
    at_once = [row.bug.name for row in rows if row.trivial]
    if at_once:
        yield ""
        yield f"Found by the first schedule, whatever the policy: {', '.join(at_once)}."


def _cell(row: Row, cell: Cell) -> str:
    depth = needs(row, cell)
    if depth is not None:
        return f"needs depth {depth}"
    half, most = cell.quantile(0.5), cell.quantile(SHARE)
    if half is None:
        return _rare(cell)
    if half == most:
        return f"{half:,}"
    found = len(cell.schedules) - cell.missed
    return f"{half:,} / " + (f"> {cell.limit:,} ({found} found)" if most is None else f"{most:,}")


def _rare(cell: Cell) -> str:
    """What is known where there is no median: exactly, or from what was run."""
    if cell.chance:
        needed = (math.log1p(-share) / math.log1p(-cell.chance) for share in (0.5, SHARE))
        return f"{' / '.join(_large(n) for n in needed)} (counted)"
    low, high = cell.bounds
    known = f"p < {_small(high)}" if low == 0 else f"p {_small(low)} to {_small(high)}"
    seeds = "" if cell.searched == len(cell.schedules) else f", {cell.searched} seeds"
    return f"> {cell.limit:,} ({known}{seeds})"


def _small(number: float) -> str:
    return f"{number:.1e}".replace("e-0", "e-")


def _large(number: float) -> str:
    return f"{number:,.0f}" if number < 1e7 else f"{number:.0e}".replace("+", "")


def _threads(row: Row) -> str:
    if row.thread is None:
        return "cannot"
    found = [seconds for seconds in row.thread if seconds is not None]
    if not found:
        return f"> {THREAD_SECONDS:.0f} s"
    share = "" if len(found) == len(row.thread) else f" ({len(found)} of {len(row.thread)})"
    return f"{median(found):.2g} s{share}"


def ablation_markdown(rows: Sequence[Row], *, seeds: int, cap: int) -> Iterator[str]:
    """The table of policies and mixes, ready for README.md."""
    hard = [row for row in rows if not row.trivial]
    yield (
        f"{len(hard)} bugs, {seeds} seeds each, at most {cap:,} schedules; means are geometric, and"
        " a search in vain counts as one that ended at the cap."
    )
    yield ""
    yield "| policies | schedules | time to find | slowest bug | its time | in vain |"
    yield "|---|---|---|---|---|---|"
    for one in scores(rows, cap=cap):
        yield (
            f"| {one.name} | {one.schedules:,.0f} | {1000 * one.seconds:.2f} ms | {one.worst} |"
            f" {1000 * one.worst_seconds:,.1f} ms | {one.missed} |"
        )


def to_json(rows: Sequence[Row], *, cap: int) -> dict[str, Any]:
    """Both tables, with every seed."""
    return {
        "cap": cap,
        "bugs": [_row(row, cap) for row in rows],
        "ablation": [vars(one) for one in scores(rows, cap=cap)],
    }


def _row(row: Row, cap: int) -> dict[str, Any]:
    case, bound, baseline = row.bug.case, promise(row), row.cells.get(("uniform", "all"))
    return {
        "bug": row.bug.name,
        "planted": sorted(case.broken),
        "verdict": case.expect,
        "threads": len(case.scenario.threads),
        "detect": row.bug.detect,
        "policies": [_policy(row, cell, cap) for cell in row.cells.values()],
        "uniform_chance": None if baseline is None else baseline.chance,
        "bound": None if bound is None else {"policy": bound[0], "schedules": bound[1]},
        "thread_engine": None
        if row.thread is None
        else {"seconds_max": THREAD_SECONDS, "seconds": row.thread},
    }


def _policy(row: Row, cell: Cell, cap: int) -> dict[str, Any]:
    """One cell; of pct, also the greatest probability of a bug of its depth being missed."""
    missed: float | None = None
    depth = cell.policy.removeprefix("pct-")
    if depth.isdigit() and cell.steps:
        missed = pct.missed(
            threads=len(row.bug.case.scenario.threads),
            steps=cell.steps,
            depth=int(depth),
            schedules=cell.quantile(SHARE) or cap,
        )
    return {
        "policy": cell.policy,
        "points": cell.points,
        "median": cell.quantile(0.5),
        "share_95": cell.quantile(SHARE),
        "missed": cell.missed,
        "searched": cell.searched,
        "limit": cell.limit,
        "chance": cell.chance,
        "chance_bounds": list(cell.bounds),
        "schedules": cell.schedules,
        "ran": cell.ran,
        "seconds_per_schedule": cell.schedule_seconds,
        "steps_profiled": cell.steps,
        "probability_missed_after_95": missed,
    }
