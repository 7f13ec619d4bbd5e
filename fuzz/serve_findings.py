# SPDX-License-Identifier: GPL-2.0-only
"""What happens to a finding of the service: met, pending on disk, minimised, on the shelf.

A worker has written it to the pending folder before it says so. It waits here for the minimiser,
which does one at a time and puts it on the shelf; only then the pending file goes. Whoever is
killed in between, the next start takes up what is pending. A finding for which there was no room
is in the reserve (fuzz/serve_reserve.py), is minimised all the same, and becomes a pending file as
soon as that works. One that is in no file at all is never let go of: if it cannot be minimised, it
waits until it is in one, and is tried once more then.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cleanrace
from cleanrace import Case, Target
from fuzz import keeping, shelf, store
from fuzz.minimise import family_of
from fuzz.serve_reserve import Reserve

SECONDS_MAX = 20.0  # of minimising one finding; fewer when many wait
SECONDS_MIN = 2.0
SECONDS_ALL = 40.0  # for all that wait, so that each is on the dashboard within a minute
AGAIN_SECONDS = 60.0  # for one that a user asked for
LEFT_SECONDS = 3600.0
LEFT = "left over"  # the method of what an earlier service met
DEATHS_MAX = 3  # of the minimiser at one finding


@dataclass(kw_only=True)
class Waiting:
    """A finding on its way. met: seconds since 1970.

    saved: whether its pending file is there; reserved: whether it is in the reserve until then.
    """

    finding: store.Finding
    met: float
    method: str
    schedules: int | None
    saved: bool
    reserved: bool = False
    deaths: int = 0

    @property
    def in_a_file(self) -> bool:
        """Whether it is still there after everybody was killed."""
        return self.saved or self.reserved


@dataclass
class Pipeline:
    """The findings of one service."""

    target: Target
    planted: tuple[str, ...]
    root: Path
    reserve: Reserve | None = None
    known: dict[str, Path] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)  # family -> in the order of meeting
    tasks: deque[dict[str, Any]] = field(default_factory=deque)  # what users asked for
    doing: dict[str, Any] | None = None
    stuck: dict[str, str] = field(default_factory=dict)  # family -> why it is not minimised
    reserve_used: bool = False

    def __post_init__(self) -> None:
        self.folder = store.folder_of(self.root / shelf.PENDING, self.target, self.planted)

    def take_up(self) -> list[str]:
        """Read the shelf and what is pending; one line for each thing that cannot be read."""
        lines: list[str] = []
        for root in dict.fromkeys((shelf.FOLDER, self.root)):
            known, unreadable = keeping.known(self.target, planted=self.planted, root=root)
            self.known |= known
            lines += unreadable
        for left in self.folder.glob(f".*{store.SUFFIX}.*.tmp"):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:  # whoever wrote it was killed
                left.unlink(missing_ok=True)
        for path in sorted(self.folder.glob(f"*{store.SUFFIX}")):
            try:
                finding = store.from_case(Case.read(path))
            except (cleanrace.ScenarioError, OSError) as error:
                lines.append(f"{error}; it was left alone")
                continue
            self.met(finding, method=LEFT, schedules=None, saved=True)
            one = self.waiting.get(finding.signature)
            if one is not None:
                one.met = min(one.met, path.stat().st_mtime)
        if self.reserve is not None:
            lines += self.reserve.unreadable()
            for finding in self.reserve.findings():
                self.met(finding, method=LEFT, schedules=None, saved=False, reserved=True)
        return lines

    def met(
        self,
        finding: store.Finding,
        *,
        method: str,
        schedules: int | None,
        saved: bool,
        reserved: bool = False,
    ) -> bool:
        """A worker met it; whether that is news."""
        family = finding.signature
        self.reserve_used |= reserved
        if family in self.known:
            if saved and family not in self.waiting:
                self.path(finding).unlink(missing_ok=True)  # of a worker that did not know yet
            return False
        old = self.waiting.get(family)
        if old is not None:
            old.saved |= saved
            old.reserved |= reserved
            return False
        if family in self.stuck:
            return False
        self.waiting[family] = Waiting(
            finding=finding,
            met=time.time(),
            method=method,
            schedules=schedules,
            saved=saved,
            reserved=reserved,
        )
        return True

    def path(self, finding: store.Finding) -> Path:
        """Where it is pending."""
        return self.folder / store.file_name(finding)

    def save(self) -> None:
        """Write what has no pending file yet. OSError if there still is no room."""
        for one in self.waiting.values():
            if not one.saved:
                self._write(one.finding)
                one.saved = True
        if self.reserve is not None and self.reserve_used:
            self.reserve.move(self._write)
            self.reserve_used = False

    def _write(self, finding: store.Finding) -> None:
        if finding.signature not in self.known:
            store.keep(self.path(finding), store.to_case(self.target, finding))

    @property
    def ready(self) -> list[Waiting]:
        """What may be minimised now, in the order of meeting."""
        return [
            one for family, one in self.waiting.items() if one.in_a_file or family not in self.stuck
        ]

    @property
    def unsaved(self) -> list[Waiting]:
        """What has no pending file."""
        return [one for one in self.waiting.values() if not one.saved]

    def next(self) -> dict[str, Any] | None:
        """The minimiser's next task, None if there is none; it is `doing` from now on."""
        assert self.doing is None
        ready = self.ready
        if ready:
            one = ready[0]
            seconds = max(SECONDS_MIN, min(SECONDS_MAX, SECONDS_ALL / len(ready)))
            self.doing = {
                "finding": one.finding.to_json(),
                "schedules": one.schedules,
                "seconds": seconds,
            }
        elif self.tasks:
            self.doing = self.tasks.popleft()
        return self.doing

    @property
    def idle(self) -> bool:
        """Whether the minimiser has nothing to do."""
        return not self.ready and not self.tasks and self.doing is None

    @property
    def leisurely(self) -> bool:
        """Whether something waits behind a task that a user asked for, which can wait."""
        return bool(self.ready) and self.doing is not None and "check" in self.doing

    def put_off(self) -> None:
        """What a user asked for comes after what waits."""
        if self.doing is not None:
            self.tasks.appendleft(self.doing)
            self.doing = None

    def ask(self, name: str, *, again: bool) -> None:
        """Check a finding of the shelf, or minimise it once more."""
        task = {"check": name, "again": again, "seconds": AGAIN_SECONDS}
        if task not in self.tasks and task != self.doing:
            self.tasks.append(task)

    def kept(self, message: dict[str, Any]) -> Waiting | None:
        """It is on the shelf; what waited for that, None if a user had asked for it."""
        self.doing = None
        scenario = self.root / message["name"] / shelf.SCENARIO
        for family in (message["of"], family_of(message["signature"])):
            self.known.setdefault(family, scenario)
        one = self.waiting.pop(message["of"], None)
        self.stuck.pop(message["of"], None)
        if one is not None:
            self.path(one.finding).unlink(missing_ok=True)
        return one

    def failed(self, family: str, why: str) -> None:
        """It could not be minimised, and stays pending, as it was met; in memory if in no file."""
        self.doing = None
        one = self.waiting.get(family)
        if one is None:
            return
        self.stuck[family] = why
        if one.in_a_file:
            del self.waiting[family]

    def died(self, why: str, *, guilty: bool) -> None:
        """The minimiser died at what it was doing; that is tried again, but not for ever."""
        task, self.doing = self.doing, None
        if task is None:
            return
        if "finding" not in task:
            return  # whoever asked can ask again
        family = task["finding"]["signature"]
        one = self.waiting.get(family)
        if one is None:
            return
        one.deaths += guilty
        if one.deaths >= DEATHS_MAX:
            self.failed(family, why)
            return
        # Others first: it may be the one that kills it.
        self.waiting[family] = self.waiting.pop(family)
