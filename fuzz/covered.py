#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What `run.py coverage` measures, in a process of its own: covering.py starts it.

    python fuzz/covered.py INFO.json OUT.json COUNT SEED

It plays the corpus, COUNT mutated inputs, every policy, a small exploration and real threads on
the target of INFO, whose module counts the lines of our C; coverage.py, which started this, counts
those of our Python. To OUT go the edges of the kernel side that inputs reached and, of sampled
schedules, where the accesses of two threads met and in how many distinct interleavings.
"""

import json
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cleanrace  # noqa: E402
from cleanrace import Case, Result, Scenario, Target, schedule  # noqa: E402
from fuzz import corpus, mutator, premises, sanitize, store  # noqa: E402

SAMPLES = 30  # schedules of a scenario in which accesses are paired
SEARCHED = 300  # schedules of a policy or of a case
ROUNDS = 20  # on real threads
POLICIES = ("random", "uniform", "pct", "surw")
SAMPLED_BY = "random"
INPUT_MAX = 1024  # bytes

Met = dict[tuple[int, int], set[int]]  # (pc, pc of the later access) -> interleavings


def inputs(target: Target, *, count: int, seed: int) -> list[int]:
    """Run the corpus and `count` mutated inputs: the edges that all of them reached."""
    by_planted = {}
    for one in sanitize.inputs(target):
        planted = tuple(target.named("planted", one.planted))
        if planted not in by_planted:
            by_planted[planted] = target.fuzzer(planted=planted)
        by_planted[planted].one(one.data)
    random, seeds = Random(seed), corpus.seeds()
    plain, mutate = target.fuzzer(), mutator.Mutator(seeds=seeds).mutate
    for _ in range(count):
        plain.one(mutate(random.choice(seeds), INPUT_MAX, random.getrandbits(32)))
    return list(plain.edges())


def methods(target: Target) -> None:
    """Everything else that runs schedules, a little of each."""
    for path in corpus.paths():
        case = Case.read(path)
        if corpus.applies(case, target):
            corpus.replay(path, case, target, schedules_max=SEARCHED)
    for policy, points in product(POLICIES, ("all", "sync")):
        for _, scenario in premises.SCENARIOS:
            cleanrace.search(
                target, scenario, schedules=SEARCHED, policy=policy, points=points, detect=True
            )
    cleanrace.explore(target, premises.MAIN, policy="dpor")
    cleanrace.explore(target, premises.MAIN, policy="dfs", bound=1, executions_max=SEARCHED)
    cleanrace.search(target, premises.MAIN, schedules=ROUNDS, engine="thread")
    tape = cleanrace.run(target, premises.MAIN, policy=SAMPLED_BY).tape
    cleanrace.run_forced(target, premises.MAIN, tape)


def pair(result: Result, into: Met) -> None:
    """Note which accesses of two threads to one object come one after the other in this run."""
    last: dict[int, dict[int, cleanrace.Event]] = defaultdict(dict)
    for event in result.trace:
        if event.kind not in schedule.ACCESSES or not event.pc:
            continue
        for thread, other in last[event.object].items():
            if thread != event.thread and schedule.conflict(other, event):
                into[other.pc, event.pc].add(result.interleaving)
        if event.kind not in schedule.READS:
            last[event.object].clear()  # what comes later meets this one
        last[event.object][event.thread] = event


def pairs(target: Target, scenarios: list[Scenario]) -> Met:
    """Where two threads met in SAMPLES schedules of each scenario."""
    met: Met = defaultdict(set)
    for scenario in scenarios:
        if len(scenario.threads) > 1:
            for number in range(SAMPLES):
                result = cleanrace.run(
                    target, scenario, policy=SAMPLED_BY, schedule=number, detect=False
                )
                pair(result, met)
    return met


def main(arguments: list[str]) -> int:
    """The command line that covering.py uses."""
    info, out, count, seed = arguments
    target = Target(json.loads(Path(info).read_text()))
    edges = inputs(target, count=int(count), seed=int(seed))
    methods(target)
    scenarios = list(dict.fromkeys(corpus.scenarios()))
    met = pairs(target, scenarios)
    store.write(
        Path(out),
        json.dumps(
            {
                "edges": edges,
                "scenarios": len(scenarios),
                "pairs": [[*pcs, sorted(classes)] for pcs, classes in sorted(met.items())],
            }
        ),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
