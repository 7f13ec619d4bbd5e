# SPDX-License-Identifier: GPL-2.0-only
"""The order of exploration makes no difference to the classes, final states and verdicts found.

It is which thread goes on at a node that is met for the first time. Nothing in the reduction is
about that, so each order is a check of all the others, and scenarios that are too large to be
enumerated can be checked as well.
"""

import random

import micro
import pytest
from test_exploration import DFS_MAX, PLAIN, WAITS, Programs
from test_symmetry import kernel, refused

from cleanrace import Scenario, Target
from cleanrace.explorer import Exploration, Explorer
from cleanrace.symmetry import images

READERS = ("lock-shared", "lock-shared", "load-marked", "store-marked")


def explored(
    target: Target, scenario: Scenario, *, order: int = 0, policy: str = "dpor",
    points: str = "sync", symmetry: bool = False, executions_max: int | None = None,
) -> tuple[Exploration, frozenset[int]]:
    explorer = Explorer(target, scenario, policy=policy, points=points, detect=False, order=order,
                        symmetry=symmetry)
    return explorer.go_on(executions_max=executions_max), explorer.states()


@pytest.mark.parametrize(("operations", "seed"), [
    (READERS, 1),
    pytest.param((*PLAIN, *WAITS), 2, marks=pytest.mark.long),
    *(pytest.param((*READERS, *WAITS), seed, marks=pytest.mark.long) for seed in range(3, 9)),
])
def test_all_orders_of_exploration_agree_on_150_programs(
    target: Target, operations: tuple[str, ...], seed: int
) -> None:
    programs = Programs(seed, operations, sections=False)
    compared = classes = 0
    while compared < 150:
        program = programs.one()
        dfs, states = explored(target, program, policy="dfs", points="all",
                               executions_max=DFS_MAX)
        if not dfs.done:
            continue
        compared += 1
        classes += dfs.classes
        for order in range(1, 6):
            for points in ("all", "sync"):
                met, met_states = explored(target, program, order=order, points=points)
                text = (order, points, program.to_text())
                assert met.classes == met.executions == dfs.classes, text
                assert met_states == states, text
                assert set(met.violations) == set(dfs.violations), text
    assert classes > 250


def counts(
    target: Target, scenario: Scenario, orders: int, **how: bool
) -> set[tuple[int, int, frozenset[int], frozenset[str]]]:
    found = set()
    for order in range(orders):
        met, states = explored(target, scenario, order=order, **how)
        assert met.done
        found.add((met.classes, met.executions, states, frozenset(met.violations)))
    return found


@pytest.mark.parametrize(("threads", "classes"), [
    # A reader between two steps that a writer comes after anyway.
    (("load-marked 0", "lock-shared 0; lock-shared 0; unlock-shared 0; unlock-shared 0",
      "lock-shared 0; unlock-shared 0; lock 0; unlock 0", "load-marked 0"), 2),
    (("lock-shared 1; unlock-shared 1; lock 1; unlock 1",
      "lock-shared 1; lock-shared 0; unlock-shared 0; unlock-shared 1",
      "lock 1; load-marked 1; unlock 1"), 9),
    (("lock-shared 0; unlock-shared 0",
      "store-marked 0; lock 0; lock-shared 0; unlock-shared 0; unlock 0",
      "lock-shared 0; unlock-shared 0; load-marked 0"), 6),
])
def test_a_writer_comes_before_each_reader_wherever_the_others_are(
    target: Target, threads: tuple[str, ...], classes: int
) -> None:
    found = counts(target, micro.program(*threads), 24)
    assert {(one[0], one[1]) for one in found} == {(classes, classes)}


@pytest.mark.parametrize(("kinds", "threads", "classes", "twins"), [
    # The last reference to b's super block is put by another thread, in a step that reads on in
    # the list: what it touches depends on whether a mount came before it.
    ("none, local", ("register 1", "mount a", "mount b; unmount b"), 133, 133),
    ("none, local", ("register 1", "mount a; unmount a", "mount b; unmount b"), 763, 763),
    ("none, shared uuid 0", ("register 0", "register 1", "mount b; unmount b",
                             "mount a; write a 0 0; remount a; unmount a"), 3680, 1840),
])
def test_kernel_scenarios_have_these_classes_in_every_order(
    target: Target, kinds: str, threads: tuple[str, ...], classes: int, twins: int
) -> None:
    some = kernel(kinds, *threads)
    assert {(one[0], one[1]) for one in counts(target, some, 8)} == {(classes, classes)}
    assert {(one[0], one[1]) for one in counts(target, some, 4, symmetry=True)} == {(twins, twins)}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_all_orders_of_exploration_agree_on_25_kernel_scenarios(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    compared = several = 0
    while compared < 25:
        some = refused(rng)
        if some is None or not explored(target, some, executions_max=2000)[0].done:
            continue
        compared += 1
        every = counts(target, some, 4)
        assert len(every) == 1, some.to_text()
        # Of twins that need not meet another half may be explored: of each class one image is.
        turned = counts(target, some, 3, symmetry=True)
        assert len({one[3] for one in turned}) == 1, some.to_text()
        if "reclaim" not in some.to_text():
            least = min(one[0] for one in turned)
            assert least * images(some) >= max(one[0] for one in every), some.to_text()
        several += min(every)[0] > 20
    assert several > 10
