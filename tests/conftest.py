# SPDX-License-Identifier: GPL-2.0-only
"""Targets that every folder of tests shares, built once whoever asks first.

Several pytest processes may ask at once: build.ensure lets one build and the others wait.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import build  # noqa: E402 - found through the line above

# Programs that tests start compile their modules once for all of them, and not into the tree.
BYTECODE = "PYTHONPYCACHEPREFIX"


def pytest_configure(config: pytest.Config) -> None:
    """The process that pytest was started as makes the folder, its workers inherit it.

    Programs that a test interrupts must not ignore that, as they would where pytest itself was
    started in the background of a shell.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput") or BYTECODE in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="cleanrace-bytecode-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ[BYTECODE] = folder
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def linux() -> dict[str, Any]:
    """The info of the real file of Linux 5.10, which no stand-in may replace."""
    return build.ensure(target="linux-5.10")


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """The info of our own implementation, the control."""
    return build.ensure(target="reference")
