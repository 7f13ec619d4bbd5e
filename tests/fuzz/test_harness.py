# SPDX-License-Identifier: GPL-2.0-only
"""The Atheris harness: native counters guide it, and it finds a planted bug from nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cleanrace
from cleanrace import Case, Target
from fuzz import harness, premises, store

TARGET = ("--target", "reference")


def test_it_finds_a_broken_premise_from_an_empty_corpus(
    run: Callable[..., Any], control: Target, tmp_path: Path
):
    done = run(
        "harness.py", *TARGET, "--planted", "c", "--no-seeds", "--findings", str(tmp_path),
        "-runs=25000", "-seed=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Done 25000 runs" in done.stderr
    count = len(list(tmp_path.glob(".pending/reference+c/*.litmus")))
    assert f"so far {count} new, 0 known findings" in done.stderr
    assert done.stderr.endswith(f"cleanrace: {count} new, 0 known findings\n")
    found = sorted(tmp_path.glob(".pending/reference+c/init-*.litmus"))
    assert found
    for path in found:
        case = Case.read(path)
        assert case.broken == {"c"}
        result = cleanrace.run(
            control, case.scenario, case.tape, planted=("c",), judged=(case.expect,)
        )
        assert result.verdict == case.expect
        assert f"{result.digest:016x}" == case.found["digest"]


def test_native_counters_grow(run: Callable[..., Any], tmp_path: Path):
    done = run("harness.py", *TARGET, "-runs=6000", "-seed=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = [int(number) for number in re.findall(r" cov: (\d+) ", done.stderr)]
    features = [int(number) for number in re.findall(r" ft: (\d+) ", done.stderr)]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] + 50
    assert features[-1] > 2 * features[0]
    assert "inline 8-bit counters" in done.stderr
    assert re.search(r"MS: \d+ .*Custom-", done.stderr), "our mutator was never called"


def test_the_control_has_no_finding(run: Callable[..., Any], tmp_path: Path):
    done = run(
        "harness.py", *TARGET, "--findings", str(tmp_path / "findings"), "-runs=6000", "-seed=2",
        "-nonsense=1", cwd=tmp_path,
    )  # fmt: skip
    assert "finding:" not in done.stderr
    assert done.stderr.endswith("cleanrace: 0 new, 0 known findings\n")
    assert "WARNING: unrecognized flag '-nonsense=1'" in done.stderr
    assert not (tmp_path / "findings").exists()


def test_crash_ends_at_the_first_violation_and_keeps_the_input(
    run: Callable[..., Any], tmp_path: Path
):
    done = run(
        "harness.py", *TARGET, "--planted", "c", "--crash", "--findings",
        str(tmp_path / "findings"), "-runs=100000", "-seed=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Done 100000 runs" not in done.stderr
    artifacts = list(tmp_path.glob("crash-*"))
    assert len(artifacts) == 1
    again = run(
        "harness.py", *TARGET, "--planted", "c", "--crash", "--findings",
        str(tmp_path / "findings"), str(artifacts[0]), cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode != 0


def test_processes_that_libfuzzer_starts_run_the_target(run: Callable[..., Any], tmp_path: Path):
    """-merge starts the harness again: if that failed, no input would seem worth keeping."""
    given, kept = tmp_path / "given", tmp_path / "kept"
    given.mkdir()
    kept.mkdir()
    for number, data in enumerate([premises.MAIN.to_bytes(), premises.MAIN.to_bytes() + b"\1"]):
        (given / str(number)).write_bytes(data)
    done = run(
        "harness.py", *TARGET, "--findings", str(tmp_path), "-merge=1", str(kept), str(given),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(kept.iterdir())) == 2
    assert re.search(r"2 new files with [1-9]\d+ new features", done.stderr), done.stderr


def test_options_of_libfuzzer_pass_through(tmp_path: Path):
    given = ["-runs=5", "-help=1", "-handle_int=0", str(tmp_path), "-max_len=9"]
    own, rest = harness.parse(["--planted", "b", *given])
    assert own.planted == ["b"]
    assert rest == given


def test_a_wrong_option_is_status_2(run: Callable[..., Any], tmp_path: Path):
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (["--planted", "zz"], "--planted zz: expected one of a, b, c, d"),
        (["--frobnicate"], "no such option: --frobnicate"),
        (["--runs=5"], "no such option: --runs=5; libFuzzer's begin with a single dash"),
        (["-runs=5", "no-such"], "no-such: there is no such corpus folder"),
        (["--findings", "file"], "--findings file: it is not a folder"),
    ):
        done = run("harness.py", *arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("harness.py: ")
    unknown = run("harness.py", "--target", "no-such", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "no-such" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_micro_scenarios_are_no_findings(control: Target):
    found: list[store.Finding] = []
    made = harness.Harness(control, found=found.append)
    unlock = cleanrace.Scenario.from_text("cleanrace 1\nmicro\nthread unlock 0\n")
    assert cleanrace.run(control, unlock).verdict == "lock-misuse"
    made.one(unlock.to_bytes())
    assert made.inputs == 1
    assert found == []
    assert made.own.schedules == 0
    made.one(premises.MAIN.to_bytes())
    assert made.own.schedules == 1


def test_it_starts_without_future_imports():
    text = Path(harness.__file__).read_text()
    assert "from __future__" not in text
    assert harness.WRAPPER.stat().st_mode & 0o111
