# SPDX-License-Identifier: GPL-2.0-only
"""A slow, obvious oracle for the groups proof, pool and data, to check csrc/check/oracle.c.

Written from the words of events.def, verdicts.def and the design, one small function per
verdict, each of which reads the whole trace for itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from cleanrace.result import Event, parts

_EBUSY: Final = -16
_KINDS: Final = ("local", "shared", "none")
_INITS: Final = ("cb-init", "cb-init-shared")
_OPENERS: Final = {"init-call": "init-done", "visit": "visit-done", "hook": "hook-done"}


class _Callback(NamedTuple):
    """One callback: its place in the trace, and on behalf of which super block it happened."""

    at: int
    kind: str
    backend: int
    pool: int
    uuid: int
    sb: "_Super | None"


class _Super(NamedTuple):
    """One super block's life; numbers are used again, so its birth tells two apart."""

    born: int
    number: int
    kind: str
    uuid: int


def judge(trace: Sequence[Event]) -> frozenset[str]:
    """The verdicts of the groups proof, pool and data that this trace deserves."""
    return frozenset(verdict for verdict, broken in _JUDGES.items() if broken(trace))


def _supers(trace: Sequence[Event]) -> Iterator[tuple[int, Event, dict[int, _Super]]]:
    """Every event with its place and the super blocks known just after it, by number."""
    known: dict[int, _Super] = {}
    for at, event in enumerate(trace):
        if event.kind == "sb-new":
            kind, uuid = _KINDS[event.value >> 8 & 0xFF], event.value >> 16 & 0xFF
            known[event.object] = _Super(at, event.object, kind, uuid)
        yield at, event, known


def _callbacks(trace: Sequence[Event]) -> Iterator[_Callback]:
    inside: dict[int, list[int]] = {}  # per thread the super blocks that it works for
    for at, event, known in _supers(trace):
        stack = inside.setdefault(event.thread, [])
        if event.kind in _OPENERS:
            stack.append(event.object)
        elif event.kind in _OPENERS.values():
            stack.pop()
        elif event.kind.startswith("cb-"):
            backend, _, _, low = parts(event.value)
            sb = known.get(stack[-1]) if stack else None
            yield _Callback(at, event.kind, backend, event.object, low, sb)


def _finished(trace: Sequence[Event]) -> bool:
    """Whether every operation that began has ended: the run was not stopped."""
    begun = sum(event.kind == "op-begin" for event in trace)
    return begun == sum(event.kind == "op-end" for event in trace)


def _init_missing(trace: Sequence[Event]) -> bool:
    inits = {call.at: call.sb for call in _callbacks(trace) if call.kind in _INITS}
    initialised: set[_Super | None] = set()
    mounted: set[_Super] = set()
    registered = False
    for at, event, known in _supers(trace):
        if at in inits:
            initialised.add(inits[at])
        elif event.kind == "sb-mounted" and known[event.object].kind != "none":
            mounted.add(known[event.object])
        elif event.kind == "sb-kill":
            mounted.discard(known[event.object])
        elif event.kind == "registered" and event.value == 0:
            registered = True
        if registered and not mounted <= initialised:
            return True
    return False


def _init_twice(trace: Sequence[Event]) -> bool:
    counts = Counter(call.sb for call in _callbacks(trace) if call.kind in _INITS)
    return any(count > 1 for count in counts.values())


def _init_wrong(trace: Sequence[Event]) -> bool:
    for call in _callbacks(trace):
        if call.kind not in _INITS:
            continue
        if call.sb is None:
            return True
        expected = {"local": ("cb-init", 0), "shared": ("cb-init-shared", call.sb.uuid)}
        if expected.get(call.sb.kind) != (call.kind, call.uuid):
            return True
    return False


def _register_result(trace: Sequence[Event]) -> bool:
    results = [event.value for event in trace if event.kind == "registered"]
    wins = results.count(0)
    if wins > 1 or wins + results.count(_EBUSY) < len(results):
        return True
    return bool(results) and not wins and _finished(trace)


