# SPDX-License-Identifier: GPL-2.0-only
"""The verb `prove`: the same certificate however it came about, and what stands in it."""

import contextlib
import io
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
from fuzz import certificate, executor, prove, scenarios
from fuzz import run as command_line

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATES = ROOT / "corpus" / "certificates"
SAMPLE = 20
TINY = "1/2/1/0"


def proved(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status and the certificate of a run in this process."""
    path = folder / f"certificate-{len(list(folder.iterdir()))}.json"
    status = command_line.main(
        ["prove", "--certificate", str(path), "--findings", str(folder / "found"), *arguments]
    )
    return status, path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder, the certificate and the output of a proof of the tiny bound."""
    folder = tmp_path_factory.mktemp("tiny")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status, text = proved(folder, "--bound", TINY, "--jobs", "1")
    assert status == 1
    return folder, text, out.getvalue()


def test_a_certificate_says_what_was_proved(real: Target, tiny: tuple[Path, str, str]):
    _, text, out = tiny
    found = json.loads(text)
    shapes = scenarios.uncovered(scenarios.within(scenarios.parse(TINY)))
    lines = [scenarios.line(scenarios.scenario(shape)) for shape in shapes]
    assert [row[0] for row in found["scenarios"]] == lines
    assert found["target"]["sha256"] == real.sha256
    assert found["target"]["compiler"] == real.info["compiler"]
    assert found["target"]["flags"] == real.info["flags"]
    assert found["again"] == f"python fuzz/run.py prove --target linux-5.10 --bound {TINY}"
    violated = {name for name, one in found["properties"].items() if not one["holds"]}
    assert violated == {"init-twice", "pool-leak"}
    assert "data-race" not in found["properties"]
    assert "overflow" not in found["properties"]
    columns = ["scenario", "executions", "classes", "states", "blocked", "violations"]
    assert found["columns"] == columns
    for column, name in enumerate(columns[1:-1], 1):
        assert found["totals"][name] == sum(row[column] for row in found["scenarios"])
    assert all(row[1] > 0 for row in found["scenarios"])
    assert "VIOLATED" in out
    assert "corpus/findings/init-twice-remount+mount/scenario.litmus" in out
    assert certificate.text(found) == text


def test_a_counterexample_is_the_smallest(real: Target, tiny: tuple[Path, str, str]):
    folder, text, _ = tiny
    found = json.loads(text)
    example = found["properties"]["init-twice"]["counterexample"]
    assert example["scenario"] == "fs a local / thread register 0 / thread mount a; remount a"
    assert example["preemptions"] == 0
    case = Case.read(folder / "found" / "linux-5.10" / example["file"])
    assert scenarios.line(case.scenario) == example["scenario"]
    result = cleanrace.run(real, case.scenario, bytes(example["tape"]))
    assert "init-twice" in result.verdicts


def test_neither_processes_nor_their_deaths_show(
    tiny: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard, killed = executor.Processes._heard, []

    def kills(self: executor.Processes, member: Any, message: dict[str, Any]) -> None:
        heard(self, member, message)
        if "answer" in message and not killed:
            killed.append(member.process.pid)
            os.kill(member.process.pid, signal.SIGKILL)

    monkeypatch.setattr(executor.Processes, "_heard", kills)
    status, again = proved(tmp_path, "--bound", TINY, "--jobs", "2")
    assert status == 1
    assert len(killed) == 1
    assert again == tiny[1]


def test_a_scenario_that_kills_two_workers_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    give, killed = executor.Processes.give, []

    def kills(self: executor.Processes, worker: Any, unit: executor.Unit) -> None:
        if worker.process.pid not in killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        give(self, worker, unit)

    monkeypatch.setattr(executor.Processes, "give", kills)
    status, text = proved(tmp_path, "--bound", "1/1/0/0", "--jobs", "1")
    assert (status, text, len(killed)) == (3, "", 2)
    out = " ".join(capsys.readouterr().out.split())
    assert "HARNESS FAILED: prove: a worker (units) died, SIGKILL; it was at scenario fs a" in out


@pytest.mark.long
def test_a_killed_run_goes_on_to_the_same_certificate(
    real: Target,
    tmp_path: Path,
    launch: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
):
    bound = "1/2/0/1"
    options = prove.Options(bound=bound)
    path = prove.Proving(real, options, lambda _: None).path
    path.unlink(missing_ok=True)
    process = launch("run.py", "prove", "--bound", bound, "--jobs", "1", "--findings", tmp_path)
    while not path.exists() or path.read_text().count("\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = path.read_text().count("\n")
    with path.open("a") as file:
        file.write('{"scenario": "cut sh')
    capsys.readouterr()
    status, resumed = proved(tmp_path, "--bound", bound, "--resume")
    assert status == 1
    out = capsys.readouterr().out
    assert f" s, and what came before: {done:,} scenarios were done already\n" in out
    assert "executions/s" not in out
    assert path.read_text().count("\n") > done
    assert proved(tmp_path, "--bound", bound) == (1, resumed)


def test_batches_are_whole_and_smaller_at_the_end():
    big = [f"fs {at} / thread a; b; c / thread d; e; f / thread g; h" for at in range(4)]
    small = [f"fs {at} / thread a / thread b; c" for at in range(1000)]
    assert (prove.effort(big[0]), prove.effort(small[0])) == (560, 3)
    cut = list(prove.batches([*small, *big], 32, 2))
    assert sorted(line for batch in cut for line in batch) == sorted([*big, *small])
    assert cut[:4] == [[line] for line in big]
    assert {len(batch) for batch in cut[4:-1]} == {32}
    many = list(prove.batches([*small, *big], 32, 100))
    assert [len(batch) for batch in many[:4]] == [1] * 4
    assert {len(batch) for batch in many[4:-1]} == {32}  # of 3 each: less is not worth a unit
    halves = list(prove.batches(small, 1000, 1))
    assert (len(halves[0]), len(halves[-2])) == (125, 85)
    assert sorted(map(len, halves), reverse=True) == list(map(len, halves))
    assert list(map(len, prove.batches(small, 1, 2))) == [1] * 1000


def journalled(path: Path, *, resume: bool = True) -> list[str]:
    journal = prove.Journal(path, resume=resume)
    journal.file.close()
    return list(journal.results)


def test_a_damaged_line_of_a_journal_is_lost_and_no_other(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    result: dict[str, Any] = {
        "executions": 1, "classes": 1, "states": 1, "blocked": 0, "violations": {},
        "approximate": False, "steps": 3, "promoted": [], "marks": [], "races": [],
    }
    journal = prove.Journal(path, resume=False)
    for name in "abcde":
        journal.add({"scenario": name} | result)
    journal.file.close()
    lines = path.read_bytes().splitlines()
    lines[1] = lines[1].replace(b'"b"', b'"\xff"')
    lines[2] = b"{}"
    lines[3] = lines[3].replace(b'"steps": 3', b'"steps": "3"')
    path.write_bytes(b"\n".join(lines)[:-7])
    assert journalled(path) == ["a"]
    assert journalled(path) == ["a"]
    assert journalled(path, resume=False) == []


def test_a_kill_while_a_journal_is_read_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "journal.jsonl"
    path.write_text("{}\n")

    def killed(file: Path, _text: str) -> None:
        assert file == path
        assert path.read_text() == "{}\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(prove.store, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        prove.Journal(path, resume=True)
    assert path.read_text() == "{}\n"


def test_the_time_ends_it_without_a_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status, text = proved(tmp_path, "--bound", "2/3/1/0", "--time", "0.5", "--jobs", "1")
    assert (status in (1, 3), text) == (True, "")
    assert "not finished; to go on" in capsys.readouterr().out


def test_every_property_holds_in_the_reference(tmp_path: Path):
    status, text = proved(tmp_path, "--bound", TINY, "--target", "reference")
    assert status == 0
    assert all(one["holds"] for one in json.loads(text)["properties"].values())


def test_more_threads_meet_more(real: Target):
    """Reclaim beside an unmount: both in one thread never meet."""
    threads = "thread register 0 / thread mount a; unmount a / thread read a 0 0; reclaim a 0 0"
    line = f"fs a local / {threads}"
    apart = scenarios.within(scenarios.parse("1/1/1/2:apart"))
    assert line in map(scenarios.line, map(scenarios.scenario, apart))
    assert "pool-dead" in cleanrace.explore(real, scenarios.from_line(line)).violations


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bound", "huge"], "--bound huge: expected default"),
        (["--bound", "1/2/3/9"], "--bound 1/2/3/9: expected 0 to 4 pages"),
        (["--jobs", "0"], "--jobs 0: expected a whole number"),
        (["--time", "x"], "--time x: expected a number"),
        (["--certificate", "no/such/out.json"], "does not exist"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    assert command_line.main(["prove", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.long
def test_committed_certificates_hold(real: Target):
    """Some of their scenarios, chosen by hash, give the same numbers again."""
    paths = sorted(CERTIFICATES.glob("*.json"))
    assert [path.stem for path in paths] == ["linux-5.10"]
    for path in paths:
        text = path.read_text()
        found = json.loads(text)
        assert certificate.text(found) == text
        assert found["target"]["sha256"] == real.sha256
        shapes = scenarios.within(scenarios.parse(found["bound"]["rows"]))
        assert len(shapes) == found["bound"]["scenarios"]
        lines = [scenarios.line(scenarios.scenario(s)) for s in scenarios.uncovered(shapes)]
        assert [row[0] for row in found["scenarios"]] == lines
        assert certificate.differences(real, certificate.sample(found, SAMPLE)) == []
