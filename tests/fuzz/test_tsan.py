# SPDX-License-Identifier: GPL-2.0-only
"""The real ThreadSanitizer on the thread engine: what it sees, what it does not, and our list."""

from pathlib import Path

import pytest

import build
from cleanrace import Scenario, Target
from fuzz import tsan

STORE, LOAD = "write", "read"


@pytest.fixture(scope="module")
def target(real: Target) -> Target:
    return real


@pytest.fixture(scope="module")
def code(target: Target) -> tsan.Code:
    return tsan.code_of(build.program(target.name, flavour="tsan"), target)


def micro(*threads: str) -> Scenario:
    """A scenario of micro-operations."""
    lines = ["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)]
    return Scenario.from_text("\n".join(lines))


def kinds(target: Target, scenario: Scenario) -> list[tuple[str, str]]:
    """What is reported of a micro scenario: the kinds of the two sides of each pair."""
    met = tsan.run(target, [scenario], 0)
    assert (met.rounds, met.scenarios) == (tsan.ROUNDS, 1)
    assert all(side.place.startswith("micro_perform:") for pair in met.pairs for side in pair)
    return sorted((first.kind, second.kind) for first, second in met.pairs)


@pytest.mark.parametrize(("threads", "expected"), [
    (("store 0", "store 0"), [(STORE, STORE)]),
    (("store 0", "load 0"), [(LOAD, STORE)]),
    (("load 0", "load 0"), []),
    (("store 0", "store 1"), []),
])  # fmt: skip
def test_exactly_the_plain_race_is_reported(
    target: Target, threads: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert [tuple(sorted(pair)) for pair in kinds(target, micro(*threads))] == expected


@pytest.mark.parametrize("threads", [
    ("lock 0; store 0; unlock 0", "lock 0; store 0; unlock 0", "lock 0; load 0; unlock 0"),
    ("lock 1; lock 0; store 0; unlock 1; unlock 0", "lock 0; load 0; unlock 0"),
])  # fmt: skip
def test_a_common_lock_orders(target: Target, threads: tuple[str, ...]) -> None:
    assert kinds(target, micro(*threads)) == []


@pytest.mark.parametrize("threads", [
    ("store 0; lock 0; unlock 0", "lock 1; unlock 1; load 0"),
    ("lock 0; store 0; unlock 0", "lock 1; load 0; unlock 1"),
    ("store 0; store-marked 1; store-marked 2", "load-marked 3; load-marked 3; load 0"),
    ("store 0; cmpxchg 0", "cmpxchg 1; load 0"),
])  # fmt: skip
def test_the_engines_own_order_hides_no_race(target: Target, threads: tuple[str, ...]) -> None:
    """All of them pass through one lock, one counter of steps and one trace of the engine."""
    assert [sorted(pair) for pair in kinds(target, micro(*threads))] == [[LOAD, STORE]]


def test_marked_accesses_are_told_apart(target: Target) -> None:
    met = tsan.run(target, [micro("store-marked 0", "load-marked 0")], 0)
    assert [sorted(side.kind for side in pair) for pair in met.pairs] == [
        ["read-marked", "write-marked"]]
    assert met.plain == set()


def test_atomic_operations_are_told_as_marked_accesses(target: Target) -> None:
    """The registration's compare-and-exchange, and the plain read of a mount beside it."""
    mail = Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\nthread mount a")
    met = tsan.run(target, [mail], 0)
    assert [LOAD, f"{STORE}-marked"] in [sorted(side.kind for side in pair) for pair in met.pairs]


def test_a_second_access_to_the_same_word_is_seen_as_well(target: Target) -> None:
    """A thread's later read by another line, with nothing released since its first."""
    second = tsan.run(target, [micro("load-marked 0", "store-marked 0")], 0).pairs
    both = tsan.run(target, [micro("wait-zero 0; load-marked 0", "store-marked 0")], 0).pairs
    assert len(second) == 1
    assert second <= both


@pytest.mark.long
def test_what_it_reports_is_in_our_list(target: Target) -> None:
    """Pages, mounts, remounts and registrations: all of the kernel's orders, or it would not be."""
    scenarios = tsan.scenarios()[:len(tsan.MORE)]
    met = tsan.run(target, scenarios, 2)
    assert met.rounds >= tsan.ROUNDS * len(scenarios)
    assert len(met.plain) >= 5
    assert met.plain <= tsan.detect(target, scenarios, schedules=5_000)


def test_half_a_report_is_no_pair(code: tsan.Code) -> None:
    inside, outside = code.start + 0x10, code.start + code.bytes + 0x10

    def report(second: str) -> str:
        return ("WARNING: ThreadSanitizer: data race (pid=1)\n"
                "  Write of size 4 at 0x1 by thread T2:\n"
                f"    #0 <null> <null> (replay-tsan+{inside:#x})\n\n"
                "  Previous read of size 4 at 0x1 by thread T1:\n"
                f"{second}\n")

    whole = report(f"    #0 <null> <null> (replay-tsan+{inside:#x})\n")
    marked = report(f"    #0 <null> <null> (replay-tsan+{outside:#x})\n"
                    f"    #1 <null> <null> (replay-tsan+{inside:#x})\n")
    engine = report(f"    #0 <null> <null> (replay-tsan+{outside:#x})\n")
    lost = report("    [failed to restore the stack]\n")
    assert [side.kind for side in next(iter(tsan.pairs(whole, code)))] == ["read", "write"]
    assert [side.kind for side in next(iter(tsan.pairs(marked, code)))] == ["read-marked", "write"]
    assert tsan.pairs(engine + lost, code) == set()
    assert tsan.pairs(whole * 2 + lost, code) == tsan.pairs(whole, code)


def test_a_program_that_cannot_run_is_an_error(target: Target, tmp_path: Path) -> None:
    fake = tmp_path / "replay-tsan"
    fake.write_text("#!/bin/sh\necho 'FATAL: ThreadSanitizer: unexpected memory mapping' >&2\n"
                    "exit 66\n")
    fake.chmod(0o755)
    with pytest.raises(tsan.TsanError, match="status 66: FATAL: ThreadSanitizer"):
        tsan.play(fake, micro("load 0"), rounds=1)
    with pytest.raises(tsan.TsanError, match="is not of build"):
        tsan.code_of(fake, target)
