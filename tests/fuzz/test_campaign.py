# SPDX-License-Identifier: GPL-2.0-only
"""A campaign executes what it says, keeps what it finds, and fails when it is blind."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Target
from fuzz import (
    campaign,
    corpus,
    keeping,
    minimise,
    pool,
    premises,
    report,
    shelf,
    store,
)
from fuzz import run as program

METHODS = ["random", "atheris", "hypothesis"]


def workers(marker: str) -> list[int]:
    """Worker processes that have this mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            marked = marker.encode() in (entry / "environ").read_bytes()
            if marked and b"worker.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # no process, or one that just ended
    return found


@pytest.mark.long
def test_a_campaign_on_the_control_finds_nothing_and_says_what_ran(
    run: Callable[..., Any], control: Target, tmp_path: Path
):
    out = tmp_path / "out.json"
    done = run(
        "run.py", "--target", "reference", "--time", "6", "--seed", "3", "--json", str(out),
        "--findings", str(tmp_path / "findings"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no finding in" in done.stdout
    assert "the space was not exhausted" in done.stdout
    assert "init at least once: held, no super block was missed (init-missing 0)" in done.stdout
    assert "init at most once: held (init-twice 0)" in done.stdout
    assert not (tmp_path / "findings").exists()
    said = json.loads(out.read_text())
    assert said["target"] == {
        "name": "reference",
        "version": control.version,
        "kind": "reference",
        "sha256": control.sha256,
        "build_id": control.build_id,
        "compiler": control.info["compiler"],
        "notice": None,
    }
    assert (said["status"], said["interrupted"], said["failures"]) == (0, False, [])
    assert said["planted"]["found"]
    rows = {row["method"]: row for row in said["methods"]}
    for method in METHODS:
        assert rows[method]["schedules"] > 0, method
        assert rows[method]["inputs"] > 0, method
        assert rows[method]["seconds"] > 0, method
        assert f"{rows[method]['schedules']:,}" in done.stdout
    assert said["schedules"] == sum(row["schedules"] for row in said["methods"])
    assert 0 < said["interleavings"] <= said["schedules"]
    assert said["schedules_per_second_per_core"] > 1000
    assert 50 < said["coverage"]["edges_seen"] <= said["coverage"]["edges_total"]
    assert said["marks"]["registration-met"] > 0
    assert said["findings"] == []
    assert said["replay"]["cases"] == said["replay"]["met"]
    for command in said["next"]:
        assert command in done.stdout


def test_a_campaign_keeps_new_findings_that_replay_exactly(
    run: Callable[..., Any], control: Target, tmp_path: Path
):
    out = tmp_path / "out.json"
    done = run(
        "run.py", "--target", "reference", "--planted", "c", "--time", "5", "--json", str(out),
        "--findings", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(out.read_text())
    assert said["status"] == 1
    assert said["findings"]
    for finding in said["findings"]:
        assert finding["new"]
        path = Path(finding["path"])
        case = Case.read(path)
        assert case.to_text() == path.read_text()
        if path.name == shelf.SCENARIO:
            entry = shelf.read(path.parent)
            assert entry.folder.parent == tmp_path
            assert minimise.family_of(entry.meta.signature) == finding["signature"]
            assert entry.meta.status == "open"
        else:
            assert path.parent == tmp_path / shelf.PENDING / "reference+c"
        result = keeping.replayed(control, case)
        assert case.expect in result.verdicts
        assert f"{result.digest:016x}" == case.found["digest"]
        assert set(finding["methods"]) <= {"replay", "minimise", *METHODS}
    for row in said["methods"]:
        met = [finding for finding in said["findings"] if row["method"] in finding["methods"]]
        assert row["findings_new"] == len(met), row["method"]
    assert "VIOLATED in" in done.stdout
    assert "of reference with planted bug c" in done.stdout
    assert said["next"][-1].endswith(" --planted c")
    verdicts = {finding["verdict"] for finding in said["findings"]}
    assert verdicts & {"init-missing", "init-twice"}
    replayed = run("run.py", "replay", said["findings"][0]["path"], "--target", "reference")
    again = run("run.py", "replay", said["findings"][0]["path"], "--target", "reference")
    assert replayed.returncode == again.returncode == 1
    assert replayed.stdout == again.stdout
    assert "replayed exactly: digest" in replayed.stdout


def test_ctrl_c_leaves_a_summary_and_no_orphan(launch: Callable[..., Any], tmp_path: Path):
    marker = f"cleanrace-test-{os.getpid()}-{time.monotonic_ns()}"
    out = tmp_path / "out.json"
    process = launch(
        "run.py", "--target", "reference", "--time", "80", "--json", str(out),
        "--findings", str(tmp_path), env={"MARKER": marker},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("random"):
            break
    while not workers(marker):
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=300)
    assert process.returncode == 0, rest + errors
    assert "interrupted: this is what was done so far" in rest
    assert "no finding in" in rest
    assert "Traceback" not in rest + errors
    assert workers(marker) == []
    said = json.loads(out.read_text())
    assert said["interrupted"]
    assert said["schedules"] > 0


@pytest.mark.long
def test_workers_die_with_a_parent_that_was_killed(launch: Callable[..., Any], tmp_path: Path):
    marker = f"cleanrace-test-{os.getpid()}-{time.monotonic_ns()}"
    process = launch(
        "run.py", "--target", "reference", "--time", "80", "--findings", str(tmp_path),
        env={"MARKER": marker},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("random"):
            break
    while not workers(marker):
        time.sleep(0.05)
    time.sleep(1.0)
    process.kill()
    process.communicate(timeout=300)
    end = time.monotonic() + 20
    while workers(marker) and time.monotonic() < end:
        time.sleep(0.05)
    assert workers(marker) == []


def test_a_blind_search_is_status_3_and_runs_nothing_else(
    control: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def blind(_target: Target) -> premises.Hit:
        return premises.Hit(premise="c", found=False, scenario="", schedules=7, seconds=1.0)

    monkeypatch.setattr(premises, "canary", blind)
    assert program.main(["--target", control.name, "--time", "5"]) == 3
    said = capsys.readouterr().out
    assert "HARNESS FAILED: the planted bug c was not found in 7 schedules" in said


def broken_campaign(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker: str
) -> campaign.Report:
    """A campaign whose workers are another program."""
    path = tmp_path / "worker.py"
    path.write_text(worker)
    monkeypatch.setattr(pool, "PROGRAM", path)
    options = campaign.Options(seconds=2.0, jobs=1, findings=tmp_path)
    return campaign.Campaign(target, options).run()


def test_a_worker_that_crashes_is_status_3_and_says_where(
    control: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    done = broken_campaign(
        control, monkeypatch, tmp_path,
        'import os\nprint(\'{"at": {"scenario": "0a"}}\', flush=True)\nos.abort()\n',
    )  # fmt: skip
    assert done.status == 3
    assert any("died, SIGABRT" in line and "scenario 0a" in line for line in done.broken)


def test_a_method_that_executes_nothing_is_status_3(
    control: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    done = broken_campaign(control, monkeypatch, tmp_path, "print('{\"done\": true}')\n")
    assert done.status == 3
    assert {f"nothing was executed by the method {method}" for method in METHODS} <= set(
        done.broken
    )


def test_a_known_finding_is_not_new(control: Target, tmp_path: Path):
    summary = cleanrace.search(
        control, premises.MAIN, schedules=10**6, planted=("c",), judged=("init-missing",),
        stop_on=("init-missing",),
    )  # fmt: skip
    finding = store.examine(
        control, premises.MAIN, "init-missing", schedule=summary.first["init-missing"],
        planted=("c",),
    )  # fmt: skip
    minimal = minimise.Minimiser(control).minimise(finding)
    kept = keeping.put(control, minimal, root=tmp_path / "findings")
    path = kept.entry.folder / shelf.SCENARIO
    options = campaign.Options(seconds=1.0, planted=("c",), findings=tmp_path / "findings")
    made = campaign.Campaign(control, options)
    made.report.rows["random"] = campaign.Row(method="random")
    made.report.rows["replay"] = campaign.Row(method="replay")
    made.met(finding, "random")
    made.met(finding, "random")
    made.met(finding, "replay")
    assert made.report.status == 0
    assert made.report.rows["replay"].known == 1
    assert [found.path for found in made.report.known] == [path]
    other = store.Finding.from_json(finding.to_json() | {"signature": "init-missing elsewhere"})
    made.met(other, "random")
    assert made.report.status == 1
    assert made.report.rows["random"].new == made.report.rows["random"].known == 1
    said = report.to_json(made.report, command=[])
    assert [found["new"] for found in said["findings"]] == [True, False]
    assert [found["methods"] for found in said["findings"]] == [["random"], ["random", "replay"]]


def test_a_case_that_plants_its_bug_and_misses_it_is_status_3(control: Target):
    made = campaign.Campaign(control, campaign.Options())
    made.report.interrupted = True
    missed = {"path": "a.litmus", "applies": True, "met": False, "complete": True}
    made.report.outcomes.append(missed | {"ours": False, "expect": "pool-leak"})
    made.judge()
    assert made.report.broken == []
    made.report.outcomes.append(missed | {"ours": True, "expect": "pool-leak"})
    made.judge()
    assert made.report.status == 3


def test_an_interrupt_before_anything_ran_is_no_success(
    control: Target, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(_target: Target) -> premises.Hit:
        raise KeyboardInterrupt

    monkeypatch.setattr(premises, "canary", interrupted)
    done = campaign.Campaign(control, campaign.Options(seconds=1)).run()
    assert (done.interrupted, done.summary.schedules, done.status) == (True, 0, 130)
    done.rows["random"] = campaign.Row(method="random", summary=cleanrace.Summary(schedules=1))
    assert done.status == 0


def test_a_stand_in_is_announced_loudly(control: Target, capsys: pytest.CaptureFixture[str]):
    stand_in = Target(control.info | {"notice": "no kernel source, the reference stands in"})
    done = campaign.Report(target=stand_in, options=campaign.Options())
    report.print_report(program.console(), done)
    out = capsys.readouterr().out
    assert "NOTICE: no kernel source, the reference stands in" in out
    assert report.to_json(done, command=[])["target"]["notice"] in out


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("broken c\nexpect init-missing\n", True),
        ("expect init-missing\nwithin 2000\n", False),
        ("within 2000\n", True),
        ("broken c\nwithin 20000\n", False),
    ],
)
def test_replaying_a_case_does_what_its_expectation_says(control: Target, text: str, *, met: bool):
    case = Case.from_text(
        f"cleanrace 1\n{text}fs a local\nthread register 0\nthread mount a\nthread mount a\n"
    )
    outcome = corpus.replay(Path("case"), case, control)
    assert outcome.met == met
    assert outcome.complete
    assert outcome.ours == bool(case.broken)


def test_a_hint_of_the_thread_engine_is_kept_apart(control: Target, tmp_path: Path):
    made = campaign.Campaign(control, campaign.Options(findings=tmp_path, engine="thread"))
    scenario = premises.MAIN.to_bytes().hex()
    made.hinted({"verdict": "init-twice", "scenario": scenario, "schedules": 100})
    folder = tmp_path / shelf.PENDING / "reference" / "unreproduced"
    path = folder / "init-twice-mount+register.litmus"
    case = Case.read(path)
    assert (case.expect, case.within, case.tape) == ("init-twice", 100, b"")
    assert made.report.status == 0
    assert made.report.hints[0]["path"] == str(path)


@pytest.mark.long
def test_the_thread_engine_runs_a_campaign(run: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "out.json"
    done = run(
        "run.py", "--target", "reference", "--engine", "thread", "--time", "4", "--json",
        str(out), "--findings", str(tmp_path / "findings"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    rows = {row["method"]: row for row in said["methods"]}
    assert said["engine"] == "thread"
    assert rows["random"]["schedules"] > 0


def test_ctrl_c_leaves_the_premises_that_were_searched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    searched = len(premises.SCENARIOS) + 1

    def cut(*args: Any, **options: Any) -> premises.Hit:
        if cut.left == 0:
            raise KeyboardInterrupt
        cut.left -= 1
        return real(*args, **options)

    real, cut.left = premises.broken, searched
    monkeypatch.setattr(premises, "broken", cut)
    monkeypatch.setattr(premises, "OTHER_SECONDS", 0.01)
    out = tmp_path / "premises.json"
    assert program.main(["premises", "--target", "reference", "--json", str(out)]) == 130
    said = capsys.readouterr()
    assert [s["broken"] for s in json.loads(out.read_text())["searches"]] == ["a"] * 4 + ["b"]
    assert f"what was done so far, {searched} of {premises.SEARCHES} searches" in said.out
    assert "premise a broken" in said.out
    assert "premise c broken" not in said.out
    assert "HARNESS FAILED" not in said.out
    assert said.err == "run.py: interrupted\n"


def test_premises_finds_each_broken_one_and_shows_its_race(run: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "premises.json"
    done = run("run.py", "premises", "--target", "linux-5.10", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    searches = json.loads(out.read_text())["searches"]
    main = premises.SCENARIOS[0][0]
    for premise in premises.PREMISES:
        hit = next(s for s in searches if s["broken"] == premise and s["scenario"] == main)
        assert hit["found"], premise
        assert hit["hits_per_second_per_core"] > 0
    whole = [search for search in searches if search["broken"] is None]
    assert len(whole) == len(premises.SCENARIOS)
    for search in whole:
        assert not search["found"]
        assert search["schedules"] > 1000
    assert max(map(len, done.stdout.splitlines())) < 200
    tables = [line for line in done.stdout.splitlines() if line.startswith(" step")]
    assert len(tables) == len(premises.PREMISES)
    assert done.stdout.count("> register 0") == len(premises.PREMISES)
    assert done.stdout.count("__cleancache_init_fs:") >= len(premises.PREMISES)
    sentences = [f"\n{verdict}: " for verdict in premises.JUDGED]
    assert sum(map(done.stdout.count, sentences)) == len(premises.PREMISES)


def test_a_premise_that_is_not_found_is_named():
    def hit(premise: str | None, *, found: bool) -> premises.Hit:
        return premises.Hit(premise=premise, found=found, scenario="", schedules=1, seconds=0.1)

    hits = [hit("a", found=True), *[hit("b", found=False)] * (len(premises.SCENARIOS) - 1)]
    assert premises.blind(hits) == []  # cut short
    assert premises.blind([*hits, hit("b", found=False)]) == ["b"]
    assert premises.blind([*hits, hit("b", found=True)]) == []
