# SPDX-License-Identifier: GPL-2.0-only
"""The folder that `serve` works in, and its inputs.

    inputs/        fuzzer inputs that added coverage; it only grows while a service runs, and
                   Atheris reads and writes it as its own corpus
    quarantine/    inputs at which a worker died, each with a .json file that says how
    running/       what each worker runs at this moment, readable after it died
    pages/         the page of each finding that the service kept
    state.json     totals, budgets and the counts behind the estimates
    log.jsonl      what happened, one event a line
    statistics.sqlite, -wal, -shm   made from the files above, and may be deleted
    reserve        room for findings while there is none (fuzz/serve_reserve.py)
    host           the name by which other hosts know this folder (fuzz/serve_exchange.py)
    lock           held by the one service that works here, for as long as it lives

Files appear whole, but for those that libFuzzer writes: half an input is an input, too.
"""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleanrace import Case, Scenario, ScenarioError
from fuzz import generate, store

FOLDER = store.ROOT / "findings" / "service"
INPUT_MAX = 4096  # bytes; longer files are no inputs of ours
RUNNING_MAX = INPUT_MAX + 2
ROOM_BYTES = 1 << 18  # that must be there before a full disk counts as mended
FULL = (errno.ENOSPC, errno.EDQUOT)  # no room, which may come back


class Busy(Exception):
    """Another process works in the folder: one line."""


@dataclass(frozen=True)
class Layout:
    """Where things are."""

    root: Path

    @property
    def inputs(self) -> Path:
        """The corpus proper."""
        return self.root / "inputs"

    @property
    def quarantine(self) -> Path:
        """Inputs at which a worker died."""
        return self.root / "quarantine"

    @property
    def running(self) -> Path:
        """What each worker runs."""
        return self.root / "running"

    @property
    def pages(self) -> Path:
        """Pages of findings."""
        return self.root / "pages"

    @property
    def state(self) -> Path:
        """Totals and budgets."""
        return self.root / "state.json"

    @property
    def log(self) -> Path:
        """Events."""
        return self.root / "log.jsonl"

    @property
    def reserve(self) -> Path:
        """Findings while the disk is full."""
        return self.root / "reserve"

    @property
    def database(self) -> Path:
        """Statistics."""
        return self.root / "statistics.sqlite"

    def make(self) -> None:
        """Make the folders that are missing, and remove what kills left half written."""
        for folder in (self.inputs, self.quarantine, self.running, self.pages):
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who works here; Busy if another process is. It dies with us."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read(100).strip() or "another process"
                raise Busy(
                    f"--corpus {self.root}: {who} works in it already: stop that one, or name"
                    " another folder"
                ) from None
            with suppress(OSError):  # who holds it is only told; a full disk holds nobody up
                file.truncate(0)
                file.write(f"process {os.getpid()}")
                file.flush()
            yield


