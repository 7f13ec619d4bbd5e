# SPDX-License-Identifier: GPL-2.0-only
"""kernel/inode.c: eviction, and when an inode number is free again."""

from collections import Counter

import pytest
import walk

from cleanrace import Target, run

M = "register 0; mount a; "
RACE = walk.local(M + "read a 0 0; delete a 0", "write a 0 0; read a 0 0",
                  "read a 0 0; reclaim a 0 0")


def test_inode_number_reused_only_after_eviction(target: Target) -> None:
    """Nobody sets the inode up again before the invalidation of the old one has ended."""
    reused = 0
    for steps in walk.walks(target, RACE, 800):
        evicting = None
        lives = 0
        for step in steps:
            if step.kind == "write-marked" and step.name.endswith("s_inodes[0].i_freeing"):
                evicting = step.thread
            elif step.kind == "atomic" and step.name.endswith("s_inodes[0].i_freeing"):
                evicting = None
            elif step.kind == "write" and step.where == "inode_instantiate":
                assert evicting is None
                lives += step.name.endswith(".i_present")
            elif step.kind == "hook" and step.event.value == 3:
                assert evicting == step.thread
        reused += lives > 1
    assert reused > 20


def test_a_deleted_file_lives_until_its_last_user_closes_it(target: Target) -> None:
    """The eviction is done by whoever closes last, and erases the disk only then."""
    closers: Counter[int] = Counter()
    for steps in walk.walks(target, walk.local("mount a; delete a 0", "read a 0 0"), 1_000):
        assert {s.event.value for s in steps if s.kind == "read-end"} <= {1}
        for step in steps:
            if step.kind == "write" and step.where == "inode_erase":
                closers[step.thread] += step.name.endswith(".exists")
    assert closers[0] > 100
    assert closers[1] >= 3
    assert closers.total() == 1_000


def test_a_new_file_begins_empty(target: Target) -> None:
    result = run(target, walk.local(
        M + "read a 0 0; delete a 0; read a 0 0; write a 0 1; read a 0 0; read a 0 1"))
    values = result.returns[0]
    assert values[3:5] == (0, walk.ENOENT)
    assert values[6] == 0
    assert values[7] == 1 << 16 | 5 + 2  # page 1 of inode 0, operation 5


def test_a_write_makes_the_file_that_a_read_does_not(target: Target) -> None:
    result = run(target, walk.local("mount a; delete a 1; truncate a 1 0; writeback a 1 0;"
                                    " delete a 1; write a 1 0; delete a 1"))
    assert result.returns[0][2:] == (walk.ENOENT, walk.ENOENT, walk.ENOENT, 0, 0)


@pytest.mark.parametrize("kind", ["local", "local handles", "shared uuid 1 handles"])
def test_the_key_names_the_inode(target: Target, kind: str) -> None:
    """Equal pages of two inodes do not meet in the backend, however keys are made."""
    result = run(target, walk.local(
        M + "read a 0 0; read a 1 0; reclaim a 0 0; reclaim a 1 0; read a 1 0; read a 0 0",
        kind=kind))
    gets = [(call.inode, call.content) for call in result.calls if call.kind == "get"]
    assert gets == [(0, 0), (1, 0), (1, 16 << 16 | 1), (0, 1)]


def test_a_handle_tells_generations_apart(target: Target) -> None:
    """Without the eviction's invalidations an old page is still there: only a handle hides it."""
    thread = (M + "read a 0 0; reclaim a 0 0; delete a 0; write a 0 0; writeback a 0 0;"
              " reclaim a 0 0; read a 0 0")
    hits = {}
    for kind in ("local", "local handles"):
        result = run(target, walk.local(thread, kind=kind), planted=["no-invalidate"])
        hits[kind] = "get-hit" in result.marks
    assert hits == {"local": True, "local handles": False}
