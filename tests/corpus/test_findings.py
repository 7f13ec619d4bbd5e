# SPDX-License-Identifier: GPL-2.0-only
"""Every finding on the shelf: known faults show as they did, all others do not show any more.

CLEANRACE_PLANTED=BUG,BUG ... switches on planted bugs for the findings that are of them: they
must fail then, as a real fault that came back would.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import build
from cleanrace import Target, follow, run, run_forced, search, words
from fuzz import keeping, minimise, shelf, store

ENTRIES, UNREADABLE = shelf.entries()
EXPECTED = [entry for entry in ENTRIES if entry.meta.status == "expected"]
SWITCHED_ON = frozenset(filter(None, os.environ.get("CLEANRACE_PLANTED", "").split(",")))
#: Compiler and level of each build that a finding has to travel to.
BUILDS = {"gcc -O1": ("gcc", "1"), "gcc -O2": ("gcc", "2"),
          "clang -O1": ("clang", "1"), "clang -O2": ("clang", "2")}
DETECTED = ("rule", "race")  # groups of verdicts that only detectors see


def named(entry: shelf.Entry) -> str:
    return entry.name


@pytest.fixture(scope="session")
def builds(
    linux: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Target]:
    """The real file as four builds, in a cache of their own: others use the usual one meanwhile.

    The one that everybody has is one of them, unless CC or the level say another one.
    """
    cache = tmp_path_factory.mktemp("builds")
    (cache / "cleanrace").mkdir()
    (cache / "cleanrace" / "sources").symlink_to(build.cache_folder() / "sources")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        for name, (compiler, level) in BUILDS.items():
            patch.setenv("CC", compiler)
            patch.setenv("CLEANRACE_LEVEL", level)
            plan = build.make_plan(build.find(build.DEFAULT, None, lambda *_: None))
            usual = plan.folder.name == linux["build_id"]
            made[name] = Target(linux if usual else build.ensure())
    return made


def test_the_shelf_can_be_read() -> None:
    assert UNREADABLE == []
    assert len(EXPECTED) >= 7


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_a_known_fault_shows_and_a_mended_one_does_not(
    entry: shelf.Entry, built: Mapping[str, Target]
) -> None:
    case = entry.case
    for name, target in built.items():
        if case.target not in ("any", name):
            continue
        if entry.meta.status == "expected":
            result = keeping.replayed(target, case)
            assert case.expect in result.verdicts
            family = store.signature(result, case.expect, target)
            assert family == minimise.family_of(entry.meta.signature)
            continue
        shows, how = keeping.check(target, entry, planted=SWITCHED_ON)
        assert not shows, how


@pytest.mark.parametrize("entry", EXPECTED, ids=named)
def test_a_known_fault_shows_with_real_threads(
    entry: shelf.Entry, built: Mapping[str, Target]
) -> None:
    """The switches are forced upon pthreads, which hand over where the fibers do."""
    case, target = entry.case, built["linux"]
    result = keeping.replayed(target, case)
    if words.VERDICTS[case.expect] not in DETECTED:
        forced = run_forced(target, case.scenario, result.tape, **keeping.options(case))
        assert case.expect in forced.verdicts


@pytest.mark.parametrize("entry", EXPECTED, ids=named)
def test_a_known_fault_shows_in_the_plain_program(
    entry: shelf.Entry, built: Mapping[str, Target], tmp_path: Path
) -> None:
    case, target = entry.case, built["linux"]
    file = tmp_path / "input"
    file.write_bytes(case.scenario.to_bytes() + keeping.replayed(target, case).tape)
    planted = sum(1 << words.PLANTED.index(name) for name in case.broken)
    done = subprocess.run([target.info["program"], file, str(planted)], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "verdict " in done.stdout.splitlines()[-2]


@pytest.mark.long  # three builds more
@pytest.mark.parametrize("entry", EXPECTED, ids=named)
def test_a_known_fault_travels_to_every_build(
    entry: shelf.Entry, builds: Mapping[str, Target]
) -> None:
    """By its switches alone; the builds have other decision points, and so other tapes."""
    case = entry.case
    assert len({target.build_id for target in builds.values()}) == len(BUILDS)
    for target in builds.values():
        tape = follow(target, case.scenario, case.switches, **keeping.options(case))
        shown = run(target, case.scenario, tape, **keeping.options(case))
        assert case.expect in shown.verdicts
        family = store.signature(shown, case.expect, target)
        assert family == minimise.family_of(entry.meta.signature)


@pytest.mark.parametrize("entry", EXPECTED, ids=named)
def test_the_reference_does_not_have_the_fault(
    entry: shelf.Entry, built: Mapping[str, Target]
) -> None:
    case = entry.case
    control = search(built["reference"], case.scenario, schedules=case.within)
    assert control.schedules == case.within
    assert control.violations == {}


@pytest.mark.parametrize("entry", EXPECTED, ids=named)
def test_a_known_fault_is_explained(entry: shelf.Entry) -> None:
    assert entry.name.startswith(entry.case.expect)
    assert entry.case.to_text() == (entry.folder / shelf.SCENARIO).read_text(encoding="utf-8")
    own = entry.explanation.partition(shelf.OWN_WORDS)[2]
    assert len(own.split()) > 40
    for switch in entry.case.switches:
        assert keeping.switch_text(switch, entry.case) in entry.explanation


def test_every_fault_that_the_readme_names_has_its_finding() -> None:
    assert {entry.case.expect for entry in EXPECTED} == {
        "init-twice", "pool-leak", "pool-dead", "pool-foreign", "data-foreign"}
