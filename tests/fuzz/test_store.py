# SPDX-License-Identifier: GPL-2.0-only
"""Findings: seen twice before they count, told apart by signature, kept whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Result, Scenario, Target, search
from fuzz import keeping, minimise, premises, store

LARGE = Scenario.from_text(
    "cleanrace 1\ncapacity 2\nids growing\nfs a local handles\nfs b shared uuid 1\nfs c none\n"
    "thread mount b; write b 0 0\nthread register 1; register 0\nthread mount a; read a 1 1\n"
    "thread mount c; unmount c\n"
)

INIT_MISSING = "init-missing sb-mounted+registered"


def find(
    target: Target,
    scenario: Scenario = premises.MAIN,
    *,
    verdict: str = "init-missing",
    planted: tuple[str, ...] = ("c",),
    **options: Any,
) -> store.Finding:
    """The first finding of a search."""
    summary = search(
        target, scenario, schedules=100_000, planted=planted, judged=(verdict,), stop_on=(verdict,)
    )
    return store.examine(
        target, scenario, verdict, schedule=summary.first[verdict], planted=planted, **options
    )


def test_a_finding_repeats_from_its_tape(real: Target):
    finding = find(real)
    result = cleanrace.run(
        real, finding.scenario, finding.tape, planted=("c",), judged=("init-missing",)
    )
    assert result.verdict == "init-missing"
    assert f"{result.digest:016x}" == finding.digest
    assert finding.signature == INIT_MISSING


def test_what_does_not_repeat_is_a_failure_of_the_harness(
    real: Target, monkeypatch: pytest.MonkeyPatch
):
    finding = find(real)
    true_run, calls = cleanrace.run, []

    def lying(*arguments: Any, **options: Any) -> Result:
        calls.append(options)
        result = true_run(*arguments, **options)
        return replace(result, digest=len(calls))

    monkeypatch.setattr(cleanrace, "run", lying)
    with pytest.raises(store.Broken, match="determinism broken"):
        store.examine(real, premises.MAIN, "init-missing", tape=finding.tape, planted=("c",))
    assert len(calls) == 2


def test_a_violation_that_is_not_seen_again_is_a_failure_of_the_harness(real: Target):
    with pytest.raises(store.Broken, match="violated init-missing in a search and not when"):
        store.examine(real, premises.MAIN, "init-missing", schedule=0)


def test_a_signature_names_verdict_and_events_whatever_the_schedule(real: Target):
    summary = search(real, premises.MAIN, schedules=2000, planted=("c",))
    signatures = set()
    for first in range(0, 100_000, 10_000):
        batch = search(
            real,
            premises.MAIN,
            schedules=10_000,
            first=first,
            planted=("c",),
            judged=("init-missing",),
            stop_on=("init-missing",),
        )
        signatures.add(
            store.examine(
                real,
                premises.MAIN,
                "init-missing",
                schedule=batch.first["init-missing"],
                planted=("c",),
            ).signature
        )
    assert summary.violations
    # Whether the mount ends last and is missed, or the registration does and misses it.
    assert signatures == {INIT_MISSING}


def test_each_signature_is_examined_once(real: Target):
    examiner = store.Examiner(real, planted=("c",))
    finding = find(real)
    first = examiner.fresh(finding.scenario, finding.verdict, tape=finding.tape)
    assert first is not None
    assert examiner.fresh(finding.scenario, finding.verdict, tape=finding.tape) is None
    passed = [examiner.due("pool-leak") for _ in range(1000)]
    assert all(passed[: examiner.EXAMINED])
    assert examiner.EXAMINED < sum(passed) < 2 * examiner.EXAMINED


def test_a_finding_survives_its_file_and_its_way_between_processes(real: Target, tmp_path: Path):
    finding = find(real, method="hypothesis", seed=0)
    assert store.Finding.from_json(finding.to_json()) == finding
    path = tmp_path / store.file_name(finding)
    assert store.keep(path, store.to_case(real, finding))
    case = Case.read(path)
    assert store.from_case(case) == finding
    assert case.to_text() == path.read_text()
    assert (case.target, case.broken, case.expect) == ("linux", {"c"}, "init-missing")
    assert case.found["sha256"] == real.sha256


def test_known_is_what_the_shelf_has_for_this_kind_of_target(
    real: Target, control: Target, tmp_path: Path
):
    finding = find(real)
    kept = keeping.put(real, minimise.Minimiser(real, 60).minimise(finding), root=tmp_path)
    known = {finding.signature: kept.entry.folder / "scenario.litmus"}
    assert keeping.known(real, planted=("c",), root=tmp_path) == (known, [])
    assert keeping.known(real, planted=("b", "c"), root=tmp_path) == (known, [])
    assert keeping.known(control, planted=("c",), root=tmp_path) == ({}, [])
    assert keeping.known(real, root=tmp_path) == ({}, [])
    (kept.entry.folder / "finding.json").unlink()
    none, [line] = keeping.known(real, planted=("c",), root=tmp_path)
    assert none == {}
    assert line.endswith("finding.json: it is missing")


def test_a_simpler_finding_replaces_and_a_larger_one_does_not(real: Target, tmp_path: Path):
    finding = find(real, LARGE)
    short = minimise.simplify(real, finding)
    path = tmp_path / "finding.litmus"
    assert store.size(store.to_case(real, short)) < store.size(store.to_case(real, finding))
    assert store.keep(path, store.to_case(real, finding))
    assert store.keep(path, store.to_case(real, short))
    assert not store.keep(path, store.to_case(real, finding))
    assert Case.read(path).tape == short.tape


def test_a_finding_of_another_build_is_replaced(real: Target, tmp_path: Path):
    finding = find(real)
    case = store.to_case(real, finding)
    path = tmp_path / "finding.litmus"
    store.write(path, replace(case, found=case.found | {"build": "0" * 16}).to_text())
    assert store.keep(path, case)


def test_files_are_there_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "finding.litmus"
    path.write_text("old\n")
    with pytest.raises(UnicodeEncodeError):
        store.write(path, "new \ud800\n")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]
    store.write(path, "new\n")
    assert path.read_text() == "new\n"
    assert list(tmp_path.iterdir()) == [path]


def test_simplifying_keeps_the_signature_and_only_what_matters(real: Target):
    finding = find(real, LARGE)
    simple = minimise.simplify(real, finding, seconds=4.0)
    assert simple.signature == finding.signature
    assert sum(map(len, simple.scenario.threads)) <= 3
    assert simple.scenario.capacity is None
    assert simple.scenario.ids == "reused"
    assert sum(map(bool, simple.tape)) <= 5
    again = cleanrace.run(
        real, simple.scenario, simple.tape, planted=("c",), judged=("init-missing",)
    )
    assert f"{again.digest:016x}" == simple.digest


@pytest.mark.parametrize("kind", ["local", "shared uuid 0"])
def test_whichever_hook_handed_the_pool_out_it_is_the_same_fault(real: Target, kind: str):
    scenario = Scenario.from_text(
        f"cleanrace 1\nfs a local\nfs b {kind}\nthread register 0; mount a; write a 0 0; "
        "writeback a 0 0; reclaim a 0 0\nthread mount b\nthread unmount a\n"
    )
    how: dict[str, Any] = {"policy": "pct-2", "seed": 1}
    verdict = "pool-foreign"
    met = cleanrace.search(
        real, scenario, schedules=100_000, judged=(verdict,), stop_on=(verdict,), **how
    )
    found = store.examine(real, scenario, verdict, schedule=met.first[verdict], **how)
    assert found.signature == "pool-foreign invalidate-page+init"
