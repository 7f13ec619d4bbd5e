# SPDX-License-Identifier: GPL-2.0-only
"""What machines without assembly of ours do, and those with larger stacks or other words.

Each is tried here, on any machine: a build of its own does as they would.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import micro
import pytest

import build
from cleanrace import Case, Target, run, search
from cleanrace._native import POLICIES
from cleanrace.explorer import Exploration, Explorer

pytestmark = pytest.mark.long

LITMUS = sorted((Path(__file__).parents[2] / "corpus/litmus").glob("*.litmus"))
EXECUTIONS_MAX = 300
BUILD = 'import build, json; print(json.dumps(build.ensure(target="reference")))'


def make(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Have the build.py of a checkout make the reference with these variables."""
    return subprocess.run(
        [sys.executable, "-c", BUILD], cwd=root, capture_output=True, text=True, check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(build.cache_folder() / "tests/other")} | variables,
    )  # fmt: skip


def built(root: Path, **variables: str) -> Target:
    """The reference that it made."""
    done = make(root, **variables)
    assert done.returncode == 0, done.stderr
    return Target(json.loads(done.stdout))


@pytest.fixture(scope="module")
def slow() -> Target:
    """The control with ucontext for a context switch."""
    target = built(build.ROOT, CFLAGS=f"{os.environ.get('CFLAGS', '')} -DCR_UCONTEXT=1")
    assert "swapcontext" in build.run("nm", "-D", target.module).stdout
    return target


def explored(target: Target, case: Case, points: str) -> Exploration:
    """An exploration, as it is in every build: without its time."""
    explorer = Explorer(target, case.scenario, planted=case.broken, points=points)
    return replace(explorer.go_on(executions_max=EXECUTIONS_MAX), seconds=0.0)


@pytest.mark.parametrize("path", LITMUS, ids=lambda path: path.stem)
def test_without_assembly_the_same_runs_and_explorations(
    path: Path, control: Target, slow: Target
) -> None:
    case = Case.read(path)
    how: dict[str, Any] = {"planted": case.broken, "steps_max": case.steps_max}
    for number, policy in enumerate(POLICIES):
        for points in ("all", "sync"):
            options = how | {"policy": policy, "points": points, "schedule": number}
            one, other = (run(target, case.scenario, **options) for target in (control, slow))
            assert one == other
        assert run(slow, case.scenario, one.tape, **how) == run(
            control, case.scenario, one.tape, **how
        )
    for points in ("all", "sync"):
        met = explored(control, case, points)
        assert explored(slow, case, points) == met
        assert met.steps > 0


def test_a_stack_that_no_thread_takes_is_a_limit_of_ours(tmp_path: Path) -> None:
    """What a thread elsewhere writes on its stack would be called a write to frozen memory."""
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(build.ROOT / "build.py", tree)
    shutil.copytree(build.ROOT / "csrc", tree / "csrc")
    file = tree / "csrc/engine/core.h"
    text = file.read_text()
    assert text.count("ENGINE_STACK_BYTES	65536") == 1
    file.write_text(text.replace("ENGINE_STACK_BYTES	65536", "ENGINE_STACK_BYTES	12288"))
    target = built(tree)
    scenario = micro.program("store 0", "store 1")
    assert search(target, scenario, schedules=10).violations == {}
    assert search(target, scenario, schedules=10, engine="thread").violations == {"overflow": 10}


def test_a_machine_with_the_other_order_of_bytes_is_refused() -> None:
    done = make(build.ROOT, CFLAGS="-U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__")
    assert done.returncode != 0
    assert "the first bytes of a word are its lowest" in done.stderr
