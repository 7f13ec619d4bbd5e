# SPDX-License-Identifier: GPL-2.0-only
"""kernel/pagecache.c calls the hooks under the locks, in the order and when the kernel does."""

from collections import Counter

import walk

from cleanrace import Target, run

GET, PUT, INVALIDATE_PAGE, INVALIDATE_INODE = 0, 1, 2, 3
M = "register 0; mount a; "
BUSY = walk.local(
    M + "read a 0 0; truncate a 0 0; write a 0 0; writeback a 0 0; read a 0 1",
    "reclaim a 0 0; read a 0 0; reclaim a 0 0",
    "read a 0 0; write a 0 1; writeback a 0 1; reclaim a 0 1",
)


def told(target: Target, thread: str) -> list[str]:
    """The callbacks of a single thread, after the init."""
    result = run(target, walk.local(M + thread))
    assert result.verdict == "ok"
    first, *others = walk.calls(result)
    assert first == "init 0"
    return others


def test_hooks_hold_the_page_lock(target: Target) -> None:
    """Put and invalidate_page also i_pages, where a backend must not sleep; the others do not."""
    seen: Counter[str] = Counter()
    for steps in walk.walks(target, BUSY, 500):
        for step in steps:
            if step.kind in ("cb-get", "cb-put", "cb-invalidate-page"):
                assert len(step.holding("].lock")) == 1
                assert bool(step.holding(".i_pages")) == (step.kind != "cb-get")
                seen[step.kind] += 1
            elif step.kind == "cb-invalidate-inode":
                assert step.holding("].lock") == []
                assert step.holding(".i_pages") == []
                seen[step.kind] += 1
    assert min(seen[kind] for kind in (
        "cb-get", "cb-put", "cb-invalidate-page", "cb-invalidate-inode")) > 20


def test_reclaim_takes_neither_s_umount_nor_sb_lock(target: Target) -> None:
    program = walk.local(M + "read a 0 0; unmount a", "reclaim a 0 0; reclaim a 0 0")
    taken: set[str] = set()
    for result in walk.many(target, program, 600):
        taken |= {s.name.rpartition(".")[2] for s in walk.steps(target, result)
                  if s.thread == 1 and s.kind in ("lock", "lock-shared")}
    # sb_lock and s_active have no place here, so that a file system can go meanwhile.
    assert taken == {"lock", "i_pages"}


def test_truncate_invalidates_page_where_reclaim_puts(target: Target) -> None:
    assert told(target, "read a 0 0; reclaim a 0 0") == ["get 0 0.0", "put 0 0.0"]
    assert told(target, "read a 0 0; truncate a 0 0") == [
        "get 0 0.0", "invalidate-page 0 0.0", "invalidate-inode 0 0"]


def test_a_page_that_was_only_written_is_invalidated_by_reclaim(target: Target) -> None:
    assert told(target, "write a 0 0; writeback a 0 0; reclaim a 0 0") == ["invalidate-page 0 0.0"]


def test_a_page_that_was_read_and_written_is_put_with_what_the_disk_has(target: Target) -> None:
    result = run(target, walk.local(M + "read a 0 0; write a 0 0; writeback a 0 0; reclaim a 0 0"))
    (put,) = [call for call in result.calls if call.kind == "put"]
    assert put.content == 3 + 2  # location 0, operation 3


def test_reclaim_gives_up_on_dirty_page(target: Target) -> None:
    result = run(target, walk.local(
        M + "write a 0 0; reclaim a 0 0; writeback a 0 0; reclaim a 0 0; reclaim a 0 0"))
    assert result.returns[0][2:] == (0, 0, 0, 1, 0)


