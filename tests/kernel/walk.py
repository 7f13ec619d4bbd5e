# SPDX-License-Identifier: GPL-2.0-only
"""A full trace as steps with names, and who holds which lock at each of them."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from cleanrace import Event, Result, Scenario, Target, run

EIO, EBUSY, EINVAL, ENOENT = -5, -16, -22, -2
LOCAL, SHARED, NONE = 0, 1, 2
SHARED_LOCK = ("lock-shared", "unlock-shared")
LOCKS = ("lock", "unlock", *SHARED_LOCK)


class Step(NamedTuple):
    """One event: `name` is the object of an access, `where` its function, of others "".

    held: lock -> the threads that hold it, before the event; `readers`: the same of shared ones.
    Steps between two changes share them.
    """

    event: Event
    name: str
    where: str
    held: dict[str, int]
    readers: dict[str, frozenset[int]]

    @property
    def kind(self) -> str:
        return self.event.kind

    @property
    def thread(self) -> int:
        return self.event.thread

    def holds(self, lock: str) -> bool:
        """Whether the thread itself has it, for writing."""
        return self.held.get(lock) == self.thread

    def holding(self, suffix: str) -> list[str]:
        """The locks with such a name that the thread holds for writing."""
        return [lock for lock, owner in self.held.items()
                if owner == self.thread and lock.endswith(suffix)]


@cache
def scenario(*lines: str) -> Scenario:
    return Scenario.from_text("\n".join(["cleanrace 1", *lines]))


def local(*threads: str, kind: str = "local") -> Scenario:
    """One file system and these threads."""
    return scenario(f"fs a {kind}", *(f"thread {thread}" for thread in threads))


def many(target: Target, program: Scenario, count: int = 300, *, seed: int = 0,
         planted: tuple[str, ...] = ()) -> Iterator[Result]:
    """The first runs of `random`, with full traces."""
    for number in range(count):
        yield run(target, program, policy="random", seed=seed, schedule=number, planted=planted)


def steps(target: Target, result: Result) -> Iterator[Step]:
    """The trace, step by step. Locks that are born held are so from when they can be seen."""
    names = target.names
    names.load(event.pc for event in result.trace)
    held: dict[str, int] = {}
    readers: dict[str, frozenset[int]] = {}
    for event in result.trace:
        access = event.pc != 0 or event.kind in LOCKS
        name = names.object(event.object) if access else ""
        where = names.function_line(event.pc).rpartition(":")[0] if access else ""
        yield Step(event, name, where, held, readers)
        if event.kind == "lock":
            held = held | {name: event.thread}
        elif event.kind == "unlock":
            held = {lock: owner for lock, owner in held.items() if lock != name}
        elif event.kind in SHARED_LOCK:
            change = {event.thread}
            now = readers.get(name, frozenset())
            now = now | change if event.kind == "lock-shared" else now - change
            readers = readers | {name: now}
        elif event.kind == "sb-new":
            held = held | {umount(event.object): event.thread}
        elif event.kind == "write-marked" and where == "page_add" and name.endswith(".mapping"):
            held = held | {name.removesuffix("mapping") + "lock": event.thread}


def walks(target: Target, program: Scenario, count: int = 300, *,
          seed: int = 0) -> Iterator[list[Step]]:
    """`steps` of `many`."""
    for result in many(target, program, count, seed=seed):
        assert result.verdict == "ok", (result.verdict, program.to_text(), seed)
        yield list(steps(target, result))


def umount(super_block: int) -> str:
    return f"super_table[{super_block}].s_umount"


def kinds(result: Result, *wanted: str) -> list[tuple[str, int]]:
    """(kind, object) of the events of these kinds, in order."""
    return [(event.kind, event.object) for event in result.trace if event.kind in wanted]


def calls(result: Result) -> list[str]:
    """The callbacks in words: kind, pool, and the inode and page it names."""
    told = []
    for call in result.calls:
        words = [call.kind, str(call.pool)]
        if call.kind in ("get", "put", "invalidate-page"):
            words.append(f"{call.inode}.{call.page}")
        elif call.kind == "invalidate-inode":
            words.append(str(call.inode))
        told.append(" ".join(words))
    return told
