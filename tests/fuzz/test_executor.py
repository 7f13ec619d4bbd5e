# SPDX-License-Identifier: GPL-2.0-only
"""Batches of units: each has exactly one outcome, whatever workers die of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Target
from fuzz import executor
from fuzz.executor import Executor, Outcome, Unit

PROGRAM = Path(__file__).with_name("crashing_worker.py")


@pytest.fixture
def workers(control: Target) -> Iterator[Executor]:
    """Two processes that know units which end badly."""
    made = Executor(executor.Processes(control, 2, program=PROGRAM))
    yield made
    made.stop()


def unit(kind: str, number: int, **more: Any) -> Unit:
    return Unit(kind=kind, arguments={"number": number} | more, about=f"number {number}")


def outcomes(workers: Executor) -> dict[int, Outcome]:
    """Of all units, each of which must have one only."""
    found: dict[int, Outcome] = {}
    while workers.left:
        for done, outcome in workers.results(1.0):
            number = done.arguments["number"]
            assert number not in found
            found[number] = outcome
    return found


def test_units_that_crash_their_worker_cost_no_other_unit(workers: Executor):
    """200 of 20 ms, of which 4 die of SIGSEGV, as in the comparison of pools."""
    bad = {17, 18, 90, 199}
    for number in range(200):
        workers.submit(unit("crash" if number in bad else "number", number))
    found = outcomes(workers)
    assert {number for number in found if found[number].answer} == set(range(200)) - bad
    assert all(found[number].answer == {"number": number} for number in set(range(200)) - bad)
    for number in bad:
        said = found[number].broken
        assert said.startswith("crash: a worker (units) died, SIGSEGV")
        assert said.endswith(f"; it was at number {number}")


def test_a_unit_is_tried_once_more(workers: Executor, tmp_path: Path):
    for number in range(6):
        workers.submit(unit("crash", number, first=str(tmp_path / str(number))))
    found = outcomes(workers)
    assert {number: outcome.answer for number, outcome in found.items()} == {
        number: {"number": number} for number in range(6)
    }
    assert len(list(tmp_path.iterdir())) == 6


def test_a_failing_check_is_told_and_its_worker_goes_on(workers: Executor):
    for number in range(4):
        workers.submit(unit("fail" if number == 1 else "number", number))
    found = outcomes(workers)
    assert found[1] == Outcome({}, "number 1 cannot be")
    assert all(found[number].answer for number in (0, 2, 3))
    assert len(workers.workers.pool.members) <= 2


def test_workers_that_cannot_start_break_every_unit(control: Target, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit('no luck')\n")
    workers = Executor(executor.Processes(control, 2, program=program))
    for number in range(3):
        workers.submit(unit("number", number))
    found = outcomes(workers)
    workers.stop()
    assert set(found) == {0, 1, 2}
    assert all(outcome.broken.endswith("exit status 1: no luck") for outcome in found.values())


def test_no_more_workers_are_started_than_there_are_units(workers: Executor):
    workers.submit(unit("number", 0))
    assert set(outcomes(workers)) == {0}
    assert len(workers.workers.pool.members) == 1


def test_what_was_stopped_hands_out_nothing(workers: Executor):
    for number in range(50):
        workers.submit(unit("number", number))
    found = []
    while not found:
        found = workers.results(1.0)
    workers.stop()
    assert all(not member.process.stdout or member.ended for member in workers.workers.pool.members)
    found += workers.results(0)
    assert 0 < len(found) < 50
    assert len(found) + workers.left == 50


def test_this_process_can_be_the_worker(control: Target):
    shown: list[str] = []
    with executor.opened(control, jobs=0, show=shown.append) as workers:
        for number in range(3):
            workers.submit(Unit(kind="nap", arguments={"number": number, "seconds": 0}))
        assert set(outcomes(workers)) == {0, 1, 2}
