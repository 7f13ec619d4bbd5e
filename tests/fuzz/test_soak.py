# SPDX-License-Identifier: GPL-2.0-only
"""The script that disturbs `serve` says no when something is lost, doubled or too slow."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from cleanrace import Target
from fuzz import serve_db, shelf, soak, soak_checks, store
from fuzz.minimise import family_of
from fuzz.soak import Plan, Run, Size, Work

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
STORY = "pool-dead-reclaim+unmount"


@pytest.fixture
def ran(tmp_path: Path) -> Run:
    """What a run left that met one finding, kept and committed it."""
    run = Run(tmp_path / "run", [])
    run.prepare()
    shutil.copytree(shelf.FOLDER / STORY, run.findings / STORY)
    run.git("add", "--all")
    run.git("commit", "--quiet", "--message", "one")
    log = serve_db.Log(run.layout.log)
    signature = shelf.read(run.findings / STORY).meta.signature
    log.write("finding_met", signature=family_of(signature), method="pct")
    run.seconds = 60.0
    return run


def test_a_finding_that_is_nowhere_is_lost(ran: Run):
    assert soak_checks.lost(ran).held
    log = serve_db.Log(ran.layout.log)
    log.write("finding_met", signature="init-twice a+b", method="pct")
    check = soak_checks.lost(ran)
    assert not check.held
    assert "lost: init-twice a+b" in check.told
    pending = ran.findings / shelf.PENDING / "linux-5.10"
    pending.mkdir(parents=True)
    (pending / f"init-twice-a+b{store.SUFFIX}").write_text("as it was met")
    assert soak_checks.lost(ran).held


def test_nothing_met_is_no_success(ran: Run):
    ran.layout.log.write_text("")
    assert not soak_checks.lost(ran).held


def test_a_finding_that_is_there_twice_is_seen(ran: Run):
    assert soak_checks.twice(ran).held
    shutil.copytree(ran.findings / STORY, ran.findings / f"{STORY}-2")
    assert not soak_checks.twice(ran).held
    assert not soak_checks.committed(ran).held


def test_a_finding_that_was_added_twice_is_seen(ran: Run):
    assert soak_checks.committed(ran).held
    for command in (
        ("rm", "--quiet", "-r", "findings"), ("commit", "--quiet", "--message", "away"),
        ("revert", "--no-edit", "HEAD"),
    ):  # fmt: skip
        ran.git(*command)
    assert not soak_checks.committed(ran).held


def test_a_finding_that_only_waited_for_room_counts_as_met(ran: Run):
    ran.reserved = {"init-twice a+b"}
    check = soak_checks.lost(ran)
    assert (check.held, "lost: init-twice a+b" in check.told) == (False, True)


def test_memory_that_grew_is_told_and_judged(ran: Run):
    def took(kind: str, mib: int, begin: int) -> list[Size]:
        pid = {"surw": 1, "web": 2, "minimise": 3}[kind]
        return [Size(begin + at / 4, kind, mib << 20, pid) for at in range(120)]

    two = [*took("surw", 100, 0), *took("web", 100, 0)]
    ran.memory = [*two, *took("web", 104, 30)]
    # That there are fewer of them is no matter.
    assert soak_checks.grown(ran, judged=True).held
    ran.memory = [*two, *took("web", 106, 30)]
    assert soak_checks.grown(ran, judged=True).held is False
    assert soak_checks.grown(ran, judged=False).held is None
    ran.memory += [Size(50.0 + at / 20, "web", 1, 100 + at) for at in range(200)]  # just started
    assert soak_checks.grown(ran, judged=True).held is False
    ran.memory += took("minimise", 900, 0)  # which comes and goes
    assert "minimise" not in soak_checks.grown(ran, judged=True).told
    ran.memory = []
    assert soak_checks.grown(ran, judged=True).held is False


def test_how_much_an_old_process_grew_is_told(ran: Run):
    ran.memory = [Size(float(at), "web", (100 + at) << 20, at // 200) for at in range(250)]
    assert soak_checks.life(ran, "web") == [
        "web, the longest-lived process: 160.0 -> 299.0 MiB in 139 s"
    ]


def did(root: Path, seconds: float, *rows: tuple[float, float, float]) -> Run:
    """A run of so many seconds; rows: at, schedules of surw, of atheris; half of the time each."""
    run = Run(root, [])
    run.seconds = seconds
    run.work = [
        Work(at, {"surw": (fast, at / 2), "atheris": (slow, at / 2)}) for at, fast, slow in rows
    ]
    return run


def test_work_is_counted_by_what_each_method_needs_undisturbed(tmp_path: Path):
    other = did(tmp_path / "other", 100.0, (50, 0, 0), (100, 100_000, 100))
    # Other shares of the time, and the same work.
    run = did(tmp_path / "run", 100.0, (50, 0, 0), (100, 40_000, 160))
    assert soak_checks.throughput(run, [other], judged=True).held
    run = did(tmp_path / "run", 100.0, (50, 0, 0), (100, 70_000, 70))
    check = soak_checks.throughput(run, [other], judged=True)
    assert (check.held, check.told.partition(" ")[0]) == (False, "70")
    none = did(tmp_path / "none", 0.0)
    assert soak_checks.throughput(run, [none], judged=True).held is False
    assert soak_checks.throughput(none, [other], judged=True).held is False


def test_what_a_run_does_first_is_no_measure(tmp_path: Path):
    """A short run that is slow at first, beside a long one that is slow for as long."""
    short = did(tmp_path / "a", 40.0, (0, 0, 0), (20, 1_000, 10), (40, 21_000, 210))
    long = did(tmp_path / "b", 400.0, (0, 0, 0), (20, 1_000, 10), (150, 131_000, 1_310),
               (400, 381_000, 3_810))  # fmt: skip
    told = soak_checks.throughput(long, [short], judged=True).told
    assert told.startswith("100 % of the work, over 250 and 20 s")
    slow = did(tmp_path / "c", 400.0, (0, 0, 0), (20, 1_000, 10), (150, 131_000, 1_310),
               (400, 306_000, 3_060))  # fmt: skip
    check = soak_checks.throughput(slow, [short], judged=True)
    assert (check.held, check.told.partition(" ")[0]) == (False, "70")


def test_time_runs_from_being_met_to_the_page_and_the_commit(tmp_path: Path):
    run = Run(tmp_path / "run", [])
    run.layout.root.mkdir(parents=True)
    lines = [
        ("00:00:10", {"event": "finding_met", "signature": "x a"}),
        ("00:00:12", {"event": "finding_met", "signature": "y b"}),
        ("00:00:15", {"event": "finding_met", "signature": "x a"}),  # taken up after a kill
        ("00:00:16", {"event": "finding_kept", "of": "x a", "name": "one"}),
        ("00:00:18", {"event": "committed", "names": ["one"]}),
        ("00:01:14", {"event": "finding_kept", "of": "y b", "name": "two"}),
    ]
    told = [{"at": f"2026-01-01T{at}.000+00:00"} | values for at, values in lines]
    run.layout.log.write_text("".join(json.dumps(one) + "\n" for one in told))
    begin = soak_checks._at(told[0])
    run.shown = {"one": begin + 7}
    assert soak_checks.taken(run) == {
        "one": {"shelf": 6.0, "dashboard": 7.0, "commit": 8.0},
        "two": {"shelf": 62.0},
    }
    check = soak_checks.soon(run, "here", judged=True)
    assert check.held is False
    assert "shelf 34.0 s, 62.0 s at most; dashboard 7.0 s, 7.0 s at most" in check.told
    assert "1 came when nobody looked" in check.told
    run.answered = begin + 70.0  # somebody looked, and it was not there
    assert soak_checks.taken(run)["two"]["dashboard"] == math.inf
    run.layout.log.write_text("".join(json.dumps(one) + "\n" for one in told[:5]))
    assert soak_checks.soon(run, "here", judged=True).held
    run.layout.log.write_text("")
    assert soak_checks.soon(run, "here", judged=True).held is False


def test_findings_are_read_from_the_page_whatever_their_names():
    page = '<a href="/findings/a-b%2Bc">x</a> <a href="/findings/a/run">y</a>'
    assert soak.linked(page) == ["a-b+c"]


@pytest.mark.parametrize("full", [0.0, 20.0])
def test_the_service_is_killed_as_often_as_planned_and_not_at_the_end(full: float):
    for seed in range(50):
        plan = Plan(1800.0, 10.0, 5, full, Random(seed))
        times = plan.service_times()
        assert len(times) == 5
        assert times == sorted(times)
        assert times[-1] < 0.86 * plan.seconds
        assert (soak.FULL_AT < times[0] < soak.FULL_AT + full) is bool(full)


def test_what_was_planned_and_did_not_happen_is_no_success(ran: Run):
    ran.process = subprocess.Popen([sys.executable, "-c", ""])
    ran.process.wait()
    ran.killed, ran.service_killed, ran.killed_when_full, ran.filled = 3, 1, 1, 20.0
    plan = Plan(60.0, 10.0, 1, 20.0, Random(1))
    assert soak_checks.survived(ran, plan).held
    for name in ("killed", "service_killed", "killed_when_full", "filled"):
        less = replace(ran, **{name: 0})
        assert soak_checks.survived(less, plan).held is False, name


def test_a_check_that_cannot_be_made_does_not_hold(tmp_path: Path):
    """Nothing of this run is there."""
    runs = [Run(tmp_path / name, []) for name in ("a", "b", "c")]
    checks = soak.judged(runs, Plan(1.0, 1.0, 1, 0.0, Random(1)), judge=True)
    assert len(checks) == 9
    held = {one.name for one in checks if one.held}
    assert held == {"no finding is there twice"}  # there is none


def test_a_service_that_is_disturbed_loses_nothing(real: Target, tmp_path: Path):
    """Workers killed, the service killed -9, its disk full: all of it, shortened."""
    assert real.name == "linux-5.10"
    out = tmp_path / "soak.json"
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "fuzz" / "soak.py"), "--minutes", "0.25", "--undisturbed",
            "0.1", "--kill-every", "2", "--service-kills", "2", "--full", "3", "--shift", "5",
            "--planted", "remount-twice", "--json", str(out),
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    for name in (
        "it goes on", "no finding is lost", "no finding is there twice",
        "all are committed, once", "files are whole",
    ):  # fmt: skip
        assert said[name]["held"], said
    assert "service killed -9 2 times (1 without room)" in said["it goes on"]["told"]
    assert re.search(r"disk full for [1-9]\d* s", said["it goes on"]["told"])
    # Whether the machine did enough in these seconds to compare is its own affair; it is told.
    for name in ("from met to shown, undisturbed", "throughput >= 75 %"):
        assert said[name]["told"], said
        assert said[name]["held"] is None, said
    assert "0.1 + 0.2 + 0.1 minutes" in done.stdout
    assert "the service was killed -9, while the disk is full" in done.stdout
