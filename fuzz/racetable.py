# SPDX-License-Identifier: GPL-2.0-only
"""The race table: one run, one column per thread, a row per step.

A row is what one thread did between two decision points: the access it was at, as function:line
and what it did to which object, and the events in words. Beside each column a bar says that the
thread holds a lock (| for itself alone, : shared). Accesses that no other thread could notice
are folded into one row unless everything is asked for. No kernel text is shown, only names.

Pure: a Result and a Target's names in, lines of text out, never wider than asked for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cleanrace import Event, Result, Scenario, Switch, Target

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
WIDTH_MIN = 40
STEP = 5  # columns of the step number
LETTERS = "abcdef"
ERRNO = {-2: "-ENOENT", -16: "-EBUSY", -22: "-EINVAL"}
HOOKS = ("get_page", "put_page", "invalidate_page", "invalidate_inode", "invalidate_fs")


@dataclass
class _Row:
    step: int
    thread: int
    lines: list[str] = field(default_factory=list)
    keep: bool = False
    telling: bool = False  # the violation or its cause
    folded: int = 0
    held: tuple[str, ...] = ()  # per thread: "", ":" or "|", after this row


def switches(result: Result, target: Target) -> tuple[Switch, ...]:
    """The preemptions of a run with a full trace, by what each thread was about to do.

    A thread that never got on again has no such access; it is named "end".
    """
    accesses = [event for event in result.trace if event.kind in ACCESSES]
    target.names.load({event.pc for event in accesses})
    found = []
    for number in range(1, len(accesses)):
        before, event = accesses[number - 1], accesses[number]
        if before.thread == event.thread or not event.enabled >> before.thread & 1:
            continue
        pending = next((e for e in accesses[number:] if e.thread == before.thread), None)
        if pending is None:
            where, kind, name = "?:0", "end", "none"
        else:
            where = target.names.function_line(pending.pc)
            kind, name = pending.kind, target.names.object(pending.object)
        found.append(Switch(event.step, before.thread, event.thread, where, kind, name))
    return tuple(found)


def table(
    result: Result,
    scenario: Scenario,
    target: Target,
    *,
    width: int = 80,
    everything: bool = False,
) -> list[str]:
    """The lines of the race table of a run with a full trace, each at most `width` wide."""
    count = max(1, len(scenario.threads))
    column = max(4, (max(width, WIDTH_MIN) - STEP) // count - 2)
    rows = list(_rows(result, scenario, target))
    rest = 0
    if not everything:
        rows, rest = _until_the_end(rows)
        rows = _folded(rows)
    head = [f"thread {number}" for number in range(count)]
    lines = [" step" + "".join(f"  {clip(text, column):{column}}" for text in head)]
    lines.append("-" * (STEP + count * (column + 2)))
    previous: tuple[str, ...] = ("",) * count
    for row in rows:
        texts = [f"({row.folded} accesses)"] if row.folded else row.lines
        texts = [part for text in texts for part in wrapped(text, column, indent="  ")]
        for at, text in enumerate(texts):
            left = f"{row.step:{STEP}d}" if at == 0 else " " * STEP
            held = row.held if at == len(texts) - 1 else previous
            cells = (
                f" {held[number] or ' '}{text if number == row.thread else '':{column}}"
                for number in range(count)
            )
            lines.append((left + "".join(cells)).rstrip())
        previous = row.held
    if rest:
        lines.append(f"{'':{STEP}}  (steps after that: {rest})")
    lines.append("")
    lines += wrapped("Beside a column: | the thread holds a lock, : a shared one.", width)
    return [line[:width].rstrip() for line in lines]


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns; the middle goes, since line numbers stand at the end."""
    if len(text) <= width:
        return text
    if width < 6:
        return text[:width]
    tail = (width - 2) // 2
    return text[: width - 2 - tail] + ".." + text[-tail:]


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """`text` broken into lines of at most `width`, those after the first with `indent`.

    It breaks at spaces, long names before a dot; what is still too long is clipped.
    """
    lines = [""]
    for piece in _pieces(text):
        if len(lines[-1]) + len(piece.rstrip()) <= width:
            lines[-1] += piece
        else:
            if lines[-1].strip():
                lines.append(indent)
            lines[-1] += clip(piece.strip(), width - len(lines[-1])) + " " * piece.endswith(" ")
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> list[str]:
    """`text` cut after each space and before each dot inside a name."""
    return re.findall(r"\.?[^ .]+ ?|\.+ ?| +", text)


