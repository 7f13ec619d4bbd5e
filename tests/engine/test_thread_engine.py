# SPDX-License-Identifier: GPL-2.0-only
"""Real threads: what they meet is chance, that rounds end and say no nonsense is not."""

import re
import subprocess

import micro
import pytest

from cleanrace import Target, run, search

ROUNDS = 1_000


@pytest.mark.parametrize("threads", [
    ("lock 0; lock 0",),
    ("lock 0", "lock 0"),
    ("lock 0; lock 0", "lock 0", "lock 0", "store 1"),
    ("store 1; store 1", "lock 1; lock 1"),
])  # fmt: skip
def test_a_certain_deadlock_is_found_in_every_round(
    target: Target, threads: tuple[str, ...]
) -> None:
    met = search(target, micro.program(*threads), schedules=ROUNDS, engine="thread")
    assert met.violations == {"deadlock": ROUNDS}


def test_a_possible_deadlock_never_hangs(target: Target) -> None:
    scenario = micro.program("lock 0; lock 1; unlock 1; unlock 0",
                             "lock 1; lock 2; unlock 2; unlock 1",
                             "lock 2; lock 0; unlock 0; unlock 2")
    met = search(target, scenario, schedules=ROUNDS, engine="thread")
    assert met.schedules == ROUNDS
    assert set(met.violations) <= {"deadlock"}


@pytest.mark.parametrize(("thread", "verdict"), [
    ("free 0; load 0", "use-after-free"),
    ("free 0; free 0", "use-after-free"),
    ("lose 0; load 0", "null-dereference"),
    ("unlock 0", "lock-misuse"),
    ("lock 0; unlock 0; unlock 0", "lock-misuse"),
])
def test_a_certain_violation_is_found_in_every_round(
    target: Target, thread: str, verdict: str
) -> None:
    met = search(target, micro.program(thread, "store 1; store 1"), schedules=ROUNDS,
                 engine="thread")
    assert met.violations == {verdict: ROUNDS}


def test_eight_threads_play_a_thousand_rounds(target: Target) -> None:
    scenario = micro.program(*["lock 0; load 0; store 0; unlock 0"] * 8)
    met = search(target, scenario, schedules=ROUNDS, engine="thread")
    assert (met.schedules, met.violations) == (ROUNDS, {})


def test_locks_keep_real_threads_apart(target: Target) -> None:
    """Whoever loads inside the lock and then stores sees the one before it, or nobody."""
    scenario = micro.program(*["lock 0; load 0; store 0; unlock 0"] * 3)
    for number in range(300):
        result = run(target, scenario, engine="thread", schedule=number)
        before = [returns[1] for returns in result.returns]
        stored = [3, 7, 11]
        assert len(set(before)) == 3
        assert set(before) < {0, *stored}


def test_compare_and_exchange_has_one_winner_among_real_threads(target: Target) -> None:
    for number in range(300):
        result = run(target, micro.program(*["cmpxchg 0"] * 4), engine="thread", schedule=number)
        values = [value for (value,) in result.returns]
        assert values.count(0) == 1
        assert set(values) == {0, values.index(0) + 1}


def test_the_step_limit_ends_real_threads(target: Target) -> None:
    scenario = micro.program("store 0; store 0; store 0", "store 0; store 0; store 0")
    met = search(target, scenario, schedules=ROUNDS, engine="thread", steps_max=4)
    assert met.violations == {"step-limit": ROUNDS}


def test_the_engines_do_not_disturb_each_other(target: Target) -> None:
    scenario = micro.program("store 0; lock 0; unlock 0", "lock 0; load 0; unlock 0")
    expected = [run(target, scenario, policy="random", schedule=n) for n in range(30)]
    for number, result in enumerate(expected):
        run(target, micro.program("lock 0; lock 0", "store 0"), engine="thread", schedule=number)
        assert run(target, scenario, policy="random", schedule=number) == result


def test_no_event_of_a_real_thread_is_lost_or_out_of_place(target: Target) -> None:
    """Each writes to a buffer of its own; together they are one trace."""
    scenario = micro.program(*["store 0; load 0; lock 1; unlock 1"] * 8)
    for number in range(100):
        trace = run(target, scenario, engine="thread", schedule=number).trace
        words = [(e.thread, e.kind, e.object) for e in trace if e.kind in ("op-begin", "op-end")]
        for thread in range(8):
            own = [(kind, thing) for who, kind, thing in words if who == thread]
            first = 4 * thread
            assert own == [(kind, operation) for operation in range(first, first + 4)
                           for kind in ("op-begin", "op-end")]
        locks = [e.thread for e in trace if e.kind in ("lock", "unlock")]
        assert locks[::2] == locks[1::2]


def test_the_engine_has_no_lock_that_a_sanitizer_knows(target: Target) -> None:
    """Such a lock would order what the kernel does not, and hide races from it."""
    objects = target.module.parent / "objects"
    named = subprocess.run(["nm", "-u", *objects.glob("*.o")], capture_output=True, text=True,
                           check=True).stdout
    assert set(re.findall(r"\b(?:pthread|sem|mtx|cnd)_\w+", named)) == {
        "pthread_attr_destroy", "pthread_attr_init", "pthread_attr_setstack", "pthread_create"}
