# SPDX-License-Identifier: GPL-2.0-only
"""Targets: compiled kernel units in the user's cache folder, as build.py leaves them there.

<cache>/cleanrace/targets/<name>.json says which build of a target is the newest; <cache> is
$XDG_CACHE_HOME or ~/.cache. A Target is loaded when it is first used, not when it is listed.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cleanrace import checks
from cleanrace._native import Config, Native
from cleanrace.checks import shown
from cleanrace.fuzzer import Fuzzer
from cleanrace.names import Names
from cleanrace.result import Access, Race

_KEYS = ("name", "version", "sha256", "build_id", "module")
_loaded: dict[str, Native] = {}


class TargetError(Exception):
    """There is no such target, or it cannot be loaded; str() is one line with the way out."""


class Target:
    """One compiled kernel unit.

    info: everything build.py recorded about it. name, version, sha256 (of cleancache.c),
    build_id: from it. module: path of the loaded file.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        """Make a target of what build.ensure() or a targets/<name>.json gives.

        TargetError if it lacks something.
        """
        missing = [key for key in _KEYS if not isinstance(info.get(key), str)]
        if missing:
            raise TargetError(
                f"the target's record has no {', '.join(missing)}: run 'python build.py --force'"
            )
        self.info: dict[str, Any] = dict(info)
        self.name: str = info["name"]
        self.version: str = info["version"]
        self.sha256: str = info["sha256"]
        self.build_id: str = info["build_id"]
        self.module = Path(info["module"])

    def __repr__(self) -> str:
        return f"<Target {self.name} {self.version} build {self.build_id}>"

    @cached_property
    def native(self) -> Native:
        """The loaded module; private to this package."""
        path = str(self.module)
        if path not in _loaded:
            try:
                _loaded[path] = Native(self.module)
            except (ImportError, OSError, AttributeError, ValueError) as error:
                raise TargetError(
                    f"target {self.name} cannot be loaded from {path} ({error}): run"
                    f" 'python build.py --target {self.name} --force'"
                ) from None
        return _loaded[path]

    @cached_property
    def names(self) -> Names:
        """function:line and object names of this target's traces."""
        return Names(self.module)

    def table(self, table: str) -> dict[str, tuple[str, str]]:
        """A table of the C side: name -> its two other fields.

        "ops" and "micro": operands; "verdicts": group, sentence; "events": what object and value
        are; "planted" and "marks": sentence.
        """
        checks.choice("table", table, self.native.tables)
        return {name: (first, second) for name, first, second in self.native.tables[table]}

    def bits(self, table: str, names: Iterable[str] | None, *, argument: str) -> int:
        """The bit set of `names` in a table; ValueError names `argument`.

        None is all of them, except verdicts of the group "race": the real file races by design,
        so a data race counts only for who asks for it.
        """
        lines = self.native.tables[table]
        known = [line[0] for line in lines]
        if names is None:
            names = [name for name, group, _ in lines if (table, group) != ("verdicts", "race")]
        if isinstance(names, str):
            raise ValueError(f"{argument}={shown(names)}: expected a collection of names")  # noqa: TRY004
        bits = 0
        for name in names:
            checks.choice(argument, name, known)
            bits |= 1 << known.index(name)
        return bits

    def named(self, table: str, bits: int) -> frozenset[str]:
        """The names in a table of a bit set."""
        return frozenset(
            line[0] for number, line in enumerate(self.native.tables[table]) if bits >> number & 1
        )

    def counters(self) -> dict[str, int]:
        """The target's debugfs counters after the last run in this process, by name."""
        names = ("succ_gets", "failed_gets", "puts", "invalidates")
        found = ((name, self.native.counter(name)) for name in names)
        return {name: value for name, value in found if value is not None}

    def races(self) -> tuple[Race, ...]:
        """Every pair of accesses that raced in this process, in runs that detected."""
        kinds = [line[0] for line in self.native.tables["events"]]
        return tuple(
            Race(
                first=Access(raw.pc[0], kinds[raw.kind[0]], raw.held[0]),
                second=Access(raw.pc[1], kinds[raw.kind[1]], raw.held[1]),
                object=raw.object,
                documented=raw.documented,
                schedule=raw.schedule,
                count=raw.count,
            )
            for raw in self.native.races()
        )

    def forget_races(self) -> None:
        """Begin the list of races() anew."""
        self.native.races_forget()

    def promote(self, offsets: Iterable[int]) -> None:
        """From now on exactly these accesses are decision points of runs with points="sync".

        They are offsets into the kernel's text, as Exploration.promoted has them; an exploration
        begins with its own.
        """
        wanted = sorted(set(offsets))
        for offset in wanted:
            checks.number("offsets", offset, 0, 0xFFFFFFFF)
        self.native.promote(wanted)

    def fuzzer(
        self,
        *,
        planted: Iterable[str] = (),
        judged: Iterable[str] | None = None,
        steps_max: int = 0,
    ) -> Fuzzer:
        """One native call per fuzzer input (a scenario's bytes and its tape); see Fuzzer."""
        checks.number("steps_max", steps_max, 0, 0xFFFFFFFF)
        config = Config(
            engine="fiber",
            policy="tape",
            planted=self.bits("planted", planted, argument="planted"),
            judged=self.bits("verdicts", judged, argument="judged"),
            steps_max=steps_max,
            full=False,
            points="all",
            detect=False,
            seed=0,
            schedule=0,
        )
        return Fuzzer(self.native, config)


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cleanrace" / "targets"


def targets() -> list[Target]:
    """The newest build of every target that was built, by name; empty before any build."""
    return [_read(path) for path in sorted(_folder().glob("*.json"))]


def target(name: str) -> Target:
    """The newest build of target `name`; TargetError if it was not built."""
    checks.instance("name", name, str)
    path = _folder() / f"{name}.json"
    if os.sep in name or not path.is_file():
        built = ", ".join(path.stem for path in sorted(_folder().glob("*.json"))) or "none"
        raise TargetError(
            f"target {shown(name)} was not built (built are: {built}; looked for in"
            f" {_folder()}): run 'python build.py --target {name}'"
        )
    return _read(path)


def _read(path: Path) -> Target:
    try:
        info = json.loads(path.read_text())
        if isinstance(info, dict):
            return Target(info)
        problem = "it holds no object"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise TargetError(
        f"the record {path} cannot be read ({problem}): run"
        f" 'python build.py --target {path.stem} --force'"
    )