def test_reclaim_gives_up_under_writeback_and_on_a_page_in_use(target: Target) -> None:
    """While somebody else refers to the page, or the disk does not have it yet, it stays."""
    tries = "; ".join(["reclaim a 0 0"] * 5)
    program = walk.local(M + "write a 0 0; writeback a 0 0; read a 0 0; read a 0 0", tries, tries)
    attempts: Counter[bool] = Counter()
    for steps in walk.walks(target, program, 1_200):
        writing: set[str] = set()
        for step in steps:
            page = step.name.partition(".")[0]
            if step.name.endswith(".writeback") and step.kind == "atomic":
                writing ^= {page}
            elif step.where == "page_reclaim_locked" and step.name.endswith(".refcount"):
                frozen = step.kind == "atomic"
                assert not (frozen and page in writing)
                attempts[frozen] += 1
            elif step.kind == "hook" and step.event.value in (PUT, INVALIDATE_PAGE):
                (lock,) = step.holding("].lock")
                assert lock.removesuffix(".lock") not in writing
    assert attempts[True] > 20
    assert attempts[False] > 20


def test_put_before_page_leaves_the_mapping(target: Target) -> None:
    """The hook has ended before the slot is emptied, under one hold of i_pages."""
    leaves = 0
    for steps in walk.walks(target, BUSY, 300):
        hooked: dict[int, bool] = {}
        for step in steps:
            if step.kind == "lock" and step.name.endswith(".i_pages"):
                hooked[step.thread] = False
            elif step.kind == "hook-done":
                hooked[step.thread] = True
            elif step.kind == "write" and ".slots[" in step.name and step.where == "page_leave":
                assert hooked[step.thread]
                assert step.holding(".i_pages")
                leaves += 1
    assert leaves > 300


def test_nobody_asks_for_a_page_while_its_put_is_not_done(target: Target) -> None:
    """Between the hook of a page that leaves and its end there is no get of the same place."""
    for result in walk.many(target, BUSY, 500):
        leaving: dict[int, tuple[int, int]] = {}
        for event in result.trace:
            place = (event.value >> 48 & 0xFF, event.value >> 40 & 0xFF)
            if event.kind in ("cb-put", "cb-invalidate-page"):
                leaving[event.thread] = place
            elif event.kind == "hook-done":
                leaving.pop(event.thread, None)
            elif event.kind == "cb-get":
                assert place not in leaving.values()


def test_a_page_enters_the_cache_locked_and_not_uptodate(target: Target) -> None:
    """Its reader asks the backend under that lock; whoever finds it meanwhile waits."""
    program = walk.local(M + "read a 0 0", "read a 0 0", "read a 0 0")
    for result in walk.many(target, program, 400):
        assert result.verdict == "ok"
        assert walk.calls(result).count("get 0 0.0") <= 1
        assert set(result.returns[1] + result.returns[2]) <= {1, walk.ENOENT}


def test_who_waited_for_a_page_checks_its_mapping_again(target: Target) -> None:
    program = walk.local("mount a; read a 0 0; truncate a 0 0; read a 0 0; delete a 0",
                         "read a 0 0; write a 0 0", "write a 0 0; write a 0 0")
    again = 0
    for steps in walk.walks(target, program, 1_200):
        for at, step in enumerate(steps):
            if step.kind == "lock" and step.where == "page_lock_mapped":
                mine = [s for s in steps[at + 1:] if s.thread == step.thread and s.name]
                assert mine[0].name == step.name.removesuffix("lock") + "mapping"
                again += mine[1].kind == "unlock" and mine[1].name == step.name
    assert again >= 3


def test_invalidate_inode_is_called_even_when_the_mapping_is_empty(target: Target) -> None:
    assert told(target, "truncate a 0 0") == ["invalidate-inode 0 0"]
    assert told(target, "read a 1 1; reclaim a 1 1; truncate a 1 0") == [
        "get 0 1.1", "put 0 1.1", "invalidate-inode 0 1"]
    assert told(target, "delete a 0") == ["invalidate-inode 0 0"]


def test_a_truncation_that_changes_nothing_tells_nothing(target: Target) -> None:
    assert told(target, "truncate a 0 0; truncate a 0 1") == ["invalidate-inode 0 0"]


