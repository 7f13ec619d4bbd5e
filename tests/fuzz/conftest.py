# SPDX-License-Identifier: GPL-2.0-only
"""Targets as objects, and the programs of fuzz/ as users start them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Target

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def real(linux: dict[str, Any]) -> Target:
    """The real 5.10 file."""
    return Target(linux)


@pytest.fixture(scope="session")
def control(reference: dict[str, Any]) -> Target:
    """Our own implementation, in which every property holds."""
    return Target(reference)


def start(program: str, *arguments: str, columns: int = 80, **options: Any) -> Any:
    """A program of fuzz/ as a process with its output in pipes."""
    environment = os.environ | {"COLUMNS": str(columns)} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, str(ROOT / "fuzz" / program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.fixture
def run(reference: dict[str, Any], linux: dict[str, Any]) -> Run:
    """Start a program of fuzz/ and wait for it; the targets are built."""
    assert reference["build_id"] != linux["build_id"]

    def started(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        with start(program, *arguments, **options) as process:
            try:
                out, err = process.communicate(timeout=300)  # it hangs
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return started


@pytest.fixture
def launch(reference: dict[str, Any]) -> Callable[..., Any]:
    """Start a program of fuzz/ and leave it running; the reference is built."""
    assert reference["kind"] == "reference"
    return start
