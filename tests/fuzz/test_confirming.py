# SPDX-License-Identifier: GPL-2.0-only
"""What was met is confirmed as it was met: with its own planted bugs and limit of steps."""

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Target
from fuzz import store, worker

POOL_DEAD = """cleanrace 1
within 4000
fs a local
thread register 0; mount a; read a 0 0; reclaim a 0 0
thread unmount a
"""
CUT_OFF = "cleanrace 1\nwithin 1\nsteps-max 20\nfs a local\nthread mount a; unmount a\n"
INIT_MISSING = """cleanrace 1
broken c
expect init-twice
within 4000
fs a local
thread register 0
thread mount a
"""


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A worker takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def replayed(target: Target, path: Path, text: str, *planted: str) -> worker.Worker:
    """A campaign's worker that has replayed one case."""
    path.write_text(text)
    job = {"paths": [str(path)], "planted": planted, "deadline": 1e18}
    one = worker.Worker(job=job, out=io.StringIO(), target=target)
    worker.replay(one)
    return one


def said(one: worker.Worker, what: str) -> list[dict[str, Any]]:
    lines = map(json.loads, one.out.getvalue().splitlines())
    return [line[what] for line in lines if what in line]


def shows(target: Target, values: dict[str, object]) -> bool:
    finding = store.Finding.from_json(values)
    how = {"planted": finding.planted, "steps_max": finding.steps_max}
    result = cleanrace.run(target, finding.scenario, finding.tape, **how)
    return finding.verdict in result.verdicts


def test_what_a_case_shows_is_confirmed_without_what_the_user_planted(real: Target, tmp_path: Path):
    """With no-invalidate-fs no pool ever dies, and the case does not plant it."""
    one = replayed(real, tmp_path / "x.litmus", POOL_DEAD, "no-invalidate-fs")
    found = {finding["verdict"]: finding for finding in said(one, "finding")}
    assert found["pool-dead"]["planted"] == []
    assert all(shows(real, finding) for finding in found.values())


def test_what_a_case_shows_is_confirmed_with_what_it_plants(control: Target, tmp_path: Path):
    one = replayed(control, tmp_path / "x.litmus", INIT_MISSING, "c", "no-invalidate-fs")
    found = said(one, "finding")
    assert [(each["verdict"], each["planted"]) for each in found] == [("init-missing", ["c"])]
    assert shows(control, found[0])


def test_what_a_case_shows_is_confirmed_with_its_limit_of_steps(control: Target, tmp_path: Path):
    one = replayed(control, tmp_path / "x.litmus", CUT_OFF)
    found = said(one, "finding")
    assert [(each["verdict"], each["steps_max"]) for each in found] == [("step-limit", 20)]
    assert shows(control, found[0])


@pytest.mark.parametrize(
    ("text", "planted", "own"),
    [
        (POOL_DEAD, (), True),
        (POOL_DEAD, ("c",), False),
        (INIT_MISSING, (), False),
        (INIT_MISSING, ("c",), True),
        (INIT_MISSING, ("b", "c"), False),
        (CUT_OFF, (), False),
    ],
    ids=["plain", "more-planted", "less-planted", "as-planted", "other-planted", "cut-off"],
)
def test_a_case_says_something_about_the_target_as_asked_for_only_if_it_is_run_so(
    control: Target, tmp_path: Path, text: str, planted: tuple[str, ...], *, own: bool
):
    one = replayed(control, tmp_path / "x.litmus", text, *planted)
    assert one.summary.schedules == Case.from_text(text).within
    assert one.own.schedules == own * one.summary.schedules
    assert one.own.violations == (one.summary.violations if own else {})


def test_a_bug_of_a_case_that_was_not_planted_is_no_finding(control: Target, tmp_path: Path):
    one = replayed(control, tmp_path / "x.litmus", INIT_MISSING, "b")
    assert one.summary.violations["init-missing"]
    assert said(one, "finding") == []
