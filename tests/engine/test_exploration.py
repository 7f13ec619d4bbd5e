# SPDX-License-Identifier: GPL-2.0-only
"""Exhaustive search: exact counts, and agreement of three ways to walk the same tree.

`dfs` runs every interleaving at every access; its happens-before classes are counted by a hash
that knows nothing of the reduction. `dpor` has to run one complete execution for each of them,
and reach the same verdicts and final states; so has `dpor` with points at synchronisation only,
where a section of a spinlock is one step.
"""

import random
from dataclasses import dataclass, replace
from itertools import pairwise
from math import comb

import micro
import pytest

from cleanrace import Scenario, Target, run
from cleanrace.explorer import Exploration, Explorer, explore

PLAIN = ("load", "store", "load-marked", "store-marked", "cmpxchg", "free", "alloc")
WAITS = ("wait-zero", "clear-marked", "try-lock")
DFS_MAX = 60_000  # interleavings of a program that is small enough


@dataclass(frozen=True)
class Whole:
    """An exploration to its end, and what it saw."""

    met: Exploration
    states: frozenset[int]


def whole(target: Target, scenario: Scenario, *, policy: str = "dpor", points: str = "all",
          planted: tuple[str, ...] = (), executions_max: int | None = None) -> Whole:
    """Explore with the detectors off: they end threads that the model would let go on."""
    explorer = Explorer(
        target, scenario, policy=policy, points=points, planted=planted, detect=False
    )
    met = explorer.go_on(executions_max=executions_max)
    return Whole(met, explorer.states())


def agree(dfs: Whole, other: Whole) -> bool:
    """Whether `other` ran each class once, and saw all there is."""
    return (dfs.met.classes == other.met.classes == other.met.executions
            and dfs.states == other.states
            and set(dfs.met.violations) == set(other.met.violations))


class Programs:
    """Random micro programs."""

    def __init__(self, seed: int, operations: tuple[str, ...], *, sections: bool) -> None:
        self.random = random.Random(seed)
        self.operations = operations
        self.sections = sections

    def thread(self, length: int, objects: int) -> str:
        """Locks are released mostly, in the end; a lock for reading only by who has it."""
        words: list[str] = []
        held: list[str] = []
        for _ in range(length):
            name = self.random.choice((*self.operations, "lock", "lock-shared", "unlock"))
            thing = self.random.randrange(objects)
            if name == "unlock":
                words += [held.pop()] if held else []
            elif name in ("lock", "lock-shared"):
                words.append(f"{name} {thing}")
                held.append(f"un{name} {thing}")
            elif name == "free" and self.random.random() < 0.5:
                words.append(f"store {thing}")
            elif self.sections and self.random.random() < 0.4:
                inside = [self.random.choice(("load-guarded", "store-guarded"))
                          for _ in range(self.random.randrange(3))]
                words += [f"{word} {thing}" for word in ("spin", *inside, "unspin")]
            else:
                words.append(f"{name} {thing}")
        if self.random.random() < 0.8:
            words += reversed(held)
        return "; ".join(words)

    def one(self) -> Scenario:
        """Two to four threads, the fewer the longer."""
        while True:
            count = self.random.choice((2, 2, 3, 3, 4))
            most = {2: 5, 3: 3, 4: 2}[count]
            threads = [self.thread(self.random.randint(1, most), self.random.choice((1, 2, 3)))
                       for _ in range(count)]
            if sum(map(bool, threads)) > 1:
                return micro.program(*filter(None, threads))


def explored_alike(target: Target, programs: Programs) -> list[Exploration]:
    """100 programs that dfs gets to the end of, each explored by dpor, which agrees."""
    found: list[Exploration] = []
    while len(found) < 100:
        scenario = programs.one()
        dfs = whole(target, scenario, policy="dfs", executions_max=DFS_MAX)
        if not dfs.met.done:
            continue
        dpor = whole(target, scenario)
        assert dpor.met.done, scenario.to_text()
        assert agree(dfs, dpor), (scenario.to_text(), dfs, dpor)
        found.append(dpor.met)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("operations", [PLAIN, (*PLAIN, *WAITS)], ids=["plain", "waits"])
