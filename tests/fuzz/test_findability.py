# SPDX-License-Identifier: GPL-2.0-only
"""The tree of schedules is counted exactly, and says from when on a verdict was inevitable."""

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

import cleanrace
from cleanrace import Case, Target
from fuzz import bisecting, bugs, findability, keeping
from fuzz import run as program
from fuzz.tree import Count, Schedules

USED_FREED = "cleanrace 1\nexpect use-after-free\nmicro\nthread load 0\nthread free 0\n"
PREMISE_C = """\
cleanrace 1
broken c
expect init-missing
fs a local
thread register 0
thread mount a
"""


@pytest.mark.parametrize(("text", "all_or_none"), [
    (USED_FREED, False),
    (("cleanrace 1\nexpect use-after-free\nmicro\nthread load 0; store 1\nthread free 0\n"
      "thread load 1; store 2\n"), False),
    (("cleanrace 1\nexpect deadlock\nmicro\nthread lock 0; lock 1; unlock 1; unlock 0\n"
      "thread lock 1; lock 0; unlock 0; unlock 1\n"), False),
    (("cleanrace 1\nexpect lock-order\nmicro\nthread lock 0; lock 1; unlock 1; unlock 0\n"
      "thread lock 1; lock 0; unlock 0; unlock 1\n"), False),
    (("cleanrace 1\nexpect deadlock\nmicro\nthread wait-zero 0; store-marked 1\n"
      "thread store-marked 0; clear-marked 0\nthread load-marked 1; store-marked 0\n"), False),
    (("cleanrace 1\nexpect data-race\nmicro\nthread store 0\nthread load 0\n"
      "thread load 1; load 0\n"), True),
    (("cleanrace 1\nbroken weak-cmpxchg\nexpect register-result\nfs a none\n"
      "thread register 0\nthread register 1\n"), False),
    (("cleanrace 1\nexpect register-result\nfs a none\n"
      "thread register 0\nthread register 1\nthread register 2\n"), True),
])  # fmt: skip
def test_the_counts_are_those_of_running_every_interleaving(
    real: Target, text: str, *, all_or_none: bool
):
    """The exploration in C runs each of them, and knows nothing of states."""
    case = Case.from_text(text)
    every = cleanrace.explore(
        real, case.scenario, policy="dfs", points="all", **keeping.options(case)
    )
    assert every.done
    counted = Schedules(target=real, case=case).count(b"")
    violating = every.violations.get(case.expect, 0)
    assert counted == Count(every.executions, violating, counted.chance)
    assert (counted.chance in (0, 1)) == (violating in (0, every.executions))
    assert (counted.share in (0, 1)) == all_or_none


def test_the_counts_of_a_node_are_the_sum_of_its_alternatives(real: Target):
    case = Case.from_text(PREMISE_C)
    tree = Schedules(target=real, case=case)
    tape = bisecting.shows(real, case).tape
    for decided in range(0, len(tape), 5):
        prefix = tape[:decided]
        _, left = tree.alternatives(prefix, tree.run(prefix))
        parts = [tree.count(more) for more, _ in left]
        whole = tree.count(prefix)
        assert len(parts) == 2
        assert whole.schedules == sum(part.schedules for part in parts)
        assert whole.violating == sum(part.violating for part in parts)


def test_a_schedule_is_inevitable_from_exactly_one_decision_on(real: Target):
    case = Case.from_text(PREMISE_C)
    outcome = bisecting.shows(real, case)
    tree = Schedules(target=real, case=case)
    decisions = tree.decisions(outcome.tape)
    assert 0 < decisions[0].before.share < Fraction(1, 1000)
    assert all(one.after == other.before for one, other in pairwise(decisions))
    at = findability.inevitable(decisions)
    assert at is not None
    before, after = decisions[: decisions.index(at)], decisions[decisions.index(at) :]
    assert all(one.after.share < 1 for one in before)
    assert all(one.after.share == 1 for one in after)
    # The registration has passed by a super block whose mount has looked for a backend already.
    said = findability.describe(real, case, at.turn)
    assert re.fullmatch(
        r"step \d+: thread 0 at cleancache_register_ops_sb:\d+ "
        r"\(reads super_table\[\d\]\.cleancache_poolid\)",
        said,
    )


def test_freeing_first_leaves_no_way_out(real: Target):
    """Load, free: the free ends before the load begins, or there is nothing to see."""
    case = Case.from_text(USED_FREED)
    tree = Schedules(target=real, case=case)
    decisions = tree.decisions(bisecting.shows(real, case).tape)
    assert decisions[0].before == tree.count(b"")
    at = findability.inevitable(decisions)
    assert at is not None
    assert at.turn[0].thread == 1


