# SPDX-License-Identifier: GPL-2.0-only
"""kernel/super.c keeps the contract of fs/super.c: who waits for whom, and in which order."""

from collections import Counter

import pytest
import walk

from cleanrace import Target, run

RACE = walk.local("register 0", "mount a; unmount a", "mount a; unmount a")
THREE = walk.scenario("fs a local", "fs b shared uuid 1", "fs c none", "thread register 0",
                      "thread mount a; unmount a", "thread mount b; unmount b", "thread mount c")


def test_iterate_supers_waits_for_mount(target: Target) -> None:
    """It calls back under s_umount, and only for a super block that its mount has published."""
    waited = visits = 0
    for result in walk.many(target, THREE):
        waited += "registration-waited" in result.marks
        born: set[int] = set()
        for step in walk.steps(target, result):
            if step.kind == "write" and step.name.endswith(".s_flags"):
                born.add(int(step.name[len("super_table["):].partition("]")[0]))
            elif step.kind == "sb-new":
                born.discard(step.event.object)
            elif step.kind in ("visit", "visit-done"):
                visits += 1
                lock = walk.umount(step.event.object)
                assert step.thread in step.readers[lock]
                assert lock not in step.held
                assert step.event.object in born
    assert waited > 20
    assert visits > 100


def test_iterate_supers_skips_only_unhashed(target: Target) -> None:
    """Between reading s_hashed and going on it skips, or takes the super block's lock."""
    met: Counter[bool] = Counter()
    for steps in walk.walks(target, RACE, 1_500):
        hashed: dict[str, bool] = {}
        for at, step in enumerate(steps):
            if not step.name.endswith(".s_hashed"):
                continue
            block = step.name.removesuffix("s_hashed")
            if step.kind == "write":
                # It is hashed once, when it is new, and unhashed once.
                hashed[block] = not hashed.get(block, False)
            elif step.thread == 0:
                mine = [s for s in steps[at + 1:] if s.thread == step.thread and s.name]
                taken = mine[0].name == block + "s_count"
                assert taken == hashed[block]
                met[taken] += 1
    assert met[True] > 100
    assert met[False] >= 1


def test_iterate_supers_leaves_alone_what_has_lost_its_root(target: Target) -> None:
    """A super block that is hashed but shutting down, or whose mount failed, is not called back."""
    program = walk.local("register 0", "mount-fail a", "mount a; unmount a")
    lost = 0
    for steps in walk.walks(target, program, 600):
        rooted: set[str] = set()
        for at, step in enumerate(steps):
            if not step.name.endswith(".s_root"):
                continue
            if step.kind == "write" and step.where == "filesystem_fill_super":
                rooted.add(step.name)
            elif step.kind == "write":
                rooted.discard(step.name)
            elif step.thread == 0 and step.name not in rooted:
                lost += 1
                mine = [s for s in steps[at + 1:] if s.thread == step.thread]
                assert mine[0].kind == "unlock-shared"
    assert lost > 10


def test_iterate_supers_holds_no_lock_of_the_list_while_it_calls_back(target: Target) -> None:
    for steps in walk.walks(target, THREE, 100):
        for step in steps:
            if step.kind in ("visit", "visit-done"):
                assert not step.holds("sb_lock")


def test_iterate_supers_puts_each_super_block_one_visit_late(target: Target) -> None:
    """The reference on the one before keeps the place in the list; it goes after the next visit."""
    program = walk.scenario("fs a none", "fs b none", "thread mount a; mount b; register 0")
    result = run(target, program)
    counts = [(s.kind, s.name) for s in walk.steps(target, result)
              if s.where in ("iterate_supers", "super_visit_waiting", "super_put_locked")
              and s.name.endswith((".s_count", ".s_umount"))]
    first, second = (f"super_table[{n}].s_count" for n in (0, 1))
    assert counts == [
        ("read", first), ("write", first),
        ("lock-shared", walk.umount(0)), ("unlock-shared", walk.umount(0)),
        ("read", second), ("write", second),
        ("lock-shared", walk.umount(1)), ("unlock-shared", walk.umount(1)),
        ("read", first), ("write", first), ("read", second), ("write", second),
    ]  # fmt: skip


def test_a_super_block_lives_until_registration_has_left_it(target: Target) -> None:
    """Some registration frees what an unmount could not, and nobody meets freed memory."""
    last = 0
    for result in walk.many(target, RACE, 1_500):
        assert result.verdict == "ok"
        last += any(e.kind == "sb-free" and e.thread == 0 for e in result.trace)
    assert last >= 5


def test_new_super_block_goes_to_the_tail(target: Target) -> None:
    """Visits come in the order of publishing, those of blocks that come meanwhile included."""
    longest = 0
    for result in walk.many(target, THREE, 400):
        born: Counter[int] = Counter()
        new, visited = [], []
        for kind, block in walk.kinds(result, "sb-new", "visit"):
            born[block] += kind == "sb-new"
            (new if kind == "sb-new" else visited).append((block, born[block]))
        assert visited == [life for life in new if life in visited]
        longest = max(longest, len(visited))
    assert longest == 3


def test_the_list_and_its_counts_change_under_sb_lock(target: Target) -> None:
    fields = ("s_next", "s_previous", "s_count", "s_hashed", "super_first", "super_last",
              ".instance")
    seen: Counter[str] = Counter()
    for steps in walk.walks(target, RACE):
        for step in steps:
            field = next((f for f in fields if step.name.endswith(f)), None)
            if field and step.kind in ("read", "write"):
                assert step.holds("sb_lock"), (step.name, step.where)
                seen[field] += 1
    assert set(seen) == set(fields)