def test_dpor_runs_each_class_of_100_programs_once(
    target: Target, operations: tuple[str, ...], seed: int
) -> None:
    found = explored_alike(target, Programs(seed, operations, sections=False))
    assert sum(met.classes > 1 for met in found) > 30
    assert sum(met.classes for met in found) > 200


def test_threads_that_end_at_null_leave_each_class_to_be_run_once(target: Target) -> None:
    """Programs whose one verdict of a thread is that: the others go on."""
    operations = ("load", "store", "cmpxchg", "lose")
    found = explored_alike(target, Programs(0, operations, sections=False))
    assert sum(met.classes > 1 for met in found) > 30
    assert sum("null-dereference" in met.violations for met in found) > 15


STOPS = ("load", "store", "cmpxchg", "free", "free", "lose", "load-beyond")


@pytest.mark.parametrize("seed", range(3))
def test_a_verdict_that_ends_one_thread_hides_no_other_threads(target: Target, seed: int) -> None:
    """A run has the verdict that comes first; in these programs several can be."""
    found = explored_alike(target, Programs(seed, STOPS, sections=False))
    assert sum(len(met.violations.keys() - {"deadlock"}) > 1 for met in found) > 10


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2))])
def test_fewer_points_and_sections_of_one_step_lose_nothing(target: Target, seed: int) -> None:
    """60 programs with spinlocks that guard a word: points at synchronisation, or everywhere."""
    programs = Programs(seed, ("load", "store", "load-marked", "store-marked", "cmpxchg",
                               "try-lock"), sections=True)
    compared = saved = several = 0
    while compared < 60:
        scenario = programs.one()
        dfs = whole(target, scenario, policy="dfs", executions_max=DFS_MAX)
        if not dfs.met.done:
            continue
        compared += 1
        few = whole(target, scenario, points="sync")
        every = whole(target, scenario)
        assert agree(dfs, few), (scenario.to_text(), dfs, few)
        assert (every.met.classes, every.states) == (few.met.classes, few.states)
        saved += every.met.executions - few.met.executions
        several += few.met.classes > 1
    assert saved > 0
    assert several > 20


def ending_inside(random: random.Random) -> Scenario:
    """Sections, some of which a thread enters and does not leave, and accesses beside them."""

    def step() -> list[str]:
        thing = random.randrange(2)
        if random.random() < 0.4:
            return [random.choice(("store 0", "load 0", "store-marked 1", "load-marked 1", "free 0",
                                   "load-beyond 0", "wait-zero 1", "clear-marked 1"))]
        inside = ("load-guarded", "store-guarded", "load-guarded", "store-guarded")
        others = ("load-beyond 0", "load 0", "free 0", "store 0")
        words = [random.choice((*(f"{word} {thing}" for word in inside), *others))
                 for _ in range(random.randrange(3))]
        return [f"spin {thing}", *words, f"unspin {thing}"]

    count = random.choice((2, 2, 3))
    return micro.program(*(
        "; ".join(word for _ in range(random.randint(1, 5 - count)) for word in step())
        for _ in range(count)
    ))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fewer_points_lose_nothing_where_threads_end_anywhere(target: Target, seed: int) -> None:
    """Who ends in a section keeps the others from it; which verdict comes first is told."""
    drawn = random.Random(seed)
    ended = several = 0
    for _ in range(400):
        scenario = ending_inside(drawn)
        dfs = whole(target, scenario, policy="dfs", executions_max=20_000)
        if not dfs.met.done:
            continue
        for points in ("all", "sync"):
            dpor = whole(target, scenario, points=points)
            assert (dpor.states, set(dpor.met.violations), dpor.met.classes) == (
                dfs.states, set(dfs.met.violations), dfs.met.classes
            ), (points, scenario.to_text())
        ended += bool(dfs.met.violations)
        several += len(dfs.met.violations) > 1
    assert ended > 200
    assert several > 10