def _rows(result: Result, scenario: Scenario, target: Target) -> Iterator[_Row]:
    names = target.names
    names.load({event.pc for event in result.trace if event.pc})
    shared = _contended(result)
    locks: list[dict[int, str]] = [{} for _ in range(max(1, len(scenario.threads)))]
    born = _born_locked(result)
    row: _Row | None = None
    for number, event in enumerate(result.trace):
        opens = event.kind in ACCESSES or row is None or row.thread != event.thread
        if opens:
            if row is not None:
                switched = row.thread != event.thread
                row.keep |= switched
                yield row
            row = _Row(step=event.step, thread=event.thread)
            row.keep = number > 0 and result.trace[number - 1].thread != event.thread
        assert row is not None
        if event.kind in ACCESSES:
            what = names.object(event.object).removesuffix(LOCK_FIELD)
            row.lines += [names.function_line(event.pc), f"  {VERBS[event.kind]} {what}"]
            row.keep |= event.object in shared
            _hold(locks[event.thread], event)
        else:
            row.lines.append(words_of(event, scenario))
            row.keep = True
        for thing in born.get(number, ()):
            locks[event.thread][thing] = "|"
        row.held = tuple(max(held.values(), default="") for held in locks)
        for marked, sign in ((result.violation, "^ violation"), (result.cause, "^ cause")):
            if event is marked and result.verdict != "ok":
                row.lines.append(sign)
                row.keep = row.telling = True
    if row is not None:
        yield row


def _hold(held: dict[int, str], event: Event) -> None:
    if event.kind == "lock":
        held[event.object] = "|"
    elif event.kind == "lock-shared":
        held[event.object] = ":"
    elif event.kind in ("unlock", "unlock-shared"):
        held.pop(event.object, None)


def _born_locked(result: Result) -> dict[int, list[int]]:
    """Index of an event -> the locks its thread holds from there on without having taken them.

    A super block comes to the world with its s_umount held by whoever makes it.
    """
    born: dict[int, list[int]] = {}
    made: dict[int, int] = {}  # thread -> index of the last super block it made
    taken: set[tuple[int, int]] = set()
    for number, event in enumerate(result.trace):
        key = (event.thread, event.object)
        if event.kind == "sb-new":
            made[event.thread] = number
        elif event.kind == "lock":
            taken.add(key)
        elif event.kind == "unlock":
            if key not in taken and event.thread in made:
                born.setdefault(made[event.thread], []).append(event.object)
            taken.discard(key)
    return born


def _contended(result: Result) -> frozenset[int]:
    """Locks and objects of atomic accesses that two threads use: what threads meet at."""
    users: dict[int, set[int]] = {}
    for event in result.trace:
        if event.kind in LOCKS or event.kind.startswith("atomic"):
            users.setdefault(event.object, set()).add(event.thread)
    return frozenset(what for what, threads in users.items() if len(threads) > 1)


def _until_the_end(rows: list[_Row]) -> tuple[list[_Row], int]:
    """The rows up to the last one that the verdict is about, and how many were left out."""
    last = max((at for at, row in enumerate(rows) if row.telling), default=len(rows) - 1)
    return rows[: last + 1], len(rows) - last - 1


def _folded(rows: Sequence[_Row]) -> list[_Row]:
    """Neighbouring rows of one thread that need not be kept, as one row."""
    folded: list[_Row] = []
    for row in rows:
        last = folded[-1] if folded else None
        if row.keep:
            folded.append(row)
        elif last is not None and last.folded and last.thread == row.thread:
            last.folded += 1
            last.held = row.held
        else:
            folded.append(_Row(row.step, row.thread, row.lines, folded=1, held=row.held))
    for row in folded:
        if row.folded == 1:
            row.folded = 0
    return folded


def _place(number: int) -> str:
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
    loc = f"{_place(thing >> 8)} inode {thing >> 4 & 15} page {thing & 15}"
    sentences = {
        "op-begin": lambda: f"> {operation_text(scenario, thing)}",
        "op-end": lambda: f"< {operation_text(scenario, thing)}: {ERRNO.get(value, value)}",
        "sb-new": lambda: f"super block {thing} of {_place(value & 255)} appears",
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
