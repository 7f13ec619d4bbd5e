# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios as objects: which file systems exist, and what each thread does, in order.

Invariant: a Scenario that exists is one that the byte form can say and that the C decoder reads
back as the same one; everything else is a ValueError here, which names the argument, the value
and what to do. Bytes are in codec.py, text is in text.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from cleanrace import checks, words
from cleanrace.checks import shown


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One file system type with one device.

    kind: "local" (its super block has a private pool), "shared" (a cluster file system: the pool
    is found by ``uuid``) or "none" (not cleancache-enabled). handles: its keys are exported file
    handles instead of inode numbers. uuid: 0 to 3, of shared ones only; two shared file systems
    with one uuid share their pool.
    """

    kind: str = "local"
    handles: bool = False
    uuid: int = 0

    def __post_init__(self) -> None:
        checks.choice("kind", self.kind, words.KINDS)
        checks.instance("handles", self.handles, bool)
        checks.number("uuid", self.uuid, 0, words.UUIDS - 1)
        if self.uuid and self.kind != "shared":
            raise ValueError(
                f"uuid={self.uuid}: only a shared file system has one, leave it 0 for {self.kind}"
            )


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its name and its operands, as numbers in the order of the text form.

    ``Operation("read", (0, 1, 0))`` reads page 0 of inode 1 of file system 0.
    """

    name: str
    operands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        letters = words.OPERATIONS.get(self.name)
        if letters is None:
            letters = words.MICRO.get(self.name)
        if letters is None:
            known = ", ".join((*words.OPERATIONS, *words.MICRO))
            raise ValueError(f"name={shown(self.name)}: unknown operation, expected one of {known}")
        if not isinstance(self.operands, tuple) or len(self.operands) != len(letters):
            expected = ", ".join(words.OPERANDS[letter][0] for letter in letters)
            raise ValueError(
                f"operands={shown(self.operands)}: {self.name} takes a tuple of {len(letters)}:"
                f" {expected}"
            )
        for letter, operand in zip(letters, self.operands, strict=True):
            what, count = words.OPERANDS[letter]
            checks.number(f"operands: {what} of {self.name}", operand, 0, count - 1)

    @property
    def micro(self) -> bool:
        """Whether it is of the test-only table."""
        return self.name in words.MICRO

    @property
    def letters(self) -> str:
        """Its operands' letters, see words.OPERANDS."""
        letters = words.OPERATIONS.get(self.name)
        return words.MICRO[self.name] if letters is None else letters

    @property
    def file_system(self) -> int | None:
        """The file system it works on, None if it has no such operand."""
        at = self.letters.find("s")
        return None if at < 0 else self.operands[at]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is raced: file systems, backends' behaviour, and a list of operations per thread.

    file_systems: 1 to 6 (none in a micro scenario). threads: up to 8, none empty, with together
    at most 64 operations. ids: pool ids are "reused", the one given back last first, or
    "growing" and never again. capacity: pages that each backend can hold, 0 to 6, None without
    limit. init_fails: which init callbacks of the run fail, counted from 0 over all backends, each
    0 to 7. micro: the test-only table on four plain objects; such a scenario has nothing but
    threads.
    """

    file_systems: tuple[FileSystem, ...] = (FileSystem(),)
    threads: tuple[tuple[Operation, ...], ...] = ()
    ids: str = "reused"
    capacity: int | None = None
    init_fails: frozenset[int] = frozenset()
    micro: bool = False

    def __post_init__(self) -> None:
        checks.choice("ids", self.ids, words.IDS)
        if self.capacity is not None:
            checks.number("capacity", self.capacity, 0, words.CAPACITY_MAX)
        checks.instance("micro", self.micro, bool)
        checks.items("init_fails", self.init_fails, frozenset, int)
        for number in self.init_fails:
            checks.number("init_fails", number, 0, words.INIT_FAILS - 1)
        self._check_file_systems()
        self._check_threads()

    def _check_file_systems(self) -> None:
        checks.items("file_systems", self.file_systems, tuple, FileSystem)
        count = len(self.file_systems)
        if self.micro:
            if count or self.capacity is not None or self.init_fails or self.ids != "reused":
                raise ValueError(
                    "micro=True: a micro scenario has threads only, pass file_systems=() and leave"
                    " ids, capacity and init_fails alone"
                )
        elif not 1 <= count <= words.FILE_SYSTEMS_MAX:
            raise ValueError(
                f"file_systems has {count} items: expected 1 to {words.FILE_SYSTEMS_MAX}"
            )

    def _check_threads(self) -> None:
        checks.items("threads", self.threads, tuple, tuple)
        if len(self.threads) > words.THREADS_MAX:
            raise ValueError(
                f"threads has {len(self.threads)} items: expected at most {words.THREADS_MAX}"
            )
        total = 0
        for number, thread in enumerate(self.threads):
            checks.items(f"threads[{number}]", thread, tuple, Operation)
            if not thread:
                raise ValueError(f"threads[{number}] is empty: leave it out")
            total += len(thread)
        if total > words.OPERATIONS_MAX:
            raise ValueError(
                f"threads have {total} operations: expected at most {words.OPERATIONS_MAX}"
            )
        twins = self.twins()
        for operation in dict.fromkeys(chain.from_iterable(self.threads)):
            problem = self._problem(operation, twins)
            if problem:
                number = next(n for n, thread in enumerate(self.threads) if operation in thread)
                raise ValueError(f"threads[{number}]: {problem}")

    def problem(self, operation: Operation) -> str:
        """Why `operation` cannot stand in this scenario, in one line; empty if it can."""
        return self._problem(operation, self.twins())

    def _problem(self, operation: Operation, twins: frozenset[int]) -> str:
        if operation.micro != self.micro:
            table = words.MICRO if self.micro else words.OPERATIONS
            kind = "a micro" if self.micro else "this"
            return f"{operation.name} is not of {kind} scenario's table: {', '.join(table)}"
        number = operation.file_system
        if number is None:
            return ""
        if number >= len(self.file_systems):
            return (
                f"{operation.name}: file system {number} does not exist, expected 0 to"
                f" {len(self.file_systems) - 1}"
            )
        if number in twins and "i" in operation.letters:
            return (
                f"{operation.name}: file system {number} shares its uuid with another one, where"
                " page operations need a cluster lock manager, which is not modelled"
            )
        return ""

    def twins(self) -> frozenset[int]:
        """The shared file systems that have another one with the same uuid."""
        return twins(self.file_systems)

    @staticmethod
    def from_bytes(data: bytes) -> "Scenario":
        """The scenario that these bytes mean; total: every byte string means one."""
        from cleanrace import codec

        return codec.decode(data)

    def to_bytes(self) -> bytes:
        """Its canonical bytes, the same that the C decoder's cr_canonical gives."""
        from cleanrace import codec

        return codec.encode(self)

    @staticmethod
    def from_text(text: str) -> "Scenario":
        """The scenario of a scenario file's text; ScenarioError with line and column."""
        from cleanrace.text import parse

        return parse(text).scenario

    def to_text(self) -> str:
        """The scenario alone as a scenario file; Case.to_text also writes the expectation."""
        from cleanrace.text import scenario_text

        return scenario_text(self)


def twins(file_systems: Iterable[FileSystem]) -> frozenset[int]:
    """Numbers of the shared file systems that have another one with the same uuid."""
    shared = [(n, fs.uuid) for n, fs in enumerate(file_systems) if fs.kind == "shared"]
    uuids = [uuid for _, uuid in shared]
    return frozenset(n for n, uuid in shared if uuids.count(uuid) > 1)
