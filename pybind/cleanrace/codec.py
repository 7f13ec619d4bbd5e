# SPDX-License-Identifier: GPL-2.0-only
"""Scenario <-> bytes, version 2.

    byte 0     bit 0 growing ids; bits 1-3 capacity + 1, 0 without limit; bit 4 micro table
    byte 1     bit i: the i-th init callback of the run fails
    byte 2     file systems - 1, modulo 6
    bytes 3-8  per file system: bits 0-1 kind modulo 3; bit 2 handles; bits 3-4 uuid if shared
    byte 9     number of operations, modulo 65; two bytes each follow:
    A          operation, modulo the size of the table in use
    B          bits 0-2 thread; bits 3-5 file system, backend or object (modulo their
               number); bit 6 inode; bit 7 page

Total: reading past the end gives 0 and nothing is refused, so that a fuzzer's every input means
a scenario. Page operations on twins (Scenario.twins) are dropped, threads without operations
too. ``decode(encode(s)) == s`` for every Scenario, and ``encode(decode(b))`` is what the C
decoder's cr_canonical gives for ``b``.
"""

from functools import cache
from typing import Final

from cleanrace import words
from cleanrace.scenario import FileSystem, Operation, Scenario, twins

HEADER: Final = words.HEADER_BYTES
COUNT: Final = words.COUNT_AT

_LOCATION: Final = "bso"  # operands that stand in bits 3-5 of B


def decode(data: bytes) -> Scenario:
    """The scenario that `data` means; what follows its last operation is not looked at."""
    head = data[:HEADER].ljust(HEADER, b"\0")
    micro = bool(head[0] & 16)
    file_systems = (
        () if micro else tuple(map(_file_system, head[3 : 4 + head[2] % words.FILE_SYSTEMS_MAX]))
    )
    dropped = twins(file_systems)
    operations = head[COUNT] % (words.OPERATIONS_MAX + 1)
    body = data[HEADER : HEADER + 2 * operations].ljust(2 * operations, b"\0")
    threads: list[list[Operation]] = [[] for _ in range(words.THREADS_MAX)]
    for a, b in zip(body[::2], body[1::2], strict=True):
        operation = _operation(a, b >> 3, len(file_systems))
        if dropped and "i" in operation.letters and operation.file_system in dropped:
            continue
        threads[b & 7].append(operation)
    ordered = tuple(tuple(thread) for thread in threads if thread)
    if micro:
        return Scenario(file_systems=(), threads=ordered, micro=True)
    capacity = head[0] >> 1 & 7
    return Scenario(
        file_systems=file_systems,
        threads=ordered,
        ids=words.IDS[head[0] & 1],
        capacity=capacity - 1 if capacity else None,
        init_fails=frozenset(i for i in range(words.INIT_FAILS) if head[1] >> i & 1),
    )


@cache
def _operation(code: int, operands: int, file_systems: int) -> Operation:
    """The operation of A and bits 3-7 of B; without file systems one of the micro table."""
    table = tuple((words.OPERATIONS if file_systems else words.MICRO).items())
    name, letters = table[code % len(table)]
    location = (operands & 7) % (file_systems if "s" in letters else words.BACKENDS_MAX)
    values = {"i": operands >> 3 & 1, "p": operands >> 4} | dict.fromkeys(_LOCATION, location)
    return Operation(name, tuple(values[letter] for letter in letters))


def _file_system(byte: int) -> FileSystem:
    kind = words.KINDS[(byte & 3) % len(words.KINDS)]
    return FileSystem(kind, bool(byte & 4), byte >> 3 & 3 if kind == "shared" else 0)


def encode(scenario: Scenario) -> bytes:
    """The canonical bytes of `scenario`: 10 and 2 more for each operation."""
    out = bytearray(HEADER)
    if scenario.micro:
        out[0] = 16
    else:
        capacity = 0 if scenario.capacity is None else scenario.capacity + 1
        out[0] = words.IDS.index(scenario.ids) | capacity << 1
        out[1] = sum(1 << number for number in scenario.init_fails)
        out[2] = len(scenario.file_systems) - 1
        for number, fs in enumerate(scenario.file_systems):
            out[3 + number] = words.KINDS.index(fs.kind) | fs.handles << 2 | fs.uuid << 3
    out[COUNT] = sum(map(len, scenario.threads))
    for number, thread in enumerate(scenario.threads):
        for operation in thread:
            code, operands = _operation_bytes(operation.name, operation.operands)
            out += bytes((code, number | operands))
    return bytes(out)


@cache
def _operation_bytes(name: str, operands: tuple[int, ...]) -> tuple[int, int]:
    """A, and B without its thread."""
    table = words.OPERATIONS if name in words.OPERATIONS else words.MICRO
    bits = 0
    for letter, value in zip(table[name], operands, strict=True):
        bits |= value << (3 if letter in _LOCATION else 6 if letter == "i" else 7)
    return tuple(table).index(name), bits


def scenario_bytes(data: bytes) -> int:
    """How many of a fuzzer input's first bytes are the scenario; the rest is its tape."""
    operations = data[COUNT] % (words.OPERATIONS_MAX + 1) if len(data) >= HEADER else 0
    return min(len(data), HEADER + 2 * operations)
