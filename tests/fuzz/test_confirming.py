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
from cleanrace import Case, Scenario, Target
from fuzz import keeping, machines, minimise, premises, serve_workers, store, worker
from fuzz.serve_folder import Layout

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


@pytest.mark.parametrize("planted", [(), ("c",), ("a", "c")])
def test_the_service_checks_a_finding_with_the_planted_bugs_that_are_there(
    control: Target, tmp_path: Path, planted: tuple[str, ...]
):
    met = cleanrace.search(
        control, premises.MAIN, schedules=10**6, planted=("c",), stop_on=("init-missing",)
    )
    finding = store.examine(
        control, premises.MAIN, "init-missing", schedule=met.first["init-missing"], planted=("c",)
    )
    minimiser = minimise.Minimiser(control)
    kept = keeping.put(control, minimiser.shorten(finding), root=tmp_path / "findings")
    layout = Layout(tmp_path / "corpus")
    layout.make()
    job = {
        "corpus": str(layout.root), "post": "minimise", "planted": planted, "seed": 1,
        "findings": str(tmp_path / "findings"), "deadline": 1e18,
    }  # fmt: skip
    work = serve_workers.ServiceWorker(job=job, out=io.StringIO(), target=control)
    serve_workers.check(work, minimiser, {"check": kept.entry.name, "again": False})
    assert said(work, "checked") == [kept.entry.name]
    assert said(work, "shows") == ["c" in planted]


def test_a_difference_under_a_planted_bug_is_told_as_it_is_there(control: Target):
    made = machines.machine(
        machines.SequentialMachine,
        control,
        recorder=machines.Counts(),
        planted=("no-invalidate-fs",),
    )
    with pytest.raises(machines.Difference, match="callbacks: the target has 1, the model 2"):
        machines.run(made, chosen=machines.quick(examples=60), drawn=1)


def test_a_smaller_scenario_differs_under_the_same_planted_bug(control: Target):
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0; mount a; read a 0 0; unmount a\n"
    )
    bug = ("no-invalidate-fs",)
    small, how = machines.smallest(control, scenario, planted=bug)
    assert [operation.name for operation in small.threads[0]] == ["register", "mount", "unmount"]
    assert how == machines.difference(control, small, planted=bug) != ""
