# SPDX-License-Identifier: GPL-2.0-only
"""An exported finding is a C program of its own: built by the printed command, it shows it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

import build
from cleanrace import Case, Target
from fuzz import bisecting, export
from fuzz import run as program

PREMISE_C = """\
cleanrace 1
title a title with /* and */ in it, and a "quote" \\
broken c
expect init-missing
fs a local
thread register 0
thread mount a
"""
EMPTY_TAPE = """\
cleanrace 1
target linux
expect init-twice
fs a local
thread register 0; mount a; remount a
"""
STRICT = ("-Wall", "-Wextra", "-Werror")


def made(folder: Path, text: str, name: str = "finding") -> Path:
    path = folder / f"{name}.litmus"
    path.write_text(text)
    return path


def built(command: str, *more: str) -> None:
    """Run a printed command through a shell, as a user does."""
    assert "\n" not in command
    words = " ".join((command, *more))
    subprocess.run(["sh", "-c", words], check=True, capture_output=True, text=True)


def started(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([path], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(("text", "verdict"), [
    (PREMISE_C, "init-missing"), (EMPTY_TAPE, "init-twice")])  # fmt: skip
def test_the_printed_command_builds_a_program_that_shows_it(
    real: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    text: str,
    verdict: str,
):
    monkeypatch.chdir(tmp_path)
    made(tmp_path, text)
    assert program.main(["export", "finding.litmus", "--target", real.name]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-2].startswith(f"finding.c: {verdict} on linux-5.10")
    built(said[-1], *STRICT)
    done = started(tmp_path / "finding")
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"verdict {verdict}, trace of ")
    assert "as expected" in done.stdout
    assert done.stdout.endswith(f"{verdict} shows\n")


def test_built_against_another_target_it_says_that_nothing_shows(
    real: Target, control: Target, tmp_path: Path
):
    case = Case.from_text(EMPTY_TAPE)
    outcome = bisecting.shows(real, case)
    file = tmp_path / "it.c"
    file.write_text(export.program(real, case, outcome.tape))
    built(export.command(control, file), *STRICT)
    done = started(tmp_path / "it")
    assert done.returncode == 1
    assert "another build" in done.stdout
    assert done.stdout.endswith("init-twice does not show\n")


def test_a_folder_is_exported_and_blanks_in_paths_do_no_harm(
    real: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = tmp_path / "init-missing-register+mount"
    folder.mkdir()
    made(folder, PREMISE_C, "scenario")
    file = tmp_path / "with blank's.c"
    arguments = ["export", str(folder), "-o", str(file), "--target", real.name]
    assert program.main(arguments) == 0
    built(capfd.readouterr().out.splitlines()[-1])
    assert started(file.with_suffix("")).returncode == 0
    text = file.read_text()
    assert all(len(line.expandtabs(8)) <= 100 for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())
    assert str(build.ROOT) not in text


def test_nothing_is_written_where_it_does_not_show(
    control: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = made(tmp_path, EMPTY_TAPE.replace("expect", "within 100\nexpect"))
    file = tmp_path / "out.c"
    arguments = ["export", str(path), "-o", str(file), "--target", control.name]
    assert program.main(arguments) == 1
    assert "init-twice does not show on reference" in capfd.readouterr().out
    assert not file.exists()


@pytest.mark.parametrize(("text", "arguments", "said"), [
    (None, [], "there is no such file or folder"),
    ("nonsense\n", [], "line 1, column 1"),
    ("cleanrace 1\nfs a local\nthread mount a\n", [], "it expects ok"),
    (PREMISE_C, ["-o", "out.txt"], "-o out.txt: give it a name that ends in .c"),
    (PREMISE_C, ["-o", "no/such/out.c"], "does not exist"),
    (PREMISE_C, ["--target", "no-such"], "no-such"),
])  # fmt: skip
def test_a_wrong_use_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    text: str | None,
    arguments: list[str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        made(tmp_path, text)
    assert program.main(["export", "finding.litmus", *arguments]) == 2
    heard: Any = capfd.readouterr()
    assert said in heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""
    assert not list(tmp_path.glob("*.c"))


def test_a_folder_without_a_scenario_is_told_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert program.main(["export", str(tmp_path)]) == 2
    assert "it has no scenario.litmus" in capfd.readouterr().err