def _ops_changed(trace: Sequence[Event]) -> bool:
    winners = [e.object for e in trace if e.kind == "registered" and e.value == 0]
    called = {call.backend for call in _callbacks(trace)}
    if winners:
        return not called <= {winners[0]}
    return len(called) > 1


def _pool_unknown(trace: Sequence[Event]) -> bool:
    handed_out: set[tuple[int, int]] = set()
    for call in _callbacks(trace):
        if call.kind in _INITS:
            handed_out.add((call.backend, call.pool))
        elif (call.backend, call.pool) not in handed_out or call.pool < 0:
            return True
    return False


def _owners(
    trace: Sequence[Event],
) -> Iterator[tuple[_Callback, dict[tuple[int, int], Counter[_Super | None]]]]:
    """Every callback with the owners of each pool handed out, as they were just before it."""
    owners: dict[tuple[int, int], Counter[_Super | None]] = {}
    for call in _callbacks(trace):
        yield call, owners
        pool = (call.backend, call.pool)
        if call.kind in _INITS and call.pool >= 0:
            owners.setdefault(pool, Counter())[call.sb] += 1
        elif call.kind == "cb-invalidate-fs" and owners.get(pool):
            gives = call.sb if call.sb in owners[pool] else next(iter(owners[pool]))
            owners[pool] -= Counter((gives,))


def _pool_dead(trace: Sequence[Event]) -> bool:
    for call, owners in _owners(trace):
        if call.kind not in _INITS and owners.get((call.backend, call.pool)) == Counter():
            return True
    return False


def _pool_foreign(trace: Sequence[Event]) -> bool:
    for call, owners in _owners(trace):
        owned = owners.get((call.backend, call.pool))
        if call.kind not in _INITS and owned and call.sb not in owned:
            return True
    return False


def _pool_leak(trace: Sequence[Event]) -> bool:
    # Judged when the super block dies: what somebody else gives back later does not help it.
    for at, event, known in _supers(trace):
        if event.kind != "sb-free":
            continue
        left: Counter[_Super | None] = Counter()
        for _, owners in _owners([*trace[:at], _LAST]):
            left = sum(owners.values(), Counter())
        if left[known[event.object]]:
            return True
    return False


_LAST: Final = Event(0, 0, "cb-get", -1, 0, 0, 0)  # a callback that owns and gives nothing


def _reads(trace: Sequence[Event]) -> Iterator[tuple[int, int, set[int]]]:
    """Location and content of every read that ended, with what it may have read.

    That is what was there when it began, or was written while it ran. An end of the file (-1) is
    left out: it is the inode's size, not a content.
    """
    running: dict[int, tuple[int, set[int]]] = {}  # per thread: location, what it may return
    current: dict[int, int] = {}
    for event in trace:
        if event.kind in ("set", "zero"):
            current[event.object] = event.value
            for place, allowed in running.values():
                if place == event.object:
                    allowed.add(event.value)
        elif event.kind == "read-begin":
            first = event.object << 16 | 1
            running[event.thread] = (event.object, {current.get(event.object, first)})
        elif event.kind == "read-end":
            place, allowed = running.pop(event.thread)
            if event.value >= 0:
                yield place, event.value, allowed


def _data_foreign(trace: Sequence[Event]) -> bool:
    return any(value and value >> 16 != place for place, value, _ in _reads(trace))


def _data_stale(trace: Sequence[Event]) -> bool:
    return any(
        value not in allowed and (not value or value >> 16 == place)
        for place, value, allowed in _reads(trace)
    )


_JUDGES: Final[dict[str, Callable[[Sequence[Event]], bool]]] = {
    "init-missing": _init_missing,
    "init-twice": _init_twice,
    "init-wrong": _init_wrong,
    "register-result": _register_result,
    "ops-changed": _ops_changed,
    "pool-unknown": _pool_unknown,
    "pool-dead": _pool_dead,
    "pool-foreign": _pool_foreign,
    "pool-leak": _pool_leak,
    "data-stale": _data_stale,
    "data-foreign": _data_foreign,
}
