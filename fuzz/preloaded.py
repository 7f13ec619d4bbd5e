# SPDX-License-Identifier: GPL-2.0-only
"""A libFuzzer that came by LD_PRELOAD, as OSS-Fuzz brings it, and our mutator under it.

Atheris's *_with_fuzzer.so are a sanitizer's runtime and libFuzzer in one. Counters go to that
libFuzzer instead of the one in Atheris's own library. It has looked for a mutator before Python
began, so that Atheris's `custom_mutator` would never be called: restart() begins the process anew
with oss_fuzz/mutate.c preloaded too, and use() puts a Python function behind it.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz import store

SOURCE = Path(__file__).resolve().parent / "oss_fuzz" / "mutate.c"
LIBRARY = "mutate.so"
VARIABLE = "LD_PRELOAD"
_CALL = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint
)


def present() -> bool:
    """Whether this process was started with a libFuzzer."""
    return hasattr(ctypes.CDLL(None), "LLVMFuzzerRunDriver")


def mutates() -> bool:
    """Whether that libFuzzer asks for our mutations."""
    return hasattr(ctypes.CDLL(None), "cleanrace_mutate")


def compiled(into: Path) -> Path:
    """The library of mutate.c in a folder; BuildError if there is no compiler."""
    import build

    plan = build.make_plan(build.OURS)
    final = into / LIBRARY
    with build.explained():
        into.mkdir(parents=True, exist_ok=True)
        new = final.with_suffix(f".{os.getpid()}")
        made = build.run(
            *plan.compiler, *plan.flags("engine", "ours"), "-shared", SOURCE, "-o", new
        )
        if made.returncode != 0:
            raise build.BuildError(f"{SOURCE.name}: {build.first_error(made.stderr)}")
        new.replace(final)
    return final


def restart(library: Path) -> None:
    """Begin this process anew with the library of mutate.c; store.Broken if that was in vain."""
    before = os.environ.get(VARIABLE, "")
    if str(library) in before:
        raise store.Broken(
            f"{library} was not loaded by {VARIABLE}: its path may have no blank and no colon"
        )
    os.environ[VARIABLE] = f"{before}:{library}"
    arguments = sys.argv if getattr(sys, "frozen", False) else sys.orig_argv
    os.execv(sys.executable, [arguments[0], *arguments[1:]])  # noqa: S606 - no shell is wanted


def use(mutate: Callable[[bytes, int, int], bytes]) -> object:
    """Let libFuzzer call `mutate` as long as what this returns is kept."""

    def call(data: int, size: int, size_max: int, seed: int) -> int:
        made = mutate(ctypes.string_at(data, size), size_max, seed)
        ctypes.memmove(data, made, len(made))
        return len(made)

    function: Any = _CALL(call)
    place = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "cleanrace_mutate")
    place.value = ctypes.cast(function, ctypes.c_void_p).value
    return function
