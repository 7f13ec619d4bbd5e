# SPDX-License-Identifier: GPL-2.0-only
"""The shelf: each finding once, whole or not at all, whoever writes and whatever is there."""

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Scenario, Switch
from fuzz import shelf

SIGNATURE = "init-missing sb-mounted+registered"
LARGE = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b none\nthread register 0\nthread mount a\nthread mount b\n")
SMALL = Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\nthread mount a\n")
META = shelf.Meta(
    signature=SIGNATURE,
    status="open",
    target="linux-5.10",
    planted=("b",),
    sha256="0" * 64,
    compiler="gcc 12",
    found_by="random, policy surw, seed 1, schedule 2",
    date="2026-01-02",
    schedules=17,
    preemptions=1,
    fewest=True,
)
FORKED = multiprocessing.get_context("fork")


def case(scenario: Scenario = SMALL, **more: Any) -> Case:
    values: dict[str, Any] = {
        "title": "one",
        "target": "linux",
        "broken": frozenset({"b"}),
        "expect": "init-missing",
        "tape": b"\1",
        "found": {"build": "0" * 16},
        "switches": (Switch.edge("start", 1, 1),),
    }
    return Case(scenario=scenario, **(values | more))


def keep(root: Path, one: Case | None = None, meta: shelf.Meta = META, **more: Any) -> shelf.Kept:
    values = {"explanation": "# How\n", "picture": "<svg/>\n", "name": "init-missing-mount"}
    return shelf.keep(one or case(), meta, root=root, **(values | more))


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_kept_is_read_back(tmp_path: Path):
    kept = keep(tmp_path)
    assert (kept.new, kept.aside) == (True, ())
    assert kept.entry.name == "init-missing-mount"
    assert shelf.read(kept.entry.folder) == kept.entry
    assert shelf.entries(tmp_path) == ([kept.entry], [])
    assert listed(kept.entry.folder) == sorted(shelf.FILES)
    assert kept.entry.key == (SIGNATURE, ("b",))


def test_a_known_finding_is_not_new(tmp_path: Path):
    first = keep(tmp_path).entry
    before = tree(tmp_path)
    again = keep(tmp_path, meta=replace(META, date="2027-01-01", status="expected"), name="other")
    assert not again.new
    assert again.entry == first
    larger = keep(tmp_path, case(LARGE))
    assert not larger.new
    assert tree(tmp_path) == before


def test_a_simpler_one_replaces_and_keeps_what_people_said(tmp_path: Path):
    own = f"{shelf.OWN_WORDS}\n\nBecause nobody holds the lock.\n"
    old = keep(tmp_path, case(LARGE), replace(META, status="expected"),
               explanation=f"# Old steps\n\n{own}").entry
    kept = keep(tmp_path, meta=replace(META, date="2027-01-01", preemptions=0, found_by="atheris"),
                explanation="# New steps\n", picture="<svg>new</svg>\n", name="other")
    assert not kept.new
    now = shelf.read(old.folder)
    assert now == kept.entry
    assert now.case.scenario == SMALL
    assert now.meta == replace(META, status="expected", preemptions=0)
    assert now.explanation == f"# New steps\n\n{own}"
    assert now.picture == "<svg>new</svg>\n"
    assert listed(tmp_path) == [old.name]


def test_fewer_switches_are_simpler_and_another_build_is_news(tmp_path: Path):
    two = (Switch.edge("start", 1, 1), Switch.edge("end", 1, 0))
    keep(tmp_path, case(switches=two))
    assert shelf.read(keep(tmp_path).entry.folder).case.switches == two[:1]
    assert keep(tmp_path, case(switches=two)).entry.case.switches == two[:1]
    other = keep(tmp_path, case(found={"build": "1" * 16})).entry
    assert shelf.read(other.folder).case.found == {"build": "1" * 16}
    assert len(shelf.entries(tmp_path)[0]) == 1


def test_names_that_are_taken_get_a_number(tmp_path: Path):
    (tmp_path / "init-missing-mount").write_text("not a folder")
    signatures = [f"init-missing {what}" for what in ("one", "two", "three")]
    made = [keep(tmp_path, meta=replace(META, signature=one)).entry.name for one in signatures]
    assert made == [f"init-missing-mount-{number}" for number in (2, 3, 4)]
    other = keep(tmp_path, case(broken=frozenset()), replace(META, planted=()), name="../up").entry
    assert other.folder == tmp_path / "finding"
    assert (tmp_path / "init-missing-mount").read_text() == "not a folder"


