# SPDX-License-Identifier: GPL-2.0-only
"""Hypothesis strategies for scenarios, tapes and cases; the only file that needs Hypothesis.

They draw what can be interesting: a registration beside a few mounts, page operations on file
systems that some thread mounts, unmounts last. Everything valid can still be drawn, through the
threads that do anything. They shrink to fewer threads, fewer operations and tapes of zeros.

What is drawn are names and small numbers, from strategies made once; which operations these mean
among the drawn file systems is arithmetic. Building strategies in the middle of a draw made it
thirty times slower.
"""

from collections.abc import Iterable
from typing import Any, Final

from hypothesis import strategies as st

from cleanrace import words
from cleanrace.case import NUMBER_MAX, NUMBERED, SEED_MAX, Case, Switch
from cleanrace.scenario import FileSystem, Operation, Scenario, twins

_Raw = tuple[str, int, int, int]  # name, location, inode, page
_Thread = tuple[str, _Raw, list[_Raw], str]  # role, its first operation, more, its last one

_PAGE_OPERATIONS: Final = tuple(n for n, letters in words.OPERATIONS.items() if "i" in letters)
_BIT: Final = st.integers(0, 1)
_PLACE: Final = st.integers(0, 3)

_FILE_SYSTEM: Final = st.builds(
    lambda kind, handles, uuid: FileSystem(kind, handles, uuid if kind == "shared" else 0),
    st.sampled_from(words.KINDS),
    st.booleans(),
    st.integers(0, words.UUIDS - 1),
)
_FILE_SYSTEMS: Final = st.lists(_FILE_SYSTEM, min_size=1, max_size=words.FILE_SYSTEMS_MAX)
_RACE: Final = st.booleans()  # whether the first two threads register and mount
_IDS: Final = st.sampled_from(words.IDS)
_CAPACITY: Final = st.none() | st.integers(0, words.CAPACITY_MAX)
_INIT_FAILS: Final = st.frozensets(st.integers(0, words.INIT_FAILS - 1), max_size=2)
_PIECE: Final = st.builds(
    lambda zeros, choice: bytes(zeros) + bytes((choice,)),
    st.integers(0, 60),
    st.integers(1, words.THREADS_MAX - 1),
)


def _raw(names: Iterable[str]) -> st.SearchStrategy[_Raw]:
    return st.tuples(st.sampled_from(tuple(names)), _PLACE, _BIT, _BIT)


def file_systems() -> st.SearchStrategy[FileSystem]:
    """File systems of every kind, local ones first when shrinking."""
    return _FILE_SYSTEM


def operations(
    *, among: tuple[FileSystem, ...] = (FileSystem(),), names: tuple[str, ...] | None = None
) -> st.SearchStrategy[Operation]:
    """Operations on the file systems `among`, with the given names (None: all of the table).

    Page operations are drawn only on file systems without a twin (Scenario.twins); an empty
    `among` draws from the micro table. ValueError if no name is possible.
    """
    table = words.OPERATIONS if among else words.MICRO
    single = len(twins(among)) < len(among)
    possible = [n for n in names or table if n in table and (single or "i" not in table[n])]
    if not possible:
        raise ValueError(f"names={names}: none of them is possible on these file systems")
    return _raw(possible).map(lambda raw: _operations((raw,), among)[0])


def _operations(raws: Iterable[_Raw], among: tuple[FileSystem, ...]) -> list[Operation]:
    """What was drawn, as operations; page operations without a place are left out."""
    every = range(len(among))
    single = [number for number in every if number not in twins(among)]
    found = []
    for name, place, inode, page in raws:
        letters = words.OPERATIONS[name] if among else words.MICRO[name]
        where = single if "i" in letters else every
        if "s" in letters and not where:
            continue
        location = where[place % len(where)] if "s" in letters else place
        values = {"s": location, "b": location, "o": location, "i": inode, "p": page}
        found.append(Operation(name, tuple(values[letter] for letter in letters)))
    return found


def _drawn_threads(*, micro: bool, length_max: int) -> st.SearchStrategy[_Thread]:
    names = words.MICRO if micro else words.OPERATIONS
    anything = st.tuples(
        st.just("anything"),
        _raw(names),
        st.lists(_raw(names), max_size=length_max - 1),
        st.just(""),
    )
    if micro:
        return anything
    roles = st.tuples(
        st.sampled_from(("register", "mount", "pages")),
        _raw(("mount", "mount", "mount", "mount-fail")),
        st.lists(_raw(_PAGE_OPERATIONS), max_size=max(0, length_max - 2)),
        st.sampled_from(("", "unmount", "remount") if length_max > 1 else ("",)),
    )
    return roles | anything


