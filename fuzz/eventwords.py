# SPDX-License-Identifier: GPL-2.0-only
"""The events of a trace in words, and the locks that each thread holds while they happen.

What the race table, the numbered steps and the picture have in common. No kernel text is here,
only names; operations are spelled as scenario files do.
"""

from typing import Protocol

from cleanrace import Event, Result, Scenario

LOCKS = ("lock", "unlock", "lock-shared", "unlock-shared")
ACCESSES = ("read", "write", "read-marked", "write-marked", "atomic", "atomic-read", *LOCKS)
VERBS = {
    "read": "reads",
    "write": "writes",
    "read-marked": "reads (marked)",
    "write-marked": "writes (marked)",
    "atomic": "atomic on",
    "atomic-read": "atomic read",
    "lock": "locks",
    "unlock": "unlocks",
    "lock-shared": "locks shared",
    "unlock-shared": "unlocks shared",
}
LOCK_FIELD = ".state"  # of every lock: the lock itself is what people know
LETTERS = "abcdef"
ERRNO = {-2: "-ENOENT", -16: "-EBUSY", -22: "-EINVAL"}
HOOKS = ("get_page", "put_page", "invalidate_page", "invalidate_inode", "invalidate_fs")


class Names(Protocol):
    """What a target's names give."""

    def object(self, offset: int) -> str:
        """The variable at an offset."""


def place(number: int) -> str:
    """A file system's letter."""
    return LETTERS[number] if 0 <= number < len(LETTERS) else str(number)


def operation_text(scenario: Scenario, number: int) -> str:
    """An operation as scenario files write it; all threads' are counted in one row."""
    operations = [operation for thread in scenario.threads for operation in thread]
    if not 0 <= number < len(operations):
        return "?"
    operation = operations[number]
    operands = (
        LETTERS[value] if letter == "s" else str(value)
        for letter, value in zip(operation.letters, operation.operands, strict=True)
    )
    return " ".join((operation.name, *operands))


def words_of(event: Event, scenario: Scenario) -> str:
    """One event that is no access, in words."""
    kind, thing, value = event.kind, event.object, event.value
    backend, inode, page = value >> 56 & 0xFF, value >> 48 & 0xFF, value >> 40 & 0xFF
    low = value & 0xFFFFFFFF
    at = f"pool {thing}, inode {inode} page {page}"
    loc = f"{place(thing >> 8)} inode {thing >> 4 & 15} page {thing & 15}"
    sentences = {
        "op-begin": lambda: f"> {operation_text(scenario, thing)}",
        "op-end": lambda: f"< {operation_text(scenario, thing)}: {ERRNO.get(value, value)}",
        "sb-new": lambda: f"super block {thing} of {place(value & 255)} appears",
        "sb-mounted": lambda: f"super block {thing} is mounted",
        "sb-kill": lambda: f"super block {thing} starts to die",
        "sb-free": lambda: f"super block {thing} is freed",
        "init-call": lambda: f"sb {thing} calls init_{'shared_' if value & 1 else ''}fs",
        "init-done": lambda: f"sb {thing} init call returns",
        "visit": lambda: f"visits super block {thing}",
        "visit-done": lambda: f"leaves super block {thing}",
        "hook": lambda: f"hook {_hook(value)}, sb {thing}",
        "hook-done": lambda: f"hook returns {value}",
        "register": lambda: f"registers backend {thing}",
        "registered": lambda: f"backend {thing} registered: {ERRNO.get(value, value)}",
        "cb-init": lambda: f"init_fs called: {_handed(thing)}",
        "cb-init-shared": lambda: f"init_shared_fs called, uuid {low}: {_handed(thing)}",
        "cb-get": lambda: f"get called, {at}: {f'hit, content {low}' if low else 'miss'}",
        "cb-put": lambda: f"put called, {at}, content {low}",
        "cb-invalidate-page": lambda: f"invalidate_page called, {at}",
        "cb-invalidate-inode": lambda: f"invalidate_inode called, pool {thing}, inode {inode}",
        "cb-invalidate-fs": lambda: f"invalidate_fs called: pool {thing} given back",
        "set": lambda: f"{loc} now {value}",
        "zero": lambda: f"{loc} truncated",
        "read-begin": lambda: f"reads {loc}",
        "read-end": lambda: f"{loc} read: {value}",
    }
    text = sentences[kind]() if kind in sentences else f"{kind} {thing} {value}"
    if kind.startswith("cb-") and backend:
        text += f" (backend {backend})"
    return text


def _hook(number: int) -> str:
    return HOOKS[number] if 0 <= number < len(HOOKS) else str(number)


def _handed(pool: int) -> str:
    return f"pool {pool} handed out" if pool >= 0 else "fails"


def hold(held: dict[int, str], event: Event) -> None:
    """Change `held`, a thread's locks with the sign | (for itself alone) or : (shared)."""
    if event.kind == "lock":
        held[event.object] = "|"
    elif event.kind == "lock-shared":
        held[event.object] = ":"
    elif event.kind in ("unlock", "unlock-shared"):
        held.pop(event.object, None)


def born_locked(result: Result, names: Names) -> dict[int, list[int]]:
    """Index of an event -> the locks its thread holds from there on without having taken them.

    A super block comes to the world with its s_umount held by whoever makes it, a page with its
    page lock.
    """
    born: dict[int, list[int]] = {}
    made: dict[int, int] = {}  # thread -> index of the last super block it made
    met: dict[tuple[int, str], int] = {}  # thread and thing -> index of its first access to it
    taken: set[tuple[int, int]] = set()
    for number, event in enumerate(result.trace):
        key = (event.thread, event.object)
        if event.kind == "sb-new":
            made[event.thread] = number
        elif event.kind == "lock":
            taken.add(key)
        if event.kind not in ACCESSES:
            continue
        name = names.object(event.object).removesuffix(LOCK_FIELD)
        thing = (event.thread, name.partition(".")[0])
        since = met.setdefault(thing, number)
        if event.kind == "unlock":
            at = made.get(event.thread, since) if name.endswith(".s_umount") else since
            if key not in taken:
                born.setdefault(at, []).append(event.object)
            taken.discard(key)
            met.pop(thing)
    return born