@pytest.mark.parametrize(("threads", "classes"), [
    (("unlock-shared 0; clear-marked 1", "lock-shared 0"), 2),
    (("unlock-shared 0", "unlock-shared 0; store 0", "lock-shared 0"), 6),
    (("lock-shared 0; unlock-shared 0", "lock-shared 0; unlock-shared 0"), 1),
    (("lock-shared 0; unlock-shared 0", "lock-shared 0", "unlock-shared 0"), 7),
    (("lock-shared 0; unlock-shared 0; lock 0", "unlock-shared 0; lock-shared 0"), 5),
])  # fmt: skip
def test_who_gives_back_a_share_that_is_not_his_minds_who_came_before(
    target: Target, threads: tuple[str, ...], classes: int
) -> None:
    dfs = whole(target, micro.program(*threads), policy="dfs")
    assert dfs.met.classes == classes
    for points in ("all", "sync"):
        dpor = whole(target, micro.program(*threads), points=points)
        assert (dpor.states, set(dpor.met.violations)) == (dfs.states, set(dfs.met.violations))
        assert dpor.met.classes == classes


@pytest.mark.parametrize(("threads", "classes"), [
    (("unlock-shared 0; unlock-shared 0", "lock-shared 0; unlock-shared 0"), 4),
    (("unlock-shared 0", "lock 0", "lock-shared 0; unlock-shared 0"), 7),
    (("unlock 0", "lock 0; unlock 0"), 3),
])  # fmt: skip
def test_a_release_that_fails_is_met_between_all_steps_of_the_others(
    target: Target, threads: tuple[str, ...], classes: int
) -> None:
    """Whether a share is there to be given back depends on who holds one just then."""
    dfs = whole(target, micro.program(*threads), policy="dfs")
    dpor = whole(target, micro.program(*threads), points="sync")
    assert dpor.states == dfs.states
    assert dfs.met.violations.keys() == dpor.met.violations.keys() == {"lock-misuse"}
    assert dpor.met.classes == dfs.met.classes == classes


def repeat(operation: str, times: int) -> str:
    return "; ".join([operation] * times)


def executions(target: Target, *threads: str, points: str = "all") -> int:
    met = whole(target, micro.program(*threads), points=points).met
    assert met.done
    assert met.executions == met.classes
    return met.executions


READER, WRITER = "lock-shared 0; load 0; unlock-shared 0", "lock 0; store 0; unlock 0"


@pytest.mark.parametrize(("threads", "points"), [
    ((READER, READER, WRITER), 0),
    ((WRITER, READER, READER), 0),
    ((WRITER, f"{READER}; {WRITER}"), 0),
    ((READER.replace("load", "store"),) * 2, 1),
    ((READER, READER.replace("load", "store")), 2),
    ((WRITER, "lock 1; load 0; unlock 1"), 2),
])  # fmt: skip
def test_what_a_lock_orders_needs_no_points(
    target: Target, threads: tuple[str, ...], points: int
) -> None:
    """A writer comes after all readers before it; among readers there is no order."""
    met = explore(target, micro.program(*threads), points="sync", promoted=())
    assert met.done
    assert len(met.promoted) == points


@pytest.mark.parametrize("threads", [2, 4, 8])
def test_independent_writers_have_one_execution(target: Target, threads: int) -> None:
    assert executions(target, *(f"store {n % 4}" for n in range(min(threads, 4)))) == 1
    assert executions(target, *["load 0"] * threads) == 1


@pytest.mark.parametrize("readers", [1, 2, 5, 7])
def test_each_reader_is_before_or_after_the_writer(target: Target, readers: int) -> None:
    assert executions(target, "store 0", *["load 0"] * readers) == 2**readers


def test_writers_of_one_word_have_all_their_orders(target: Target) -> None:
    assert executions(target, *["store 0"] * 4) == 24
    assert executions(target, repeat("store 0", 3), repeat("store 0", 3)) == comb(6, 3)


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
@pytest.mark.parametrize("points", ["all", "sync"])
def test_lock_ping_pong_has_the_orders_of_its_sections(
    target: Target, rounds: int, points: str
) -> None:
    thread = repeat("lock 0; store 0; unlock 0", rounds)
    assert executions(target, thread, thread, points=points) == comb(2 * rounds, rounds)


def test_last_zero(target: Target) -> None:
    """Each word is written by a thread of its own after a look at the word before it.

    The searcher reads them from the last to the first (all of them: there are no branches here).
    So five pairs of steps conflict, and the classes are their orders that are possible together.
    """
    writers = [f"load-marked {n - 1}; store-marked {n}" for n in (1, 2)]
    searcher = "; ".join(f"load-marked {n}" for n in (2, 1, 0))
    scenario = micro.program(searcher, "store-marked 0", *writers)
    dfs = whole(target, scenario, policy="dfs")
    dpor = whole(target, scenario)
    assert agree(dfs, dpor)
    assert dpor.met.executions == len(possible_orders())


