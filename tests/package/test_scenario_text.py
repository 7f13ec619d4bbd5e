# SPDX-License-Identifier: GPL-2.0-only
"""The text form: it round-trips, and whatever a file holds is a case or one clear error."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cleanrace import Case, FileSystem, Operation, Scenario, ScenarioError, Switch, strategies
from cleanrace.text import LINE_MAX
from cleanrace.words import TEXT_MAX

FIXED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

FINDING = """\
# Two mounts and a registration.
#
cleanrace 1
title register while  two file systems mount
target linux
broken c weak-cmpxchg
expect init-twice
within 100000
steps-max 100
ids growing
capacity 2
init-fails 0 2
fs a local
fs b shared uuid 1 handles
fs c none
thread register 0
thread mount a; read a 0 1; unmount a
tape 0*12 1 0*3 2
found build 0123456789abcdef
found compiler gcc (Debian 12.2.0-14) 12.2.0
switch start->1
switch 0->1 2 cleancache_register_ops read cleancache_ops 1
switch 1->0 end
"""

SHORT = "cleanrace 1\nfs a local\nthread mount a\n"


def test_every_line_of_the_grammar_is_read() -> None:
    case = Case.from_text(FINDING)
    assert case == Case(
        Scenario(
            (FileSystem("local"), FileSystem("shared", handles=True, uuid=1), FileSystem("none")),
            (
                (Operation("register", (0,)),),
                (
                    Operation("mount", (0,)),
                    Operation("read", (0, 0, 1)),
                    Operation("unmount", (0,)),
                ),
            ),
            ids="growing",
            capacity=2,
            init_fails=frozenset({0, 2}),
        ),
        title="register while  two file systems mount",
        target="linux",
        broken=frozenset({"c", "weak-cmpxchg"}),
        expect="init-twice",
        within=100_000,
        steps_max=100,
        tape=bytes(12) + b"\1\0\0\0\2",
        found={"build": "0123456789abcdef", "compiler": "gcc (Debian 12.2.0-14) 12.2.0"},
        switches=(
            Switch.edge("start", 1, 1),
            Switch(0, 1, 2, "cleancache_register_ops", "read", "cleancache_ops", 1),
            Switch.edge("end", 1, 0),
        ),
        comments=("Two mounts and a registration.", ""),
    )
    assert case.to_text() == FINDING


def test_a_micro_scenario_is_read() -> None:
    text = "cleanrace 1\nexpect deadlock\nmicro\nthread lock 0; lock 3\nthread store 1\n"
    case = Case.from_text(text)
    assert case.to_text() == text
    assert case.scenario == Scenario(
        (),
        ((Operation("lock", (0,)), Operation("lock", (3,))), (Operation("store", (1,)),)),
        micro=True,
    )


def test_defaults_may_be_left_out_and_order_is_free() -> None:
    text = "\n  # why\r\ncleanrace 1\r\nthread  mount\ta ;unmount a\n\nfs a shared\nids reused\n"
    case = Case.from_text(text)
    assert case.comments == ("why",)
    assert case.expect == "ok"
    assert case.within == 20_000
    assert case.scenario.to_text() == (
        "cleanrace 1\nfs a shared uuid 0\nthread mount a; unmount a\n"
    )


@FIXED
@given(strategies.cases())
@example(Case(Scenario(), comments=("#", "  two", "")))
@example(Case(Scenario(), title="# ; x", found={"compiler": "# ; 1"}))
def test_what_we_write_comes_back_byte_for_byte(case: Case) -> None:
    text = case.to_text()
    again = Case.from_text(text)
    assert again == case
    assert again.to_text() == text
    assert Scenario.from_text(case.scenario.to_text()) == case.scenario


def test_the_longest_tape_fits_into_a_file(tmp_path: Path) -> None:
    tape = bytes(100 + i % 2 for i in range(16_384))
    path = tmp_path / "long.litmus"
    path.write_text(Case(Scenario(), tape=tape).to_text())
    assert Case.read(path).tape == tape


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the file is empty, expected a first line 'cleanrace 1'"),
        ("# only\n", 2, 1, "the file is empty"),
        ("fs a local\n", 1, 1, "expected 'cleanrace 1' first, this is no scenario file"),
        ("cleanrace 2\nanything", 1, 11, "a newer version of cleanrace wrote this: format 2"),
        ("cleanrace 0\n", 1, 11, "format 0 never was"),
        ("cleanrace\n", 1, 10, "expected the format's version"),
        ("cleanrace one\n", 1, 11, "expected the format's version from 0 to"),
        ("cleanrace 1 2\n", 1, 13, "expected the end of the line, not '2'"),
        ("cleanrace " + "9" * 100_000, 1, 11, "expected the format's version from 0 to"),
        ("cleanrace 1\n", 2, 1, "expected a file system, such as 'fs a local'"),
        ("\ufeffcleanrace 1\n", 1, 1, "character U+FEFF is not text"),
        ("cleanrace 1\0\n", 1, 12, "character U+0000 is not text"),
        (SHORT + "\ud800", 4, 1, "character U+D800 is not text"),
        (SHORT + "thraed mount a\n", 4, 1, "unknown line 'thraed', expected one of title"),
        (SHORT + "thread mnt a\n", 4, 8, "unknown operation 'mnt', expected one of register"),
        (SHORT + "thread lock 1\n", 4, 8, "unknown operation 'lock'"),
        (SHORT + "thread\n", 4, 7, "expected something after thread"),
        (SHORT + "thread mount\n", 4, 13, "mount: expected its file system here"),
        (SHORT + "thread mount a b\n", 4, 16, "mount: expected ';' or the end of the line"),
        (SHORT + "thread mount b\n", 4, 14, "expected one of a, not 'b'"),
        (SHORT + "thread read a 0 2\n", 4, 17, "expected a number of its page from 0 to 1"),
        (SHORT + "thread read a 0 \u0660\n", 4, 17, "expected a number of its page"),
        (SHORT + "thread ; mount a\n", 4, 8, "expected an operation, not ';'"),
        (SHORT + "thread mount a;; mount a\n", 4, 16, "expected an operation, not ';'"),
        (SHORT + "thread mount a;\n", 4, 16, "expected an operation after ';'"),
        (SHORT + "thread mount a # why\n", 4, 16, "a comment must stand on a line of its own"),
        (SHORT + "thread mount a\n" * 8, 11, 1, "too many threads, expected at most 8"),
        (SHORT + "thread " + "; ".join(["mount a"] * 64), 4, 1, "too many operations"),
        (SHORT + "thread " + "; ".join(["mount a"] * 65), 4, 584, "too many operations"),
        (SHORT + "fs a local\n", 4, 4, "expected file system 'b' here"),
        (SHORT + "fs b\n", 4, 5, "expected a kind: local, shared, none"),
        (SHORT + "fs b nfs\n", 4, 6, "expected one of local, shared, none, not 'nfs'"),
        (SHORT + "fs b local uuid 1\n", 4, 12, "only a shared file system has a uuid"),
        (SHORT + "fs b shared uuid\n", 4, 17, "expected a number after uuid"),
        (SHORT + "fs b shared uuid 4\n", 4, 18, "expected a uuid from 0 to 3, not '4'"),
        (SHORT + "fs b none handle\n", 4, 11, "expected the end of the line, not 'handle'"),
        (
            "cleanrace 1\nfs a shared\nthread read a 0 1\nfs b shared\n",
            3,
            8,
            "file system 0 shares its uuid with another one",
        ),
        (SHORT + "".join(f"fs {x} none\n" for x in "bcdefg"), 9, 1, "too many file systems"),
        (SHORT + "micro\n", 4, 1, "a micro scenario has no file systems"),
        ("cleanrace 1\nmicro\ncapacity 1\n", 3, 1, "a micro scenario has no capacity"),
        (SHORT + "micro yes\n", 4, 7, "expected the end of the line"),
        (SHORT + "ids growing\nids growing\n", 5, 1, "a second ids line, the first is line 4"),
        (SHORT + "ids big\n", 4, 5, "expected one of reused, growing, not 'big'"),
        (SHORT + "capacity 7\n", 4, 10, "expected a number of pages from 0 to 6, not '7'"),
        (SHORT + "init-fails 0 0\n", 4, 14, "0 stands there twice"),
        (SHORT + "init-fails 8\n", 4, 12, "from 0 to 7"),
        (SHORT + "broken c c\n", 4, 10, "c stands there twice"),
        (SHORT + "broken z\n", 4, 8, "expected one of a, b, c, d"),
        (SHORT + "expect fine\n", 4, 8, "expected one of ok, init-missing"),
        (SHORT + "target bsd\n", 4, 8, "expected one of any, reference, linux"),
        (SHORT + "within -1\n", 4, 8, "expected a number of schedules from 1"),
        (SHORT + "within 99999999999\n", 4, 8, "expected a number of schedules from 1"),
        (SHORT + "tape 0*\n", 4, 8, "expected how many times from 1 to 32768, not ''"),
        (SHORT + "tape 256\n", 4, 6, "expected a choice N or N*times from 0 to 255"),
        (SHORT + "tape 0*32768 1\n", 4, 14, "the tape is too long"),
        (SHORT + "tape 0*999999999999999\n", 4, 8, "expected how many times"),
        (SHORT + "found me x\n", 4, 7, "expected one of signature, build, sha256"),
        (SHORT + "found seed\n", 4, 11, "expected a value after seed"),
        (SHORT + "found seed 1\nfound seed 1\n", 5, 7, "a second line 'found seed'"),
        (SHORT + "found seed one\n", 4, 12, "expected a whole number from 0 to 1844674407370955"),
        (SHORT + "found schedule -1\n", 4, 16, "expected a whole number from 0 to 184467440737"),
        (SHORT + "found seed 1 2\n", 4, 12, "expected one whole number"),
        (SHORT + "switch 0->1 1 f read x\n", 4, 1, "expected switch start-><to>, <from>-><to> end"),
        (SHORT + "switch 0-1 1 f read x 1\n", 4, 1, "expected switch start-><to>"),
        (SHORT + "switch start->1 end\n", 4, 1, "expected switch start-><to>"),
        (SHORT + "switch 0->8 1 f read x 1\n", 4, 8, "expected a thread from 0 to 7, not '8'"),
        (SHORT + "switch 0->1 0 f read x 1\n", 4, 13, "expected an operation's number"),
        (SHORT + "switch 0->1 1 f end x 1\n", 4, 17, "end is not what a running thread does"),
        (SHORT + "title " + "x" * 2000 + "\n", 4, 7, "a title longer than 1000 characters"),
        (SHORT + "# " + "x" * LINE_MAX + "\n", 4, LINE_MAX + 1, "the line is too long"),
        ("\n" * 600_000, TEXT_MAX + 1, 1, "the file is too long"),
    ],
)
def test_an_error_says_where_and_what_was_expected(
    text: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Case.from_text(text, source="x.litmus")
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message
    assert str(caught.value).startswith(f"x.litmus: line {line}, column {column}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"cleanrace 1\nfs a l\xf6cal\n", 2, 7, "byte 0xf6 is not UTF-8"),
        ("cleanrace 1\n".encode("utf-16"), 1, 1, "byte 0xff is not UTF-8"),
        ("cleanrace 1\n".encode("utf-16-le"), 1, 2, "character U+0000 is not text"),
        ("# \u00fc\n# \u00fc".encode() + b"\xc3", 2, 4, "byte 0xc3 is not UTF-8"),
        (b"\x7fELF\2\1\1\0", 1, 1, "character U+007F is not text"),
        (b"x" * 10_000_000, 1, TEXT_MAX + 1, "the file is too long"),
        ("\u00fc".encode() * 5_000_000, 1, 262_145, "the file is too long"),
        (b";" * 130_000, 1, 1, "expected 'cleanrace 1' first"),
        (SHORT.encode() + b"thread " + b";" * 130_000, 4, 8, "expected an operation, not ';'"),
        (SHORT.encode() + b"tape" + b" 1" * 65_000, 4, 65_542, "the tape is too long"),
        (SHORT.encode() + b"broken" + b" c" * 65_000, 4, 10, "c stands there twice"),
    ],
)
def test_a_hostile_file_gives_one_error(
    tmp_path: Path, data: bytes, line: int, column: int, message: str
) -> None:
    path = tmp_path / "bad.litmus"
    path.write_bytes(data)
    with pytest.raises(ScenarioError) as caught:
        Case.read(path)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def check_case_or_error(text: str) -> bool:
    """Whether it is a case; if so it round-trips, if not the error lies inside the text."""
    error = None
    try:
        case = Case.from_text(text)
    except ScenarioError as caught:
        error = caught
    if error is None:
        assert Case.from_text(case.to_text()) == case
        return True
    lines = text.split("\n")
    assert error.line in range(1, len(lines) + 1)
    assert error.column in range(1, len(lines[error.line - 1]) + 2), error
    return False


@FIXED
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_case_or_a_scenario_error(text: str) -> None:
    check_case_or_error(text)


def test_a_damaged_finding_is_a_case_or_an_error_inside_the_file() -> None:
    draw = random.Random(2)
    tokens = [*FINDING.split(), ";", "\n", "#", "\0", "-1", "0*", "9" * 20, "micro"]
    accepted = 0
    for _ in range(3_000):
        text = FINDING
        for _ in range(draw.randrange(1, 4)):
            at, length = draw.randrange(len(text) + 1), draw.choice((0, 1, 5, 40))
            text = text[:at] + draw.choice(("", draw.choice(tokens), " ")) + text[at + length :]
        accepted += check_case_or_error(text)
    assert 100 < accepted < 2_900


def test_a_file_without_an_end_is_an_error_too() -> None:
    with pytest.raises(ScenarioError, match="the file is too long"):
        Case.read("/dev/zero")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Case.read(tmp_path / "none.litmus")
    with pytest.raises(IsADirectoryError):
        Case.read(os.fspath(tmp_path))
