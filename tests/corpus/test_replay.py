# SPDX-License-Identifier: GPL-2.0-only
"""What a search found is repeated by its number, by its tape, and by the plain C program."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Result, Target, run, search, words

LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"
VIOLATING = [path for path in sorted(LITMUS.glob("*.litmus")) if Case.read(path).expect != "ok"]


@pytest.mark.parametrize("path", VIOLATING, ids=lambda path: path.stem)
def test_a_found_violation_replays_everywhere(
    path: Path, built: Mapping[str, Target], tmp_path: Path
) -> None:
    case = Case.read(path)
    for name, target in built.items():
        if case.target not in ("any", name):
            continue
        options: dict[str, Any] = {"planted": case.broken, "steps_max": case.steps_max,
                                   "judged": case.judged, "detect": True}
        found = search(target, case.scenario, schedules=case.within, stop_on=[case.expect],
                       **options)
        first = run(target, case.scenario, policy="random", schedule=found.first[case.expect],
                    **options)
        assert case.expect in first.verdicts
        assert first.violation is not None
        for _ in range(2):
            again = run(target, case.scenario, first.tape, **options)
            assert again == first
        if not case.steps_max and not case.judged:  # which the plain program does not know
            check_program(case, target, first, tmp_path / "input")


def check_program(case: Case, target: Target, first: Result, file: Path) -> None:
    file.write_bytes(case.scenario.to_bytes() + first.tape)
    planted = sum(1 << words.PLANTED.index(name) for name in case.broken)
    done = subprocess.run([target.info["program"], file, str(planted)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-2] == f"verdict {first.verdict}"
    assert lines[-1].endswith(f" digest {first.digest:016x}")


def test_the_plain_program_says_ok_with_status_0(
    built: Mapping[str, Target], cases: Mapping[str, Case], tmp_path: Path
) -> None:
    case = cases["register+local+shared"]
    result = run(built["linux"], case.scenario, policy="random", schedule=7)
    file = tmp_path / "input"
    file.write_bytes(case.scenario.to_bytes() + result.tape)
    done = subprocess.run([built["linux"].info["program"], file], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [
        "verdict ok", f"steps {result.steps} digest {result.digest:016x}"]
    assert len(done.stdout.splitlines()) == len(result.trace) + 2
