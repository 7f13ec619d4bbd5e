# SPDX-License-Identifier: GPL-2.0-only
"""The Hypothesis machines: the target does what the model says, and races are recorded."""

import re

import pytest

from cleanrace import Scenario, Target, model
from fuzz import machines


@pytest.mark.parametrize("name", ["real", "control"])
def test_targets_do_what_the_sequential_model_says(name: str, request: pytest.FixtureRequest):
    target = request.getfixturevalue(name)
    counts = machines.Counts()
    made = machines.machine(machines.SequentialMachine, target, recorder=counts)
    machines.run(made, chosen=machines.quick(examples=20, shrink=True), drawn=1)
    assert counts.summary.schedules > 150
    marks = counts.summary.marks
    assert marks["shutdown"]
    assert marks["mount-gave-pool"]


def test_a_difference_from_the_model_is_found_and_made_small(
    real: Target, monkeypatch: pytest.MonkeyPatch
):
    simulate = model.simulate

    def wrong(scenario: Scenario) -> model.Model:
        made = simulate(scenario)
        last = scenario.threads[-1][-1].name
        if last == "mount":
            made.returns[-1] += 1
        return made

    monkeypatch.setattr(model, "simulate", wrong)
    made = machines.machine(machines.SequentialMachine, real, recorder=machines.Counts())
    with pytest.raises(machines.Difference, match="results, number 0") as caught:
        machines.run(made, chosen=machines.quick(examples=60), drawn=1)
    assert re.search(r"thread mount \w$", str(caught.value))


def test_a_planted_bug_makes_the_target_differ_from_the_model(control: Target):
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0; mount a; unmount a\n"
    )
    assert machines.difference(control, scenario) == ""
    planted = machines.difference(control, scenario, planted=("no-invalidate-fs",))
    assert planted.startswith("callbacks")


def test_the_concurrent_machine_records_what_races_violate(control: Target):
    counts = machines.Counts()
    made = machines.machine(machines.ConcurrentMachine, control, recorder=counts, planted=("b",))
    machines.run(made, chosen=machines.quick(examples=20), drawn=1)
    assert counts.summary.schedules > 20 * machines.SCHEDULES
    assert "init-missing" in counts.violated
    for scenario, _ in counts.violated["init-missing"]:
        assert len(scenario.threads) > 1


def test_the_concurrent_machine_finds_nothing_in_the_control(control: Target):
    counts = machines.Counts()
    made = machines.machine(machines.ConcurrentMachine, control, recorder=counts, strict=True)
    machines.run(made, chosen=machines.quick(examples=20), drawn=2)
    assert counts.summary.schedules > 20 * machines.SCHEDULES
    assert counts.summary.marks["registration-met"]


def test_a_strict_machine_raises_what_it_found(control: Target):
    made = machines.machine(
        machines.ConcurrentMachine,
        control,
        recorder=machines.Counts(),
        planted=("b",),
        strict=True,
    )
    with pytest.raises(machines.Violation, match="init-missing"):
        machines.run(made, chosen=machines.quick(examples=60), drawn=1)
