# SPDX-License-Identifier: GPL-2.0-only
"""`bisect` says which kernels have a finding, and which revision brought or ended it.

The revisions are made here from the cached real file by operations on its text, in a git
repository in a temporary folder, with a cache of their own: no kernel text is in this repository.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import build
from cleanrace import Case, Target, schedule
from fuzz import bisecting, keeping
from fuzz import run as program
from fuzz.bisecting import NOT_EXPRESSIBLE, SHOWS

pytestmark = pytest.mark.long

POOL_DEAD = """\
cleanrace 1
expect pool-dead
within 5000
fs a local
thread register 0; mount a; read a 0 0; reclaim a 0 0
thread unmount a
"""
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@example"), ("DATE", "2020-02-03T04:05:06Z"))
} | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def without_puts(unit: str) -> str:
    """A unit whose put hook does nothing, so that no put can come too late."""
    changed = re.sub(r"(?m)^(void __cleancache_put_page\([^)]*\)\n\{\n)", r"\1\treturn;\n", unit)
    assert changed != unit
    return changed


def git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(tree), *arguments], check=True, capture_output=True, text=True,
        env=os.environ | IDENTITY,
    )  # fmt: skip
    return done.stdout.strip()


def commit(tree: Path, subject: str, *, unit: str | None = None) -> str:
    """A revision, with another unit or with another file; its id."""
    (tree / "README").write_text(subject)
    if unit is not None:
        (tree / build.UNIT).write_text(unit)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", subject)
    return git(tree, "rev-parse", "HEAD")


class History(NamedTuple):
    """A git tree, its revisions, and the finding."""

    tree: Path
    commits: dict[str, str]
    file: Path
    case: Case


@pytest.fixture(scope="module")
def history(
    linux: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    """Seven revisions with two pairs of files that can be built, and a finding of the real file."""
    place = tmp_path_factory.mktemp("bisect")
    tree = place / "tree"
    source = Path(linux["source"]).parents[1]
    for name in (build.UNIT, build.HEADER):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text((source / name).read_text())
    real = Target(linux)
    case = Case.from_text(POOL_DEAD)
    tape = bisecting.shows(real, case).tape
    how = schedule.How(**keeping.options(case))
    switches = schedule.switches(real, case.scenario, tape, how)
    case = replace(case, tape=tape, switches=switches, found={"build": real.build_id})
    unit = (source / build.UNIT).read_text()
    git(place, "init", "-q", str(tree))
    commits = {
        "good": commit(tree, "without puts", unit=without_puts(unit)),
        "other": commit(tree, "something else"),
        "broken": commit(tree, "nothing in it", unit="int nothing;\n"),
        "mended": commit(tree, "as before", unit=without_puts(unit)),
        "first bad": commit(tree, "put pages: faster | better", unit=unit),
        "bad": commit(tree, "something else again"),
        "fixed": commit(tree, "no puts any more", unit=without_puts(unit)),
    }
    file = place / "finding.litmus"
    file.write_text(case.to_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        yield History(tree, commits, file, case)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bisected(
    history: History, capfd: pytest.CaptureFixture[str], good: str, bad: str, *more: str
) -> tuple[int, str]:
    between = f"{history.commits[good]}..{history.commits[bad]}"
    arguments = ["bisect", str(history.file), "--tree", str(history.tree), "--range", between]
    status = program.main([*arguments, *more])
    heard = capfd.readouterr()
    assert heard.err == ""
    return status, heard.out


def test_the_revision_that_brought_it_is_found_and_the_tree_is_only_read(
    history: History, capfd: pytest.CaptureFixture[str]
):
    before = snapshot(history.tree)
    status, out = bisected(history, capfd, "good", "bad")
    assert status == 0
    assert "3 revisions change the files; 2 pairs of files were run" in out
    found = history.commits["first bad"][:12]
    assert f"first bad revision: {found} 2020-02-03 put pages: faster | better" in out
    assert snapshot(history.tree) == before
    # One build per pair of files, and nothing half done is left in the cache.
    assert len(list(build.cache_folder().glob("builds/*/info.json"))) == 2
    assert not list(build.cache_folder().glob(".revision-*"))


def test_the_revision_that_ended_it_is_found(
    history: History, capfd: pytest.CaptureFixture[str]
):
    status, out = bisected(history, capfd, "first bad", "fixed")
    assert status == 0
    found = history.commits["fixed"][:12]
    assert f"fixed by revision: {found} 2020-02-03 no puts any more" in out


def test_all_runs_every_revision_and_names_what_cannot_be_built(
    history: History, capfd: pytest.CaptureFixture[str]
):
    status, out = bisected(history, capfd, "good", "fixed", "--all")
    assert status == 0
    assert f"first bad revision: {history.commits['first bad'][:12]}" in out
    assert f"fixed by revision: {history.commits['fixed'][:12]}" in out
    broken = history.commits["broken"][:12]
    assert f"{broken}: cannot be built: mm/cleancache.c is not that file" in out
    assert len(re.findall(r"(?m)^[0-9a-f]{12} 2020-02-03 +│", out)) == 5


def test_two_ends_alike_have_no_first_bad_revision(
    history: History, capfd: pytest.CaptureFixture[str]
):
    status, out = bisected(history, capfd, "good", "mended")
    assert status == 1
    assert "no change: pool-dead does not show at both ends; --all runs" in out


def test_a_list_of_kernels_is_a_table(history: History, capfd: pytest.CaptureFixture[str]):
    """A folder with the two files is a kernel, and so is a target by its name."""
    name = build.from_tree(history.tree).name
    assert program.main(["bisect", str(history.file), str(history.tree), name]) == 0
    out = capfd.readouterr().out
    sha256 = hashlib.sha256((history.tree / build.UNIT).read_bytes()).hexdigest()
    assert out.count(f" {sha256[:12]} ") == 2
    table = [line for line in out.splitlines() if "│" in line]
    # A long path takes several lines.
    cells = [line.split("│")[2].strip() for line in table]
    assert list(filter(None, cells)) == [NOT_EXPRESSIBLE] * 2
    assert max(map(len, table)) <= 80
    assert f"{name}: {NOT_EXPRESSIBLE}: switch {len(history.case.switches)} (" in out


def test_a_finding_travels_by_its_switches_or_says_which_one_does_not(
    history: History, real: Target
):
    """What another build would lack is renamed in the finding instead."""
    elsewhere = replace(history.case, found={"build": "0123456789abcdef"})
    followed = bisecting.shows(real, elsewhere)
    assert (followed.state, followed.how) == (SHOWS, "by its switches")
    assert bisecting.shows(real, history.case).how == "by its tape"
    switches = elsewhere.switches
    gone = (*switches[:-1], replace(switches[-1], function="no_such_function"))
    unknown = bisecting.shows(real, replace(elsewhere, switches=gone, within=1))
    assert unknown.state == NOT_EXPRESSIBLE
    assert unknown.how.startswith(f"switch {len(switches)} (")
    searched = bisecting.shows(real, replace(elsewhere, switches=gone))
    assert searched.state == SHOWS
    assert searched.how.startswith(f"switch {len(switches)} (")
    assert searched.how.endswith("schedules searched")


@pytest.mark.parametrize("change", range(1, 40))
def test_a_change_is_found_with_log2_questions(change: int):
    asked: list[int] = []

    def test(number: int) -> bool:
        asked.append(number)
        return number >= change

    assert bisecting.first_change(40, test, first=False) == (change, [])
    assert len(asked) == len(set(asked)) <= 6
    assert not {0, 39} & set(asked)


def test_what_cannot_be_built_is_left_out_and_named_where_it_matters():
    states: list[bool | None] = [True, None, True, None, None, False, False, None, False]
    assert bisecting.first_change(9, lambda number: states[number], first=True) == (5, [3, 4])


WRONG: list[tuple[Callable[[History], list[str]], str]] = [
    (lambda h: [str(h.file)], "give kernels, or --tree and --range, but not both"),
    (lambda h: [str(h.file), "--tree", "."], "belong together: give both"),
    (lambda h: [str(h.file), "reference", "--all"], "--all: only --tree"),
    (lambda h: [str(h.file), "no-such-target"], "there is no target 'no-such-target'"),
    (lambda h: [str(h.file), "reference", str(h.file.parent)], "has no mm/cleancache.c"),
    (lambda h: [str(h.file), f"{h.file.parent}/none"], "is no folder"),
    (lambda _: ["no-such.litmus", "reference"], "there is no such file or folder"),
    (lambda h: [str(h.tree / build.UNIT), "reference"], "line 1, column 1"),
]
WRONG_RANGES = [
    ("{good}..no-such", "has no revision 'no-such'"),
    ("--all..{bad}", "has no revision '--all'"),
    ("{good}", "expected GOOD..BAD"),
    ("{good}...{bad}", "expected GOOD..BAD"),
    ("..{bad}", "expected GOOD..BAD"),
    ("{good}..{other}", "no revision in it changes mm/cleancache.c or"),
    ("{bad}..{bad}", "no revision in it changes"),
    ("{bad}..{good}", "is no ancestor of"),
    ("{broken}..{bad}", "is not that file of Linux"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_a_wrong_use_is_one_line_and_status_2(
    history: History,
    capfd: pytest.CaptureFixture[str],
    arguments: Callable[[History], list[str]],
    said: str,
):
    refused(capfd, ["bisect", *arguments(history)], said)


@pytest.mark.parametrize(("between", "said"), WRONG_RANGES)
def test_a_wrong_range_is_one_line_and_status_2(
    history: History, capfd: pytest.CaptureFixture[str], between: str, said: str
):
    given = between.format(**{name: history.commits[name] for name in history.commits})
    arguments = ["bisect", str(history.file), "--tree", str(history.tree)]
    refused(capfd, [*arguments, f"--range={given}"], said)


def test_a_folder_without_git_and_a_machine_without_git_are_told_so(
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    arguments = ["bisect", str(history.file), "--range", "a..b", "--tree"]
    refused(capfd, [*arguments, str(tmp_path / "none")], "there is no such folder")
    refused(capfd, [*arguments, str(tmp_path)], "not a git repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(capfd, [*arguments, str(history.tree)], "git was not found in PATH")


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert program.main(arguments) == 2
    heard = capfd.readouterr()
    assert said in heard.err
    assert heard.err.startswith("run.py: ")
    assert heard.err.count("\n") == 1
    assert "│" not in heard.out