def _thread(thread: _Thread, among: tuple[FileSystem, ...]) -> tuple[Operation, ...]:
    role, first, listed, last = thread
    if role == "anything":
        return tuple(_operations((first, *listed), among))
    place = first[1]
    pages = _operations([(raw[0], place, *raw[2:]) for raw in listed], among)
    if role == "register":
        return (Operation("register", (place & 1,)), *pages)
    if role == "pages" and pages:
        return tuple(pages)
    # Mounts the file system that its page operations, if it has any, work on.
    number = pages[0].operands[0] if pages else place % len(among)
    tail = (Operation(last, (number,)),) if last else ()
    return (Operation(first[0], (number,)), *pages, *tail)


def _mounting(thread: _Thread) -> tuple[_Raw, list[_Raw], str]:
    """What a thread that mounts is made of, out of any thread."""
    _, first, listed, last = thread
    pages = [raw for raw in listed if raw[0] in _PAGE_OPERATIONS]
    return ("mount", *first[1:]), pages, last


@st.composite
def _scenarios(
    draw: st.DrawFn, *, micro: bool, threads: st.SearchStrategy[list[_Thread]]
) -> Scenario:
    if micro:
        listed = (_thread(thread, ()) for thread in draw(threads))
        return Scenario(file_systems=(), threads=tuple(listed), micro=True)
    among = tuple(draw(_FILE_SYSTEMS))
    drawn = draw(threads)
    if len(drawn) > 1 and draw(_RACE):
        drawn[:2] = [("register", *drawn[0][1:]), ("mount", *_mounting(drawn[1]))]
    made = (_thread(thread, among) for thread in drawn)
    return Scenario(
        file_systems=among,
        threads=tuple(thread for thread in made if thread),
        ids=draw(_IDS),
        capacity=draw(_CAPACITY),
        init_fails=draw(_INIT_FAILS),
    )


def scenarios(
    *, micro: bool = False, threads_max: int = 4, length_max: int = 8
) -> st.SearchStrategy[Scenario]:
    """Valid scenarios with up to `threads_max` threads of up to `length_max` operations each."""
    if not 1 <= threads_max <= words.THREADS_MAX:
        raise ValueError(f"threads_max={threads_max}: expected 1 to {words.THREADS_MAX}")
    if length_max < 1 or threads_max * length_max > words.OPERATIONS_MAX:
        raise ValueError(
            f"length_max={length_max}: expected 1 to {words.OPERATIONS_MAX // threads_max} for"
            f" {threads_max} threads"
        )
    one = _drawn_threads(micro=micro, length_max=length_max)
    return _scenarios(micro=micro, threads=st.lists(one, min_size=1, max_size=threads_max))


def tapes(*, switches_max: int = 8) -> st.SearchStrategy[bytes]:
    """Tapes as schedules are: long runs of "go on" with a few switches between them."""
    return st.lists(_PIECE, max_size=switches_max).map(b"".join)


def cases() -> st.SearchStrategy[Case]:
    """Valid cases with everything that a scenario file can hold, findings included."""
    # What str.isprintable() accepts.
    printable = st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" ")
    lines = st.text(printable, max_size=40).map(str.strip)
    word = st.text("abc_019.:[]", min_size=1, max_size=20)
    thread = st.integers(0, words.THREADS_MAX - 1)
    named = st.builds(
        Switch,
        thread,
        thread,
        st.integers(1, words.OPERATIONS_MAX),
        word,
        st.sampled_from(("read", "write", "lock", "cb-put", "wait")),
        word,
        st.integers(1, NUMBER_MAX),
    )
    start = thread.map(lambda to: Switch.edge("start", to, to))
    switch = named | start | st.builds(Switch.edge, st.just("end"), thread, thread)
    values: dict[str, st.SearchStrategy[Any]] = {
        "scenario": scenarios() | scenarios(micro=True),
        "title": lines,
        "target": st.sampled_from(words.TARGETS),
        "broken": st.frozensets(st.sampled_from(words.PLANTED)),
        "expect": st.sampled_from(tuple(words.VERDICTS)),
        "within": st.integers(1, NUMBER_MAX),
        "steps_max": st.integers(0, words.STEPS_MAX),
        "tape": tapes(),
        "found": st.fixed_dictionaries(
            {},
            optional={
                name: st.integers(0, SEED_MAX).map(str) if name in NUMBERED else lines.filter(bool)
                for name in words.FOUND
            },
        ),
        "switches": st.lists(switch, max_size=3).map(tuple),
        "comments": st.lists(lines, max_size=3).map(tuple),
    }
    return st.builds(Case, **values)
