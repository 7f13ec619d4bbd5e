# SPDX-License-Identifier: GPL-2.0-only
"""What a unit can be, and whoever carries units out: one that has loaded the target for good.

A unit is a function of the target and its arguments, both of which may have come from another
machine; so arguments name no files. It changes nothing outside of its process.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build
from cleanrace import Target
from fuzz import exploring, keeping, sanitizing

ROOT = Path(build.__file__).resolve().parent


class Life:
    """One worker's, from unit to unit. stopping: it shall end, and answer with what it has."""

    def __init__(
        self,
        target: Target,
        *,
        stopping: Callable[[], bool] = lambda: False,
        show: Callable[[str], None] | None = None,
    ) -> None:
        target.table("verdicts")  # fails now rather than at the first unit
        self.target = target
        self.stopping = stopping
        self.show = show
        self.kept: dict[str, Any] = {}  # what a kind of unit remembers to save time

    def do(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one unit."""
        return UNITS[kind](self, arguments)


def nap(_life: Life, arguments: dict[str, Any]) -> dict[str, Any]:
    """Nothing, for so many seconds: what a unit costs apart from what it is for."""
    time.sleep(arguments["seconds"])
    return {}


UNITS: dict[str, Callable[[Life, dict[str, Any]], dict[str, Any]]] = {
    "explore": exploring.explore,
    "prove": exploring.prove,
    "minimise": keeping.minimise_unit,
    "sanitize": sanitizing.sanitize,
    "nap": nap,
}


def code() -> dict[str, str]:
    """File of ours -> digest, of all that this process has loaded."""
    paths = [Path(getattr(module, "__file__", None) or "/") for module in sys.modules.values()]
    folders = (ROOT / "fuzz", ROOT / "pybind")
    ours = {path for path in paths if any(map(path.is_relative_to, folders))}
    return {str(path.relative_to(ROOT)): digest(path) for path in sorted(ours)}


def digest(path: Path) -> str:
    """What two files that are the same have in common."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        return ""


def other_file(theirs: dict[str, str]) -> str | None:
    """A file that is another one here than in what code() gave there; None if all are alike."""
    return next((name for name, met in theirs.items() if digest(ROOT / name) != met), None)


def spec(target: Target) -> dict[str, str]:
    """What another machine has to know to find the very same build."""
    return {"name": target.name, "build_id": target.build_id}


def find(wanted: dict[str, str]) -> Target:
    """That build on this machine; LookupError with half a line if there is another one."""
    name, build_id = wanted["name"], wanted["build_id"]
    place = build.cache_folder()
    for path in (place / "builds" / build_id / "info.json", place / "targets" / f"{name}.json"):
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if info["build_id"] == build_id:
            return Target(info)
        raise LookupError(f"build {info['build_id']} of {name}, not {build_id}")
    raise LookupError(f"no build of {name}")
