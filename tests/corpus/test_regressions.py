# SPDX-License-Identifier: GPL-2.0-only
"""What the real file does wrong is still there, explained, and absent from the reference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Target, run, search
from fuzz import store

REGRESSIONS = sorted(store.REGRESSIONS.glob("*.litmus"))


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_a_finding_shows_on_the_real_file_and_not_on_the_reference(
    path: Path, built: Mapping[str, Target]
) -> None:
    case = Case.read(path)
    options: dict[str, Any] = {"judged": (case.expect,), "steps_max": case.steps_max}
    # The tape is of one build; with another compiler's points a search has to find it again.
    result = run(built["linux"], case.scenario, case.tape, **options)
    if case.expect not in result.verdicts:
        met = search(built["linux"], case.scenario, schedules=case.within,
                     stop_on=(case.expect,), **options)
        result = run(built["linux"], case.scenario, policy="random",
                     schedule=met.first[case.expect], **options)
    assert store.signature(result, case.expect) == case.found["signature"]
    control = search(built["reference"], case.scenario, schedules=case.within)
    assert control.schedules == case.within
    assert control.violations == {}


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_a_finding_is_explained_and_written_as_we_write_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    case = Case.from_text(text)
    assert len(" ".join(case.comments)) > 100
    assert case.to_text() == text
    assert path.stem.startswith(case.expect)


def test_every_fault_that_the_readme_names_has_its_finding() -> None:
    assert {Case.read(path).expect for path in REGRESSIONS} == {
        "init-twice", "pool-leak", "pool-dead", "pool-foreign", "data-foreign"}
