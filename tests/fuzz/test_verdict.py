# SPDX-License-Identifier: GPL-2.0-only
"""The last block of a campaign says what held, in what was executed, and loses no finding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Summary, Target
from fuzz import campaign, premises, report, store, verdict
from fuzz import run as program
from fuzz.worker import Own


def made(target: Target, own: Own, *, met: int = 1) -> campaign.Report:
    """A report about so many runs."""
    row = campaign.Row(method="random", own=own, started=True)
    row.summary = Summary(schedules=own.schedules, marks={"registration-met": met})
    return campaign.Report(target=target, options=campaign.Options(), rows={"random": row})


def test_the_real_file_gets_a_verdict_about_both_conclusions(
    run: Callable[..., Any], tmp_path: Path
):
    out = tmp_path / "out.json"
    done = run(
        "run.py", "--time", "6", "--json", str(out), "--findings", str(tmp_path / "findings")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    before, block = done.stdout.split("\nThe proof, in ")
    assert block.startswith(f"{said['proof']['schedules']:,} schedules of linux-5.10:\n")
    assert "init at least once: held, no super block was missed (init-missing 0)" in block
    assert "schedules, each of a scenario that remounts" in block
    assert said["proof"]["violating_runs"]["init-twice"] > 0
    assert "init-twice" not in said["proof"]["violating_runs_without_remount"]
    assert 0 < said["proof"]["schedules_without_remount"] < said["proof"]["schedules"]
    assert "registration, in so many schedules: met " in before
    assert "the space was not exhausted" in block
    assert said["findings"]
    sentences = {name: entry for name, entry in cleanrace.words.VERDICTS.items() if name != "ok"}
    for finding in said["findings"]:
        assert finding["verdict"] in sentences
        assert f"  known: {finding['signature']}: a" in block
    rows = {row["method"]: row for row in said["methods"]}
    for name, row in rows.items():
        count = sum(name in finding["methods"] for finding in said["findings"])
        assert row["findings_known"] == count, name
    assert rows["atheris"]["violating_runs"], "the harness counts what it meets"
    last = block.split("\n\n")
    assert last[1].startswith("next:")


def test_init_twice_without_a_remount_is_a_violation(control: Target):
    own = Own()
    own.add(10, {"init-twice": 4}, remounts=True)
    own.add(20, {}, remounts=False)
    said = "\n".join(verdict.proof(made(control, own)))
    assert "held in 20 schedules without remount; init-twice in 4 schedules" in said
    other = Own()
    other.merge(own)
    other.add(5, {"init-twice": 1}, remounts=False)
    said = "\n".join(verdict.proof(made(control, other)))
    assert "VIOLATED in 5 schedules (init-twice), 1 of them without a remount operation" in said


def test_a_missed_super_block_is_a_violation_and_nothing_met_is_no_verdict(control: Target):
    missed = Own(schedules=9, violations={"init-missing": 2})
    assert "VIOLATED in 2 schedules" in "\n".join(verdict.proof(made(control, missed)))
    vacuous = "\n".join(verdict.proof(made(control, Own(schedules=9), met=0)))
    assert "not tried, no registration met a mounted super block" in vacuous
    assert "nothing was executed" in "\n".join(verdict.proof(made(control, Own())))


def test_cases_that_were_not_replayed_are_in_the_verdict(control: Target):
    done = made(control, Own(schedules=9))
    done.outcomes = [{"path": "a", "applies": True, "skipped": True}] * 3
    assert "3 cases of the corpus were not replayed" in verdict.heading(done)


def test_a_finding_that_cannot_be_written_is_printed(
    control: Target,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    first = cleanrace.search(
        control, premises.MAIN, schedules=10**6, planted=("c",), stop_on=("init-missing",)
    ).first
    finding = store.examine(
        control, premises.MAIN, "init-missing", schedule=first["init-missing"], planted=("c",)
    )
    monkeypatch.setattr(store, "write", full)
    one = campaign.Campaign(control, campaign.Options(planted=("c",), findings=tmp_path))
    one.report.rows["random"] = campaign.Row(method="random")
    one.met(finding, "random")
    one.hinted(
        {"verdict": "init-twice", "scenario": premises.MAIN.to_bytes().hex(), "schedules": 1}
    )
    assert one.report.status == 3
    assert not [line for line in report.next_commands(one.report) if " replay " in line]
    kept = report.to_json(one.report, command=[])["findings"][0]
    assert kept["path"] is None
    assert Case.from_text(kept["unsaved"]).tape == finding.tape
    report.print_report(program.console(), one.report)
    said = capsys.readouterr().out
    assert kept["unsaved"] in said
    assert one.report.hints[0]["text"] in said
    assert "No space left on device" in said
