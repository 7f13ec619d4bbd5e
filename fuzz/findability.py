# SPDX-License-Identifier: GPL-2.0-only
"""`findability`: how soon each policy finds a finding, and from when on it was inevitable.

The first part is `bench --bugs` for one bug. The second is exact, on the tree of all schedules at
every access, see tree.py. A step of the finding's schedule made the verdict inevitable if all
schedules through the state after it have the verdict, and not all of those through the state
before it.

A tree that is too large is sampled. Once inevitable is always inevitable, so a search by halves
finds the last decision after which some random continuation still avoids the verdict: up to there
it certainly was not inevitable.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import cleanrace
from cleanrace import Case, Event, Target, schedule
from fuzz import bisecting, bugs, keeping, racetable, store
from fuzz.bugs import Bug, Cell, Row
from fuzz.command import KernelOption, TargetOption, app, console, ensure, number, stages
from fuzz.report import say
from fuzz.tree import STATES_MAX, Decision, Schedules, Show, TooLarge, Turn, turn_at

SAMPLES = 1000  # random continuations of a prefix
CONFIDENCE = 0.95
ROWS = 10  # decisions shown


def inevitable(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that left no way out; None if there never was one, or no decision."""
    return next((one for one in decisions if one.after.share == 1 and one.before.share < 1), None)


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Of a tree that is too large, what samples say.

    avoidable: the last decision after which a sample avoided the verdict, None: no decision.
    begin: the first one after which none did, None: none did at all. samples: of each.
    """

    avoidable: Turn | None
    begin: Turn | None
    samples: int = SAMPLES

    @property
    def share(self) -> float:
        """At least so many continuations violate, with CONFIDENCE: the rule of three, exactly."""
        return float((1 - CONFIDENCE) ** (1 / self.samples))


def sample(target: Target, case: Case, tape: bytes, *, samples: int = SAMPLES) -> Sampled:
    """Search by halves for the decision after which no random continuation avoids the verdict."""
    options = keeping.options(case)
    result = cleanrace.run(target, case.scenario, tape, **options)
    turns = (turn_at(result.trace, at) for at in _beginnings(result.trace))
    chosen = [turn for turn in turns if turn[0].enabled.bit_count() > 1]
    whole = result.tape.ljust(len(chosen), b"\0")
    random = Random(0)

    def avoided(decided: int) -> bool:
        for _ in range(samples):
            # Staying on a thread for a while is what lets it get anywhere.
            rate = 1 << random.randrange(1, 7)
            tail = bytes(
                random.randrange(256) if random.randrange(rate) == 0 else 0
                for _ in range(len(chosen) - decided + 64)
            )
            run = cleanrace.run(
                target, case.scenario, whole[:decided] + tail, full=False, **options
            )
            if case.expect not in run.verdicts:
                return True
        return False

    low, high = -1, len(chosen)  # after so many decisions: avoided, and not
    if avoided(0):
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if avoided(middle) else (low, middle)
    else:
        high = 0
    return Sampled(
        avoidable=chosen[low - 1] if low > 0 else None,
        begin=chosen[high - 1] if high > 0 else None,
        samples=samples,
    )


def _beginnings(trace: Sequence[Event]) -> Iterator[int]:
    """Where each turn begins."""
    last = -1
    for at, event in enumerate(trace):
        if event.step != last:
            last = event.step
            yield at


# What people see.


def policies(
    target: Target, case: Case, *, name: str, seeds: int, cap: int, show: Show | None = None
) -> Row:
    """How many schedules each policy needs, from so many seeds."""
    bug = Bug(name=name, case=case)
    return next(bugs.run(target, [bug], seeds=seeds, cap=cap, thread_seeds=0, show=show))


def print_policies(out: Console, row: Row, *, seeds: int, cap: int) -> None:
    """The table, a line per policy."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("policy", "median", "95 %", "in vain", "ms each"):
        table.add_column(title, justify="left" if title == "policy" else "right", no_wrap=True)
    for cell in row.cells.values():
        table.add_row(*_cells(cell, cap))
    out.print(table)
    say(
        out,
        f"(schedules until found, over {seeds} seeds; > {cap:,}: not within the cap; after"
        f" {bugs.VAIN_MAX} seeds in vain all count as in vain)",
    )


def _cells(cell: Cell, cap: int) -> tuple[str, ...]:
    needed = (cell.quantile(share) for share in (0.5, bugs.SHARE))
    shown = [f"> {cap:,}" if n is None else f"{n:,}" for n in needed]
    each = 1000 * cell.schedule_seconds
    name = cell.policy if cell.points == "all" else f"{cell.policy} {cell.points}"
    return (name, *shown, f"{cell.missed:,}", f"{each:.2g}")


