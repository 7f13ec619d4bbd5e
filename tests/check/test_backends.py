# SPDX-License-Identifier: GPL-2.0-only
"""The recording backend keeps the contract of a backend: what it gives, keeps and forgets."""

from collections.abc import Iterable

import pytest

from cleanrace import Result, Scenario, Target, run

M = "register 0; mount a; "


def single(target: Target, thread: str, *lines: str) -> Result:
    text = ["cleanrace 1", *(lines or ("fs a local",)), f"thread {thread}"]
    result = run(target, Scenario.from_text("\n".join(text)), full=False)
    assert result.verdict == "ok"
    return result


def pools(result: Result) -> list[int]:
    """The ids that init callbacks returned, in order."""
    return [call.pool for call in result.calls if call.kind.startswith("init")]


def hits(result: Result) -> list[bool]:
    """Of each get, whether it was a hit."""
    return [call.content != 0 for call in result.calls if call.kind == "get"]


@pytest.mark.parametrize(("kind", "left"), [("local", 0), ("shared uuid 1", 1)])
def test_a_get_takes_from_a_private_pool_and_leaves_in_a_shared_one(
    target: Target, kind: str, left: int
) -> None:
    """With room for one page the second put tells whether the first page is still there."""
    result = single(
        target, M + "read a 0 0; reclaim a 0 0; read a 0 0; read a 0 1; reclaim a 0 1; read a 0 1",
        "capacity 1", f"fs a {kind}")
    # Miss and hit of page 0; miss of page 1, which is put, and got if there was room for it.
    assert hits(result) == [False, True, False, not left]


def test_a_put_replaces_what_the_handle_had(target: Target) -> None:
    """Shared, so that the old page is still there, and with room for one, so that it is full."""
    result = single(
        target, M + "read a 0 0; reclaim a 0 0; read a 0 0; write a 0 0; writeback a 0 0;"
        " reclaim a 0 0; read a 0 0", "capacity 1", "fs a shared uuid 1")
    assert result.returns[0][-1] == 5 + 2
    assert hits(result) == [False, True, True]


@pytest.mark.parametrize("capacity", range(4))
def test_a_backend_holds_as_many_pages_as_it_has_room_for(target: Target, capacity: int) -> None:
    places = [f"a {inode} {page}" for inode in (0, 1) for page in (0, 1)]
    thread = M + "; ".join(f"{name} {place}" for name in ("read", "reclaim", "read")
                           for place in places)
    result = single(target, thread, f"capacity {capacity}", "fs a local")
    assert hits(result) == [False] * 4 + [number < capacity for number in range(4)]


def test_capacity_is_each_backends_own_and_not_a_pools(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b; read a 0 0; read b 0 0; reclaim a 0 0;"
                    " reclaim b 0 0; read b 0 0; read a 0 0", "capacity 1", "fs a local",
                    "fs b local")
    assert hits(result) == [False, False, False, True]


def test_the_id_given_back_last_is_handed_out_again(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b; mount c; unmount b; unmount a; mount c;"
                    " mount b; mount a", "fs a local", "fs b local", "fs c shared uuid 1")
    assert pools(result) == [0, 8, 16, 0, 8]


def test_growing_ids_are_handed_out_once(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b; unmount a; unmount b; mount b; mount a",
                    "ids growing", "fs a local", "fs b shared uuid 1")
    assert pools(result) == [0, 8, 16, 24]


@pytest.mark.parametrize("ids", ["reused", "growing"])
def test_equal_uuids_share_a_pool_and_others_do_not(target: Target, ids: str) -> None:
    result = single(target, "register 0; mount a; mount b; mount c; mount d", f"ids {ids}",
                    "fs a shared uuid 1", "fs b shared uuid 1", "fs c shared uuid 2", "fs d local")
    assert pools(result) == [0, 0, 8, 16]


def test_a_shared_pool_lives_until_its_last_user_gives_it_back(target: Target) -> None:
    """Its id is not free while one of two has it, and free when both have gone."""
    lines = ("fs a shared uuid 1", "fs b shared uuid 1", "fs c local")
    one = single(target, "register 0; mount a; mount b; unmount a; mount c", *lines)
    assert pools(one) == [0, 0, 8]
    both = single(target, "register 0; mount a; mount b; unmount a; unmount b; mount c", *lines)
    assert pools(both) == [0, 0, 0]


def test_a_private_pool_is_never_shared(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b", "fs a local", "fs b shared")
    assert pools(result) == [0, 8]


@pytest.mark.parametrize("kind", ["local", "shared uuid 3"])
def test_init_fails_exactly_when_it_is_told_to(target: Target, kind: str) -> None:
    thread = "register 0" + "; mount a; unmount a" * 4
    result = single(target, thread, "init-fails 0 2", f"fs a {kind}")
    assert pools(result) == [-1, 0, -1, 0]
    # A failed one is not given back.
    assert [call.kind for call in result.calls].count("invalidate-fs") == 2


def test_a_failure_uses_up_no_id(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b; mount c", "ids growing", "init-fails 1",
                    "fs a local", "fs b local", "fs c local")
    assert pools(result) == [0, -1, 8]


def test_giving_a_pool_back_drops_what_is_in_it(target: Target) -> None:
    result = single(target, M + "read a 0 0; reclaim a 0 0; unmount a; mount a; read a 0 0")
    assert pools(result) == [0, 0]
    assert hits(result) == [False, False]


def test_giving_a_pool_back_spares_the_others(target: Target) -> None:
    result = single(target, "register 0; mount a; mount b; read a 0 0; read b 0 0; reclaim a 0 0;"
                    " reclaim b 0 0; unmount a; read b 0 0", "fs a local", "fs b local")
    assert hits(result) == [False, False, True]


def test_invalidating_an_inode_spares_the_other(target: Target) -> None:
    result = single(target, M + "read a 0 0; read a 1 0; reclaim a 0 0; reclaim a 1 0;"
                    " truncate a 0 0; write a 0 0; writeback a 0 0; read a 1 0")
    assert hits(result) == [False, False, True]


def test_the_backend_that_was_registered_gets_the_calls(target: Target) -> None:
    result = single(target, "register 3; mount a; read a 0 0; register 1; unmount a")
    assert {call.backend for call in result.calls} == {3}


def test_a_backend_forgets_everything_between_runs(target: Target) -> None:
    def calls() -> Iterable[object]:
        return single(target, M + "read a 0 0; reclaim a 0 0; mount b",
                      "ids growing", "fs a local", "fs b local").calls

    assert calls() == calls()


def test_counters_of_the_file_can_be_read_after_a_run(target: Target, control: Target) -> None:
    thread = M + "read a 0 0; reclaim a 0 0; read a 0 0; truncate a 0 0"
    for each in (target, control):
        single(each, thread)
        assert each.counters() == {"succ_gets": 1, "failed_gets": 1, "puts": 1, "invalidates": 1}
