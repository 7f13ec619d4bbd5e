# SPDX-License-Identifier: GPL-2.0-only
"""A trace's numbers get names: functions and lines, variables, fields and indices."""

from pathlib import Path

import pytest

from cleanrace import Scenario, Target, run
from cleanrace.names import Names

ACCESSES = frozenset(
    [
        "read",
        "write",
        "read-marked",
        "write-marked",
        "atomic",
        "atomic-read",
        "lock",
        "unlock",
        "lock-shared",
        "unlock-shared",
    ]
)


def test_accesses_of_a_registration_and_a_mount_are_named(target_510: Target) -> None:
    text = "cleanrace 1\nfs a local\nthread mount a; unmount a\nthread register 0; mount a\n"
    result = run(target_510, Scenario.from_text(text))
    names = target_510.names
    accesses = [event for event in result.trace if event.kind in ACCESSES]
    named = {
        (event.kind, names.object(event.object), names.function_line(event.pc).split(":")[0])
        for event in accesses
    }
    assert ("atomic", "cleancache_ops", "cleancache_register_ops") in named
    assert ("write", "super_table[0].cleancache_poolid", "__cleancache_init_fs") in named
    assert ("unlock", "super_table[0].s_umount", "filesystem_mount") in named
    assert ("lock", "sb_lock", "iterate_supers") in named
    # Only the backends are outside of the kernel's code; their words say what they touch.
    outside = {names.object(event.object) for event in accesses
               if names.function_line(event.pc) == "?:0"}
    assert outside
    assert all(name.startswith(("backend_words.", "judged_")) for name in outside)
    assert not [event for event in accesses if names.object(event.object).startswith("cr_")]


def test_a_line_is_a_number_inside_the_function(target_510: Target) -> None:
    result = run(target_510, Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\n"))
    event = next(event for event in result.trace if event.kind == "atomic")
    function, _, line = target_510.names.function_line(event.pc).partition(":")
    assert function == "cleancache_register_ops"
    assert 40 < int(line) < 110


def test_fields_and_indices_go_down_to_the_accessed_word(target_510: Target) -> None:
    text = "cleanrace 1\nfs a local\nfs b local handles\nthread mount a; mount b; read b 1 1\n"
    result = run(target_510, Scenario.from_text(text))
    objects = {
        target_510.names.object(event.object) for event in result.trace if event.kind in ACCESSES
    }
    assert "super_table[1].s_inodes[1].i_data.slots[1]" in objects
    assert "super_table[1].s_next" not in objects - {"super_table[0].s_next"}
    assert "inode_disks[1][1].blocks[1]" in objects


def test_what_is_nowhere_has_a_name_too(target_510: Target) -> None:
    assert target_510.names.function_line(0) == "?:0"
    assert target_510.names.object(1 << 20) == "cr_kdata+0x100000"


def test_names_are_looked_up_once(target_510: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(target_510.module)
    names.load(range(1, 200))
    first = [names.function_line(pc) for pc in range(1, 200)]
    monkeypatch.setenv("PATH", "")
    assert [names.function_line(pc) for pc in range(1, 200)] == first
    with pytest.raises(OSError, match="addr2line not found: install the Debian package binutils"):
        names.function_line(300)


def test_a_file_that_is_no_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no section cr_ktext: it is no target"):
        Names("/bin/sh").object(0)
    with pytest.raises(FileNotFoundError):
        Names(tmp_path / "none").object(0)
