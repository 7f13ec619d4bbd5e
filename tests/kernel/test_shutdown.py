# SPDX-License-Identifier: GPL-2.0-only
"""The order of mounting, remounting and shutting down, as cleancache sees it."""

import pytest
import walk

from cleanrace import Target, run

FULL = "register 0; mount a; read a 0 0; write a 0 1; read a 1 0; unmount a"


@pytest.mark.parametrize("kind", ["local", "shared uuid 1"])
def test_init_is_called_by_mount_under_s_umount(target: Target, kind: str) -> None:
    """A local file system calls it late in fill_super, when it has its root, a shared one early."""
    program = walk.local("register 0", "mount a; unmount a", kind=kind)
    inits = 0
    for steps in walk.walks(target, program):
        seen: set[str] = set()
        for step in steps:
            seen.add(f"{step.kind} {step.name}")
            if step.kind in ("init-call", "init-done"):
                inits += 1
                sb = f"super_table[{step.event.object}]"
                assert step.holds(walk.umount(step.event.object))
                assert (f"write {sb}.s_root" in seen) == (kind == "local")
                assert f"write {sb}.s_flags" not in seen
    assert inits == 600


def test_registration_calls_init_under_s_umount_shared(target: Target) -> None:
    program = walk.local("register 0", "mount a", "mount a")
    given = 0
    for steps in walk.walks(target, program):
        visited = None
        for step in steps:
            if step.kind == "visit":
                visited = step.event.object
            elif step.kind == "cb-init" and step.thread == 0:
                given += 1
                assert visited is not None
                assert 0 in step.readers[walk.umount(visited)]
    assert given > 20


def test_a_remount_calls_init_again_only_if_local(target: Target) -> None:
    for kind, calls in (("local", 2), ("shared uuid 1", 1), ("none", 0)):
        result = run(target, walk.local("mount a; remount a", kind=kind))
        assert result.returns == ((0, 0),)
        assert len(walk.kinds(result, "init-call")) == calls
        steps = list(walk.steps(target, result))
        assert all(s.holds(walk.umount(0)) for s in steps if s.kind == "init-call")


def test_invalidate_fs_is_called_before_the_shutdown(target: Target) -> None:
    """Under s_umount; root, inodes and pages still exist, and all go afterwards."""
    result = run(target, walk.local(FULL))
    steps = list(walk.steps(target, result))
    told = next(i for i, s in enumerate(steps) if s.kind == "cb-invalidate-fs")
    killed = next(i for i, s in enumerate(steps) if s.kind == "sb-kill")
    assert killed < told
    assert steps[told].holds(walk.umount(0))
    after = {f"{s.kind} {s.name}" for s in steps[told:]}
    before = {f"{s.kind} {s.name}" for s in steps[killed:told]}
    gone = {"write super_table[0].s_root", "write super_table[0].s_inodes[0].i_present",
            "write super_table[0].s_inodes[0].i_data.slots[0]", "write super_table[0].s_hashed"}
    assert gone <= after
    assert not gone & before


def test_shutdown_clears_the_root_then_syncs_then_evicts_then_unhashes(target: Target) -> None:
    steps = list(walk.steps(target, run(target, walk.local(FULL))))
    killed = next(i for i, s in enumerate(steps) if s.kind == "sb-kill")
    wanted = ("super_table[0].s_root", "inode_disks[0][0].blocks[1]",
              "super_table[0].s_inodes[0].i_freeing", "super_table[0].s_inodes[1].i_present",
              "super_table[0].s_hashed")
    order = [s.name for s in steps[killed:] if s.kind.startswith("write") and s.name in wanted]
    assert list(dict.fromkeys(order)) == list(wanted)
    # s_umount is free only when nobody can find the super block any more.
    hashed = next(i for i, s in enumerate(steps) if i > killed and s.name.endswith("s_hashed"))
    assert steps[hashed].holds("sb_lock")
    assert steps[hashed].holds(walk.umount(0))
    free = next(i for i, s in enumerate(steps) if i > killed and s.kind == "unlock"
                and s.name == walk.umount(0))
    assert hashed < free


def test_after_invalidate_fs_the_eviction_tells_the_backend_nothing(target: Target) -> None:
    """The hooks are called for each page and inode, and find no pool."""
    result = run(target, walk.local(FULL))
    assert walk.calls(result)[-1] == "invalidate-fs 0"
    killed = next(i for i, e in enumerate(result.trace) if e.kind == "sb-kill")
    hooks = [e.value for e in result.trace[killed:] if e.kind == "hook"]
    # invalidate_fs; per inode its pages, then itself: two pages of inode 0, one of inode 1.
    assert hooks == [4, 2, 2, 3, 2, 3]


def test_an_unmount_syncs_what_was_written(target: Target) -> None:
    result = run(target, walk.local("mount a; write a 0 0; unmount a; mount a; read a 0 0"))
    assert result.returns[0][4] == 1 << 1 | 1  # location 0, operation 1
    assert result.verdict == "ok"


def test_a_super_block_starts_without_a_pool(target: Target) -> None:
    """A file system that never asks has no pool, whatever else happens."""
    program = walk.local("register 0", "mount a; read a 0 0; reclaim a 0 0; unmount a",
                         "mount a; truncate a 0 0", kind="none")
    for result in walk.many(target, program):
        assert result.verdict == "ok"
        assert result.calls == ()


def test_a_pool_id_is_read_and_written_where_the_file_says(target: Target) -> None:
    """Without a backend the marks -2 and -3 are left, and registration turns them into pools."""
    for kind, call in (("local", "init 0"), ("shared uuid 3", "init-shared 0")):
        result = run(target, walk.local("mount a; register 0", kind=kind))
        assert walk.calls(result) == [call]
        assert "registration-gave-pool" in result.marks


def test_a_second_backend_is_refused_at_once(target: Target) -> None:
    """-EBUSY even while the winner still walks the list, and for the same backend as well."""
    result = run(target, walk.local("register 0; register 0; register 1"))
    assert result.returns == ((0, walk.EBUSY, walk.EBUSY),)
    program = walk.local("mount a; register 0", "register 1")
    early = 0
    for result in walk.many(target, program):
        ends = {e.object: e.value for e in result.trace if e.kind == "registered"}
        assert sorted(ends.values()) == [walk.EBUSY, 0]
        order = [e.object for e in result.trace if e.kind == "registered"]
        early += ends[order[0]] == walk.EBUSY
    assert early > 5