def possible_orders() -> set[tuple[bool, ...]]:
    """Which of the five pairs of last-zero come read first, over all orders of the steps."""
    threads = ((("r", 2), ("r", 1), ("r", 0)), (("w", 0),), (("r", 0), ("w", 1)),
               (("r", 1), ("w", 2)))
    pairs = (((0, 0), (3, 1)), ((0, 1), (2, 1)), ((0, 2), (1, 0)), ((2, 0), (1, 0)),
             ((3, 0), (2, 1)))
    found: set[tuple[bool, ...]] = set()

    def walk(at: tuple[int, ...], order: tuple[tuple[int, int], ...]) -> None:
        left = [n for n, thread in enumerate(threads) if at[n] < len(thread)]
        if not left:
            found.add(tuple(order.index(a) < order.index(b) for a, b in pairs))
        for n in left:
            walk((*at[:n], at[n] + 1, *at[n + 1:]), (*order, (n, at[n])))

    walk((0, 0, 0, 0), ())
    return found


@pytest.mark.parametrize(("verdict", "threads"), [
    ("deadlock", ("lock 0; lock 1", "lock 1; lock 0")),
    ("use-after-free", ("store 0; load 0", "load 1; free 0")),
    ("data-race", ("store 0; load 1", "load 0; load 1")),
])
def test_two_operations_each_are_enough_to_be_found(
    target: Target, verdict: str, threads: tuple[str, str]
) -> None:
    met = explore(target, micro.program(*threads), judged=[verdict])
    assert met.done
    assert met.violations[verdict] >= 1
    tape, _preemptions = met.simplest[verdict]
    assert run(target, micro.program(*threads), tape, judged=[verdict]).verdict == verdict


def scenario(kinds: str, *threads: str) -> Scenario:
    """A kernel scenario."""
    systems = [f"fs {'abcdef'[n]} {kind}" for n, kind in enumerate(kinds.split())]
    return Scenario.from_text("\n".join(
        ("cleanrace 1", *systems, *(f"thread {thread}" for thread in threads))))


@pytest.mark.parametrize(("kinds", "threads", "classes"), [
    ("local", ("register 0", "mount a"), 4),
    ("local local", ("register 0", "mount a", "mount b"), 26),
    ("local local", ("register 0", "register 1", "mount a", "mount b"), 104),
    ("local", ("register 0", "mount a; read a 0 0", "reclaim a 0 0"), 50),
])
def test_kernel_scenarios_have_the_same_classes_at_all_points(
    target: Target, kinds: str, threads: tuple[str, ...], classes: int
) -> None:
    few = whole(target, scenario(kinds, *threads), points="sync")
    every = whole(target, scenario(kinds, *threads))
    assert few.met.classes == every.met.classes == few.met.executions == classes
    assert few.states == every.states
    assert few.met.violations == {} == every.met.violations


@pytest.mark.parametrize(("kinds", "threads", "classes"), [
    ("local", ("register 0", "mount a; unmount a"), 27),
    ("none", ("register 0", "mount a; unmount a; mount a"), 39),
])
def test_a_lock_that_was_freed_while_it_was_held_is_met_at_fewer_points_too(
    target: Target, kinds: str, threads: tuple[str, ...], classes: int
) -> None:
    """A release is left over everything but the end of its object: there it is a point."""
    few, every = (
        whole(target, scenario(kinds, *threads), points=points, planted=("early-put",))
        for points in ("sync", "all")
    )
    assert few.met.classes == every.met.classes == classes
    assert few.met.violations.keys() == every.met.violations.keys() == {"use-after-free"}
    assert few.states == every.states


def test_reclaim_names_a_dead_pool_in_some_class(target: Target) -> None:
    racy = scenario("local", "register 0", "mount a; read a 0 0; unmount a", "reclaim a 0 0")
    met = explore(target, racy)
    assert met.done
    assert set(met.violations) == {"pool-dead"}
    tape, preemptions = met.simplest["pool-dead"]
    assert preemptions > 0
    assert run(target, racy, tape).verdict == "pool-dead"


