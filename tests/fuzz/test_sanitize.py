# SPDX-License-Identifier: GPL-2.0-only
"""Corpus and random scenarios under the sanitizers: clean, and real reports are told."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build
import cleanrace
from cleanrace import Scenario, Target
from fuzz import command, corpus, sanitize, tsan

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reports keep goes with the test."""
    monkeypatch.setattr(sanitize, "folder", lambda: tmp_path / "kept")


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Call it with the body of main() and a sanitizer: a program with a fault of its own."""

    def make(body: str, sanitizer: str) -> Path:
        source, program = tmp_path / "replay.c", tmp_path / "replay-faulty"
        source.write_text(f"#include <stdio.h>\n#include <stdlib.h>\n"
                          f"int main(int argc, char **argv)\n{{\n{body}\n}}\n")  # fmt: skip
        flags = ["-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        subprocess.run(["gcc", *flags, source, "-o", program], check=True)
        return program

    return make


def test_all_that_is_replayed_is_clean(run: Callable[..., Any]) -> None:
    done = run("run.py", "sanitize", "--target", "reference", "--random", "1000", "--seed", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if line[0] in ("asan", "tsan") and len(line) == 5]
    assert [row[:2] for row in rows] == [["asan", "corpus"], ["asan", "random"],
                                         ["tsan", "corpus"], ["tsan", "random"]]  # fmt: skip
    assert [row[2] for row in rows][1::2] == ["1,000", "2"]
    assert all(int(row[2]) > 40 for row in rows[::2])
    assert {row[4] for row in rows} == {"0"}
    assert "UndefinedBehaviorSanitizer in one program" in done.stdout


def test_each_case_with_a_verdict_is_replayed_by_a_schedule_that_shows_it(real: Target) -> None:
    """So that the sanitizers see what goes wrong, and not only what goes well."""
    cases = {path.parent.name if path.stem == "scenario" else path.stem: cleanrace.Case.read(path)
             for path in corpus.paths()}  # fmt: skip
    listed = list(sanitize.inputs(real))
    assert len({one.name for one in listed}) == len(listed)
    violating = [one for one in listed if cases[one.name].expect != "ok"]
    assert len(violating) > 40
    missed = []
    for one in violating:
        case = cases[one.name]
        size = len(case.scenario.to_bytes())
        result = cleanrace.run(
            real, case.scenario, one.data[size:], steps_max=case.steps_max, judged=case.judged,
            planted=real.named("planted", one.planted),
        )  # fmt: skip
        if case.expect not in result.verdicts:
            missed.append(one.name)
    assert missed == []


def test_an_error_of_memory_is_a_report(compiled: Callable[..., Path], tmp_path: Path) -> None:
    program = compiled("char *p = malloc(4); free(p); return p[argc];", "address")
    one = sanitize.Input(name="a case", data=b"abc", ends="digest 1")
    reports = sanitize.asan_corpus(program, [one], jobs=1)
    assert len(reports) == 1
    assert reports[0].summary.startswith("SUMMARY: AddressSanitizer: heap-use-after-free")
    assert "replay.c:5" in reports[0].text
    file = Path(reports[0].again.split()[1])
    assert file.read_bytes() == b"abc"
    assert file.parent == tmp_path / "kept"
    assert Path(f"{file}.txt").read_text() == reports[0].text
    assert len(sanitize.asan_random(program, 9, 1, jobs=1)) == sanitize.BATCHES


def test_undefined_behaviour_is_a_report(compiled: Callable[..., Path]) -> None:
    program = compiled("printf(\"%d\\n\", 1 << (argc + 30)); puts(\"digest 1\"); return 0;",
                       "undefined")  # fmt: skip
    one = sanitize.Input(name="a case", data=b"abc", ends="digest 1")
    reports = sanitize.asan_corpus(program, [one], jobs=1)
    assert ["runtime error: shift exponent" in report.summary or
            "runtime error: left shift" in report.summary for report in reports] == [True]


def test_a_trace_that_differs_is_a_report(real: Target) -> None:
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\n")
    program = Path(real.info["program"])
    right = f"digest {cleanrace.run(real, scenario).digest:016x}"
    for ends, count in ((right, 0), ("digest 0123456789abcdef", 1)):
        one = sanitize.Input(name="a case", data=scenario.to_bytes(), ends=ends)
        reports = sanitize.asan_corpus(program, [one], jobs=1)
        assert len(reports) == count
    assert reports[0].summary.startswith("another trace: ")


def test_a_program_that_dies_is_a_report(tmp_path: Path) -> None:
    program = tmp_path / "replay-dying"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    one = sanitize.Input(name="a case", data=b"abc")
    reports = sanitize.asan_corpus(program, [one], jobs=1)
    assert [report.summary for report in reports] == ["status -11, it ended with ''"]


RACE = Scenario.from_text(
    "cleanrace 1\nfs a local\nthread register 0; read a 0 0; unmount a\n"
    "thread mount a; write a 0 0; reclaim a 0 0; read a 0 0; unmount a\n"
    "thread mount a; read a 0 0; writeback a 0 0; remount a; truncate a 0 0\n"
)


def test_races_of_the_kernel_are_known_only_where_our_detector_lists_them(
    real: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = build.program(real.name, flavour="tsan")
    known, reports = sanitize.tsan_scenarios(program, real, [RACE], 1, jobs=1)
    assert reports == []
    plain = {pair for pair in known if not tsan.is_marked(pair)}
    assert plain
    monkeypatch.setattr(tsan, "detect", lambda *_, **__: set())
    known, reports = sanitize.tsan_scenarios(program, real, [RACE, RACE], 1, jobs=1)
    assert all(map(tsan.is_marked, known))
    assert reports
    assert len({report.summary for report in reports}) == len(reports)
    assert all("our detector does not list" in report.summary for report in reports)


def test_what_is_no_race_of_the_kernel_is_a_report(real: Target) -> None:
    code = tsan.code_of(build.program(real.name, flavour="tsan"), real)
    outside = code.start + code.bytes + 0x10
    frame = f"    #0 <null> <null> (replay-tsan+{outside:#x})\n\n"
    lost = "    [failed to restore the stack]\n\n"
    race = ("WARNING: ThreadSanitizer: data race (pid=1)\n"
            f"  Write of size 4 at 0x1 by thread T2:\n{frame}"
            "  Previous read of size 4 at 0x1 by thread T1:\n{}"
            "SUMMARY: ThreadSanitizer: data race in engine\n")  # fmt: skip
    assert sanitize.races(race.replace("{}", lost), code) == (set(), [])
    assert sanitize.races(race.replace("{}", frame), code) == (
        set(), ["SUMMARY: ThreadSanitizer: data race in engine"])
    assert sanitize.races("WARNING: ThreadSanitizer: heap-use-after-free (pid=1)\n", code)[1]
    assert sanitize.races("Segmentation fault\n", code) == (set(), ["Segmentation fault"])
    assert sanitize.races("", code) == (set(), [])


def test_a_machine_without_threadsanitizer_is_status_2_and_no_report(
    real: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "replay-tsan"
    program.write_text("#!/bin/sh\necho \"$SAID\" >&2\nexit 66\n")
    program.chmod(0o755)
    monkeypatch.setattr(tsan, "code_of", lambda *_: None)
    monkeypatch.setenv("SAID", "FATAL: ThreadSanitizer: unexpected memory mapping")
    with pytest.raises(tsan.TsanError, match="unexpected memory mapping"):
        sanitize.tsan_scenarios(program, real, [RACE], 1, jobs=1)
    monkeypatch.setenv("SAID", "died")
    _, reports = sanitize.tsan_scenarios(program, real, [RACE], 1, jobs=1)
    assert [report.summary for report in reports] == [f"{program} ended with status 66: died"]


def test_wrong_numbers_are_status_2(run: Callable[..., Any]) -> None:
    done = run("run.py", "sanitize", "--random", "many")
    assert done.returncode == 2
    assert done.stderr.startswith("run.py: --random many: expected a whole number")


def test_a_report_is_told_once_and_with_its_command(
    real: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [sanitize.Report(name=name, summary="SUMMARY: bad", text="", again=f"play {name}")
               for name in ("one", "two", "three")]  # fmt: skip
    row = sanitize.Row(flavour="asan", what="corpus", reports=reports)
    sanitize.print_rows(command.console(), real, [row])
    said = capsys.readouterr().out
    assert "asan, one: SUMMARY: bad (and 2 more such)\n  play one\n" in said
    assert "two" not in said
    assert "tsan plays" in said
    clang = Target(real.info | {"compiler": "Debian clang version 14.0.6"})
    sanitize.print_rows(command.console(), clang, [row])
    assert "tsan was not played: it needs gcc" in capsys.readouterr().out
