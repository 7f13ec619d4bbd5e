# SPDX-License-Identifier: GPL-2.0-only
"""The verb `explore`: what it prints, writes and returns, with how many processes whatever."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build
import cleanrace
from cleanrace import Case, Target
from fuzz import executor, explore
from fuzz import explored as explored_report
from fuzz import run as command_line

ROOT = Path(__file__).resolve().parents[2]
RACE = "cleanrace 1\nmicro\nthread store 0\nthread store 0\n"
ABBA = (
    "cleanrace 1\nmicro\nthread lock 0; lock 1; unlock 1; unlock 0\n"
    "thread lock 1; lock 0; unlock 0; unlock 1\n"
)
FREED = "cleanrace 1\nmicro\nthread load 0\nthread free 0\n"
UNMOUNT = (
    "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n"
    "thread unmount a\n"
)
LONG = (
    "cleanrace 1\nfs a local\nfs b shared\nfs c shared\nthread register 0\nthread mount a\n"
    "thread mount b; unmount b; mount b\nthread mount c; unmount c\n"
)
KEYS = {
    "file", "target", "scenario", "planted", "policy", "preemptions_bound", "points", "done",
    "executions", "blocked", "cut", "classes", "states", "restarts", "depth_max",
    "preemptions_max", "steps", "approximate", "promoted", "marks", "violations", "races",
    "seconds", "failed", "symmetry",
}


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkpoints are: apart for each test, since several explore the same side by side."""
    folder = tmp_path / "explored"
    monkeypatch.setattr(explore, "folder", lambda _: folder)
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "case.litmus"
        path.write_text(text)
        return path

    return written


