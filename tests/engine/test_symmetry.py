# SPDX-License-Identifier: GPL-2.0-only
"""Interchangeable threads: what is left out is a mirror image of what is explored.

Three ways to know. `dfs` with symmetry runs every interleaving in which turns are taken in order,
and its classes are counted by a hash that knows nothing of turns: `dpor` has to run one execution
for each of them. Every class without symmetry is one of at most as many images as there are ways to
rename threads, so that many times the classes that were explored is at least all of them. And
where the step that has its turn conflicts with its twin's in every execution, no class is its own
image: then it is exactly all of them, and of the violations, too.
"""

import random

import micro
import pytest
from test_exploration import DFS_MAX, PLAIN, WAITS, Programs

from cleanrace import Scenario, ScenarioError, Target, symmetry, words
from cleanrace.explorer import Exploration, Explorer
from cleanrace.symmetry import images


def explored(
    target: Target, scenario: Scenario, *, symmetry: bool, policy: str = "dpor",
    points: str = "all", detect: bool = False, executions_max: int | None = None,
) -> tuple[Exploration, frozenset[int]]:
    explorer = Explorer(target, scenario, policy=policy, points=points, detect=detect,
                        symmetry=symmetry)
    met = explorer.go_on(executions_max=executions_max)
    return met, explorer.states()


