# SPDX-License-Identifier: GPL-2.0-only
"""The minimiser: the simplest scenario and schedule that show the same bug.

Every candidate goes through one consider(): scenarios in canonical form, boldest changes first
(fuzz/smaller.py), until none is simpler; those that show it at a glance are taken before any is
looked at closely. Then a candidate is exhausted, one execution per happens-before class, so that
"no" is a proof; where that takes too long, all schedules with few preemptions are tried and then
some at random. It counts only when the bug is the same one: the same verdict about the same
conflicting events, or accesses in the same functions. Another bug that a candidate meets is kept
as a finding of its own.

Last, the schedule: with the fewest preemptions that exist, which is exact where every schedule
with fewer was run, and each preemption as late as it can be (schedule.normalise). Operations
move to other places and threads as long as that needs fewer preemptions, or as many and reads
better, so that one bug does not end as two.

Budgets count executions, not seconds, so that the same finding ends as the same answer; a
deadline only ends it earlier, and the answer then says that it is not finished.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cleanrace
from cleanrace import Explorer, Result, Scenario, Switch, Target, schedule, words
from fuzz import smaller, store
from fuzz.store import Finding

GLANCE = 400  # schedules at random: a bug that shows easily is seen at once
EXHAUSTED = 12_000  # executions within which a candidate is exhausted, if it can be
BOUNDS = ((0, 2_000), (1, 8_000), (2, 10_000))  # else: preemptions, and executions
SAMPLED = (("surw", 3_000), ("pct-3", 3_000), ("random", 1_000))  # and schedules at random
REARRANGED = 400_000  # executions in all for other orders of the operations
FINAL_BOUNDS = ((0, 200_000), (1, 400_000), (2, 1_500_000), (3, 1_500_000))
HITS_MAX = 60  # executions with the verdict that are looked at for one of the same bug
SLICE = 20_000  # executions between two looks at the clock
Show = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Minimal:
    """What is left of a finding.

    finding: scenario, tape and verdict, of this build. switches: the same schedule for every
    build. signature: verdict, conflicting events, and the pairs of steps that preemptions lie
    between. preemptions: how many the schedule has; fewest: all schedules with fewer were run,
    and none shows it. finished: nothing was cut short by the deadline. others: findings of other
    bugs that were met on the way. considered: candidates.
    """

    finding: Finding
    switches: tuple[Switch, ...]
    signature: str
    preemptions: int
    fewest: bool
    finished: bool
    others: tuple[Finding, ...]
    considered: int

    @property
    def schedule_words(self) -> str:
        """How few preemptions, in words: "1 preemption, none with 0"."""
        count = self.preemptions
        words_ = f"{count or 'no'} preemption{'s' * (count != 1)}"
        if not count:
            return words_
        return f"{words_}, none with {count - 1}" if self.fewest else f"{words_}, perhaps fewer do"


@dataclass
class Minimiser:
    """Minimises the findings of one target; what it tried for one is remembered for the next."""

    target: Target
    seconds: float = 60.0
    show: Show | None = None
    tried: dict[tuple[Any, ...], bytes | None] = field(default_factory=dict)

    def minimise(self, finding: Finding) -> Minimal:
        """The simplest finding of the same bug. store.Broken if it does not show at all."""
        return _Work(self, finding).run()

    def shorten(self, finding: Finding) -> Minimal:
        """The same scenario with the simplest schedule."""
        return _Work(self, finding).finish()


def simplify(target: Target, finding: Finding, *, seconds: float = 10.0) -> Finding:
    """A finding of the same bug, at most as large."""
    return Minimiser(target, seconds).minimise(finding).finding


def shorten(target: Target, finding: Finding, *, seconds: float = 5.0) -> Finding:
    """The same scenario with the simplest schedule."""
    return Minimiser(target, seconds).shorten(finding).finding


class _Work:
    """One finding on its way down."""

    def __init__(self, owner: Minimiser, finding: Finding) -> None:
        self.owner, self.target = owner, owner.target
        self.start = finding
        self.now = finding
        self.end = time.monotonic() + owner.seconds
        self.others: dict[str, Finding] = {}
        self.considered = self.spent = 0
        self.glanced: set[tuple[Any, ...]] = set()
        self.cut = False
        self.how = _how(finding)
        # A data race counts only for who asks for it, and then hides nothing else.
        group = {finding.verdict} if words.VERDICTS[finding.verdict] == "race" else set()
        every = {name for name, of in words.VERDICTS.items() if of not in ("race", "none")}
        self.judged = tuple(sorted(every | group))

    @property
    def over(self) -> bool:
        if time.monotonic() >= self.end:
            self.cut = True
        return self.cut

    def run(self) -> Minimal:
        """Down to where nothing simpler shows it, then the schedule."""
        self.without_planted(self.glance)
        first = smaller.canonical(self.now.scenario)
        if first != self.now.scenario:
            self.take(first, self.consider(first))
        before = None
        while (self.now.scenario, self.how) != before and not self.over:
            before = self.now.scenario, self.how
            while self.step() and not self.over:
                pass
            self.rearrange()
            self.without_planted(self.consider)  # small by now, so that "no" is a proof
        return self.finish()

    def step(self) -> bool:
        """Go on from the first simpler scenario that shows the bug, if there is one.

        Those that show it easily come before any is looked at closely: a "no" costs most where
        scenarios are large.
        """
        for look in (self.glance, self.consider):
            for scenario in smaller.smaller(self.now.scenario):
                if self.over:
                    return False
                if self.take(scenario, look(scenario)):
                    return True
        return False

    def rearrange(self) -> None:
        """The order of operations that needs the fewest preemptions, and among those the first."""
        most = next(
            (
                bound
                for bound, executions in FINAL_BOUNDS
                if self.explored(self.now.scenario, bound, executions)[0] is not None
            ),
            None,
        )
        if most is None:
            return
        self.spent = 0
        listed = smaller.rearranged(self.now.scenario)
        for bound, executions in FINAL_BOUNDS[: most + 1]:
            for scenario in listed:
                if self.over or self.spent > REARRANGED:
                    return
                if scenario == self.now.scenario and bound == most:
                    return
                if self.take(scenario, self.explored(scenario, bound, executions)[0]):
                    return

    def without_planted(self, look: Callable[[Scenario], bytes | None]) -> None:
        """A bug that shows without a planted one is the target's own."""
        for name in self.now.planted:
            kept = tuple(other for other in self.now.planted if other != name)
            before = self.how
            self.how = replace(before, planted=kept)
            tape = look(self.now.scenario)
            if tape is None:
                self.how = before
            else:
                self.now = replace(self.now, planted=kept)
                self.take(self.now.scenario, tape)

    def take(self, scenario: Scenario, tape: bytes | None) -> bool:
        """Go on from a candidate that shows the bug."""
        if tape is None:
            return False
        self.now = replace(self.now, scenario=scenario, tape=tape)
        if self.owner.show is not None:
            threads = len(scenario.threads)
            operations = sum(map(len, scenario.threads))
            self.owner.show(
                f"{self.start.signature}: {threads} threads, {operations} operations,"
                f" {self.considered} considered"
            )
        return True

    def consider(self, scenario: Scenario) -> bytes | None:
        """The one place where a candidate is judged: a tape that shows the same bug, or None."""
        tape = self.glance(scenario)
        key = self.key(scenario)
        if key not in self.owner.tried:
            self.considered += 1
            tape = self.look(scenario)
            if tape is None and self.cut:
                return None  # not an answer
            self.owner.tried[key] = tape
        return tape

    def glance(self, scenario: Scenario) -> bytes | None:
        """A tape of the same bug if it shows easily, or if that is known; None says nothing."""
        key = self.key(scenario)
        if key in self.owner.tried:
            return self.owner.tried[key]
        if key in self.glanced:
            return None
        tape = self.sampled(scenario, "surw", GLANCE)
        if tape is None and scenario == self.now.scenario:
            again = self.replayed(scenario, self.now.tape)
            tape = again.tape if self.same(again) else None
        if tape is not None:
            self.considered += 1
            self.owner.tried[key] = tape
        self.glanced.add(key)
        return tape

    def key(self, scenario: Scenario) -> tuple[Any, ...]:
        """What an answer depends on."""
        return scenario, self.how, self.start.signature

    def look(self, scenario: Scenario) -> bytes | None:
        tape, every = self.explored(scenario, None, EXHAUSTED)
        if tape is not None or every:
            return tape
        for bound, executions in BOUNDS:
            tape, _ = self.explored(scenario, bound, executions)
            if tape is not None:
                return tape
        for policy, schedules in SAMPLED:
            tape = self.sampled(scenario, policy, schedules)
            if tape is not None:
                return tape
        return None

    def explored(
        self, scenario: Scenario, bound: int | None, executions: int
    ) -> tuple[bytes | None, bool]:
        """A tape that shows the bug, and else whether there is none.

        Among the schedules with at most `bound` preemptions; of all if it is None.
        """
        explorer = Explorer(
            self.target,
            scenario,
            policy="dpor" if bound is None else "dfs",
            bound=bound,
            planted=self.how.planted,
            judged=self.judged,
            steps_max=self.how.steps_max,
            stop_on=(self.start.verdict,),
        )
        hits = tried = 0
        while tried < executions and hits < HITS_MAX and not self.over:
            now = explorer.go_on(executions_max=min(SLICE, executions))
            self.spent += now.executions + now.cut + now.blocked - tried
            tried = now.executions + now.cut + now.blocked
            self.others_of(scenario, {n: {"tape": one.tape} for n, one in now.simplest.items()})
            if now.violations.get(self.start.verdict, 0) > hits:
                hits += 1
                last = explorer.last
                assert last is not None, "it paused after an execution with the verdict"
                if self.same(self.replayed(scenario, last.tape)):
                    return last.tape, False
            if now.done:
                return None, True
        return None, False

    def sampled(self, scenario: Scenario, policy: str, schedules: int) -> bytes | None:
        first = 0
        options: dict[str, Any] = {
            "planted": self.how.planted,
            "steps_max": self.how.steps_max,
            "policy": policy,
        }
        for _ in range(HITS_MAX):
            if first >= schedules or self.over:
                return None
            met = cleanrace.search(
                self.target,
                scenario,
                schedules=schedules - first,
                first=first,
                seconds=max(0.01, self.end - time.monotonic()),
                judged=self.judged,
                detect=True,
                stop_on=(self.start.verdict,),
                **options,
            )
            self.others_of(
                scenario,
                {name: {"policy": policy, "schedule": n} for name, n in met.first.items()},
            )
            if not met.violations.get(self.start.verdict):
                return None
            number = met.first[self.start.verdict]
            result = cleanrace.run(
                self.target, scenario, schedule=number, judged=self.how.judged, **options
            )
            if self.same(result):
                return result.tape
            first = number + 1
        return None

    def replayed(self, scenario: Scenario, tape: bytes) -> Result:
        return self.how.run(self.target, scenario, tape)

    def same(self, result: Result) -> bool:
        """Whether a run with the verdict shows the same bug."""
        verdict = self.start.verdict
        if verdict not in result.verdicts:
            return False
        return store.signature(result, verdict, self.target) == self.start.signature

    def others_of(self, scenario: Scenario, sources: dict[str, dict[str, Any]]) -> None:
        """Keep what else was met: another verdict is another bug."""
        for verdict, source in sources.items():
            if verdict in (self.start.verdict, *store.LIMITS) or verdict in self.others:
                continue
            if verdict == "ok" or words.VERDICTS[verdict] == "harness":
                continue
            self.others[verdict] = store.examine(
                self.target,
                scenario,
                verdict,
                planted=self.how.planted,
                steps_max=self.how.steps_max,
                method="minimise",
                **source,
            )

    def finish(self) -> Minimal:
        """The schedule: the fewest preemptions, each as late as it can be."""
        scenario = self.now.scenario
        tape, fewest = self.simplest_schedule(scenario)
        tape = schedule.normalise(self.target, scenario, tape, self.how, keeps=self.same)
        finding = store.examine(
            self.target,
            scenario,
            self.start.verdict,
            tape=tape,
            planted=self.how.planted,
            steps_max=self.how.steps_max,
            method=self.start.method,
            policy=self.start.policy,
            seed=self.start.seed,
            schedule=self.start.schedule,
        )
        switches = schedule.switches(self.target, scenario, finding.tape, self.how)
        pairs = schedule.pairs(self.target, scenario, finding.tape, self.how)
        preemptions = sum(switch.kind not in UNFORCED for switch in switches)
        return Minimal(
            finding=finding,
            switches=switches,
            signature=full_signature(finding.signature, pairs),
            preemptions=preemptions,
            fewest=fewest and preemptions <= self.bound,
            finished=not self.cut,
            others=tuple(self.others.values()),
            considered=self.considered,
        )

    def simplest_schedule(self, scenario: Scenario) -> tuple[bytes, bool]:
        """A tape with the fewest preemptions, and whether all schedules with fewer were run."""
        every = True
        for self.bound, executions in FINAL_BOUNDS:
            tape, all_of_them = self.explored(scenario, self.bound, executions)
            if tape is not None:
                return tape, every
            every = every and all_of_them
            if self.over:
                break
        return self.now.tape, False


UNFORCED = ("start", "end", schedule.WAIT)  # switches that preempt nobody


def full_signature(family: str, pairs: tuple[schedule.Pair, ...]) -> str:
    """What identifies a finding: its family, and between which steps it is preempted.

    The two sides of a pair are sorted: which thread came first is in the family.
    """
    sides = sorted(
        {f"{' ~ '.join(sorted((pair.first, pair.second)))} on {pair.object}" for pair in pairs}
    )
    return f"{family} | {'; '.join(sides)}" if sides else family


def family_of(signature: str) -> str:
    """The verdict and the conflicting events, without the pairs."""
    return signature.partition(" | ")[0]


def _how(finding: Finding) -> schedule.How:
    return schedule.How(
        planted=finding.planted, judged=(finding.verdict,), steps_max=finding.steps_max
    )


def batches(findings: list[Finding]) -> Iterator[tuple[int, Finding]]:
    """Findings with their place, simplest scenarios first: what they teach helps with the rest."""
    yield from sorted(enumerate(findings), key=lambda one: smaller.rank(one[1].scenario))
