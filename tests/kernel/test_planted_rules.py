# SPDX-License-Identifier: GPL-2.0-only
"""Planted bugs that break a rule of locks or memory, and the verdict each of them gets."""

import pytest
import walk

from cleanrace import Target, search, words

REGISTER = "register 0"
ONCE = 2_000


@pytest.mark.parametrize(("bug", "verdict", "kind", "threads"), [
    ("early-put", "use-after-free", "local", (REGISTER, "mount a; unmount a")),
    ("put-unlocked", "unguarded", "local", ("mount a; unmount a",)),
    ("sync-beyond", "out-of-bounds", "local", ("mount a; unmount a",)),
    ("register-mutex", "lock-order", "local", (REGISTER, "mount a")),
    ("register-mutex", "deadlock", "shared uuid 1", (REGISTER, "mount a")),
    ("umount-in-sb-lock", "sleep-in-atomic", "none", ("mount a; register 0",)),
    ("remount-twice", "recursive-lock", "local", ("mount a; remount a",)),
    ("remount-keeps", "lock-misuse", "none", ("mount a; remount a",)),
    ("no-progress", "step-limit", "local", (REGISTER, "mount-fail a")),
    ("reclaim-unmapped", "null-dereference", "local",
     ("mount a; write a 0 0; reclaim a 0 0", "truncate a 0 0")),
    ("flags-unlocked", "data-race", "local", (REGISTER, "mount a")),
])  # fmt: skip
def test_a_planted_bug_is_found_and_nothing_without_it(
    control: Target, bug: str, verdict: str, kind: str, threads: tuple[str, ...]
) -> None:
    scenario = walk.local(*threads, kind=kind)
    options = {"schedules": ONCE, "detect": True, "steps_max": 2_000, "judged": words.VERDICTS}
    assert verdict in search(control, scenario, planted=[bug], **options).violations
    assert search(control, scenario, **options).violations == {}


@pytest.mark.parametrize("bug", ["put-unlocked", "umount-in-sb-lock", "register-mutex"])
def test_a_rule_is_judged_only_by_who_detects(target: Target, bug: str) -> None:
    scenario = walk.local("mount a; register 0; unmount a")
    assert search(target, scenario, schedules=1, planted=[bug]).violations == {}
