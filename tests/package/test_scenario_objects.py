# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios as objects refuse early and say what, with which value, and what to do."""

import copy
import pickle
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from cleanrace import Case, FileSystem, Operation, Scenario, ScenarioError, strategies

FIXED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

LOCAL = FileSystem("local")
MOUNT = Operation("mount", (0,))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FileSystem("nfs"), "kind='nfs': expected one of local, shared, none"),
        (lambda: FileSystem("shared", uuid=4), "uuid=4: expected a number from 0 to 3"),
        (lambda: FileSystem("local", uuid=1), "uuid=1: only a shared file system has one"),
        (lambda: FileSystem("local", 1), "handles=1: expected a bool"),
        (lambda: Operation("umount", (0,)), "name='umount': unknown operation, expected one of"),
        (lambda: Operation("read", (0,)), "read takes a tuple of 3: file system, inode, page"),
        (lambda: Operation("read", (0, 0, 2)), "page of read=2: expected a number from 0 to 1"),
        (lambda: Operation("mount", (True,)), "file system of mount=True: expected a number"),
        (lambda: Operation("mount", [0]), "operands=[0]: mount takes a tuple of 1"),
        (lambda: Scenario(()), "file_systems has 0 items: expected 1 to 6"),
        (lambda: Scenario((LOCAL,) * 7), "file_systems has 7 items: expected 1 to 6"),
        (lambda: Scenario([LOCAL]), "expected a tuple of FileSystem"),
        (lambda: Scenario((1,)), "expected a tuple of FileSystem"),
        (lambda: Scenario(threads=((),)), "threads[0] is empty: leave it out"),
        (lambda: Scenario(threads=((MOUNT,),) * 9), "threads has 9 items: expected at most 8"),
        (lambda: Scenario(threads=((MOUNT,) * 65,)), "65 operations: expected at most 64"),
        (lambda: Scenario(threads=(MOUNT,)), "expected a tuple of tuple"),
        (lambda: Scenario(threads=(("mount",),)), "expected a tuple of Operation"),
        (
            lambda: Scenario(threads=((Operation("mount", (1,)),),)),
            "file system 1 does not exist, expected 0 to 0",
        ),
        (
            lambda: Scenario(threads=((Operation("lock", (1,)),),)),
            "lock is not of this scenario's table: register",
        ),
        (
            lambda: Scenario((), ((MOUNT,),), micro=True),
            "mount is not of a micro scenario's table: lock",
        ),
        (lambda: Scenario((LOCAL,), micro=True), "pass file_systems=() and leave"),
        (lambda: Scenario(ids="random"), "ids='random': expected one of reused, growing"),
        (lambda: Scenario(capacity=7), "capacity=7: expected a number from 0 to 6"),
        (lambda: Scenario(init_fails=frozenset({8})), "init_fails=8: expected a number from 0"),
        (lambda: Scenario(init_fails={1}), "expected a frozenset of int"),
        (
            lambda: Scenario(
                (FileSystem("shared", uuid=1),) * 2, ((Operation("read", (1, 0, 0)),),)
            ),
            "file system 1 shares its uuid with another one",
        ),
        (lambda: Case(LOCAL), "expected a Scenario"),
        (lambda: Case(Scenario(), title="a\nb"), "title='a\\nb': expected one line"),
        (lambda: Case(Scenario(), title=" a"), "without spaces around it"),
        (lambda: Case(Scenario(), expect="bad"), "expect='bad': expected one of ok, init-missing"),
        (lambda: Case(Scenario(), broken=frozenset({"e"})), "broken='e': expected one of a, b"),
        (lambda: Case(Scenario(), within=0), "within=0: expected a number from 1 to"),
        (lambda: Case(Scenario(), tape=bytes(40000)), "tape has 40000 bytes: expected 32768"),
        (
            lambda: Case(Scenario(), found={"author": "x"}),
            "found='author': expected one of signature, build",
        ),
        (lambda: Case(Scenario(), found={"seed": "x"}), "found seed='x': expected a number from 0"),
        (lambda: Case(Scenario(), comments=("a\0b",)), "expected one line"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_the_way_out(
    build: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_an_error_shows_at_most_a_bit_of_a_huge_value() -> None:
    with pytest.raises(ValueError, match="expected one of") as caught:
        FileSystem("x" * 10_000_000)
    assert len(str(caught.value)) < 200


def test_two_shared_file_systems_with_one_uuid_are_twins() -> None:
    one, other = FileSystem("shared", uuid=1), FileSystem("shared", uuid=2)
    assert Scenario((one, other, FileSystem(), one)).twins() == {0, 3}
    assert Scenario((one, other)).twins() == frozenset()


@FIXED
@given(strategies.cases())
def test_objects_travel_between_processes(case: Case) -> None:
    assert pickle.loads(pickle.dumps(case)) == case
    assert copy.deepcopy(case) == case
    assert hash(case.scenario) == hash(copy.deepcopy(case.scenario))


def test_an_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ScenarioError("wrong", 3, 4, "file")))
    assert (error.line, error.column, str(error)) == (3, 4, "file: line 3, column 4: wrong")
