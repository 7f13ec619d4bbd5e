# SPDX-License-Identifier: GPL-2.0-only
"""The minimiser: what it ends with is minimal, of the same bug, and always the same.

CLEANRACE_RAW=N minimises N raw findings of ten bugs instead of a few.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, pairwise, product
from random import Random

import pytest

import cleanrace
from cleanrace import FileSystem, Operation, Scenario, Target, words
from fuzz import generate, keeping, minimise, mutator, smaller, store

RAW = int(os.environ.get("CLEANRACE_RAW", "30"))
#: Planted bug, verdict, the threads that are left, preemptions.
MINIMAL = (
    ("a", "init-missing", ("register 0", "mount a"), 1),
    ("b", "init-missing", ("register 0", "mount a"), 1),
    ("c", "init-missing", ("register 0", "mount a"), 1),
    ("d", "init-missing", ("mount a; register 0",), 0),
    ("weak-cmpxchg", "register-result", ("register 0", "register 0"), 1),
    ("wrong-init", "init-wrong", ("register 0; mount a",), 0),
    ("no-page-lock", "assertion", ("register 0; mount a; read a 0 0; reclaim a 0 0",), 0),
    ("write-frozen", "frozen-write", ("mount a",), 0),
    ("early-put", "use-after-free", ("register 0", "mount-fail a"), 1),
    ("put-unlocked", "unguarded", ("mount-fail a",), 0),
    ("sync-beyond", "out-of-bounds", ("mount-fail a",), 0),
    ("register-mutex", "deadlock", ("register 0", "mount a"), 1),
    ("register-mutex", "lock-order", ("mount a; register 0",), 0),
    ("umount-in-sb-lock", "sleep-in-atomic", ("mount a; register 0",), 0),
    ("remount-twice", "recursive-lock", ("mount a; remount a",), 0),
    ("remount-keeps", "lock-misuse", ("mount a; remount a",), 0),
    ("no-progress", "step-limit", ("register 0", "mount a"), 1),
)
#: Those of which many raw findings are made.
TEN = (
    ("a", "init-missing"),
    ("b", "init-missing"),
    ("c", "init-missing"),
    ("d", "init-missing"),
    ("weak-cmpxchg", "register-result"),
    ("early-put", "use-after-free"),
    ("register-mutex", "deadlock"),
    ("no-progress", "step-limit"),
    ("put-unlocked", "unguarded"),
    ("umount-in-sb-lock", "sleep-in-atomic"),
)
METHODS = ("random", "uniform", "surw", "pct-3", "explore", "thread", "harness")


def met(
    target: Target, scenario: Scenario, bug: tuple[str, str], method: str, random: Random
) -> store.Finding | None:
    """A raw finding of the bug in this scenario, if this method meets it soon."""
    planted, verdict = bug[:1], bug[1]
    if method == "explore":
        now = cleanrace.explore(
            target, scenario, planted=planted, executions_max=3000, stop_on=(verdict,))
        if verdict not in now.simplest:
            return None
        tape = now.simplest[verdict].tape
        return store.examine(
            target, scenario, verdict, tape=tape, planted=planted, method=method)
    if method == "harness":
        fuzzer = target.fuzzer(planted=planted)
        for _ in range(300):
            tape = bytes(random.choices((0, 1, 2), (8, 1, 1), k=200))
            data = scenario.to_bytes() + tape
            if verdict in target.named("verdicts", fuzzer.one(data)):
                tape = bytes(mutator.split(data)[2])
                return store.examine(
                    target, scenario, verdict, tape=tape, planted=planted, method=method)
        return None
    policy, seed = method, random.getrandbits(30)
    if method == "thread":
        # Real threads give a hint, which may come or not; the fibers make a finding of it.
        cleanrace.search(target, scenario, schedules=30, seed=seed, engine="thread",
                         planted=planted, stop_on=(verdict,))
        policy, seed = "random", 0
    summary = cleanrace.search(target, scenario, schedules=500, policy=policy, seed=seed,
                               detect=True, planted=planted, stop_on=(verdict,))
    if verdict not in summary.first:
        return None
    return store.examine(target, scenario, verdict, policy=policy, seed=seed,
                         schedule=summary.first[verdict], planted=planted, method=method)


def raws(target: Target, bug: str, verdict: str) -> Iterator[store.Finding]:
    """Raw findings of one bug in scenarios drawn as campaigns do, by every method in turn."""
    random = Random(f"{bug} {verdict}")
    for number in range(10**5):
        method = METHODS[number % len(METHODS)]
        found = met(target, generate.scenario(random), (bug, verdict), method, random)
        if found is not None:
            yield found


def raw(target: Target, bug: str, verdict: str) -> store.Finding:
    """The first one that is large enough to have something to lose."""
    return next(found for found in raws(target, bug, verdict)
                if sum(map(len, found.scenario.threads)) >= 8)


@cache
def minimised(target: Target, bug: str, verdict: str) -> minimise.Minimal:
    return minimise.Minimiser(target, 60).minimise(raw(target, bug, verdict))


def threads(scenario: Scenario) -> tuple[str, ...]:
    return tuple(line.removeprefix("thread ") for line in scenario.to_text().splitlines()
                 if line.startswith("thread "))


def bug_named(row: tuple[str, str, object, object]) -> str:
    return f"{row[0]} {row[1]}"


@pytest.mark.parametrize("row", MINIMAL, ids=bug_named)
def test_a_planted_bug_ends_as_small_as_it_can_be(
    real: Target, row: tuple[str, str, tuple[str, ...], int]
):
    bug, verdict, left, preemptions = row
    found = minimised(real, bug, verdict)
    assert threads(found.finding.scenario) == left
    assert (found.preemptions, found.fewest, found.finished) == (preemptions, True, True)
    assert (found.finding.verdict, found.finding.planted) == (verdict, (bug,))
    unforced = [each for each in found.switches if each.kind in minimise.UNFORCED]
    assert len(found.switches) == preemptions + len(unforced)
    how = {"planted": (bug,), "judged": (verdict,)}
    result = cleanrace.run(real, found.finding.scenario, found.finding.tape, **how)
    assert result.verdicts == {verdict}
    assert f"{result.digest:016x}" == found.finding.digest
    again = cleanrace.follow(real, found.finding.scenario, found.switches, **how)
    assert again == found.finding.tape


ALPHABET = (
    *(Operation("register", (backend,)) for backend in range(2)),
    *(Operation(name, (0,)) for name in ("mount", "mount-fail", "unmount", "remount")),
    *(Operation(name, (0, 0, 0)) for name in ("read", "write", "writeback", "reclaim",
                                              "truncate")),
    Operation("delete", (0, 0)),
)


def dealt(listed: Sequence[Operation], count: int) -> Iterator[tuple[tuple[Operation, ...], ...]]:
    """A sequence of operations as so many threads, none empty."""
    for cuts in combinations(range(1, len(listed)), count - 1):
        yield tuple(tuple(listed[a:b]) for a, b in pairwise((0, *cuts, len(listed))))


@cache
def every(count: int, size: int) -> frozenset[Scenario]:
    """All scenarios of so many threads and operations on one file system of each kind."""
    return frozenset(
        smaller.canonical(Scenario(file_systems=(FileSystem(kind),), threads=dealt_out))
        for kind in words.KINDS
        for listed in product(ALPHABET, repeat=size)
        for dealt_out in dealt(listed, count)
    )


def fewer(scenario: Scenario) -> set[Scenario]:
    """All with fewer threads, and as many operations; or as many threads, and fewer operations."""
    count, size = len(scenario.threads), sum(map(len, scenario.threads))
    sizes = [(fewer_threads, many) for fewer_threads in range(1, count)
             for many in range(fewer_threads, size + 1)]
    sizes += [(count, many) for many in range(count, size)]
    return set().union(*(every(*one) for one in sizes))


@pytest.mark.parametrize("row", MINIMAL, ids=bug_named)
def test_no_scenario_with_fewer_threads_or_operations_shows_it(
    real: Target, row: tuple[str, str, tuple[str, ...], int]
):
    """By exhaustion: every such scenario that there is, and every interleaving of each."""
    bug, verdict, _, preemptions = row
    found = minimised(real, bug, verdict).finding.scenario
    how = {"planted": (bug,), "judged": (verdict,)}
    for scenario in fewer(found):
        now = cleanrace.explore(real, scenario, **how)
        assert now.done
        assert now.violations == {}
    if preemptions:
        bounded = cleanrace.explore(real, found, policy="dfs", bound=preemptions - 1, **how)
        assert bounded.done
        assert bounded.violations == {}
    now = cleanrace.explore(real, found, policy="dfs", bound=preemptions, stop_on=(verdict,), **how)
    assert set(now.violations) == {verdict}


def test_all_scenarios_are_as_many_as_can_be_counted():
    # One thread, one operation: the two backends are one, so 11 on each kind; a registration
    # uses no file system, so its kind is none.
    assert len(every(1, 1)) == 1 + 10 * len(words.KINDS)
    # Two threads of one operation each, in no order: pairs of 11, and two backends.
    pairs = 10 * 11 // 2
    assert len(every(2, 2)) == 2 + (10 + pairs) * len(words.KINDS)


@pytest.mark.parametrize(
    ("bug", "verdict"), [("b", "init-missing"), ("early-put", "use-after-free"),
                         ("weak-cmpxchg", "register-result"), ("d", "init-missing")])
def test_what_is_minimal_stays_as_it_is(real: Target, bug: str, verdict: str):
    found = minimised(real, bug, verdict)
    again = minimise.Minimiser(real, 60).minimise(found.finding)
    case, same = (keeping.to_case(real, each) for each in (found, again))
    assert same.to_text() == case.to_text()
    assert again.signature == found.signature
    assert again.switches == found.switches


def test_a_bug_that_does_not_show_at_a_glance_ends_the_same(
    real: Target, monkeypatch: pytest.MonkeyPatch
):
    """Without a single schedule at random, everything is found by looking closely."""
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b none\nthread mount a; unmount a\nthread register 0\n")
    monkeypatch.setattr(minimise, "GLANCE", 0)
    for bug, verdict in (("b", "init-missing"), ("early-put", "use-after-free")):
        now = cleanrace.explore(real, scenario, planted=(bug,), stop_on=(verdict,))
        tape = now.simplest[verdict].tape
        finding = store.examine(real, scenario, verdict, tape=tape, planted=(bug,))
        found = minimise.Minimiser(real, 60).minimise(finding)
        least = minimised(real, bug, verdict)
        assert found.finding.scenario == least.finding.scenario
        assert found.signature == least.signature
        assert found.finding.planted == (bug,)


def test_minimising_twice_gives_the_same(real: Target):
    finding = raw(real, "b", "init-missing")
    one, two = (minimise.Minimiser(real, 60).minimise(finding) for _ in range(2))
    assert one == two


def test_a_bug_of_the_target_is_not_blamed_on_a_planted_one(real: Target):
    """Both leak a pool: a remount of the real file does, and unmounts that forget to."""
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0; mount a; read a 0 0; remount a; unmount a\n")
    planted = ("early-put", "b")
    owner = minimise.Minimiser(real, 60)
    own, blamed = (
        owner.minimise(store.examine(real, scenario, "pool-leak", tape=b"", planted=bugs))
        for bugs in ((), planted)
    )
    assert blamed.finding.planted == own.finding.planted == ()
    assert blamed.signature == own.signature
    assert threads(own.finding.scenario) == threads(blamed.finding.scenario) == (
        "register 0; mount a; remount a; unmount a",)


def test_a_planted_leak_stays_itself_beside_that_of_the_target(real: Target):
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b shared uuid 1\n"
        "thread register 0; mount a; remount a; mount b; unmount b\n")
    finding = store.examine(
        real, scenario, "pool-leak", tape=b"", planted=("no-invalidate-fs", "early-put"))
    found = minimise.Minimiser(real, 60).minimise(finding)
    assert found.finding.planted == ("no-invalidate-fs",)
    assert minimise.family_of(found.signature) == finding.signature


def test_planted_bugs_beside_each_other_stay_themselves(real: Target):
    """One scenario, three planted bugs, each with its verdict: each ends as itself alone."""
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a; unmount a\n"
        "thread register 1; mount b; read b 0 0\n")
    planted = ("weak-cmpxchg", "early-put", "register-mutex")
    owner = minimise.Minimiser(real, 60)
    for verdict, bug in (
        ("register-result", "weak-cmpxchg"), ("deadlock", "register-mutex"),
        ("use-after-free", "early-put"),
    ):
        summary = cleanrace.search(real, scenario, schedules=20_000, planted=planted,
                                   judged=(verdict,), stop_on=(verdict,), detect=True)
        finding = store.examine(real, scenario, verdict, schedule=summary.first[verdict],
                                planted=planted)
        found = owner.minimise(finding)
        assert (found.finding.planted, found.finding.verdict) == ((bug,), verdict)
        assert minimise.family_of(found.signature) == finding.signature
        assert found.signature == minimised(real, bug, verdict).signature


@pytest.mark.parametrize(
    ("bug", "verdict", "also"),
    [("weak-cmpxchg", "ops-changed", "register-result"),
     ("register-mutex", "deadlock", "lock-order")])
def test_what_else_was_met_is_kept(real: Target, bug: str, verdict: str, also: str):
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0\nthread register 1; mount a; unmount a\n")
    finding = next(
        found for policy in ("random", "surw", "pct-3") for seed in range(10)
        if (found := met(real, scenario, (bug, verdict), policy, Random(seed))) is not None)
    found = minimise.Minimiser(real, 60).minimise(finding)
    assert found.finding.verdict == verdict
    verdicts = [other.verdict for other in found.others]
    assert len(verdicts) == len(set(verdicts))
    assert verdict not in verdicts
    assert also in verdicts
    for other in found.others:
        how = {"planted": other.planted, "judged": (other.verdict,)}
        assert other.method == "minimise"
        assert other.verdict in cleanrace.run(real, other.scenario, other.tape, **how).verdicts


def test_a_deadline_leaves_a_finding_of_the_same_bug(real: Target):
    finding = raw(real, "b", "init-missing")
    found = minimise.Minimiser(real, 1e-6).minimise(finding)
    assert not found.finished
    assert not found.fewest
    assert (found.finding.verdict, found.finding.signature) == (finding.verdict, finding.signature)
    again = minimise.Minimiser(real, 60).minimise(found.finding)
    assert again.finished
    assert again.signature == minimised(real, "b", "init-missing").signature


def test_what_does_not_show_is_a_failure_of_the_harness(real: Target):
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\nthread mount a\n")
    lie = store.Finding(scenario=scenario, tape=b"", verdict="init-missing", digest="0" * 16,
                        signature="init-missing sb-mounted+registered")
    with pytest.raises(store.Broken):
        minimise.Minimiser(real, 10).minimise(lie)


def test_progress_is_shown(real: Target):
    shown: list[str] = []
    minimise.Minimiser(real, 60, shown.append).minimise(raw(real, "d", "init-missing"))
    assert shown[-1].startswith("init-missing sb-mounted+registered: 1 threads, 2 operations, ")


def test_preemptions_are_in_words(real: Target):
    assert minimised(real, "b", "init-missing").schedule_words == "1 preemption, none with 0"
    assert minimised(real, "d", "init-missing").schedule_words == "no preemptions"


@pytest.mark.long
def test_raw_findings_of_ten_bugs_are_ten(real: Target):
    """Whatever found them: policies, exploration, threads, a fuzzer's input, different seeds."""
    signatures: dict[tuple[str, tuple[str, ...]], Counter[str]] = {}
    methods: Counter[str] = Counter()
    for bug, verdict in TEN:
        owner = minimise.Minimiser(real, 60)
        for _, finding in zip(range(RAW // len(TEN)), raws(real, bug, verdict), strict=False):
            found = owner.minimise(finding)
            methods[finding.method] += 1
            key = (found.signature, found.finding.planted)
            signatures.setdefault(key, Counter())["\n".join(threads(found.finding.scenario))] += 1
    assert sum(map(Counter.total, signatures.values())) == RAW // len(TEN) * len(TEN)
    assert len(signatures) == len(TEN), signatures
    assert {planted for _, planted in signatures} == {(bug,) for bug, _ in TEN}
    assert all(len(scenarios) == 1 for scenarios in signatures.values()), signatures
    assert len(methods) > 4
