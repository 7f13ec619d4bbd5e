# SPDX-License-Identifier: GPL-2.0-only
"""The verbs about kept findings: `findings` and `minimise`, and what bad files do to any verb.

CLEANRACE_KILLS=N kills `minimise` at N moments instead of a few.
"""

import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Scenario, Target
from fuzz import keeping, minimise, shelf, shelving, store
from fuzz import run as command_line

MOMENTS = int(os.environ.get("CLEANRACE_KILLS", "6"))  # at which `minimise` is killed
RAW = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b none\nthread register 0\nthread mount a; unmount a\n"
    "thread mount b\n")
OWN = "cleanrace 1\nfs a local\nthread register 0; mount a; read a 0 0; remount a; unmount a\n"
FORKED = multiprocessing.get_context("fork")


@dataclass
class Cli:
    """The command line in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = command_line.main(list(arguments))
        out, err = self.capture.readouterr()
        return status, out, err


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    real: Target,
) -> Iterator[Cli]:
    assert real.name == "linux-5.10"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Cli(capsys)


def found(target: Target, bug: str, verdict: str, scenario: Scenario = RAW) -> store.Finding:
    """A raw finding of one planted bug."""
    planted = (bug,) if bug else ()
    summary = cleanrace.search(target, scenario, schedules=20_000, planted=planted, detect=True,
                               judged=(verdict,), stop_on=(verdict,))
    return store.examine(target, scenario, verdict, schedule=summary.first[verdict],
                         planted=planted)


def waiting(target: Target, root: Path, finding: store.Finding) -> Path:
    """Put a finding where campaigns leave what is to be minimised."""
    path = (store.folder_of(root / shelf.PENDING, target, finding.planted)
            / store.file_name(finding))
    assert store.keep(path, store.to_case(target, finding))
    return path


def put(target: Target, root: Path, bug: str, verdict: str, status: str = "open") -> shelf.Entry:
    minimal = minimise.Minimiser(target, 60).minimise(found(target, bug, verdict))
    return keeping.put(target, minimal, status=status, root=root).entry


def pending(root: Path) -> list[Path]:
    return sorted((root / shelf.PENDING).rglob("*.litmus"))


def test_findings_are_listed(cli: Cli, real: Target, tmp_path: Path):
    root = tmp_path / "shelf"
    one = put(real, root, "b", "init-missing")
    two = put(real, root, "early-put", "use-after-free", "expected")
    status, out, err = cli("findings", "--findings", str(root))
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()[2:-1]}
    assert set(rows) == {one.name, two.name}
    assert re.search(r"open .*linux-5\.10\+b ", rows[one.name])
    assert re.search(r"expected .*linux-5\.10\+early-put ", rows[two.name])
    assert out.splitlines()[-1] == "2 findings: 1 open, 1 expected"


def test_an_empty_shelf_says_so(cli: Cli, tmp_path: Path):
    (tmp_path / "shelf").mkdir()
    assert cli("findings", "--findings", "shelf") == (0, "no findings are kept\n", "")


def test_what_is_not_planted_any_more_is_fixed(cli: Cli, real: Target, tmp_path: Path):
    """And open again as soon as it is planted again."""
    root = tmp_path / "shelf"
    one = put(real, root, "b", "init-missing")
    two = put(real, root, "early-put", "use-after-free")
    before = {entry.name: entry for entry in shelf.entries(root)[0]}

    def statuses() -> dict[str, str]:
        return {entry.name: entry.meta.status for entry in shelf.entries(root)[0]}

    status, out, err = cli("findings", "--check", "--findings", str(root))
    assert (status, err) == (0, "")
    assert statuses() == {one.name: "fixed", two.name: "fixed"}
    assert f"{one.name}: does not show, " in out
    assert out.count("; fixed, was open") == 2
    assert "checked 2: 2 as they should be, 0 not" in out
    status, out, _ = cli("findings", "--check", "--planted", "b", "--findings", str(root))
    assert status == 1
    assert f"{one.name}: shows, by its switches; open, was fixed" in out
    assert statuses() == {one.name: "open", two.name: "fixed"}
    status, out, _ = cli(
        "findings", "--check", "--planted", "b", "--planted", "early-put", "--findings", str(root))
    assert status == 1
    assert statuses() == {one.name: "open", two.name: "open"}
    # Nothing but the status ever changed.
    assert {entry.name: entry for entry in shelf.entries(root)[0]} == before


def test_what_is_expected_must_show(cli: Cli, real: Target, tmp_path: Path):
    root = tmp_path / "shelf"
    own = put(real, root, "early-put", "use-after-free", "expected")
    status, out, _ = cli("findings", "--check", "--findings", str(root))
    assert status == 1
    assert f"{own.name}: does not show, " in out
    assert shelf.read(own.folder).meta.status == "expected"
    status, out, _ = cli("findings", "--check", "--planted", "early-put", "--findings", str(root))
    assert status == 0
    assert "checked 1: 1 as they should be, 0 not" in out


def test_the_faults_of_the_real_file_show(cli: Cli, tmp_path: Path):
    shutil.copytree(shelf.FOLDER, tmp_path / "shelf", ignore=shutil.ignore_patterns(".*"))
    expected = [entry for entry in shelf.entries(tmp_path / "shelf")[0]
                if entry.meta.status == "expected"]
    status, out, err = cli("findings", "--check", "--findings", "shelf")
    assert (status, err) == (0, "")
    assert len(expected) >= 7
    for entry in expected:
        assert f"{entry.name}: shows, by its switches; expected\n" in out


def test_a_check_of_the_reference_leaves_what_is_not_for_it(
    cli: Cli, real: Target, control: Target, tmp_path: Path
):
    assert control.name == "reference"
    root = tmp_path / "shelf"
    put(real, root, "b", "init-missing")
    status, out, _ = cli("findings", "--check", "--target", "reference", "--findings", "shelf")
    assert status == 3
    assert "not for this kind of target" in out
    assert "nothing was checked" in out


def test_what_waits_is_minimised_and_goes(cli: Cli, real: Target, tmp_path: Path):
    root = tmp_path / "shelf"
    for bug, verdict in (("b", "init-missing"), ("early-put", "use-after-free")):
        waiting(real, root, found(real, bug, verdict))
    status, out, err = cli("minimise", "--findings", "shelf")
    assert (status, err) == (0, "")
    assert "2 of 2 findings minimised: 2 distinct, 2 of them new on the shelf" in out
    entries, broken = shelf.entries(root)
    assert broken == []
    assert {entry.meta.planted for entry in entries} == {("b",), ("early-put",)}
    assert all(entry.meta.status == "open" for entry in entries)
    left = pending(root)
    assert all("init-missing" not in path.name and "use-after" not in path.name for path in left)


def test_where_nothing_waits_nothing_is_wrong(cli: Cli, tmp_path: Path):
    (tmp_path / "shelf").mkdir()
    assert cli("minimise", "--findings", "shelf") == (
        0, "nothing waits in shelf to be minimised\n", "")


def test_files_are_minimised_and_stay(cli: Cli, real: Target, tmp_path: Path):
    finding = found(real, "b", "init-missing")
    path = tmp_path / "raw" / "one.litmus"
    store.keep(path, store.to_case(real, finding))
    plain = tmp_path / "raw" / "two.litmus"  # without a schedule: it is searched for
    plain.write_text(Case(RAW, broken=frozenset({"b"}), expect="init-missing").to_text())
    status, out, _ = cli("minimise", "raw", "--findings", "shelf")
    assert status == 0
    assert "2 of 2 findings minimised: 1 distinct, 1 of them new on the shelf" in out
    assert path.exists()
    assert plain.exists()
    [entry] = shelf.entries(tmp_path / "shelf")[0]
    assert "2 threads, 2 operations, 1 preemption, none with 0" in out
    again, out, _ = cli("minimise", str(entry.folder), "--findings", "shelf")
    assert again == 0
    assert "1 distinct, 0 of them new on the shelf" in out
    assert shelf.entries(tmp_path / "shelf")[0] == [entry]


def test_what_does_not_show_is_named_and_stays(cli: Cli, tmp_path: Path):
    path = tmp_path / "shelf" / shelf.PENDING / "linux-5.10" / "x.litmus"
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\n")
    store.write(path, Case(scenario, expect="init-missing").to_text())
    status, out, err = cli("minimise", "--findings", "shelf")
    assert (status, err) == (1, "")
    assert "x.litmus: init-missing does not show here" in out
    assert path.exists()


def test_a_folder_that_is_wrong_is_set_aside_and_named(cli: Cli, real: Target, tmp_path: Path):
    root = tmp_path / "shelf"
    entry = put(real, root, "b", "init-missing")
    (entry.folder / shelf.META).write_text("{")
    waiting(real, root, found(real, "early-put", "use-after-free"))
    status, out, _ = cli("minimise", "--findings", "shelf")
    assert status == 0
    aside = entry.folder.with_name(entry.name + shelf.UNREADABLE)
    assert f"WARNING: shelf/{entry.name}/{shelf.META}: line 1, column 2: it is not JSON" in out
    assert aside.is_dir()
    assert (aside / shelf.META).read_text() == "{"
    assert [one.meta.planted for one in shelf.entries(root)[0]] == [("early-put",)]


def counting(patch: pytest.MonkeyPatch, at_last: Callable[[int], None]) -> None:
    """Call `at_last` with their number before all calls that change the file system."""
    calls = [0]

    def counted(true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            at_last(calls[0])
            return true(*arguments, **options)
        return call

    for name in ("open", "mkdir", "rename", "replace", "fsync", "chmod", "unlink", "rmdir",
                 "write", "close"):
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(shelf, "_exchange", counted(shelf._exchange))


def minimised_by_another(last: int, told: Path | None = None) -> int:
    """`minimise` in a process of its own, killed before its call number `last`; its end."""

    def work() -> None:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        patch = pytest.MonkeyPatch()
        met = [0]

        def reached(number: int) -> None:
            met[0] = number
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)

        counting(patch, reached)
        status = command_line.main(["minimise", "--findings", "shelf"])
        patch.undo()
        if told is not None:
            told.write_text(str(met[0]))
        os._exit(status)

    process = FORKED.Process(target=work)
    process.start()
    process.join()
    return int(process.exitcode or 0)


@pytest.mark.long
def test_killed_at_any_moment_a_finding_waits_or_is_kept(
    cli: Cli, real: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before MOMENTS of all the calls with which it reads and changes files."""
    del cli
    findings = [found(real, "b", "init-missing"), found(real, "early-put", "use-after-free")]
    signatures = {finding.signature for finding in findings}

    def fresh(name: str) -> Path:
        place = tmp_path / name
        root = place / "shelf"
        for finding in findings:
            waiting(real, root, finding)
        monkeypatch.chdir(place)
        return root

    fresh("counted")
    assert minimised_by_another(0, tmp_path / "calls") == 0
    calls = int((tmp_path / "calls").read_text())
    assert calls > MOMENTS
    # The same as many in each part of its life.
    moments = [Random(part).randrange(1 + calls * part // MOMENTS, calls * (part + 1) // MOMENTS)
               for part in range(MOMENTS)]
    between = 0  # moments at which one was kept and the other was waiting
    for moment in moments:
        root = fresh(str(moment))
        assert minimised_by_another(moment) == -signal.SIGKILL
        entries, broken = shelf.entries(root)
        assert broken == []
        kept = {minimise.family_of(entry.meta.signature) for entry in entries}
        waits = set()
        for path in pending(root):
            waits.add(Case.read(path).found["signature"])  # whole
        assert kept | waits >= signatures
        between += bool(kept) and bool(signatures - kept)
        # The next one finishes what was begun.
        if moment in moments[:: max(1, MOMENTS // 3)]:
            while pending(root):
                assert minimised_by_another(0) == 0
            assert {minimise.family_of(entry.meta.signature)
                    for entry in shelf.entries(root)[0]} >= signatures
            assert not [path for path in root.iterdir() if path.name.startswith(".new")]
    assert between


GOOD = Case(RAW, broken=frozenset({"b"}), expect="init-missing").to_text()
#: Bytes of a scenario file -> what the one line says after the file's name.
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1, column 1"),
    "an ELF file": (b"\x7fELF\2\1\1\0" + bytes(5000), "line 1"),
    "zero bytes": (GOOD.replace("mount b", "mount\0b").encode(), "line "),
    "a line of 10 MB": (GOOD.encode() + b"#" + b"x" * 10_000_000, ""),
    "10 MB of lines": (GOOD.encode() + b"# x\n" * 2_500_000, ""),
    "UTF-16": (GOOD.encode("utf-16"), "line 1, column 1"),
    "Latin-1": (GOOD.encode() + b"# caf\xe9\n", "line "),
    "the future": (GOOD.replace("cleanrace 1", "cleanrace 2").encode(), "line 1, column 11"),
    "a huge number": (GOOD.replace("register 0", "register " + "9" * 5000).encode(), "line "),
    "not a number": (GOOD.replace("register 0", "register NaN").encode(), "line "),
    "a path as a name": (GOOD.replace("fs a", "fs ../../a").encode(), "line "),
    "an escape sequence": (GOOD.replace("fs a", "fs \33[2J").encode(), "line "),
    "two verdicts": (GOOD.replace("expect init-missing", "expect init-missing\nexpect ok").encode(),
                     "line "),
    "an unknown verdict": (GOOD.replace("init-missing", "all-is-lost").encode(), "line "),
    "an unknown planted bug": (GOOD.replace("broken b", "broken zz").encode(), "line "),
    "a tape that is no tape": ((GOOD + "tape 0x99\n").encode(), "line "),
    "a tape of 100,000 bytes": ((GOOD + "tape " + "1" * 100_000 + "\n").encode(), "line "),
    "a switch of nobody": ((GOOD + "switch 9->0 end\n").encode(), "line "),
}


@pytest.mark.parametrize("verb", ["replay", "minimise", "draw", "export"])
@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_one_line(cli: Cli, tmp_path: Path, verb: str, what: str):
    data, place = BAD_FILES[what]
    (tmp_path / "bad.litmus").write_bytes(data)
    status, out, err = cli(verb, "bad.litmus")
    assert (status, out) == (2, "")
    assert err.startswith("run.py: bad.litmus: " + place)
    check_line(err)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.litmus"]


def check_line(text: str) -> None:
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert len(text) < 500


def spoil_json(folder: Path) -> str:
    (folder / shelf.META).write_text('{"format": 1,\n "status": ]}')
    return f"{shelf.META}: line 2, column 12: it is not JSON"


def spoil_scenario(folder: Path) -> str:
    (folder / shelf.SCENARIO).write_text("cleanrace 1\nfs a local\nthread dismount a\n")
    return f"{shelf.SCENARIO}: line 3, column 8: unknown operation 'dismount'"


def pipe(folder: Path) -> str:
    (folder / shelf.SCENARIO).unlink()
    os.mkfifo(folder / shelf.SCENARIO)
    return f"{shelf.SCENARIO}: it is not a file"


def link(folder: Path) -> str:
    (folder / shelf.PICTURE).unlink()
    (folder / shelf.PICTURE).symlink_to("/etc/hostname")
    return f"{shelf.PICTURE}: it is a link"


def nothing(folder: Path) -> str:
    (folder / shelf.EXPLANATION).unlink()
    return f"{shelf.EXPLANATION}: it is missing"


@pytest.mark.parametrize(
    ("spoil", "check"),
    [(spoil_json, []), (spoil_scenario, []), (pipe, []), (link, []), (nothing, []),
     (nothing, ["--check"])],
)
def test_a_bad_folder_is_one_line_and_stops_no_other(
    cli: Cli, real: Target, tmp_path: Path, spoil: Callable[[Path], str], check: list[str]
):
    root = tmp_path / "shelf"
    bad = kept(real, root, "init-missing one")
    good = kept(real, root, "init-missing two")
    said = spoil(bad.folder)
    status, out, err = cli("findings", *check, "--findings", "shelf")
    assert status == 2
    check_line(err)
    assert err.startswith(f"run.py: shelf/{bad.name}/{said}")
    assert good.name in out
    assert bad.folder.is_dir()  # only writers set aside
    status, _, err = cli("draw", f"shelf/{bad.name}")
    assert status == 2
    check_line(err)
    assert said in err


def kept(target: Target, root: Path, signature: str) -> shelf.Entry:
    """A small finding that was never minimised, with a signature as told."""
    case = Case(RAW, target="linux", broken=frozenset({"b"}), expect="init-missing",
                switches=(cleanrace.Switch.edge("start", 1, 1),))
    meta = shelf.Meta(signature=signature, status="open", target="linux-5.10", planted=("b",),
                      sha256=target.sha256, compiler="gcc", found_by="random", date="2026-01-02",
                      schedules=None, preemptions=0, fewest=True)
    return shelf.keep(case, meta, explanation="", picture="", name=signature.replace(" ", "-"),
                      root=root).entry


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["findings", "--findings", "none"], "--findings none: there is no such folder"),
        (["findings", "--target", "reference", "--findings", "."], "--target"),
        (["findings", "--planted", "b", "--findings", "."], "--planted"),
        (["findings", "--check", "--planted", "zz", "--findings", "."],
         "--planted zz: expected one of a, b, c, d"),
        (["minimise", "none.litmus"], "none.litmus: there is no such file or folder"),
        (["minimise", "."], ".: there are no scenario files (*.litmus) there"),
        (["minimise", "--findings", "none"], "--findings none: there is no such folder"),
        (["minimise", "--cluster", "none"], "--cluster none: expected local or HOST:PORT"),
        (["minimise", "--time", "0"], "--time 0: expected a number from 1 to"),
        (["minimise", "ok.litmus"], "ok.litmus: it expects ok, so there is nothing to minimise"),
    ],
)
def test_a_wrong_argument_is_one_line(
    cli: Cli, tmp_path: Path, arguments: list[str], said: str
):
    (tmp_path / "ok.litmus").write_text(OWN)
    if arguments == ["minimise", "."]:
        (tmp_path / "ok.litmus").unlink()
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    check_line(err)
    assert said in err


def test_pipes_and_unrepeated_hints_in_a_folder_are_not_read(tmp_path: Path):
    (tmp_path / "unreproduced").mkdir()
    (tmp_path / "unreproduced" / "hint.litmus").write_text(OWN)
    os.mkfifo(tmp_path / "pipe.litmus")
    (tmp_path / "folder.litmus").mkdir()
    (tmp_path / "one.litmus").write_text(OWN)
    assert shelving._files([tmp_path]) == [tmp_path / "one.litmus"]
