# SPDX-License-Identifier: GPL-2.0-only
"""Run one after the other, operations do natively what the sequential model says."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from cleanrace import Operation, Scenario, Target, run, strategies, words
from cleanrace.model import Model, simulate

FIXED = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

_USUAL = (0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10)
_PAGES = (5, 5, 5, 6, 7, 8, 8, 8, 9, 10, 3, 1)


def compare(target: Target, scenario: Scenario) -> Model:
    """Run natively with the empty tape, compare with the model, and return that."""
    native = run(target, scenario, full=False)
    model = simulate(scenario)
    assert [call[2:] for call in native.calls] == model.calls
    assert [result for thread in native.returns for result in thread] == model.returns
    assert target.counters() == model.counters
    return model


def drawn(draw: random.Random, *, pages: bool) -> Scenario:
    """A scenario of one or two threads; `pages`: it starts by registering and mounting."""
    kinds = bytes(draw.choice((0, 0, 1, 2, 4, 5, 9)) for _ in range(words.FILE_SYSTEMS_MAX))
    places = tuple(range(0, 256, 8))
    opcodes = _USUAL
    body = b""
    if pages:
        kinds = bytes((draw.choice((0, 1, 4, 5)),)) + kinds[1:]
        places = (0x00, 0x00, 0x00, 0x40, 0x40, 0x20, 0x60, 0x08)
        opcodes = _PAGES
        body = bytes((0, 0, 1, 0, 1, 8))
    for _ in range(draw.randrange(1, 33)):
        body += bytes((draw.choice(opcodes), draw.choice(places) | (draw.random() < 0.1)))
    head = bytes((draw.choice((0, 0, 1, 2, 4, 8)), draw.choice((0, 0, 0, 1, 5)), draw.randrange(4)))
    return Scenario.from_bytes(head + kinds + bytes((len(body) // 2,)) + body)


def test_3000_random_scenarios_do_what_the_model_says(target_510: Target) -> None:
    draw = random.Random(7)
    met: Counter[str] = Counter()
    for number in range(3_000):
        model = compare(target_510, drawn(draw, pages=number % 2 == 0))
        met.update(call.kind for call in model.calls)
        met.update(model.counters)
    kinds = [
        "init",
        "init-shared",
        "get",
        "put",
        "invalidate-page",
        "invalidate-inode",
        "invalidate-fs",
    ]
    assert all(met[kind] > 100 for kind in kinds), met
    assert met["succ_gets"] > 25


@FIXED
@given(strategies.scenarios(threads_max=2, length_max=16))
def test_drawn_scenarios_do_what_the_model_says(target_510: Target, scenario: Scenario) -> None:
    compare(target_510, scenario)


def test_a_page_comes_back_from_the_backend_once(target_510: Target) -> None:
    text = (
        "cleanrace 1\nfs a local handles\n"
        "thread register 3; mount a; read a 0 1; reclaim a 0 1; read a 0 1; reclaim a 0 1;"
        " write a 0 1; writeback a 0 1; reclaim a 0 1; read a 0 1\n"
    )
    model = compare(target_510, Scenario.from_text(text))
    assert [call.kind for call in model.calls] == [
        "init", "get", "put", "get", "put", "invalidate-page", "get",
    ]  # fmt: skip
    assert model.calls[3].content == 0x0001_0001
    assert model.returns[-1] == 0x0001_0008
    assert model.counters == {"succ_gets": 1, "failed_gets": 2, "puts": 2, "invalidates": 1}


def test_a_registration_initialises_in_the_order_of_mounting(target_510: Target) -> None:
    text = (
        "cleanrace 1\ninit-fails 1\nfs a local\nfs b shared uuid 2\nfs c shared uuid 2\n"
        "fs d none\nthread mount c; mount b; mount d; mount a; register 1; register 1\n"
    )
    model = compare(target_510, Scenario.from_text(text))
    assert [(call.kind, call.pool) for call in model.calls] == [
        ("init-shared", 0),
        ("init-shared", -1),
        ("init", 8),
    ]
    assert model.returns == [0, 0, 0, 0, 0, -16]


def test_the_model_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="micro scenarios are not modelled"):
        Model(Scenario((), micro=True))
    with pytest.raises(ValueError, match="file system 1 does not exist"):
        Model(Scenario()).perform(Operation("mount", (1,)))
