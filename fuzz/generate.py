# SPDX-License-Identifier: GPL-2.0-only
"""Random scenarios without Hypothesis: fast, and biased to what a race needs.

A scenario in which nobody registers, or nothing is mounted, cannot violate anything; uniform
bytes mostly mean such scenarios. So most scenarios are put together from roles that threads
play (one registers, one mounts and works, one reclaims ...), and only some come from raw bytes,
so that nothing the format can say is out of reach. Micro scenarios are never made: they test
the engine, and what they violate says nothing about a target.
"""

from dataclasses import replace
from random import Random

from cleanrace import FileSystem, Operation, Scenario, words

MICRO_BIT = 16  # of byte 0 of the byte form
THREADS_MAX = 5
OPERATIONS_MAX = 24

_PAGE_OPERATIONS = ("read", "read", "write", "writeback", "reclaim", "reclaim", "truncate")


def scenario(random: Random) -> Scenario:
    """A scenario drawn from `random`; the same state gives the same scenario."""
    if random.random() < 0.2:
        return from_noise(random)
    file_systems = tuple(_file_system(random) for _ in range(random.choice((1, 1, 2, 2, 2, 3))))
    plain = Scenario(
        file_systems=file_systems,
        ids=random.choice(("reused", "growing")),
        capacity=random.choice((None, None, None, 0, 1, 2)),
        init_fails=frozenset({random.randrange(3)} if random.random() < 0.1 else ()),
    )
    threads = [_register(random)]
    if random.random() < 0.2:
        threads.append(_register(random))
    threads += [_user(random, plain) for _ in range(random.choice((1, 2, 2, 3)))]
    if random.random() < 0.15:
        threads[0] = (*threads[0], *_user(random, plain))
    random.shuffle(threads)
    return replace(plain, threads=tuple(threads[:THREADS_MAX]))


def from_noise(random: Random) -> Scenario:
    """What random bytes mean, with few enough operations that a run stays short."""
    data = bytearray(random.randbytes(words.HEADER_BYTES + 2 * OPERATIONS_MAX))
    data[0] &= ~MICRO_BIT & 0xFF
    data[words.COUNT_AT] = random.randrange(2, OPERATIONS_MAX)
    return Scenario.from_bytes(bytes(data))


def _file_system(random: Random) -> FileSystem:
    kind = random.choice(("local", "local", "local", "shared", "shared", "none"))
    uuid = random.choice((0, 0, 1)) if kind == "shared" else 0
    return FileSystem(kind, random.random() < 0.2, uuid)


def _register(random: Random) -> tuple[Operation, ...]:
    if random.random() < 0.1:
        return (Operation("register", (0,)), Operation("register", (1,)))
    return (Operation("register", (random.choice((0, 0, 0, 1)),)),)


def _user(random: Random, plain: Scenario) -> tuple[Operation, ...]:
    """A thread that mounts a file system and uses it, or uses one that another thread mounts."""
    number = random.randrange(len(plain.file_systems))
    operations: list[Operation] = []
    shape = random.random()
    if shape < 0.7:
        operations.append(Operation("mount-fail" if shape < 0.07 else "mount", (number,)))
    if random.random() < 0.15:
        operations.append(Operation("remount", (number,)))
    if number not in plain.twins():
        inode, page = random.randrange(2), random.randrange(2)
        for _ in range(random.choice((0, 0, 1, 2, 3, 4))):
            if random.random() < 0.2:
                inode, page = random.randrange(2), random.randrange(2)
            draw = random.random()
            if draw < 0.1:
                operations.append(Operation("delete", (number, inode)))
            elif draw < 0.25:
                # Into the page cache, out to the backend, and back.
                names = ("read", "reclaim", "read")
                operations += [Operation(name, (number, inode, page)) for name in names]
            else:
                name = random.choice(_PAGE_OPERATIONS)
                operations.append(Operation(name, (number, inode, page)))
    if not operations or random.random() < 0.4:
        operations.append(Operation("unmount", (number,)))
    if random.random() < 0.1:
        operations.append(Operation("mount", (number,)))
    return tuple(operations)