def describe(target: Target, case: Case, turn: Turn) -> str:
    """A turn as people read it: "step 114: thread 1 at f:10 (reads x)"."""
    first = turn[0]
    # A callback says more than what it touches.
    told = next((event for event in turn if event.kind.startswith("cb-")), None)
    told = told or next((event for event in turn if event.kind in schedule.ACCESSES), first)
    what = racetable.words_of(told, case.scenario)
    if told.kind in schedule.ACCESSES:
        name = target.names.object(told.object).removesuffix(racetable.LOCK_FIELD)
        what = f"{racetable.VERBS[told.kind]} {name}"
    where = f"step {first.step}: thread {first.thread}"
    pc = next((event.pc for event in turn if event.pc), 0)
    if pc:
        target.names.load([pc])
        where += f" at {target.names.function_line(pc)}"
    return f"{where} ({what})"


def percent(share: Fraction | float) -> str:
    """A share with three digits, and 0 and 100 only if they are exact."""
    if share in (0, 1):
        return f"{100 * int(share)} %"
    digits = f"{100 * float(share):.3g}"
    return f"{'> 99.9' if digits == '100' else digits} %"


def print_tree(out: Console, tree: Schedules, decisions: Sequence[Decision]) -> None:
    """The counts, the decisions that mattered most, and when it was too late."""
    target, case = tree.target, tree.case
    root = decisions[0].before if decisions else tree.count(b"")
    say(
        out,
        f"the tree at every access: {root.schedules:,} schedules, {root.violating:,} of them"
        f" violate {case.expect} ({percent(root.share)}); counted exactly in"
        f" {len(tree.counts):,} states by {tree.runs:,} runs",
    )
    if decisions:
        say(out, f"this schedule's {len(decisions)} decisions, those that changed the share most:")
    most = sorted(decisions, key=lambda one: -abs(one.after.share - one.before.share))[:ROWS]
    for one in decisions:
        if any(one is other for other in most):
            shares = f"{percent(one.before.share)} -> {percent(one.after.share)}"
            say(out, f"  {shares:20} {describe(target, case, one.turn)}")
    at = inevitable(decisions)
    if at is not None:
        before = at.before
        say(out, f"inevitable from {describe(target, case, at.turn)}", style="bold")
        say(
            out,
            f"before it {before.violating:,} of {before.schedules:,} schedules still to come"
            f" violate, after it all {at.after.schedules:,} do",
        )
    elif root.share == 1:
        say(out, "inevitable from the start: every schedule violates", style="bold")


def print_sampled(out: Console, target: Target, case: Case, found: Sampled) -> None:
    """What samples say, and how sure that is."""
    if found.avoidable is not None:
        say(out, f"not inevitable after {describe(target, case, found.avoidable)}")
    begin = "from the start"
    if found.begin is not None:
        begin = f"from {describe(target, case, found.begin)}"
    say(
        out,
        f"seems inevitable {begin}: none of {found.samples:,} random continuations avoids it;"
        f" with {percent(CONFIDENCE)} confidence more than {percent(found.share)} of them violate",
        style="bold",
    )


def print_inevitable(
    out: Console, target: Target, case: Case, tape: bytes, *, states_max: int
) -> None:
    """The second part: exact where the tree is small enough."""
    with stages(out) as show:
        tree = Schedules(target=target, case=case, states_max=states_max, show=show)
        try:
            decisions: list[Decision] | None = tree.decisions(tape)
        except TooLarge:
            decisions = None
        sampled = sample(target, case, tape) if decisions is None else None
    if decisions is not None:
        print_tree(out, tree, decisions)
    elif sampled is not None:
        say(
            out,
            f"the tree is too large to be counted within {states_max:,} states (--states), so"
            " it is sampled:",
        )
        print_sampled(out, target, case, sampled)


@app.command("findability")
def findability_command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A scenario file or a finding's folder.")
    ],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    seeds: Annotated[
        int, typer.Option(**number("--seeds", int, 1, 10**4), help="Searches per policy.")
    ] = bugs.SEEDS,
    cap: Annotated[
        int, typer.Option(**number("--cap", int, 1, 10**9), help="Schedules of a search.")
    ] = bugs.SHORT_CAP,
    states: Annotated[
        int, typer.Option(**number("--states", int, 1, 10**7), help="States of the tree, at most.")
    ] = STATES_MAX,
) -> None:
    """How many schedules each policy needs, and the step from which it was inevitable."""
    case = bisecting.read_case(path)
    out = console()
    loaded = ensure(out, target, kernel)
    outcome = bisecting.shows(loaded, case)
    said = f"{case.expect} {outcome.state} on {loaded.name} {loaded.version} ({outcome.how})"
    say(out, f"{store.shown(path)}: {said}")
    if not outcome.shows:
        raise typer.Exit(1)
    with stages(out) as show:
        row = policies(loaded, case, name=path.stem, seeds=seeds, cap=cap, show=show)
    print_policies(out, row, seeds=seeds, cap=cap)
    out.print()
    print_inevitable(out, loaded, case, outcome.tape, states_max=states)