@pytest.mark.parametrize("text", [USED_FREED, PREMISE_C])
def test_samples_agree_with_the_exact_tree(real: Target, text: str):
    case = Case.from_text(text)
    tape = bisecting.shows(real, case).tape
    decisions = Schedules(target=real, case=case).decisions(tape)
    at = findability.inevitable(decisions)
    assert at is not None
    sampled = findability.sample(real, case, tape, samples=300)
    assert sampled.begin == at.turn
    number = decisions.index(at)
    assert sampled.avoidable == (decisions[number - 1].turn if number else None)
    assert 0.99 < sampled.share < 0.991


def test_a_tree_that_is_too_large_is_given_up(real: Target):
    case = Case.from_text(PREMISE_C)
    with pytest.raises(findability.TooLarge):
        Schedules(target=real, case=case, states_max=50).count(b"")


def test_schedules_per_policy_are_those_of_bench(real: Target):
    case = Case.from_text(USED_FREED)
    row = findability.policies(real, case, name="uaf", seeds=10, cap=100)
    for (policy, _), cell in row.cells.items():
        for seed, found in enumerate(cell.schedules):
            alone = cleanrace.search(
                real, case.scenario, schedules=100, seed=seed, policy=policy,
                stop_on=("use-after-free",), judged=("use-after-free",),
            )  # fmt: skip
            assert found == alone.schedules


@pytest.mark.parametrize(("more", "said"), [
    ([], "inevitable from step"),
    (["--states", "20"], "the tree is too large to be counted within 20 states"),
])  # fmt: skip
def test_the_verb_says_both_parts(
    real: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], said: str
):
    path = tmp_path / "premise-c.litmus"
    path.write_text(PREMISE_C)
    arguments = ["findability", str(path), "--seeds", "3", "--cap", "1000"]
    assert program.main([*arguments, "--target", real.name, *more]) == 0
    out = capfd.readouterr().out
    assert all(f"\n{policy} " in out for policy in ("random", "uniform", "pct-3", "surw"))
    assert said in " ".join(out.split())
    assert ("counted exactly" in out) == (not more)


def test_what_does_not_show_has_no_tree(
    control: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / "fine.litmus"
    path.write_text("cleanrace 1\nexpect init-twice\nwithin 50\nfs a local\nthread mount a\n")
    assert program.main(["findability", str(path), "--target", control.name]) == 1
    assert "init-twice does not show on reference" in capfd.readouterr().out


@pytest.mark.parametrize(("text", "arguments", "said"), [
    (None, [], "there is no such file or folder"),
    ("cleanrace 1\nfs b local\n", [], "line 2"),
    ("cleanrace 1\nfs a local\nthread mount a\n", [], "it expects ok"),
    (PREMISE_C, ["--seeds", "0"], "--seeds 0: expected a whole number from 1"),
    (PREMISE_C, ["--states", "many"], "--states many: expected a whole number"),
])  # fmt: skip
def test_a_wrong_use_is_one_line_and_status_2(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    arguments: list[str],
    said: str,
):
    path = tmp_path / "finding.litmus"
    if text is not None:
        path.write_text(text)
    assert program.main(["findability", str(path), *arguments]) == 2
    heard = capfd.readouterr()
    assert said in heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""


def test_the_chance_of_the_baseline_is_counted_exactly(real: Target):
    """What uniform meets in many schedules is what the tree of all schedules says."""
    bug = next(bug for bug in bugs.listed(real) if bug.name == "lock-order")
    counted = bugs.chance(real, bug)
    assert counted is not None
    runs = 200_000
    met = cleanrace.search(
        real, bug.case.scenario, schedules=runs, policy="uniform", detect=True, **bug.options()
    )
    found = met.violations[bug.case.expect]
    assert counted < 1e-3
    assert abs(found - counted * runs) < 5 * (counted * runs) ** 0.5
    assert bugs.chance(real, bug, states_max=20) is None


def slowly(tree: Schedules, prefix: bytes) -> float:
    """The chance of the baseline below a prefix, with no state known."""
    result = tree.run(prefix)
    _, left = tree.alternatives(prefix, result)
    if not left:
        return float(tree.case.expect in result.verdicts)
    return sum(slowly(tree, more) for more, _ in left) / len(left)


@pytest.mark.parametrize("threads", [
    ("load 0", "free 0"), ("load 0; store 1", "free 0"), ("load 0", "free 0", "load 1"),
])  # fmt: skip
def test_the_chance_of_the_baseline_is_that_of_walking_the_tree(
    real: Target, threads: tuple[str, ...]
):
    lines = ["cleanrace 1", "expect use-after-free", "micro", *(f"thread {one}" for one in threads)]
    tree = Schedules(target=real, case=Case.from_text("\n".join(lines) + "\n"))
    chance = tree.count(b"").chance
    assert 0 < chance < 1
    assert chance == pytest.approx(slowly(tree, b""))
