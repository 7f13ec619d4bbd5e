# SPDX-License-Identifier: GPL-2.0-only
"""The script that disturbs `serve` says no when something is lost, doubled or too slow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from cleanrace import Summary, Target
from fuzz import serve_db, serve_state, shelf, soak, store
from fuzz.minimise import family_of
from fuzz.soak import Plan, Run

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
    assert soak.lost(ran).held
    log = serve_db.Log(ran.layout.log)
    log.write("finding_met", signature="init-twice a+b", method="pct")
    check = soak.lost(ran)
    assert not check.held
    assert "lost: init-twice a+b" in check.told
    pending = ran.findings / shelf.PENDING / "linux-5.10"
    pending.mkdir(parents=True)
    (pending / f"init-twice-a+b{store.SUFFIX}").write_text("as it was met")
    assert soak.lost(ran).held


def test_nothing_met_is_no_success(ran: Run):
    ran.layout.log.write_text("")
    assert not soak.lost(ran).held


def test_a_finding_that_is_there_twice_is_seen(ran: Run):
    assert soak.twice(ran).held
    shutil.copytree(ran.findings / STORY, ran.findings / f"{STORY}-2")
    assert not soak.twice(ran).held
    assert not soak.committed(ran).held


def test_a_finding_that_was_added_twice_is_seen(ran: Run):
    assert soak.committed(ran).held
    for command in (
        ("rm", "--quiet", "-r", "findings"), ("commit", "--quiet", "--message", "away"),
        ("revert", "--no-edit", "HEAD"),
    ):  # fmt: skip
        ran.git(*command)
    assert not soak.committed(ran).held


def test_memory_that_grew_is_told_and_judged(ran: Run):
    two = [(float(at), kind, 100 << 20) for at in range(30) for kind in ("surw", "web")]
    ran.memory = [*two, *((float(at), "web", 104 << 20) for at in range(30, 60))]
    assert soak.grown(ran, judged=True).held  # that there are fewer of them is no matter
    ran.memory = [*two, *((float(at), "web", 106 << 20) for at in range(30, 60))]
    assert soak.grown(ran, judged=True).held is False
    assert soak.grown(ran, judged=False).held is None
    ran.memory = []
    assert soak.grown(ran, judged=True).held is False


def test_work_is_counted_by_what_each_method_needs_undisturbed(ran: Run, tmp_path: Path):
    def did(run: Run, fast: int, slow: int, seconds: float) -> Run:
        state = serve_state.State(target="x", planted=[], build_id="y")
        for name, schedules in (("surw", fast), ("atheris", slow)):
            state.methods[name] = serve_state.Method(schedules=schedules, seconds=seconds / 2)
        state.summary = Summary()
        run.layout.root.mkdir(parents=True, exist_ok=True)
        state.save(run.layout.state)
        run.seconds = seconds
        return run

    other = did(Run(tmp_path / "other", []), 100_000, 100, 100.0)
    # Other shares of the time, and the same work.
    assert soak.throughput(did(ran, 40_000, 160, 100.0), [other], judged=True).held
    check = soak.throughput(did(ran, 70_000, 70, 100.0), [other], judged=True)
    assert (check.held, check.told.partition(" ")[0]) == (False, "70")
    assert soak.throughput(ran, [Run(tmp_path / "none", [])], judged=True).held is False


def test_the_service_is_killed_as_often_as_planned_and_not_at_the_end():
    for seed in range(50):
        plan = Plan(1800.0, 10.0, 5, 20.0, Random(seed))
        times = plan.service_times()
        assert len(times) == 5
        assert times == sorted(times)
        assert 100 < times[0] < times[-1] < 0.86 * plan.seconds


def test_a_service_that_is_disturbed_loses_nothing(real: Target, tmp_path: Path):
    """Workers killed, the service killed -9, its disk full: all of it, shortened."""
    assert real.name == "linux-5.10"
    out = tmp_path / "soak.json"
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "fuzz" / "soak.py"), "--minutes", "0.25", "--undisturbed",
            "0", "--kill-every", "2", "--service-kills", "1", "--full", "2", "--shift", "5",
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
    assert "service killed -9 1 times" in said["it goes on"]["told"]
    assert "disk full for 2 s" in said["it goes on"]["told"]
