# SPDX-License-Identifier: GPL-2.0-only
"""No false alarm: in our own implementation every property holds, whatever is raced."""

import random
from collections import Counter

import pytest

from cleanrace import Operation, Scenario, Target, search, words
from cleanrace.scenario import FileSystem

BLOCKS = 8
SCENARIOS = 25
SCHEDULES = 500
#: What the real file does wrong in some of these scenarios, by remounting.
REAL = {"init-twice"}


def operation(draw: random.Random, name: str, file_systems: int) -> Operation:
    counts = {"s": file_systems, "b": 4, "i": words.INODES, "p": words.PAGES}
    return Operation(name, tuple(draw.randrange(counts[letter])
                                 for letter in words.OPERATIONS[name]))


def drawn(draw: random.Random) -> Scenario:
    """Every kind of file system and operation; mounts, a registration and reclaims more often."""
    file_systems = tuple(
        FileSystem(kind, draw.random() < 0.4, draw.randrange(4) if kind == "shared" else 0)
        for kind in draw.choices(words.KINDS, (3, 2, 1), k=draw.randrange(1, 4)))
    empty = Scenario(file_systems=file_systems)
    count = len(file_systems)
    threads = []
    for number in range(draw.randrange(2, 5)):
        thread = [operation(draw, "mount", count)]
        if number == 0:
            thread.insert(draw.randrange(2), operation(draw, "register", count))
        for _ in range(draw.randrange(1, 6)):
            drawn_one = operation(draw, draw.choice(list(words.OPERATIONS)), count)
            thread.append(drawn_one)
            if drawn_one.name == "read" and draw.random() < 0.7:
                thread += [Operation("reclaim", drawn_one.operands), drawn_one]
        threads.append(tuple(one for one in thread if not empty.problem(one)))
    return Scenario(
        file_systems=file_systems,
        threads=tuple(threads),
        ids=draw.choice(words.IDS),
        capacity=draw.choice((None, None, 0, 1, 3)),
        init_fails=frozenset(draw.sample(range(4), draw.choice((0, 0, 1, 2)))),
    )


@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_wrong_in_the_reference(control: Target, target: Target, block: int) -> None:
    draw = random.Random(block)
    marks: Counter[str] = Counter()
    used: set[str] = set()
    real: Counter[str] = Counter()
    for _ in range(SCENARIOS):
        scenario = drawn(draw)
        met = search(control, scenario, schedules=SCHEDULES, seed=block)
        assert met.violations == {}, scenario.to_text()
        assert met.schedules == SCHEDULES
        marks.update(met.marks)
        used |= {operation.name for thread in scenario.threads for operation in thread}
        real.update(search(target, scenario, schedules=20, seed=block).violations)
    # Not vacuous: all operations, everything that can be marked, and the real file fails here.
    assert used == set(words.OPERATIONS)
    assert set(marks) >= set(control.table("marks")) - {"registration-skipped"}
    assert set(real) >= REAL