def programs(seed: int, count: int) -> list[Scenario]:
    """Two or three threads that do the same, most of them beside one that does something else."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        some = Programs(rng.randrange(1 << 30), (*PLAIN, *WAITS), sections=rng.random() < 0.4)
        alike = rng.choice((2, 2, 3))
        length = rng.choice((1, 2, 3, 4)) if alike == 2 else rng.choice((1, 2))
        threads = [some.thread(length, rng.choice((1, 2, 3)))] * alike
        if rng.random() < 0.6:
            threads.insert(rng.randrange(alike + 1), some.thread(rng.choice((1, 2)), 2))
        if all(threads):
            found.append(micro.program(*threads))
    return found


SEEDS = [1, pytest.param(2, marks=pytest.mark.long)]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_left_out_of_150_programs_is_an_image_of_what_is_not(
    target: Target, seed: int
) -> None:
    compared = fewer = exact = 0
    for program in programs(seed, 150):
        every, _ = explored(target, program, symmetry=False, policy="dfs",
                            executions_max=DFS_MAX)
        if not every.done:
            continue
        compared += 1
        text = program.to_text()
        turns, states = explored(target, program, symmetry=True, policy="dfs")
        dpor, dpor_states = explored(target, program, symmetry=True)
        few, few_states = explored(target, program, symmetry=True, points="sync")
        assert dpor.classes == turns.classes, text
        # At all points two sections of a spinlock are in an order that no class has.
        assert dpor.executions == dpor.classes or "spin" in text, text
        assert dpor_states == states, text
        assert few.executions == few.classes, text
        for met in (turns, dpor, few):
            assert set(met.violations) == set(every.violations), text
            assert met.classes * images(program) >= every.classes, text
        fewer += dpor.classes < every.classes
        exact += dpor.classes * images(program) == every.classes
        assert few_states
    assert compared > 100
    assert fewer > 60
    assert exact > 60


def kernel(kinds: str, *threads: str) -> Scenario:
    systems = [f"fs {'abcdef'[n]} {kind}" for n, kind in enumerate(kinds.split(", "))]
    return Scenario.from_text("\n".join(
        ("cleanrace 1", *systems, *(f"thread {thread}" for thread in threads))))


@pytest.mark.parametrize(("kinds", "threads", "ways"), [
    ("local, local", ("register 0", "mount a", "mount b"), 2),
    ("local, local", ("register 0", "register 1", "mount a", "mount b"), 4),
    ("local, local, local", ("register 0", "mount a", "mount b", "mount c"), 6),
    ("shared uuid 0, shared uuid 0", ("register 0", "mount a; unmount a", "mount b; unmount b"), 2),
    ("shared uuid 2, shared uuid 1", ("register 0", "mount a; unmount a", "mount b; unmount b"), 2),
    ("local, local", ("mount a; remount a; unmount a", "register 0",
                      "mount b; remount b; unmount b"), 2),
    ("none, local, none", ("register 0", "mount a; unmount a", "mount b", "mount c; unmount c"), 2),
])
def test_of_twins_that_always_meet_one_image_is_explored(
    target: Target, kinds: str, threads: tuple[str, ...], ways: int
) -> None:
    """Mounts meet at the list of super blocks, registrations at their exchange."""
    scenario = kernel(kinds, *threads)
    assert images(scenario) == ways
    every, _ = explored(target, scenario, symmetry=False, points="sync", detect=True)
    met, _ = explored(target, scenario, symmetry=True, points="sync", detect=True)
    assert met.executions == met.classes
    assert met.classes * ways == every.classes
    assert {name: count * ways for name, count in met.violations.items()} == every.violations
    # Whether a thread had to wait is not the class's: another execution of it need not wait.
    marks = [{**one.marks, "registration-waited": 0} for one in (met, every)]
    assert {name: count * ways for name, count in marks[0].items()} == marks[1]
    pairs = [{(race.first.pc, race.second.pc) for race in one.races} for one in (met, every)]
    assert pairs[0] == pairs[1]


OPERATIONS = ("mount {}", "unmount {}", "remount {}", "mount-fail {}", "read {} 0 0",
              "write {} 0 1", "writeback {} 0 1", "reclaim {} 0 0", "truncate {} 0 0",
              "delete {} 0")
#: Not the one without an end, and not the one that tells ids apart.
PLANTED = tuple(name for name in words.PLANTED if name not in ("no-progress", *symmetry.TELLING))


def kernel_program(rng: random.Random) -> Scenario:
    """Two or three threads that do the same on file systems of one kind, beside others."""
    alike = rng.choice((2, 2, 2, 3))
    body = ["mount {}", *(rng.choice(OPERATIONS) for _ in range(rng.choice((0, 1, 1, 2))))]
    shared = rng.random() < 0.2  # all on one
    kind = rng.choice(("local", "local", "shared uuid 1", "none", "local handles"))
    names = ["a"] * alike if shared else list("abc"[:alike])
    systems = [f"fs {name} {kind}" for name in dict.fromkeys(names)]
    threads = ["thread " + "; ".join(body).replace("{}", name) for name in names]
    more = ["thread register 0"] if rng.random() < 0.8 else []
    if rng.random() < 0.3:
        more.append("thread register 1")
    if rng.random() < 0.3:
        name = "abcd"[len(systems)]
        systems.append(f"fs {name} none")
        more.append(f"thread mount {name}; unmount {name}")
    for thread in more:
        threads.insert(rng.randrange(len(threads) + 1), thread)
    head = [line for line in ("init-fails 0", "ids growing", "capacity 1") if rng.random() < 0.2]
    return Scenario.from_text("\n".join(("cleanrace 1", *head, *systems, *threads)))


def refused(rng: random.Random) -> Scenario | None:
    """One of them; None if the format has no such one (page operations on one uuid)."""
    try:
        return kernel_program(rng)
    except ScenarioError:
        return None


@pytest.mark.parametrize("seed", SEEDS)
def test_verdicts_of_40_kernel_scenarios_are_those_of_all_images(target: Target, seed: int) -> None:
    """With planted bugs; counts, too, where no walk over all pages tells threads apart."""
    rng = random.Random(seed)
    compared = fewer = violated = 0
    while compared < 40:
        planted = [rng.choice(PLANTED)] if rng.random() < 0.6 else []
        scenario = refused(rng)
        if scenario is None or images(scenario) == 1:
            continue
        every = Explorer(target, scenario, planted=planted).go_on(executions_max=8000)
        if not every.done:
            continue
        compared += 1
        met = Explorer(target, scenario, planted=planted, symmetry=True).go_on()
        text = (planted, scenario.to_text())
        assert set(met.violations) == set(every.violations), text
        if "reclaim" not in scenario.to_text():
            assert met.classes * images(scenario) >= every.classes, text
        fewer += met.classes < every.classes
        violated += bool(met.violations)
    assert fewer > 25
    assert violated > 1


def test_threads_told_apart_by_their_ids_are_no_twins(target: Target) -> None:
    """The planted bug takes pool id 0, which thread 0 gets, for the id of whoever has none."""
    scenario = Scenario.from_text(
        "cleanrace 1\ninit-fails 0\nfs a local\nfs b none\nthread mount a; unmount a\n"
        "thread mount a; unmount a\nthread mount b; unmount b\nthread register 0\n")
    assert images(scenario) == 2
    assert images(scenario, planted=["poolid-unset"]) == 1
    explorer = Explorer(target, scenario, planted=["poolid-unset"], symmetry=True)
    met = explorer.go_on(executions_max=2000)
    every = Explorer(target, scenario, planted=["poolid-unset"]).go_on(executions_max=2000)
    assert (met.executions, met.classes) == (every.executions, every.classes)


@pytest.mark.parametrize("verdict", ["deadlock", "use-after-free", "lock-misuse", "both"])
def test_a_twin_that_never_takes_its_turn_holds_nobody_for_good(
    target: Target, verdict: str
) -> None:
    """One of them dies or waits for ever; the images in which it is the first are not missed."""
    program = {
        # One twin may die before its turn, the lock, and the other wait for it for ever.
        "both": ("load 0; lock 1; unlock 1", "load 0; lock 1; unlock 1", "free 0; lock 1"),
        "deadlock": ("lock 0; lock 1; unlock 1; unlock 0", "lock 1; lock 0; unlock 0; unlock 1",
                     "lock 0; lock 1; unlock 1; unlock 0"),
        "use-after-free": ("load 0; store 0", "load 0; store 0", "free 0"),
        "lock-misuse": ("unlock 0; store 1", "lock 1; unlock 1", "unlock 0; store 1"),
    }[verdict]
    scenario = micro.program(*program)
    every, _ = explored(target, scenario, symmetry=False)
    met, _ = explored(target, scenario, symmetry=True)
    assert images(scenario) == 2
    assert verdict in {*every.violations, "both"}
    assert set(met.violations) == set(every.violations)
    assert every.classes / 2 <= met.classes < every.classes


def test_parts_with_symmetry_add_up_to_the_whole(target: Target) -> None:
    racy = kernel("local, local, local", "register 0", "mount a", "mount b", "mount c; unmount c")
    everything, all_states = explored(target, racy, symmetry=True, points="sync")
    for parts in (2, 3):
        counts = 0
        states: frozenset[int] = frozenset()
        for part in range(parts):
            explorer = Explorer(target, racy, detect=False, part=part, parts=parts, split=12,
                                symmetry=True)
            met = explorer.go_on()
            assert met.done
            assert 0 < met.executions < everything.executions
            counts += met.executions
            states |= explorer.states()
        assert counts == everything.executions
        assert states == all_states


def test_parts_add_up_where_no_twins_ever_meet(target: Target) -> None:
    """No step has a turn, which is known after an execution that is nobody's part yet."""
    program = micro.program("load 0; load 0", "load 0; load 0", "store 0; store 0")
    everything, _ = explored(target, program, symmetry=True)
    parts = [Explorer(target, program, points="all", detect=False, symmetry=True, part=part,
                      parts=2, split=1).go_on().executions for part in (0, 1)]
    assert sum(parts) == everything.executions == everything.classes


def test_an_exploration_with_symmetry_is_taken_up_where_it_was_left(target: Target) -> None:
    racy = kernel("local, local, local", "register 0", "mount a", "mount b", "mount c; unmount c")
    everything, all_states = explored(target, racy, symmetry=True, points="sync")
    explorer = Explorer(target, racy, detect=False, symmetry=True)
    saves = 0
    while not (met := explorer.go_on(executions_max=150)).done:
        explorer = Explorer(target, racy, detect=False, symmetry=True, resume=explorer.save())
        saves += 1
    assert saves > 5
    assert (met.executions, met.blocked) == (everything.executions, everything.blocked)
    assert explorer.states() == all_states
