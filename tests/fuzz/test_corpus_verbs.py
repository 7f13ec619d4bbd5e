# SPDX-License-Identifier: GPL-2.0-only
"""Folders of inputs: merged, minimised and counted, again and again with the same result."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Target
from fuzz import corpus_verbs, serve_folder
from fuzz import run as command_line
from fuzz.pool import Member
from fuzz.serve_folder import Layout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "inputs").iterdir()}


def reached(target: Target, folder: Path) -> tuple[int, int]:
    measured = corpus_verbs.measure(target, corpus_verbs.inputs_of(folder))
    return measured.edges, measured.pairs


@pytest.fixture(scope="module")
def once(control: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenarios of the checkout as inputs, which nobody changes."""
    folder = tmp_path_factory.mktemp("once") / "merged"
    assert command_line.main(["corpus", "merge", str(folder), "--target", control.name]) == 0
    return folder


@pytest.fixture
def merged(once: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(once, tmp_path / "merged"))


def test_merging_keeps_what_adds_something_and_again_adds_nothing(
    merged: Path, run: Callable[..., Any], control: Target
):
    before = contents(merged)
    offered = corpus_verbs.inputs_of(corpus_verbs.LITMUS)
    assert 10 < len(before) < len(offered)
    whole = corpus_verbs.measure(control, offered)
    assert reached(control, merged) == (whole.edges, whole.pairs)
    done = run("run.py", "corpus", "merge", str(merged), "--target", "reference")
    assert "\n0 of " in done.stdout
    assert contents(merged) == before


def test_minimising_loses_nothing_and_again_removes_nothing(
    merged: Path, run: Callable[..., Any], control: Target
):
    before = contents(merged)
    useless = {f"x-{number}": data for number, data in enumerate(before.values())}
    for name, data in useless.items():
        (merged / "inputs" / name).write_bytes(data + b"\0")  # a tape's end says nothing
    whole = reached(control, merged)
    done = run("run.py", "corpus", "minimise", str(merged), "--target", "reference")
    assert done.returncode == 0, done.stderr
    after = contents(merged)
    assert reached(control, merged) == whole
    assert len(after) <= len(before)
    run("run.py", "corpus", "minimise", str(merged), "--target", "reference")
    assert contents(merged) == after


def test_a_folder_that_is_served_is_not_minimised(merged: Path, run: Callable[..., Any]):
    before = contents(merged)
    with Layout(merged).locked():
        done = run("run.py", "corpus", "minimise", str(merged), "--target", "reference")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"process {os.getpid()} works in it already" in done.stderr
    assert contents(merged) == before


def test_stats_say_what_there_is(merged: Path, run: Callable[..., Any], control: Target):
    (merged / "inputs" / "pipe").unlink(missing_ok=True)
    os.mkfifo(merged / "inputs" / "pipe")
    done = run("run.py", "corpus", "stats", str(merged), "--target", "reference")
    edges, pairs = reached(control, merged)
    told = {line.partition(" ")[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert told["inputs"] == f"{len(contents_without_pipe(merged))},"
    assert (told["edges"], told["pairs"]) == (str(edges), str(pairs))
    assert "merged" in done.stdout


def contents_without_pipe(folder: Path) -> list[Path]:
    return [path for path in (folder / "inputs").iterdir() if path.is_file()]


def test_an_input_at_which_the_process_dies_is_left_out_and_named(
    merged: Path, control: Target, monkeypatch: pytest.MonkeyPatch
):
    """Nothing of ours does so: the process is killed when it comes to that input."""
    paths = corpus_verbs.inputs_of(merged)
    wicked = paths[3]
    heard = corpus_verbs.Pool._message

    def kill(pool: Any, member: Member, message: dict[str, Any]) -> None:
        heard(pool, member, message)
        if message.get("at") == {"input": str(wicked)}:
            member.process.kill()

    monkeypatch.setattr(corpus_verbs.Pool, "_message", kill)
    monkeypatch.setattr(corpus_verbs, "IN_FLIGHT", 1)
    measured = corpus_verbs.measure(control, paths)
    assert list(measured.dead) == [wicked]
    assert wicked not in measured.added
    assert len(measured.added) > 10


@pytest.mark.parametrize("verb", ["minimise", "stats"])
def test_errors_are_one_line(verb: str, run: Callable[..., Any]):
    done = run("run.py", "corpus", verb, "missing")
    assert (done.returncode, done.stderr) == (2, "run.py: missing: there is no such folder\n")


def test_inputs_are_told_from_other_files(tmp_path: Path):
    (tmp_path / "micro").write_bytes(bytes([serve_folder.generate.MICRO_BIT]) + bytes(20))
    (tmp_path / "long").write_bytes(bytes(serve_folder.INPUT_MAX + 1))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "good").write_bytes(bytes(20))
    assert [path.name for path in corpus_verbs.inputs_of(tmp_path)] == ["good"]


def test_inputs_of_all_hosts_of_an_exchange_folder_are_read_but_not_what_is_half_there(
    tmp_path: Path,
):
    one, other = bytes(20), bytes(21)
    for host, data in (("a" * 16, one), ("b" * 16, other)):
        folder = tmp_path / host / "inputs"
        folder.mkdir(parents=True)
        (folder / serve_folder.digest(data)).write_bytes(data)
        (folder / f".{serve_folder.digest(data)}.7.tmp").write_bytes(data[:9])
        (tmp_path / host / "findings").mkdir()
        (tmp_path / host / "findings" / "x.litmus").write_text("cleanrace 1\n")
    assert [path.name for path in corpus_verbs.inputs_of(tmp_path)] == [
        serve_folder.digest(one), serve_folder.digest(other)
    ]  # fmt: skip
    assert len(corpus_verbs.inputs_of(tmp_path / ("a" * 16))) == 1