def test_s_umount_is_taken_without_sb_lock(target: Target) -> None:
    for steps in walk.walks(target, RACE, 100):
        for step in steps:
            if step.kind in ("lock", "lock-shared") and step.name.endswith("s_umount"):
                assert not step.holds("sb_lock")


def test_a_mount_holds_s_umount_from_birth_to_publication(target: Target) -> None:
    """From sb-new to SB_BORN no other thread gets s_umount, though some ask for it."""
    for steps in walk.walks(target, RACE):
        young: dict[str, int] = {}
        for step in steps:
            if step.kind == "sb-new":
                young[walk.umount(step.event.object)] = step.thread
            elif step.name.endswith("s_umount") and step.name in young:
                assert step.thread == young[step.name]
                assert step.kind == "unlock"
                del young[step.name]


def test_mount_of_mounted_device_finds_existing(target: Target) -> None:
    result = run(target, walk.local("register 0; mount a; mount a; unmount a; unmount a"))
    assert result.returns == ((0, 0, 0, 0, 0),)
    assert "mount-existing" in result.marks
    assert walk.kinds(result, "sb-new", "sb-mounted", "sb-kill", "sb-free") == [
        ("sb-new", 0), ("sb-mounted", 0), ("sb-mounted", 0), ("sb-kill", 0), ("sb-free", 0)]
    assert walk.calls(result) == ["init 0", "invalidate-fs 0"]
    ends = [i for i, e in enumerate(result.trace) if e.kind == "op-end"]
    killed = next(i for i, e in enumerate(result.trace) if e.kind == "sb-kill")
    assert ends[3] < killed < ends[4]


def test_grab_super_fails_on_dying(target: Target) -> None:
    """Nobody mounts what was killed; who waited for a dying super block makes a new one."""
    refused = existing = 0
    for result in walk.many(target, RACE, 800):
        assert result.verdict == "ok"
        assert all(values == (0, 0) or set(values) <= {0, walk.EINVAL}
                   for values in result.returns[1:])
        dead: set[int] = set()
        for kind, block in walk.kinds(result, "sb-new", "sb-kill", "sb-mounted"):
            if kind == "sb-new":
                dead.discard(block)
            elif kind == "sb-kill":
                dead.add(block)
            else:
                assert block not in dead
        existing += "mount-existing" in result.marks
        # A lock of s_umount in sget that ends without the active reference is a refusal.
        grabs = [s for s in walk.steps(target, result) if s.where == "super_grab"]
        refused += sum(s.kind == "unlock" and s.name.endswith("s_umount") for s in grabs)
    assert refused > 5
    assert existing > 20


def test_a_device_has_one_living_super_block(target: Target) -> None:
    for result in walk.many(target, RACE, 400):
        alive = 0
        for kind, _ in walk.kinds(result, "sb-new", "sb-kill"):
            alive += 1 if kind == "sb-new" else -1
            assert 0 <= alive <= 1


@pytest.mark.parametrize("kind", ["local", "shared uuid 2"])
def test_failed_mount_gives_pool_back(target: Target, kind: str) -> None:
    result = run(target, walk.local("register 0; mount-fail a; mount a", kind=kind))
    assert result.returns == ((0, walk.EIO, 0),)
    init = "init" if kind == "local" else "init-shared"
    assert walk.calls(result) == [f"{init} 0", "invalidate-fs 0", f"{init} 0"]
    lives = walk.kinds(result, "sb-new", "sb-kill", "sb-free", "sb-mounted")
    assert [kind for kind, _ in lives] == ["sb-new", "sb-kill", "sb-free", "sb-new", "sb-mounted"]
    assert lives[0][1] == lives[1][1] == lives[2][1]
    assert lives[3][1] == lives[4][1]


def test_a_failed_mount_on_an_existing_super_block_only_drops_its_reference(
    target: Target
) -> None:
    result = run(target, walk.local("register 0; mount a; mount-fail a; unmount a; unmount a"))
    assert result.returns == ((0, 0, walk.EIO, 0, walk.EINVAL),)
    assert walk.calls(result) == ["init 0", "invalidate-fs 0"]


def test_a_failed_mount_is_never_mounted_and_never_visited(target: Target) -> None:
    for result in walk.many(target, walk.local("register 0", "mount-fail a")):
        assert result.verdict == "ok"
        assert walk.kinds(result, "visit", "sb-mounted") == []
        assert [e.value for e in result.trace if e.kind == "op-end" and e.thread == 1] == [
            walk.EIO]


def test_unmount_with_open_file_shuts_down_at_last_close(target: Target) -> None:
    closers: Counter[int] = Counter()
    for result in walk.many(target, walk.local("mount a; unmount a", "read a 0 0"), 1_500):
        assert result.verdict == "ok"
        assert result.returns[0] == (0, 0)
        ((kind, block),) = walk.kinds(result, "sb-kill")
        assert (kind, block) == ("sb-kill", 0)
        closers.update(e.thread for e in result.trace if e.kind == "sb-kill")
        ends = [e for e in result.trace if e.kind == "read-end"]
        assert [e.value for e in ends] in ([], [1])
    assert closers[0] > 100
    assert closers[1] >= 5


def test_unmounting_what_is_not_mounted_is_an_error(target: Target) -> None:
    thread = "unmount a; remount a; read a 0 0; mount a; unmount a; unmount a"
    result = run(target, walk.local(thread))
    assert result.returns == ((walk.EINVAL, walk.EINVAL, walk.ENOENT, 0, 0, walk.EINVAL),)