def test_truncation_spares_the_pages_before_it(target: Target) -> None:
    assert told(target, "read a 0 0; read a 0 1; truncate a 0 1; read a 0 0") == [
        "get 0 0.0", "get 0 0.1", "invalidate-page 0 0.1", "invalidate-inode 0 0"]


def test_truncation_lowers_the_size_first_and_clears_the_disk_last(target: Target) -> None:
    result = run(target, walk.local(M + "read a 0 0; truncate a 0 0"))
    steps = list(walk.steps(target, result))
    names = ("super_table[0].s_inodes[0].i_size", "super_table[0].s_inodes[0].i_data.slots[0]",
             "inode_disks[0][0].blocks[0]")
    cut = next(i for i, s in enumerate(steps) if s.where == "op_truncate")
    order = [s.name for s in steps[cut:] if s.kind.startswith("write") and s.name in names]
    assert order == list(names)
    assert all(s.holds("super_table[0].s_inodes[0].i_rwsem")
               for s in steps[cut:] if s.kind.startswith("write") and s.name in names)


def test_a_truncated_page_is_never_put(target: Target) -> None:
    """Truncation clears mapped-to-disk under the page lock: whoever loses invalidates nothing."""
    program = walk.local(M + "read a 0 0; truncate a 0 0", "reclaim a 0 0")
    how: Counter[tuple[str, ...]] = Counter()
    for result in walk.many(target, program, 2_000):
        assert result.verdict == "ok"
        how[tuple(walk.calls(result)[2:])] += 1
    assert set(how) == {("put 0 0.0", "invalidate-inode 0 0"),
                        ("invalidate-page 0 0.0", "invalidate-inode 0 0")}
    assert min(how.values()) > 5


def test_a_hit_issues_no_disk_read(target: Target) -> None:
    result = run(target, walk.local(M + "read a 0 0; reclaim a 0 0; read a 0 0"))
    assert result.returns[0][2:] == (1, 1, 1)
    assert {"get-hit", "get-miss", "put"} <= result.marks
    disk = [s for s in walk.steps(target, result) if s.name == "inode_disks[0][0].blocks[0]"]
    # A look at whether the block is mapped for each read, and one disk read, for the miss.
    assert [s.kind for s in disk] == ["read", "read", "read"]


def test_holes_and_the_end_of_the_file_ask_nobody(target: Target) -> None:
    result = run(target, walk.local(M + "truncate a 0 0; read a 0 0; write a 0 1; read a 0 0"))
    assert result.returns[0][2:] == (0, -1, 0, 0)
    assert walk.calls(result) == ["init 0", "invalidate-inode 0 0"]


def test_a_hole_is_not_put(target: Target) -> None:
    assert told(target, "truncate a 0 0; write a 0 1; read a 0 0; reclaim a 0 0") == [
        "invalidate-inode 0 0", "invalidate-page 0 0.0"]


def test_writes_wait_for_writeback(target: Target) -> None:
    program = walk.local("mount a; write a 0 0; writeback a 0 0", "write a 0 0; writeback a 0 0")
    waited = written = 0
    for steps in walk.walks(target, program, 400):
        writing: set[str] = set()
        for step in steps:
            page = step.name.partition(".")[0]
            if step.name.endswith(".writeback") and step.kind == "atomic":
                writing ^= {page}
            elif step.name.endswith(".content") and step.kind in ("write-marked", "atomic"):
                assert page not in writing
                written += 1
            elif page in writing and step.where == "page_lock_mapped" and step.kind == "lock":
                waited += 1
    assert waited > 3
    assert written > 400


def test_reads_take_no_lock_of_the_file_and_writes_do(target: Target) -> None:
    for steps in walk.walks(target, BUSY, 100):
        for step in steps:
            if step.kind == "write-marked" and step.name.endswith((".content", ".i_size")):
                assert step.holding(".i_rwsem")
            elif step.kind == "cb-get":
                assert not step.holding(".i_rwsem")
