# SPDX-License-Identifier: GPL-2.0-only
"""A worker process (fuzz/worker.py) that also knows units that end badly."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fuzz import store, units, worker  # noqa: E402


def crash(_life: units.Life, arguments: dict[str, Any]) -> dict[str, Any]:
    """Die of SIGSEGV: always, or if nobody else has yet."""
    time.sleep(0.02)
    first = Path(arguments["first"]) if "first" in arguments else None
    if first is None or not first.exists():
        if first is not None:
            first.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"number": arguments["number"]}


def number(_life: units.Life, arguments: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.02)
    return {"number": arguments["number"]}


def fail(_life: units.Life, arguments: dict[str, Any]) -> dict[str, Any]:
    raise store.Broken(f"number {arguments['number']} cannot be")


units.UNITS.update(crash=crash, number=number, fail=fail)
sys.exit(worker.main())
