# SPDX-License-Identifier: GPL-2.0-only
"""The C oracle and the slow Python one, written apart, judge thousands of traces alike."""

import random
from collections import Counter

import pytest

from cleanrace import Event, Result, Scenario, Target, run, words
from cleanrace.oracle import judge

JUDGED = frozenset(v for v, group in words.VERDICTS.items() if group in ("proof", "pool", "data"))

#: Threads that can go wrong in one way each, once something is broken or unlucky.
SCRIPTS = (
    "register 0",
    "register 1; register 2",
    "mount a; unmount a",
    "mount b; remount b; unmount b",
    "mount c; mount-fail c; unmount c",
    "mount a; remount a",
    (
        "register 0; mount a; read a 0 1; reclaim a 0 1; truncate a 0 0; write a 0 1;"
        " writeback a 0 1; reclaim a 0 1; read a 0 1"
    ),
    "register 0; mount a; mount c; read a 0 0; reclaim a 0 0; read c 0 0",
    "read a 0 0; write a 0 0; read a 0 0; truncate a 0 0; read a 0 0",
    "delete a 0; write a 0 0; unmount a",
    "reclaim a 0 0; reclaim a 0 1; read a 0 1",
)
#: Those that the oracle can notice; the others break rules of locks and memory.
PLANTED = words.PLANTED[: words.PLANTED.index("early-put")]
KINDS = ("local", "local", "local handles", "shared uuid 1", "shared uuid 2 handles", "none")


def drawn(draw: random.Random) -> Scenario:
    """A few of the scripts as threads, on file systems of any kind."""
    kinds = draw.choices(KINDS, k=3)
    if draw.random() < 0.5:
        kinds[0], kinds[2] = "local", "none"
    lines = [f"fs {letter} {kind}" for letter, kind in zip("abc", kinds, strict=True)]
    lines += [f"thread {script}" for script in draw.sample(SCRIPTS, k=draw.randrange(2, 5))]
    if draw.random() < 0.3:
        lines.append(f"init-fails {draw.randrange(3)}")
    text = "\n".join(["cleanrace 1", f"ids {draw.choice(words.IDS)}", *lines])
    try:
        return Scenario.from_text(text)
    except ValueError:  # page operations on twins
        return drawn(draw)


def winners(result: Result) -> int:
    return sum(event.kind == "registered" and event.value == 0 for event in result.trace)


@pytest.mark.parametrize("seed", range(4))
def test_both_oracles_agree_on_thousands_of_random_traces(target_510: Target, seed: int) -> None:
    draw = random.Random(seed)
    met: Counter[str] = Counter()
    for number in range(1_500):
        scenario = drawn(draw)
        planted = draw.sample(PLANTED, k=draw.choice((0, 1, 1, 1, 2)))
        result = run(
            target_510,
            scenario,
            policy="random",
            seed=seed,
            schedule=number,
            planted=planted,
            full=False,
        )
        found, expected = result.verdicts & JUDGED, judge(result.trace)
        if winners(result) > 1:
            # There is no "one that won" then; register-result says so in both.
            assert "register-result" in found & expected
            found, expected = found - {"ops-changed"}, expected - {"ops-changed"}
        assert found == expected, (scenario.to_text(), planted, seed, number)
        met.update(found)
    assert set(met) >= JUDGED - {"ops-changed"}, met


def event(kind: str, thing: int = 0, value: int = 0, thread: int = 0) -> Event:
    return Event(0, thread, kind, thing, value, 0, 0)


def test_a_judge_sees_each_violation_in_the_shortest_trace_that_has_it() -> None:
    shared = 1 << 8 | 2 << 16
    new, won = event("sb-new", 1), event("registered", 0)
    began = (event("init-call", 1), event("cb-init", 0))
    call = (event("hook", 1), event("cb-get", 0))
    traces = {
        "init-missing": [new, event("sb-mounted", 1), won],
        "init-twice": [new, *began, event("cb-init", 1)],
        "init-wrong": [event("sb-new", 1, shared), event("init-call", 1, 1), event("cb-init", 0)],
        "register-result": [won, won],
        "ops-changed": [new, event("init-call", 1), event("cb-init", 0, 1 << 56), won],
        "pool-unknown": [new, *call],
        "pool-dead": [
            new, *began, event("init-done", 1), event("hook", 1),
            event("cb-invalidate-fs", 0), event("cb-get", 0),
        ],
        "pool-foreign": [
            new, *began, event("init-done", 1), event("sb-new", 2), event("hook", 2),
            event("cb-get", 0),
        ],
        "pool-leak": [new, *began, event("init-done", 1), event("sb-free", 1)],
        "data-stale": [
            event("set", 1, 1 << 16 | 2), event("read-begin", 1),
            event("read-end", 1, 1 << 16 | 1),
        ],
        "data-foreign": [event("read-begin", 1), event("read-end", 1, 2 << 16 | 1)],
    }  # fmt: skip
    assert set(traces) == JUDGED
    for verdict, trace in traces.items():
        assert judge(trace) == {verdict}


def test_a_judge_accepts_every_content_that_was_there_during_the_read() -> None:
    for value in (1 << 16 | 1, 1 << 16 | 2, 0, -1):
        trace = [
            event("read-begin", 1),
            event("set", 1, 1 << 16 | 2, 1),
            event("zero", 1, 0, 1),
            event("read-end", 1, value),
        ]
        assert judge(trace) == frozenset()


def test_nothing_is_wrong_with_an_empty_trace() -> None:
    assert judge([]) == frozenset()