def busy(root: Path) -> bool:
    """Whether a service works in this folder now."""
    try:
        with (root / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def room(root: Path) -> bool:
    """Whether some more can be written there."""
    try:
        return shutil.disk_usage(root).free >= ROOM_BYTES
    except OSError:
        return False


def read_input(path: Path, *, most: int = INPUT_MAX) -> bytes | None:
    """A file's bytes; None if it is gone, no plain file, empty, or too long."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(most + 1)
    except OSError:
        return None
    return data if 0 < len(data) <= most else None


def digest(data: bytes) -> str:
    """What an input's file is called, as libFuzzer does."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def put(folder: Path, name: str, data: bytes) -> Path:
    """Write bytes as a file that is there whole or not at all; OSError if that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    fresh = folder / f".{name}.{os.getpid()}.tmp"
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return path


def is_micro(data: bytes) -> bool:
    """Whether an input is a scenario of the engine's own tests, which misuse it on purpose."""
    return bool(data[:1]) and bool(data[0] & generate.MICRO_BIT)


@dataclass
class Inputs:
    """The inputs of a folder as one process sees them: what it has run, and what that reached.

    Coverage is counted by the fuzzer of this process, so that "adds" means: to what this process
    has run so far.
    """

    folder: Path
    fuzzer: Any  # of Target.fuzzer()
    method: str = ""
    names: set[str] = field(default_factory=set)
    scenarios: list[Scenario] = field(default_factory=list)
    before: Any = None  # called with each input before it is run

    unwritten: dict[str, bytes] = field(default_factory=dict)  # for want of room

    SCENARIOS_MAX = 5000
    UNWRITTEN_MAX = 1000

    def refresh(self) -> list[tuple[str, int]]:
        """Run what is new in the folder: the name of each input and how much it added."""
        try:
            with os.scandir(self.folder) as listed:
                new = sorted(
                    entry.name
                    for entry in listed
                    if entry.name not in self.names and not entry.name.startswith(".")
                )
        except FileNotFoundError:
            return []
        return [(name, self.take(name)) for name in new]

    def take(self, name: str) -> int:
        """Run one input of the folder; how much it added."""
        self.names.add(name)
        data = read_input(self.folder / name)
        if data is None or is_micro(data):
            return 0
        self.remember(data)
        return self.run(data)

    def remember(self, data: bytes) -> None:
        """Its scenario is one that a search may begin with."""
        if len(self.scenarios) < self.SCENARIOS_MAX:
            self.scenarios.append(Scenario.from_bytes(data))

    def run(self, data: bytes) -> int:
        """Run one input: how many edges and pairs it added."""
        if self.before is not None:
            self.before(data)
        reached = self.reached
        self.fuzzer.one(data)
        if self.before is not None:
            self.before(b"")
        return sum(self.reached) - sum(reached)

    @property
    def reached(self) -> tuple[int, int]:
        """Edges and interleaving pairs that this process has reached."""
        return self.fuzzer.edges_seen, self.fuzzer.pairs_seen

    def offer(self, data: bytes) -> bool:
        """Run an input, and keep it in the folder if it adds something. OSError if it cannot."""
        if len(data) > INPUT_MAX or is_micro(data) or not self.run(data):
            return False
        name = f"{self.method}-{digest(data)}" if self.method else digest(data)
        self.names.add(name)
        self.remember(data)
        self.unwritten[name] = data
        self.flush()
        return True

    def flush(self) -> None:
        """Write what found no room. OSError if there still is none."""
        while len(self.unwritten) > self.UNWRITTEN_MAX:
            del self.unwritten[next(iter(self.unwritten))]
        for name, data in list(self.unwritten.items()):
            put(self.folder, name, data)
            del self.unwritten[name]


class Running:
    """A worker's note of what it runs, in a mapped file: it survives the worker, and costs little.

    Without room for the file the worker goes on without one.
    """

    def __init__(self, path: Path | None) -> None:
        self.map: mmap.mmap | None = None
        if path is None:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                # A hole in the file would be a bus error on a full disk.
                os.posix_fallocate(descriptor, 0, RUNNING_MAX)
                self.map = mmap.mmap(descriptor, RUNNING_MAX)
            finally:
                os.close(descriptor)
        except OSError:
            self.map = None
        self.write(b"")

    def write(self, data: bytes) -> None:
        """From now on it runs this; nothing known if empty."""
        if self.map is not None:
            size = min(len(data), RUNNING_MAX - 2)
            self.map[: size + 2] = size.to_bytes(2, "little") + data[:size]


def ran(path: Path) -> bytes:
    """What a worker ran when it died, empty if that is not known."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    size = int.from_bytes(data[:2], "little")
    return data[2 : 2 + size]


def quarantine(layout: Layout, data: bytes, about: dict[str, Any]) -> Path:
    """Set an input aside, with what is known, and take it out of the corpus. OSError."""
    name = digest(data)
    path = put(layout.quarantine, name, data)
    put(layout.quarantine, f"{name}.json", json.dumps(about, indent=2).encode() + b"\n")
    for one in layout.inputs.glob(f"*{name}"):
        one.unlink(missing_ok=True)
    return path


def data_of(path: Path) -> bytes | None:
    """A file as an input: its bytes, or the scenario and tape of a scenario file."""
    if path.suffix != store.SUFFIX:
        return read_input(path)
    try:
        case = Case.read(path)
    except (ScenarioError, OSError):
        return None
    return None if case.scenario.micro else case.scenario.to_bytes() + case.tape
