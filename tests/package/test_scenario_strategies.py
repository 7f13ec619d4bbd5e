# SPDX-License-Identifier: GPL-2.0-only
"""The strategies reach everything and prefer what can be interesting."""

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from cleanrace import FileSystem, Scenario, strategies, words

FEW = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
RACY = settings(
    max_examples=2_000,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def test_drawn_scenarios_use_every_operation_and_most_register_while_mounting() -> None:
    seen: set[str] = set()
    counts = {"all": 0, "racy": 0}

    @settings(FEW, max_examples=200)
    @given(strategies.scenarios())
    def draw(scenario: Scenario) -> None:
        names = [{operation.name for operation in thread} for thread in scenario.threads]
        seen.update(*names)
        counts["all"] += 1
        registers = [number for number, found in enumerate(names) if "register" in found]
        mounts = [number for number, found in enumerate(names) if "mount" in found]
        counts["racy"] += any(one != other for one in registers for other in mounts)

    draw()
    assert seen == set(words.OPERATIONS)
    assert counts["racy"] > counts["all"] / 5


@pytest.mark.parametrize("name", words.MICRO)
def test_every_micro_operation_can_be_drawn(name: str) -> None:
    scenario = find(
        strategies.scenarios(micro=True),
        lambda scenario: any(o.name == name for thread in scenario.threads for o in thread),
        settings=RACY,
    )
    assert scenario.micro


def test_operations_of_nothing_possible_are_refused() -> None:
    twins = (FileSystem("shared", uuid=1),) * 2
    with pytest.raises(ValueError, match="none of them is possible"):
        strategies.operations(among=twins, names=("read",))


def test_a_scenario_shrinks_to_one_operation_on_one_file_system() -> None:
    scenario = find(strategies.scenarios(), lambda scenario: bool(scenario.threads), settings=FEW)
    assert len(scenario.file_systems) == 1
    assert sum(map(len, scenario.threads)) == 1
