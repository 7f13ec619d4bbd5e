# SPDX-License-Identifier: GPL-2.0-only
"""What a check of `doctor` looks at, and what it says."""

import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import build
from cleanrace import Target
from fuzz import serve_folder, store

OK, WARN, FAIL = "ok", "warn", "FAIL"
STUCK_SECONDS = 120.0  # no process that is started here takes that long
RUNS = 300  # of the harness: enough for coverage to grow and for every kind of mutation
ATHERIS = "atheris"


class Untried(Exception):
    """A check that makes no sense on this machine: one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a check measured, and the command that mends it unless it is ok."""

    state: str
    text: str
    mend: str = ""


@dataclass(kw_only=True)
class Place:
    """What is looked at: a target, the folder of `serve`, the checkout, the system's groups."""

    target: str = build.DEFAULT
    corpus: Path = serve_folder.FOLDER
    repository: Path = store.ROOT
    groups: Path = Path("/sys/fs/cgroup")

    @property
    def sources(self) -> Path:
        """Where build.py keeps the target's sources."""
        return build.cache_folder() / "sources" / self.target

    @property
    def record(self) -> Path:
        """The file that says which build is the newest."""
        return build.cache_folder() / "targets" / f"{self.target}.json"

    @property
    def again(self) -> str:
        """The command that builds the target whatever is there."""
        return f"python build.py --target {self.target} --force"

    @cached_property
    def info(self) -> dict[str, Any]:
        """The record of the newest build."""
        return build.read_json(self.record, "build_id", "module", "program", "name")

    @cached_property
    def loaded(self) -> Target:
        """The target of that record."""
        return Target(self.info)

    @cached_property
    def fuzzed(self) -> str:
        """What a short run of the harness says."""
        return self._harness(f"-runs={RUNS}", "-seed=1")

    def _harness(self, *arguments: str | Path) -> str:
        if platform.machine() != "x86_64" and importlib.util.find_spec(ATHERIS) is None:
            raise Untried("there is no Atheris for this machine; other methods go on without it")
        program = store.ROOT / "fuzz" / "harness.py"
        with tempfile.TemporaryDirectory() as work:
            command = [sys.executable, program, "--target", self.target, "--findings", work]
            return said_by([*command, *arguments], cwd=Path(work))

    def merged(self, into: Path, given: Path) -> str:
        """What merging a folder says, for which libFuzzer starts the harness again."""
        return self._harness("-merge=1", into, given)


def said_by(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Both outputs of a process; store.Broken if it hangs or fails, with its last line."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=STUCK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise store.Broken(f"{Path(command[1]).name} hung for {STUCK_SECONDS:.0f} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
        line = (errors or lines or ["it said nothing"])[-1]
        raise store.Broken(f"{Path(command[1]).name} ended with {done.returncode}: {line}")
    return done.stdout
