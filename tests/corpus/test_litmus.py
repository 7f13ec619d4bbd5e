# SPDX-License-Identifier: GPL-2.0-only
"""Every litmus keeps its promise: on each target it is for, and with both engines."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from cleanrace import Case, Target, search

LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"
PATHS = sorted(LITMUS.glob("*.litmus"))
# Of real threads, which take ten times as long as fibers, and many times that where the cores have
# other work. A step of a lock that is in two parts shows in half of the cases within ten.
ROUNDS = 25
LONG_ROUNDS = 100
ALONE_ROUNDS = 2  # of one thread, which nobody disturbs: the second begins as the first one ended
SEEN_MIN = 20  # how often a violation that is searched for shows within its schedules


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_litmus_keeps_its_promise(path: Path, built: Mapping[str, Target]) -> None:
    case = Case.read(path)
    assert case.to_text() == path.read_text(encoding="utf-8")
    assert case.title
    assert case.comments
    assert not case.tape
    for name, target in built.items():
        if case.target in ("any", name):
            check_fibers(case, target)
            check_threads(case, target, rounds=ROUNDS)


@pytest.mark.long
def test_litmus_keeps_its_promise_with_many_rounds_of_real_threads(
    built: Mapping[str, Target],
) -> None:
    for path in PATHS:
        case = Case.read(path)
        for name, target in built.items():
            if case.target in ("any", name):
                check_threads(case, target, rounds=LONG_ROUNDS)


def check_fibers(case: Case, target: Target) -> None:
    found = search(
        target,
        case.scenario,
        schedules=case.within,
        planted=case.broken,
        judged=case.judged,
        steps_max=case.steps_max,
        detect=True,
    )
    assert found.schedules == case.within
    if case.expect == "ok":
        assert found.violations == {}
    else:
        assert found.violations.get(case.expect, 0) >= min(case.within, SEEN_MIN)


def undetected(case: Case, target: Target) -> set[str]:
    """What one schedule violates without detectors, which the thread engine does not have."""
    return set(search(target, case.scenario, schedules=1, planted=case.broken,
                      steps_max=case.steps_max).violations)


def check_threads(case: Case, target: Target, *, rounds: int) -> None:
    """What real threads meet is the machine's choice; that they end, and see no ghosts, is not."""
    alone = len(case.scenario.threads) == 1
    rounds = ALONE_ROUNDS if alone else rounds
    met = search(
        target,
        case.scenario,
        schedules=rounds,
        engine="thread",
        planted=case.broken,
        steps_max=case.steps_max,
    )
    assert met.schedules == rounds
    if case.expect == "ok":
        assert met.violations == {}
    elif alone and case.expect in undetected(case, target):
        assert met.violations[case.expect] == rounds


def test_names_are_words_joined_by_then_and_beside() -> None:
    assert [path.name for path in LITMUS.iterdir() if not re.fullmatch(
        r"[a-z0-9]+([-+][a-z0-9]+)*\.litmus", path.name)] == []
