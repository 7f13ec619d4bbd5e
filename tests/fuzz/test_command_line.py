# SPDX-License-Identifier: GPL-2.0-only
"""What users get wrong costs them one line and exit status 2.

Most of it is asked of main() itself, which is all that run.py starts: a process takes half a
second to begin. One wrong argument, and all that ends well, is asked of a process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from cleanrace import Target
from fuzz import run as program

PROGRAM = str(Path(program.__file__))
GOOD = "cleanrace 1\nfs a local\nthread register 0\nthread mount a\n"


@pytest.fixture
def main(
    real: Target, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CompletedProcess[str]]:
    """The command line without a process; the targets are built."""
    assert real.build_id

    def called(*arguments: str, cwd: Path | None = None) -> CompletedProcess[str]:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        status = program.main([*arguments])
        said = capsys.readouterr()
        return CompletedProcess(arguments, status, said.out, said.err)

    return called


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time", "soon"], "--time soon: expected a number from 1 to 1000000"),
        (["--time", "0"], "--time 0: expected a number from 1 to 1000000"),
        (["--jobs", "0"], "--jobs 0: expected a whole number from 1 to 1024"),
        (["--jobs", "1.5"], "--jobs 1.5: expected a whole number from 1 to 1024"),
        (["--time", "nan"], "--time nan: expected a number from 1 to 1000000"),
        (["--seed", "-1"], "--seed -1: expected a whole number from 0 to"),
        (["--engine", "steam"], "--engine steam: expected fiber or thread"),
        (["--planted", "e"], "--planted e: expected one of a, b, c, d"),
        (["--target", "no-such"], "no-such"),
        (["--target", "reference", "--kernel", "."], "--target and --kernel exclude each other"),
        (["--json", "no/such/folder/out.json"], "does not exist"),
        (["--json", "."], "--json .: it is a folder, name a file"),
        (["--json", "/proc/out.json"], "--json /proc/out.json: cannot write in /proc"),
        (["--findings", "no/such/folder"], "does not exist"),
        (["--findings", "/proc"], "--findings /proc: cannot write in /proc"),
        (["premises", "--json", "no/such/out.json"], "does not exist"),
        (["premises", "--json", "."], "--json .: it is a folder, name a file"),
        (["--json", "one", "--sarif", "./one"], "--sarif one: --json names the same file"),
        (["--time", "5", "explore", "x"], "--time: before a verb it means nothing, give explore"),
        (["--json", "x", "targets"], "--json: before a verb it means nothing, give targets"),
        (["explore", "x", "--policy", "dfs", "--symmetry"], "--symmetry: --policy dfs runs every"),
        (["explore", "x", "--policy", "dfs", "--no-symmetry"], "only dpor has symmetry"),
        (["--frobnicate"], "--frobnicate"),
        (["frobnicate"], "frobnicate"),
        (["replay"], "FILE"),
        (["replay", "no-such.litmus"], "no-such.litmus: there is no such scenario file"),
        (["replay", "."], "scenario.litmus: there is no such scenario file"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    main: Callable[..., Any], tmp_path: Path, arguments: list[str], said: str
):
    done = main(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in one_line(done.stderr)
    assert done.stderr.startswith("run.py: ")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def started(*arguments: str, **options: Any) -> CompletedProcess[str]:
    return subprocess.run(
        [*arguments], stderr=subprocess.PIPE, text=True, timeout=300, check=False, **options
    )


def test_a_pipe_that_nobody_reads_is_no_new_finding(run: Callable[..., Any]):
    """Status 1 would be one, for a script with `set -o pipefail`."""
    assert run("run.py", "targets").returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    done = started(sys.executable, PROGRAM, "targets", stdout=writer)
    os.close(writer)
    assert one_line(done.stderr) == "run.py: standard output: nobody reads it any more\n"
    assert done.returncode == 2


def test_without_a_standard_output_a_verb_ends_as_ever(real: Target):
    assert real.build_id
    closed = ("sh", "-c", 'exec "$@" >&-', "sh", sys.executable, PROGRAM)
    done = started(*closed, "targets")
    assert (done.returncode, done.stderr) == (0, "")
    done = started(*closed, "replay", "no-such.litmus")
    assert (done.returncode, one_line(done.stderr)[:24]) == (2, "run.py: no-such.litmus: ")


def test_ctrl_c_is_one_line_whatever_the_verb(
    main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.replaying, "premises", interrupted)
    done = main("premises")
    assert (done.returncode, done.stderr) == (130, "run.py: interrupted\n")


def test_ctrl_c_before_anything_runs_ends_it_silently(tmp_path: Path):
    """The packages take most of a second; here one of them is interrupted in the middle."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = started(sys.executable, PROGRAM, "targets", env=os.environ | {"PYTHONPATH": paths})
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_process_ends_with_the_status_of_main(run: Callable[..., Any]):
    done = run("run.py", "--time", "soon")
    assert done.returncode == 2
    assert done.stdout == ""
    assert one_line(done.stderr).startswith("run.py: --time soon: expected a number")


@pytest.mark.parametrize("arguments", [["--json"], ["--findings"], ["premises", "--json"]])
def test_a_path_below_a_file_is_refused_before_anything_runs(
    main: Callable[..., Any], tmp_path: Path, arguments: list[str]
):
    (tmp_path / "file").write_text("kept")
    done = main(*arguments, "file/below", cwd=tmp_path)
    assert done.returncode == 2
    assert "is a file, not a folder" in one_line(done.stderr)
    assert done.stdout == ""
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cleanrace 2\n", "line 1, column 11: a newer version of cleanrace wrote this"),
        (GOOD + "thread dismount a\n", "line 5, column 8: unknown operation 'dismount'"),
        (GOOD + "thread mount b\n", "line 5, column 14"),
        ("", "expected a first line 'cleanrace 1'"),
        ("\x7fELF\n", "line 1, column 1"),
    ],
)
def test_a_wrong_scenario_file_is_one_line_with_its_place(
    main: Callable[..., Any], tmp_path: Path, text: str, said: str
):
    path = tmp_path / "wrong.litmus"
    path.write_text(text)
    done = main("replay", str(path))
    assert done.returncode == 2
    assert said in one_line(done.stderr)
    assert str(path) in done.stderr


def test_a_folder_without_cleancache_is_one_line_and_status_2(
    main: Callable[..., Any], tmp_path: Path
):
    done = main("--kernel", str(tmp_path))
    assert done.returncode == 2
    assert "5.17" in one_line(done.stderr)


def test_targets_lists_what_is_built(run: Callable[..., Any], control: Target):
    done = run("run.py", "targets")
    assert done.returncode == 0
    assert f"reference: version {control.version}" in done.stdout
    assert control.build_id in done.stdout
    assert "linux-5.10: version 5.10" in done.stdout


def test_a_narrow_terminal_gets_narrow_tables(run: Callable[..., Any], tmp_path: Path):
    path = tmp_path / "race.litmus"
    path.write_text(GOOD.replace("thread reg", "broken c\nexpect init-missing\nthread reg", 1))
    done = run("run.py", "replay", str(path), "--target", "reference", columns=40)
    assert done.returncode == 1, done.stderr
    table = [line for line in done.stdout.splitlines() if "|" in line]
    assert len(table) > 10
    assert max(map(len, table)) <= 40


def test_help_names_the_exit_statuses(run: Callable[..., Any]):
    done = run("run.py", "--help")
    assert done.returncode == 0
    for word in ("--time", "--jobs", "--json", "replay", "premises", "3 the harness itself failed"):
        assert word in " ".join(done.stdout.split())