def test_a_status_changes_and_nothing_else(tmp_path: Path):
    old = keep(tmp_path, case(LARGE)).entry
    simpler = keep(tmp_path).entry
    shelf.update(replace(old, meta=replace(old.meta, status="fixed")))
    assert shelf.read(old.folder) == replace(simpler, meta=replace(META, status="fixed"))


def in_processes(works: list[Callable[[], None]]) -> list[int]:
    started = [FORKED.Process(target=work) for work in works]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [int(process.exitcode or 0) for process in started]


def test_writers_at_once_lose_nothing_and_put_nothing_twice(tmp_path: Path):
    """Four processes, each with ten findings, in other orders; half of them larger ones."""
    signatures = [f"init-missing {number}" for number in range(10)]

    def writer(number: int) -> Callable[[], None]:
        def work() -> None:
            for at in range(len(signatures)):
                one = signatures[(3 * at + number) % len(signatures)]
                scenario = LARGE if (at + number // 2) % 2 else SMALL
                keep(tmp_path, case(scenario), replace(META, signature=one))
        return work

    assert in_processes([writer(number) for number in range(4)]) == [0, 0, 0, 0]
    found, broken = shelf.entries(tmp_path)
    assert broken == []
    assert sorted(entry.meta.signature for entry in found) == signatures
    assert all(entry.case.scenario == SMALL for entry in found)
    assert len(listed(tmp_path)) == len(signatures)


#: What changes a file system: after each of these calls a writer may be dead.
CALLS = ("open", "mkdir", "rename", "replace", "fsync", "chmod", "close", "unlink", "rmdir")


def dying(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Kill this process before its call number `last` of CALLS; renameat2 counts as well."""
    calls = [0]

    def counted(true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return true(*arguments, **options)
        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(shelf, "_exchange", counted(shelf._exchange))


@pytest.mark.parametrize("replacing", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_writer_killed_at_any_call_leaves_all_or_nothing(tmp_path: Path, *, replacing: bool):
    """At every single call that changes the file system, not at some moments."""
    killed = 0
    for last in range(1, 200):
        root = tmp_path / str(last)
        root.mkdir()
        old = keep(root, case(LARGE)).entry if replacing else None
        other = keep(root, meta=replace(META, signature="init-missing other")).entry

        def work(root: Path = root, last: int = last) -> None:
            with pytest.MonkeyPatch.context() as patch:
                dying(patch, last)
                keep(root)
            os._exit(0)

        [status] = in_processes([work])
        found, broken = shelf.entries(root)
        assert broken == []
        known = {entry.meta.signature: entry for entry in found}
        assert known.pop(other.meta.signature) == other
        assert len(found) == len(known) + 1
        now = known.get(SIGNATURE)
        assert now in (old, now and replace(now, case=case()))
        if status == 0:
            assert now is not None
            break
        assert status == -signal.SIGKILL
        killed += 1
        # The next one finishes what was begun, and nothing is left behind.
        kept = keep(root)
        assert kept.aside == ()
        assert shelf.read(kept.entry.folder).case == case()
        assert len(shelf.entries(root)[0]) == 2
        assert listed(root) == sorted([other.name, kept.entry.name])
    assert killed > 25


def meta_text(**more: Any) -> str:
    values = {"format": 1} | {name: getattr(META, name) for name in META.__dataclass_fields__}
    return json.dumps(values | {"planted": ["b"]} | more, indent=2)


def without(name: str) -> str:
    values = json.loads(meta_text())
    del values[name]
    return json.dumps(values)


TEXT = case().to_text()
#: What is wrong -> file, its content, what the line says after the file's name.
BAD: dict[str, tuple[str, bytes | str, str]] = {
    "scenario missing": (shelf.SCENARIO, "", ": line 1, column 1: "),
    "not a scenario": (shelf.SCENARIO, "hello\n", ": line 1, column 1: "),
    "a newer scenario": (shelf.SCENARIO, TEXT.replace("cleanrace 1", "cleanrace 2"),
                         ": line 1, column 11: a newer version of cleanrace wrote this"),
    "a zero byte": (shelf.SCENARIO, TEXT.replace("mount a", "mount \0a"), ": line 8, column 14: "),
    "other encoding": (shelf.SCENARIO, TEXT.encode("utf-16"), ": line 1, column 1: "),
    "a byte that is not UTF-8": (shelf.SCENARIO, TEXT.encode() + b"# \xff\n", ": line "),
    "a line of 10 MB": (shelf.SCENARIO, TEXT + "#" + "x" * 10_000_000, ": "),
    "an unknown file system": (shelf.SCENARIO, TEXT.replace("mount a", "mount q"), ": line "),
    "a huge number": (shelf.SCENARIO, TEXT.replace("register 0", "register " + "9" * 5000),
                      ": line "),
    "expects nothing": (shelf.SCENARIO, TEXT.replace("expect init-missing", "expect ok"),
                        ": a finding expects a verdict, not ok"),
    "another verdict": (shelf.META, meta_text(signature="pool-dead put"),
                        ": the signature is not of the verdict init-missing"),
    "other planted bugs": (shelf.META, meta_text(planted=["a"]),
                           ": planted is not what scenario.litmus says is broken"),
    "empty": (shelf.META, "", ": line 1, column 1: it is not JSON: "),
    "cut off": (shelf.META, meta_text()[:-10], ": line 1"),
    "no object": (shelf.META, "[]", ": expected an object"),
    "nested": (shelf.META, "[" * 60_000, ": it is nested too deeply"),
    "too large": (shelf.META, " " * 10_000_000, ": it is larger than 65,536 bytes"),
    "UTF-16": (shelf.META, meta_text().encode("utf-16"), ": line 1: it is not UTF-8"),
    "a key twice": (shelf.META, meta_text()[:-2] + ', "status": "fixed"}',
                    ': "status" is there twice'),
    "digits": (shelf.META, meta_text().replace("17", "9" * 5000), ": Exceeds the limit"),
    "the future": (shelf.META, meta_text(format=2),
                   ": format 2: it was written by a newer cleanrace, expected 1"),
    "no format": (shelf.META, without("format"), ": format null: this format is not known"),
    "a true format": (shelf.META, meta_text(format=True), ": format true: this format"),
    "an unknown key": (shelf.META, meta_text(extra=1), ': "extra" is not known'),
    "a missing key": (shelf.META, without("sha256"), ': "sha256" is missing'),
    "not a number": (shelf.META, meta_text(schedules=float("nan")),
                     ": schedules: expected a number from 1"),
    "less than nothing": (shelf.META, meta_text(preemptions=-1),
                          ": preemptions: expected a number from 0"),
    "true as a number": (shelf.META, meta_text(preemptions=True),
                         ": preemptions: expected a number from 0"),
    "a word as a bool": (shelf.META, meta_text(fewest="yes"), ": fewest: expected true or false"),
    "a number as text": (shelf.META, meta_text(compiler=7), ": compiler: 7 cannot be"),
    "an unknown status": (shelf.META, meta_text(status="solved"), ': status: "solved" cannot be'),
    "a path as target": (shelf.META, meta_text(target="../../etc"), ': target: "../../etc" cannot'),
    "an escape sequence": (shelf.META, meta_text(found_by="\33[2J"), ": found_by: "),
    "two lines": (shelf.META, meta_text(signature=SIGNATURE + "\nmore"), ": signature: "),
    "no such day": (shelf.META, meta_text(date="2026-13-01"), ': date: "2026-13-01" cannot be'),
    "unknown planted": (shelf.META, meta_text(planted=["zz"]), ": planted: expected names of"),
    "planted as text": (shelf.META, meta_text(planted="b"), ": planted: expected names of"),
    "planted nested": (shelf.META, meta_text(planted=[["b"]]), ": planted: expected names of"),
    "a list as text": (shelf.META, meta_text(signature=["x"]), ': signature: ["x"] cannot be'),
    "Latin-1": (shelf.EXPLANATION, b"# one\ntwo \xe9\n", ": line 2: it is not UTF-8"),
    "too long": (shelf.EXPLANATION, "x" * 10_000_000, ": it is larger than 262,144 bytes"),
    "too big": (shelf.PICTURE, "x" * 10_000_000, ": it is larger than 1,048,576 bytes"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_wrong_is_one_line_and_set_aside(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
):
    name, content, said = BAD[what]
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "shelf"
    folder = keep(root).entry.folder
    good = keep(root, meta=replace(META, signature="init-missing other")).entry
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    assert check_set_aside(root, good, folder).startswith(
        f"shelf/init-missing-mount/{name}{said}")


def check_set_aside(root: Path, good: shelf.Entry, folder: Path) -> str:
    """A folder that is wrong stops no one: one line, and it is set aside with all it had."""
    before = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found, [line] = shelf.entries(root)
    assert found == [good]
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 300
    with pytest.raises(shelf.Unreadable, match=re.escape(line)):
        shelf.read(folder)
    kept = keep(root)
    aside = folder.with_name(folder.name + shelf.UNREADABLE)
    assert kept.new
    assert kept.aside == (f"{line}; set aside as {aside.name}",)
    assert ({path.name for path in aside.iterdir()} if aside.is_dir() else set()) == before
    assert shelf.entries(root) == (sorted([good, kept.entry], key=lambda entry: entry.name), [])
    return line


def a_link(path: Path) -> None:
    true = path.rename(path.with_suffix(".true"))
    path.symlink_to(true)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", shelf.FILES)
@pytest.mark.parametrize(
    ("change", "said"),
    [(Path.unlink, "it is missing"), (a_link, "it is a link"), (a_folder, "it is not a file"),
     (a_pipe, "it is not a file")],
)
def test_what_is_no_file_is_not_opened(
    tmp_path: Path, name: str, change: Callable[[Path], None], said: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "shelf"
    folder = keep(root).entry.folder
    good = keep(root, meta=replace(META, signature="init-missing other")).entry
    change(folder / name)
    line = check_set_aside(root, good, folder)
    assert line == f"shelf/init-missing-mount/{name}: {said}"


@pytest.mark.parametrize("name", ["Upper", "with space", "a" + chr(10) + "b", "-x", "a..b", "é"])
def test_a_name_that_is_no_findings_name_is_set_aside(tmp_path: Path, name: str):
    first = keep(tmp_path).entry
    first.folder.rename(tmp_path / name)
    found, [line] = shelf.entries(tmp_path)
    assert found == []
    assert "\n" not in line
    assert line.endswith(": a finding's name has small letters, digits, - and + only")
    kept = keep(tmp_path)
    assert kept.new
    assert len(kept.aside) == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {first.name, name + shelf.UNREADABLE}


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path):
    root = tmp_path / "shelf"
    elsewhere = keep(tmp_path / "elsewhere").entry.folder
    root.mkdir()
    (root / "init-missing-mount").symlink_to(elsewhere)
    before = tree(elsewhere)
    kept = keep(root)
    assert kept.new
    assert [line.partition("; ")[2] for line in kept.aside] == [
        "set aside as init-missing-mount.unreadable"]
    assert tree(elsewhere) == before


def test_several_of_one_name_are_set_aside_one_after_the_other(tmp_path: Path):
    for number in range(3):
        folder = keep(tmp_path).entry.folder
        (folder / shelf.META).write_text(f"{number}")
    keep(tmp_path)
    aside = sorted(path for path in tmp_path.iterdir() if shelf.UNREADABLE in path.name)
    assert [(path / shelf.META).read_text() for path in aside] == ["0", "1", "2"]


def test_an_empty_shelf_and_no_shelf_have_nothing(tmp_path: Path):
    assert shelf.entries(tmp_path) == ([], [])
    assert shelf.entries(tmp_path / "none") == ([], [])
    (tmp_path / shelf.PENDING).mkdir()
    (tmp_path / "README.md").write_text("text")
    assert shelf.entries(tmp_path) == ([], [])


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = keep(tmp_path, case(LARGE)).entry
    before = tree(tmp_path)
    true, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        true(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path)
    assert tree(tmp_path) == before
    assert shelf.read(old.folder) == old
    assert listed(tmp_path) == [old.name]