def explored(path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON of a run in this process."""
    out = path.parent / "out.json"
    status = command_line.main([
        "explore", str(path), "--json", str(out), "--findings", str(path.parent / "found"),
        *arguments,
    ])
    return status, json.loads(out.read_text())


def test_it_prints_what_was_executed(
    real: Target, case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    status, found = explored(case(UNMOUNT))
    out = capsys.readouterr().out
    now = cleanrace.explore(real, Case.from_text(UNMOUNT).scenario)
    assert status == 0
    assert set(found) == KEYS
    assert (found["executions"], found["classes"], found["states"]) == (
        now.executions, now.classes, now.states)
    assert found["done"]
    assert found["target"]["build_id"] == real.build_id
    assert {real.names.function_line(pc) for pc in now.promoted} <= set(found["promoted"])
    for word in (f"{now.executions:,} complete ones", "all interleavings", "final states",
                 "no violation", "given up"):
        assert word in out


def test_two_processes_find_what_one_does(case: Callable[[str], Path]):
    one, two = (explored(case(LONG), "--jobs", jobs) for jobs in ("1", "2"))
    assert one[0] == two[0] == 0
    for name in ("done", "executions", "classes", "states", "violations"):
        assert one[1][name] == two[1][name], name
    assert {race["accesses"][0] for race in one[1]["races"]} == {
        race["accesses"][0] for race in two[1]["races"]}


def test_slices_are_one_exploration(real: Target, monkeypatch: pytest.MonkeyPatch):
    """Each goes on where the one before ended, and what each met is kept, races too."""
    case = Case.from_text(UNMOUNT.replace("thread unmount a", "thread unmount a; mount a"))
    heard, executions = explore.Exploring._heard, [0]

    def grows(self: explore.Exploring, unit: executor.Unit, done: executor.Outcome) -> None:
        heard(self, unit, done)
        now = done.answer["explored"]
        assert now["executions"] > executions[-1]
        executions.append(now["executions"])

    monkeypatch.setattr(explore.Exploring, "_heard", grows)
    outcomes = []
    for seconds in (1000.0, 3e-3):
        executions[:] = [0]
        monkeypatch.setattr(explore, "FIRST_SECONDS", seconds)
        monkeypatch.setattr(explore, "LAST_SECONDS", seconds)
        outcomes.append(explore.Exploring(real, case, explore.Options(), lambda _: None).run())
        slices = len(executions) - 1
    assert slices > 3
    one, many = outcomes
    assert one.races
    for name in ("done", "counts", "classes", "violations", "simplest", "marks"):
        assert getattr(one, name) == getattr(many, name), name
    for race, again in zip(one.races, many.races, strict=True):
        # A slice looks at all of its first execution, else only at what is new in each.
        assert race["count"] <= again["count"]
        assert race | {"count": 0} == again | {"count": 0}


@pytest.mark.parametrize(
    ("text", "verdict", "preemptions"), [(ABBA, "deadlock", 1), (FREED, "use-after-free", 0)]
)
def test_a_violation_comes_with_its_simplest_tape(
    case: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    text: str,
    verdict: str,
    preemptions: int,
):
    path = case(text)
    status, found = explored(path)
    out = capsys.readouterr().out
    assert status == 1
    violation = found["violations"][verdict]
    assert violation["preemptions"] == preemptions
    assert f"{verdict}: in {violation['executions']} of" in out
    assert command_line.main(["replay", violation["replay"]]) == 1
    assert "replayed exactly" in capsys.readouterr().out


def test_a_data_race_is_listed_and_no_violation(
    case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    for option, executions in (("--symmetry", 1), ("--no-symmetry", 2)):
        status, found = explored(case(RACE), option)
        assert (status, found["executions"], found["violations"]) == (0, executions, {})
        assert len(found["races"]) == 1
        assert "data races: 1" in capsys.readouterr().out


def test_one_image_is_explored_and_it_says_of_how_many(
    case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    mounts = (
        "cleanrace 1\nfs a local\nfs b local\nfs c none\nthread register 0\nthread mount a\n"
        "thread mount c\nthread mount b\nthread register 1\n"
    )
    _, one = explored(case(mounts))
    assert "one of 4 images of an execution; alike are threads 0, 4 and 1, 3" in (
        capsys.readouterr().out
    )
    _, every = explored(case(mounts), "--no-symmetry")
    assert "images" not in capsys.readouterr().out
    assert (one["symmetry"], every["symmetry"]) == (4, 1)
    assert 4 * one["classes"] == every["classes"]
    _, dfs = explored(case(RACE), "--policy", "dfs")
    assert dfs["symmetry"] == 1


def test_a_planted_bug_is_switched_on(case: Callable[[str], Path]):
    text = "broken b\nexpect init-missing\nfs a local\nthread register 0\nthread mount a\n"
    status, found = explored(case(f"cleanrace 1\n{text}"))
    assert status == 1
    assert found["planted"] == ["b"]
    assert found["violations"]


def test_a_bound_is_said(case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]):
    status, found = explored(case(ABBA), "--policy", "dfs", "--bound", "0", "--points", "all")
    assert (found["executions"], found["preemptions_max"]) == (2, 0)
    assert "deadlock" not in found["violations"]
    assert "all interleavings with at most 0 preemptions" in capsys.readouterr().out
    assert explored(case(ABBA), "--policy", "dfs", "--bound", "1", "--points", "all")[1][
        "violations"]["deadlock"]["preemptions"] == 1
    assert status in (0, 1)


def test_what_races_is_remembered_for_a_build_unless_a_bug_is_planted(
    monkeypatch: pytest.MonkeyPatch, case: Callable[[str], Path]
):
    wrote: list[list[int]] = []
    monkeypatch.setattr(explore, "read_promoted", lambda _: [])
    monkeypatch.setattr(explore, "write_promoted", lambda _, promoted: wrote.append(promoted))
    planted = (build.ROOT / "corpus/litmus/early-put.litmus").read_text()
    status, found = explored(case(planted))
    assert (status, "use-after-free" in found["violations"], wrote) == (1, True, [])
    assert found["promoted"]
    status, found = explored(case(planted.replace("broken early-put", "").replace(
        "expect use-after-free", "")))
    assert (status, len(wrote)) == (0, 1)


def test_an_interrupt_leaves_a_checkpoint(
    remembered: Path,
    case: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    path = case(LONG)
    whole = explored(path)[1]
    heard = explore.Exploring._heard
    left: list[dict[str, Any]] = []

    def interrupts(self: explore.Exploring, unit: executor.Unit, done: executor.Outcome) -> None:
        heard(self, unit, done)
        if not left:
            left.append(done.answer["explored"])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(explore.Exploring, "_heard", interrupts)
        status, found = explored(path)
    assert (status, found["done"], left[0]["done"]) == (130, False, False)
    assert 0 < found["executions"] < whole["executions"]
    assert "interrupted; to go on: python fuzz/run.py explore" in capsys.readouterr().out
    (checkpoint,) = (one for one in remembered.iterdir() if one.is_dir())
    status, found = explored(path, "--resume")
    assert status == 0
    for name in ("done", "executions", "classes", "states", "violations", "races"):
        assert found[name] == whole[name], name
    assert not checkpoint.exists()


DAMAGED: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("exploration.json", lambda _: b"{}"),
    ("exploration.json", lambda _: b"\xff\x00"),
    ("exploration.json", lambda data: data.replace(b'"seconds": ', b'"seconds": null, "x": ')),
    ("part-0", lambda _: b""),
    ("part-0", lambda data: data[:-1]),
    ("part-0", lambda data: data[:-9] + bytes((data[-9] ^ 1,)) + data[-8:]),
)


def test_a_damaged_checkpoint_is_not_gone_on_from(
    real: Target, case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    """What it lacks would pass for exhausted."""
    path = case(LONG)
    folder = explore.Exploring(real, Case.read(path), explore.Options(), lambda _: None).folder
    try:
        assert explored(path, "--time", "0.1")[0] == 3
        for name, damage in DAMAGED:
            file = folder / name
            whole = file.read_bytes()
            file.write_bytes(damage(whole))
            assert file.read_bytes() != whole
            capsys.readouterr()
            assert command_line.main(["explore", str(path), "--resume"]) == 2
            said = capsys.readouterr().err
            assert said.startswith("run.py: --resume: ")
            assert said.endswith("leave --resume out\n")
            assert said.count("\n") == 1
            file.write_bytes(whole)
        assert explored(path, "--resume", "--time", "0.1")[0] == 3
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"kept": True}, "the time is over; to go on: python fuzz/run.py explore 'a b' --resume"),
        ({}, "the time is over; there is no checkpoint, since the exploration is too large for"),
        ({"interrupted": True, "kept": True}, "interrupted; to go on"),
        ({"broken": "a worker died"}, "failed"),
    ],
)
def test_what_can_be_gone_on_with_is_said(control: Target, state: dict[str, Any], said: str):
    outcome = explore.Outcome(
        done=False, counts={}, classes=0, approximate=False, promoted=[], violations={},
        simplest={}, marks={}, races=[], seconds=1.0, worked=1.0, **state,
    )  # fmt: skip
    told = explored_report.where_it_stopped(control, Path("a b"), explore.Options(), outcome)
    assert told.startswith(said)
    assert ("checkpoint" in told or "--resume" in told) == (said != "failed")
    assert ("--resume --target reference" in told) == bool(state.get("kept"))


def test_the_time_ends_it(case: Callable[[str], Path], capsys: pytest.CaptureFixture[str]):
    status, found = explored(case(LONG), "--time", "0.1")
    assert (status, found["done"]) == (3, False)
    assert "the time is over; to go on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explore"], "FILE"),
        (["explore", "no-such.litmus"], "no-such.litmus: there is no such scenario file"),
        (["explore", "CASE", "--policy", "bfs"], "--policy bfs: expected dpor or dfs"),
        (["explore", "CASE", "--points", "few"], "--points few: expected sync or all"),
        (["explore", "CASE", "--bound", "1"], "--bound 1: only --policy dfs has a bound"),
        (["explore", "CASE", "--bound", "x"], "--bound x: expected a whole number"),
        (["explore", "CASE", "--jobs", "0"], "--jobs 0: expected a whole number"),
        (["explore", "CASE", "--resume"], "--resume: no checkpoint of this scenario"),
        (["explore", "CASE", "--json", "no/such/out.json"], "does not exist"),
        (["explore", "BAD"], "line 1, column 1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    case: Callable[[str], Path], capsys: pytest.CaptureFixture[str],
    arguments: list[str], said: str,
):
    path = case("cleanrace 1\nmicro\nthread store 3\n")
    bad = path.with_name("bad.litmus")
    bad.write_text("nothing\n")
    files = {"CASE": str(path), "BAD": str(bad)}
    assert command_line.main([files.get(word, word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.long
def test_a_worker_that_dies_costs_a_slice(
    case: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    """Each part's second slice is killed."""
    monkeypatch.setattr(explore, "FIRST_SECONDS", 0.02)
    path = case(LONG)
    whole = explored(path, "--jobs", "2")[1]
    give, killed = executor.Processes.give, []

    def kills(self: executor.Processes, worker: Any, unit: executor.Unit) -> None:
        part = unit.arguments["how"]["part"]
        if unit.arguments["checkpoint"] and part not in killed:
            os.kill(worker.process.pid, signal.SIGKILL)
            killed.append(part)
        give(self, worker, unit)

    monkeypatch.setattr(executor.Processes, "give", kills)
    status, found = explored(path, "--jobs", "2")
    assert (status, sorted(killed)) == (0, [0, 1])
    for name in ("done", "executions", "classes", "states", "violations", "races"):
        assert found[name] == whole[name], name


def test_workers_that_all_die_are_a_failure_of_the_harness(
    case: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    start, killed = executor.Processes.start, []

    def kills(self: executor.Processes) -> Any:
        member = start(self)
        os.kill(member.process.pid, signal.SIGKILL)
        killed.append(member)
        return member

    monkeypatch.setattr(executor.Processes, "start", kills)
    status, found = explored(case(UNMOUNT))
    assert (status, len(killed)) == (3, 2)
    assert "SIGKILL" in found["failed"]
