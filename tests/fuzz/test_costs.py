# SPDX-License-Identifier: GPL-2.0-only
"""The cost model: exact where it can be worked out by hand, and near what was measured."""

import json
from dataclasses import replace

import pytest

from fuzz import costs, prove

FREE = costs.Costs(start=5.0, more=0.0, head=0.0, answer=0.0, trip=0.0, batch=1)
EVEN = {f"fs {number} / thread a": 2.0 for number in range(12)}


def test_the_model_is_near_what_was_measured():
    modelled = costs.work(costs.MEASURED["scenarios"], costs.MEASURED["executions"])
    assert modelled == pytest.approx(costs.MEASURED["seconds"], rel=0.25)


def test_sizes_are_those_of_the_certificate():
    found = json.loads(costs.CERTIFICATE.read_text())
    totals = found["totals"]
    executions = totals["executions"] + totals["blocked"]
    assert sum(costs.sizes().values()) == pytest.approx(
        costs.work(found["bound"]["explored"], executions)
    )


@pytest.mark.parametrize(("workers", "seconds"), [(1, 29.0), (2, 17.0), (5, 11.0), (12, 7.0)])
def test_without_costs_only_the_division_counts(workers: int, seconds: float):
    """12 of 2 s after a start of 5 s; with 5 workers, two have three of them."""
    assert costs.simulate(EVEN, workers, FREE) == seconds


def test_one_worker_hides_the_head():
    slow = replace(FREE, head=0.5, answer=0.25)
    assert costs.simulate(EVEN, 1, slow) == 5.0 + 0.75 + 24.0


def test_with_many_workers_the_head_is_the_limit():
    slow = replace(FREE, head=1.0)
    assert costs.simulate(EVEN, 1000, slow) == 5.0 + 12.0 + 2.0
    batched = replace(slow, batch=6)
    assert len(list(prove.batches(EVEN, 6, 1000))) == 2
    assert costs.simulate(EVEN, 1000, batched) == 5.0 + 2.0 + 12.0


def test_nothing_is_faster_than_the_longest_scenario():
    uneven = EVEN | {"fs x / thread a; b; c / thread d; e; f": 30.0}
    assert costs.simulate(uneven, 1000, FREE) == 35.0


def test_the_table_has_a_row_for_each_number_of_workers():
    lines = costs.table(EVEN)
    assert [line.split("|")[1].strip() for line in lines[-6:]] == [
        str(workers) for workers in costs.WORKERS
    ]
