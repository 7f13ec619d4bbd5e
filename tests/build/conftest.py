# SPDX-License-Identifier: GPL-2.0-only
"""Private caches, PATHs that lack something, and kernel trees made while the tests run.

The trees are made from the cached real file and never leave the temporary folder: no kernel text
is in the repository.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/cleanrace"


@pytest.fixture
def seeded(linux: dict[str, Any], cache: Path) -> Path:
    """A cache that has the sources of linux-5.10 and no build."""
    shutil.copytree(Path(linux["source"]).parents[1], cache / "sources/linux-5.10")
    return cache


@pytest.fixture
def path_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Call it with names of tools: PATH has everything it had, except those."""

    def remove(*tools: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for entry in os.environ["PATH"].split(os.pathsep):
            for file in Path(entry).iterdir() if Path(entry).is_dir() else ():
                if file.name not in tools and not (folder / file.name).is_symlink():
                    (folder / file.name).symlink_to(file)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return remove


@pytest.fixture
def no_apt(path_without: Callable[..., Path]) -> None:
    """A machine without apt."""
    path_without("apt-get")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a build reads, to be changed by a test."""
    copy = tmp_path / "project"
    copy.mkdir()
    shutil.copytree(build.ROOT / "csrc", copy / "csrc")
    shutil.copy(build.ROOT / "build.py", copy)
    return copy


@pytest.fixture
def cli() -> Cli:
    """Run build.py as a user does."""

    def run(*arguments: str | Path, root: Path = build.ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", root / "build.py", *arguments], capture_output=True, text=True,
            check=False, timeout=300)

    return run


@pytest.fixture
def tree(linux: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Call it with a version and functions that change the unit and the header: a kernel tree."""

    def make(version: str = "", *, unit: Callable[[str], str] = str,
             header: Callable[[str], str] = str) -> Path:
        real = Path(linux["source"]).parents[1]
        folder = tmp_path / "a kernel tree"
        for file, change in ((build.UNIT, unit), (build.HEADER, header)):
            (folder / file).parent.mkdir(parents=True)
            (folder / file).write_text(change((real / file).read_text()))
        if version:
            numbers = zip(("VERSION", "PATCHLEVEL", "SUBLEVEL"), version.split("."), strict=True)
            (folder / "Makefile").write_text("".join(f"{name} = {n}\n" for name, n in numbers))
        return folder

    return make


@pytest.fixture
def refused(cli: Cli) -> Callable[..., str]:
    """Run build.py, which must end with 2 and say one line, progress apart: that line."""

    def run(*arguments: str | Path, root: Path = build.ROOT) -> str:
        result = cli(*arguments, root=root)
        assert result.returncode == 2, result
        said = [line for line in result.stderr.splitlines() if not line.endswith(" %")]
        assert len(said) == 1, result.stderr
        assert said[0].startswith("build.py: ")
        assert result.stdout == ""
        return said[0]

    return run


@pytest.fixture
def interrupted() -> Callable[..., None]:
    """Call it with a condition and arguments: build.py gets Ctrl-C when it holds; one line, 130."""

    def run(reached: Callable[[], bool], *arguments: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-B", build.ROOT / "build.py", *arguments], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130, err
        assert out == ""
        assert [line for line in err.splitlines() if not line.endswith(" %")] == [
            "build.py: interrupted: nothing half-done is left, run it again"]

    return run
