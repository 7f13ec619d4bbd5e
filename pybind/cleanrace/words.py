# SPDX-License-Identifier: GPL-2.0-only
"""The words and limits of the scenario format, for a package installed without any C.

A target's own tables (``Target.table``) are the truth about that target; what stands here is
only what reading and writing a scenario needs before any target is built. The tests compare
every line of it with the tables and constants of a built target.
"""

from typing import Final

FORMAT_VERSION: Final = 1
THREADS_MAX: Final = 8
OPERATIONS_MAX: Final = 64
FILE_SYSTEMS_MAX: Final = 6
BACKENDS_MAX: Final = 4
INODES: Final = 2
PAGES: Final = 2
OBJECTS: Final = 4
UUIDS: Final = 4
INIT_FAILS: Final = 8
CAPACITY_MAX: Final = 6
TAPE_MAX: Final = 32768
STEPS_MAX: Final = 30000
SCENARIO_BYTES_MAX: Final = 138
TEXT_MAX: Final = 512 * 1024  # bytes of a scenario file
HEADER_BYTES: Final = 10  # of a scenario in bytes, before its operations
COUNT_AT: Final = 9  # where in it their number stands

#: Operation -> its operands, one letter each (see OPERANDS); the order is the byte form's.
OPERATIONS: Final[dict[str, str]] = {
    "register": "b",
    "mount": "s",
    "mount-fail": "s",
    "unmount": "s",
    "remount": "s",
    "read": "sip",
    "write": "sip",
    "writeback": "sip",
    "reclaim": "sip",
    "truncate": "sip",
    "delete": "si",
}

#: The test-only table on four plain objects; a scenario uses one table or the other.
MICRO: Final[dict[str, str]] = {
    "lock": "o",
    "unlock": "o",
    "load": "o",
    "store": "o",
    "load-marked": "o",
    "store-marked": "o",
    "cmpxchg": "o",
    "alloc": "o",
    "free": "o",
    "lock-shared": "o",
    "unlock-shared": "o",
    "try-lock": "o",
    "spin": "o",
    "unspin": "o",
    "load-guarded": "o",
    "store-guarded": "o",
    "wait-zero": "o",
    "clear-marked": "o",
    "load-beyond": "o",
    "lose": "o",
}

#: Operand letter -> what it names and how many there are.
OPERANDS: Final[dict[str, tuple[str, int]]] = {
    "b": ("backend", BACKENDS_MAX),
    "s": ("file system", FILE_SYSTEMS_MAX),
    "i": ("inode", INODES),
    "p": ("page", PAGES),
    "o": ("object", OBJECTS),
}

#: Verdict -> its group; "ok" is the absence of all others.
VERDICTS: Final[dict[str, str]] = {
    "ok": "none",
    "init-missing": "proof",
    "init-twice": "proof",
    "init-wrong": "proof",
    "register-result": "proof",
    "ops-changed": "proof",
    "pool-unknown": "proof",
    "pool-dead": "pool",
    "pool-foreign": "pool",
    "pool-leak": "pool",
    "data-stale": "data",
    "data-foreign": "data",
    "deadlock": "engine",
    "step-limit": "engine",
    "use-after-free": "engine",
    "out-of-bounds": "engine",
    "null-dereference": "engine",
    "frozen-write": "engine",
    "assertion": "engine",
    "lock-misuse": "engine",
    "unguarded": "rule",
    "lock-order": "rule",
    "recursive-lock": "rule",
    "sleep-in-atomic": "rule",
    "data-race": "race",
    "overflow": "harness",
}

#: Planted bugs, in the order of their bits.
PLANTED: Final[tuple[str, ...]] = (
    "a",
    "b",
    "c",
    "d",
    "weak-cmpxchg",
    "wrong-init",
    "poolid-unset",
    "no-invalidate-fs",
    "no-invalidate",
    "no-page-lock",
    "write-frozen",
    "early-put",
    "put-unlocked",
    "flags-unlocked",
    "sync-beyond",
    "register-mutex",
    "umount-in-sb-lock",
    "remount-twice",
    "remount-keeps",
    "no-progress",
    "reclaim-unmapped",
)

KINDS: Final[tuple[str, ...]] = ("local", "shared", "none")
IDS: Final[tuple[str, ...]] = ("reused", "growing")
TARGETS: Final[tuple[str, ...]] = ("any", "reference", "linux")
FOUND: Final[tuple[str, ...]] = (
    "signature",
    "build",
    "sha256",
    "compiler",
    "digest",
    "policy",
    "seed",
    "schedule",
    "method",
    "date",
)
