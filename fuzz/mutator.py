# SPDX-License-Identifier: GPL-2.0-only
"""Mutations of fuzzer inputs that respect the scenario format.

An input is a scenario (8 bytes of header, two bytes per operation) and, behind it, a tape.
libFuzzer's own mutations mostly move bytes across that border, which changes everything at
once. These change one thing that has a meaning: an operation, an operand, a thread, one choice
of the tape. Every eighth time libFuzzer mutates by itself, so that nothing is out of reach.

Invariant: what mutate() returns is at most `size_max` bytes long and never a micro scenario.
Nothing here knows a run or a target; all is a function of the arguments and of the inputs seen
before (for splicing).
"""

from collections.abc import Callable, Sequence
from random import Random

from cleanrace import words
from fuzz import generate

HEADER = words.HEADER_BYTES
OPERATIONS_MAX = 20  # longer scenarios only from libFuzzer's own mutations
TAPE_MAX = 512
OPCODES = len(words.OPERATIONS)
SEEN_MAX = 64

Parts = tuple[bytearray, list[bytes], bytearray]  # header, operations, tape


class Mutator:
    """mutate() with a memory of recent inputs, and libFuzzer's own mutation beside it."""

    def __init__(
        self,
        *,
        own: Callable[[bytes, int], bytes] | None = None,
        seeds: Sequence[bytes] = (),
    ) -> None:
        self.own = own
        self.seeds = list(seeds)
        self.seen: list[bytes] = []

    def mutate(self, data: bytes, size_max: int, seed: int) -> bytes:
        """A neighbour of `data` of at most `size_max` bytes; `seed` decides which."""
        random = Random(seed)
        if len(self.seen) < SEEN_MAX:
            self.seen.append(data)
        else:
            self.seen[random.randrange(SEEN_MAX)] = data
        if self.own is not None and random.random() < 0.125:
            return _without_micro(bytearray(self.own(data, size_max)))[:size_max]
        if len(data) < HEADER + 2 or random.random() < 0.02:
            data = self.fresh(random)
        header, operations, tape = split(data)
        for _ in range(random.choice((1, 1, 2, 4))):
            which = random.random()
            if which < 0.05:
                _splice(random, header, operations, tape, random.choice(self.seen))
            elif which < 0.1:
                _head(random, header)
            elif which < 0.5:
                random.choice(_OPERATIONS)(random, operations)
            else:
                random.choice(_TAPE)(random, tape)
        return join(header, operations, tape)[:size_max]

    def fresh(self, random: Random) -> bytes:
        """An input that no other one led to: a seed or a drawn scenario."""
        if self.seeds and random.random() < 0.5:
            return random.choice(self.seeds)
        return generate.scenario(random).to_bytes()


def split(data: bytes) -> Parts:
    """Header, operations (two bytes each) and tape of an input, as the decoder cuts it."""
    header = bytearray(data[:HEADER].ljust(HEADER, b"\0"))
    count = header[words.COUNT_AT] % (words.OPERATIONS_MAX + 1)
    end = HEADER + 2 * count
    body = data[HEADER:end].ljust(2 * count, b"\0")  # past its end the decoder reads 0
    operations = [body[i : i + 2] for i in range(0, len(body), 2)]
    return header, operations, bytearray(data[end:])


def join(header: bytearray, operations: list[bytes], tape: bytearray) -> bytes:
    """The input of these parts."""
    operations = operations[: words.OPERATIONS_MAX]
    header[words.COUNT_AT] = len(operations)
    return _without_micro(header) + b"".join(operations) + bytes(tape[:TAPE_MAX])


def _without_micro(data: bytearray) -> bytes:
    if data:
        data[0] &= ~generate.MICRO_BIT & 0xFF
    return bytes(data)


def _splice(
    random: Random, header: bytearray, operations: list[bytes], tape: bytearray, other: bytes
) -> None:
    other_header, other_operations, other_tape = split(other)
    shape = random.randrange(3)
    if shape == 0:
        header[: words.COUNT_AT] = other_header[: words.COUNT_AT]
    elif shape == 1:
        at = random.randrange(len(other_operations) + 1)
        operations += other_operations[at : at + 4]
        del operations[OPERATIONS_MAX:]
    else:
        at = random.randrange(len(tape) + 1)
        tape[at:] = other_tape[random.randrange(len(other_tape) + 1) :]


# The scenario: one function per change.


def _operation(random: Random) -> bytes:
    return bytes((random.randrange(OPCODES), random.randrange(4) | random.randrange(32) << 3))


def _insert(random: Random, operations: list[bytes]) -> None:
    if len(operations) < OPERATIONS_MAX:
        operations.insert(random.randrange(len(operations) + 1), _operation(random))


def _delete(random: Random, operations: list[bytes]) -> None:
    if len(operations) > 1:
        del operations[random.randrange(len(operations))]


def _replace(random: Random, operations: list[bytes]) -> None:
    if operations:
        operations[random.randrange(len(operations))] = _operation(random)


def _move(random: Random, operations: list[bytes]) -> None:
    if operations:
        moved = operations.pop(random.randrange(len(operations)))
        operations.insert(random.randrange(len(operations) + 1), moved)


def _operand(random: Random, operations: list[bytes]) -> None:
    if operations:
        at = random.randrange(len(operations))
        code, operands = operations[at]
        bits = random.choice((0b00111000, 0b01000000, 0b10000000))
        operations[at] = bytes((code, operands & ~bits & 0xFF | random.randrange(256) & bits))


def _thread(random: Random, operations: list[bytes]) -> None:
    if operations:
        at = random.randrange(len(operations))
        code, operands = operations[at]
        operations[at] = bytes((code, operands & 0xF8 | random.choice((0, 1, 2, 3, 4))))


def _head(random: Random, header: bytearray) -> None:
    at = random.randrange(7)
    header[at] ^= 1 << random.randrange(8 if at == 1 else 5)


_OPERATIONS = (_insert, _delete, _replace, _move, _operand, _thread)


# The tape: 0 goes on with the running thread, so zeros are what a schedule mostly consists of.


def _set(random: Random, tape: bytearray) -> None:
    if tape:
        tape[random.randrange(len(tape))] = random.choice((0, 1, 1, 2, 3))


def _append(random: Random, tape: bytearray) -> None:
    tape += bytes(random.choice((0, 1, 2, 4, 8, 16, 32))) + bytes((random.choice((1, 1, 2)),))


def _longer(random: Random, tape: bytearray) -> None:
    at = random.randrange(len(tape) + 1)
    tape[at:at] = bytes(random.choice((1, 1, 2, 3, 8)))


def _shorter(random: Random, tape: bytearray) -> None:
    if tape:
        at = random.randrange(len(tape))
        del tape[at : at + random.choice((1, 1, 2, 3, 8))]


def _swap(random: Random, tape: bytearray) -> None:
    if len(tape) > 1:
        a, b = random.randrange(len(tape)), random.randrange(len(tape))
        tape[a], tape[b] = tape[b], tape[a]


def _cut(random: Random, tape: bytearray) -> None:
    del tape[random.randrange(len(tape) + 1) :]


def _switches(random: Random, tape: bytearray) -> None:
    """A new tape the way the policy `random` writes them."""
    rarely = 1 << random.randrange(1, 7)
    del tape[:]
    for _ in range(random.randrange(1, 7)):
        tape += bytes(random.randrange(2 * rarely)) + bytes((random.choice((1, 1, 2)),))


_TAPE = (_set, _set, _set, _append, _longer, _longer, _shorter, _shorter, _swap, _cut, _switches)
