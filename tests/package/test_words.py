# SPDX-License-Identifier: GPL-2.0-only
"""What the pure-Python package states about the format is what a built target says."""

import cleanrace
from cleanrace import Target, _native, oracle, words


def names(target: Target, table: str) -> list[str]:
    return list(target.table(table))


def test_operations_and_their_operands_are_those_of_the_c_tables(target_510: Target) -> None:
    for stated, table in ((words.OPERATIONS, "ops"), (words.MICRO, "micro")):
        assert list(stated) == names(target_510, table)
        assert stated == {name: line[0] for name, line in target_510.table(table).items()}


def test_verdicts_and_their_groups_are_those_of_the_c_table(target_510: Target) -> None:
    assert list(words.VERDICTS) == names(target_510, "verdicts")
    table = target_510.table("verdicts")
    assert {name: group for name, (group, _) in table.items()} == words.VERDICTS
    assert all(sentence for _, sentence in table.values())


def test_planted_bugs_are_those_of_the_c_table(target_510: Target) -> None:
    assert list(words.PLANTED) == names(target_510, "planted")


def test_constants_are_those_of_the_c_header(target_510: Target) -> None:
    lib = target_510.native.lib
    assert {name: getattr(lib, name) for name in _native.CONSTANTS} == dict(_native.CONSTANTS)
    assert len(cleanrace.Summary().registers) == lib.CR_REGISTERS


def test_events_that_the_python_oracle_looks_at_exist(target_510: Target) -> None:
    known = set(names(target_510, "events"))
    spoken = {*oracle._OPENERS, *oracle._OPENERS.values(), *oracle._INITS}
    spoken |= {"sb-new", "sb-mounted", "sb-kill", "sb-free", "registered", "set", "zero"}
    spoken |= {"op-begin", "op-end", "read-begin", "read-end", "cb-invalidate-fs"}
    assert spoken <= known


def test_the_python_oracle_knows_every_verdict_of_its_groups() -> None:
    groups = ("proof", "pool", "data")
    assert set(oracle._JUDGES) == {v for v, group in words.VERDICTS.items() if group in groups}


def test_every_public_name_is_there_and_documented() -> None:
    for name in cleanrace.__all__:
        assert getattr(cleanrace, name).__doc__, name
