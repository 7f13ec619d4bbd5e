# SPDX-License-Identifier: GPL-2.0-only
"""What a tape is: answers count modulo, past the end they are 0, and a run writes its own."""

import random

import micro
import pytest

from cleanrace import Target, run, search

THREADS = ("store 0; store 0; load 1", "store 0; lock 0; store 1; unlock 0", "lock 0; unlock 0")


def told(target: Target, *threads: str, tape: bytes = b"") -> tuple[int, ...]:
    return micro.order(run(target, micro.program(*threads), tape))


def test_zeros_let_each_thread_run_to_its_end(target: Target) -> None:
    assert told(target, *THREADS) == (0, 0, 0, 1, 1, 1, 1, 2, 2)


def test_an_answer_counts_enabled_threads_from_the_running_one_upwards(target: Target) -> None:
    stores = ("store 0", "store 1", "store 2")
    assert told(target, *stores, tape=b"\1") == (1, 2, 0)
    assert told(target, *stores, tape=b"\2") == (2, 0, 1)
    # From thread 1 the next one is 2, and the one after that is 0.
    assert told(target, *stores, tape=b"\1\1") == (2, 0, 1)
    assert told(target, *stores, tape=b"\1\2") == (0, 1, 2)


def test_a_thread_that_waits_is_not_counted(target: Target) -> None:
    # Thread 0 holds the lock that 1 waits for, so that thread 2 is next.
    threads = ("lock 0; store 0; unlock 0", "lock 0; unlock 0", "store 1")
    result = run(target, micro.program(*threads), b"\0\0\1\1")
    locked = [e for e in micro.accesses(result) if e.kind == "lock"]
    assert micro.order(result)[0] == 0
    assert locked[0].enabled == 0b111
    assert locked[1].enabled & 0b001 == 0  # only when thread 0 has let go and ended


@pytest.mark.parametrize("extra", [2, 4, 6, 200])
def test_answers_count_modulo_the_number_of_enabled_threads(target: Target, extra: int) -> None:
    scenario = micro.program("store 0", "store 0")
    expected = run(target, scenario, b"\1")
    result = run(target, scenario, bytes((1 + extra,)))
    assert result == expected
    assert result.tape == b"\1"


def test_past_its_end_a_tape_answers_0(target: Target) -> None:
    scenario = micro.program(*THREADS)
    assert run(target, scenario, b"\1\0\2") == run(target, scenario, b"\1\0\2" + bytes(500))
    assert run(target, scenario) == run(target, scenario, bytes(1000))


def test_behind_the_last_decision_a_tape_means_nothing(target: Target) -> None:
    scenario = micro.program("store 0", "store 0")
    assert run(target, scenario, b"\1\0\0\0\0\0\0\0\1\1\1") == run(target, scenario, b"\1")


def test_the_last_thread_has_no_choice(target: Target) -> None:
    result = run(target, micro.program("store 0; store 0; store 0"), b"\1\1\1\1")
    assert result.tape == b""
    assert result.steps == 3


def test_a_run_writes_the_tape_that_repeats_it(target: Target) -> None:
    draw = random.Random(1)
    scenario = micro.program(*THREADS)
    seen = set()
    for _ in range(300):
        tape = draw.randbytes(draw.randrange(12))
        result = run(target, scenario, tape)
        assert max(result.tape, default=0) < 3
        assert run(target, scenario, result.tape) == result
        seen.add(result.digest)
    assert len(seen) > 100


def test_a_run_with_fewer_points_does_not_depend_on_what_ran_before(target: Target) -> None:
    scenario = micro.program("lock 0; store 1; unlock 0", "try-lock 0", "store 2; load 1")
    target.promote(())
    before = run(target, scenario, points="sync")
    search(target, scenario, schedules=1000, policy="uniform", points="sync")
    assert run(target, scenario, points="sync") == before


def test_a_full_trace_says_who_could_have_gone_on(target: Target) -> None:
    scenario = micro.program("lock 0; unlock 0", "lock 0; unlock 0")
    for result in micro.every_run(target, scenario):
        first, second, third, fourth = micro.accesses(result)
        assert [event.kind for event in (first, second, third, fourth)] == [
            "lock", "unlock", "lock", "unlock"]
        mine, other = 1 << first.thread, 1 << third.thread
        assert first.enabled == 0b11
        # The other one either waits for the lock, or has not begun and so can go on.
        assert second.enabled in (mine, mine | other)
        assert fourth.enabled in (other, mine | other)


def test_a_run_without_accesses_in_its_trace_is_the_same_run(target: Target) -> None:
    scenario = micro.program(*THREADS)
    for number in range(50):
        full = run(target, scenario, policy="random", schedule=number)
        short = run(target, scenario, policy="random", schedule=number, full=False)
        # Which threads could go on is in full traces only.
        assert short.trace == tuple(
            e._replace(enabled=0) for e in full.trace if e.kind not in micro.ACCESSES)
        assert (short.tape, short.steps, short.interleaving, short.verdict) == (
            full.tape, full.steps, full.interleaving, full.verdict)