@pytest.mark.parametrize("planted", ["a", "b", "c"])
def test_a_broken_premise_is_found_and_an_intact_one_is_not(target: Target, planted: str) -> None:
    racy = scenario("local", "register 0", "mount a")
    assert explore(target, racy).violations == {}
    assert "init-missing" in explore(target, racy, planted=[planted]).violations or (
        planted == "b" and explore(target, racy, planted=[planted]).violations)


def test_parts_add_up_to_the_whole(target: Target) -> None:
    racy = scenario("local local local", "register 0", "mount a", "mount b", "mount c; unmount c")
    everything = whole(target, racy, points="sync")
    for parts in (2, 3):
        counts = 0
        states: frozenset[int] = frozenset()
        for part in range(parts):
            explorer = Explorer(target, racy, detect=False, part=part, parts=parts, split=12)
            met = explorer.go_on()
            assert met.done
            assert 0 < met.executions < everything.met.executions
            counts += met.executions
            states |= explorer.states()
        assert counts == everything.met.executions
        assert states == everything.states


def test_an_exploration_is_taken_up_where_it_was_left(target: Target) -> None:
    racy = scenario("local local local", "register 0", "mount a", "mount b", "mount c; unmount c")
    everything = whole(target, racy, points="sync")
    explorer = Explorer(target, racy, detect=False)
    saves = 0
    while not (met := explorer.go_on(executions_max=150)).done:
        left = explorer.save()
        explore(target, micro.program("store 0", "store 0"))  # something else in between
        explorer = Explorer(target, racy, detect=False, resume=left)
        saves += 1
    assert saves > 5
    assert (met.executions, met.classes, met.blocked) == (
        everything.met.executions, everything.met.classes, everything.met.blocked)
    assert explorer.states() == everything.states


def from_the_root(explorer: Explorer, tries: int) -> Exploration:
    """Every execution is seen from its first step on: after loading, nothing is known of one."""
    for _ in range(tries):
        if (met := explorer.go_on(executions_max=1)).done:
            break
        assert explorer.target.native.explore_load(explorer.save())
    return met


@pytest.mark.parametrize("how", [{}, {"points": "all"}, {"points": "all", "policy": "dfs"}],
                         ids=["sync", "all", "dfs"])
def test_steps_that_were_seen_before_need_not_be_seen_again(
    target: Target, how: dict[str, str]
) -> None:
    """Detectors look only at what is new, and report the same, as often."""
    programs = Programs(7, (*PLAIN, *WAITS), sections=True)
    compared = [(programs.one(), 300) for _ in range(100)]
    data = scenario("local", "mount a; read a 0 0; reclaim a 0 0; read a 0 0; truncate a 0 0; "
                    "write a 0 0; writeback a 0 0; reclaim a 0 0; read a 0 0",
                    "register 0", "reclaim a 0 0; read a 0 0")
    lives = scenario("local", "register 0", "mount a; unmount a; mount a; unmount a")
    compared += [(data, 2500), (lives, 500)] if not how else []
    verdicts = races = 0
    for one, tries in compared:
        explorer = Explorer(target, one, **how)
        met, states = explorer.go_on(executions_max=tries), explorer.states()
        explorer = Explorer(target, one, **how)
        again = from_the_root(explorer, tries)
        assert replace(met, seconds=0.0) == replace(again, seconds=0.0), one.to_text()
        assert states == explorer.states()
        verdicts += bool(met.violations)
        races += bool(met.races)
    assert verdicts > 10
    assert races > 10


def test_each_bound_has_the_bounds_below_it(target: Target) -> None:
    thread = repeat("store 0", 3)
    found = [whole_bound(target, bound, thread) for bound in range(7)]
    # Without preemptions each of two threads runs to its end: twice the first choice.
    assert found[0] == 2
    assert all(less <= more for less, more in pairwise(found))
    assert found[-1] == explore(target, micro.program(thread, thread), policy="dfs",
                                points="all").executions


def whole_bound(target: Target, bound: int, thread: str) -> int:
    met = explore(target, micro.program(thread, thread), policy="dfs", bound=bound, points="all")
    assert met.done
    assert met.preemptions_max <= bound
    return met.executions
