#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What `prove` would take on n workers: measured where there are two cores, else simulated.

    python fuzz/costs.py                    the table, from the committed certificate and MEASURED
    python fuzz/costs.py --measure          what MEASURED holds, as this machine has it
    python fuzz/costs.py --measure --cluster local

The simulation plays the executor (fuzz/executor.py): units in the order and of the sizes that
`prove` makes, some given to each worker ahead of time, one head that hands out and takes in one
after the other. It knows nothing of machines that are slow, networks that are far, or cores that
share a memory bus.
"""

import argparse
import heapq
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import build  # noqa: E402
from cleanrace import Target  # noqa: E402
from fuzz import cluster, executor, prove  # noqa: E402

CERTIFICATE = ROOT / "corpus" / "certificates" / "linux-5.10.json"
WORKERS = (1, 2, 8, 64, 256, 1000)
TIMES = 20
NAPS = 2000
BOUND = "2/2/1/1"  # of --measure: 542 scenarios


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of CPU time, or on the wall for `start` and `trip`.

    start: until the first worker is ready; more: what each more worker adds to that; head: of the
    process that hands out, per unit; answer: of the same, per scenario that it takes in; trip: from
    a unit's answer to the next one's begin, which units given ahead hide; batch: scenarios of a
    unit at most.
    """

    start: float
    more: float
    head: float
    answer: float
    trip: float
    batch: int


# What --measure printed on a cloud machine of 2 cores that had other work too, rounded. `more` of
# Ray is an assumption: nothing here has more than two cores.
POOL = Costs(start=1.0, more=0.0, head=0.00015, answer=0.00006, trip=0.0005, batch=1)
RAY = Costs(start=14.0, more=0.01, head=0.0009, answer=0.00006, trip=0.0015, batch=cluster.BATCH)
EXECUTION = 20e-6  # CPU seconds per execution, given-up ones too
SCENARIO = 0.003  # CPU seconds to begin with a scenario
LISTING = 6.2  # CPU seconds in which the head lists the default bound
COUNTEREXAMPLES = 2.0  # and looks for the smallest counterexamples, at the end
MEASURED = {"scenarios": 542, "executions": 394_598, "seconds": 10.4}  # BOUND, CPU of the workers


def sizes(certificate: Path = CERTIFICATE) -> dict[str, float]:
    """CPU seconds of each scenario of a certificate."""
    found = json.loads(certificate.read_text())
    column = found["columns"].index

    def seconds(row: list[Any]) -> float:
        return work(1, row[column("executions")] + row[column("blocked")])

    return {row[0]: seconds(row) for row in found["scenarios"]}


def work(scenarios: int, executions: int) -> float:
    """CPU seconds of so much, on one worker."""
    return SCENARIO * scenarios + EXECUTION * executions


def simulate(scenarios: Mapping[str, float], workers: int, costs: Costs) -> float:
    """Seconds until all scenarios are done, from the begin of the first worker's start."""
    units = list(prove.batches(scenarios, costs.batch, workers))
    head = 0.0
    free = [costs.start + costs.more * worker for worker in range(workers)]
    # When a worker has room for one more unit: at first for several.
    slots = [(at, turn, worker) for turn in range(executor.AHEAD) for worker, at in enumerate(free)]
    heapq.heapify(slots)
    for turn, unit in enumerate(units, executor.AHEAD):
        at, _, worker = heapq.heappop(slots)
        head = max(head, at) + costs.head + costs.answer * len(unit)
        begin = max(free[worker], head + costs.trip)
        free[worker] = begin + sum(scenarios[line] for line in unit)
        heapq.heappush(slots, (free[worker], turn, worker))
    return max(free)


def table(scenarios: Mapping[str, float]) -> list[str]:
    """The table of ARCHITECTURE.md: of these scenarios, and of TIMES as many of the same kind."""
    alone, longest = sum(scenarios.values()), max(scenarios.values())
    more = {f"{line}{at}": size for at in range(TIMES) for line, size in scenarios.items()}
    lines = [
        f"{len(scenarios):,} scenarios, {alone:,.0f} s of CPU time, the longest {longest:.1f} s",
        "",
        f"| workers | processes here | Ray | whole verb | busy | {TIMES} times as many | busy |",
        "|---|---|---|---|---|---|---|",
    ]
    for workers in WORKERS:
        here = simulate(scenarios, workers, POOL)
        ray = simulate(scenarios, workers, RAY)
        whole = LISTING + ray + COUNTEREXAMPLES
        large = simulate(more, workers, RAY)
        busy, busier = (at / workers for at in (alone / ray, TIMES * alone / large))
        lines.append(
            f"| {workers} | {here:,.0f} s | {ray:,.0f} s | {whole:,.0f} s |"
            f" {busy:.0%} | {large:,.0f} s | {busier:.0%} |"
        )
    return lines


def naps(target: Target, jobs: int, address: str | None) -> str:
    """Start, and units that do nothing: what a unit costs the head, and on the wall."""
    begin = time.monotonic()
    with executor.opened(target, jobs=jobs, cluster=address) as workers:
        nap = executor.Unit(kind="nap", arguments={"seconds": 0})
        workers.submit(nap)
        while workers.left:
            workers.results(1.0)
        ready = time.monotonic() - begin
        for _ in range(20):  # alone: there and back
            workers.submit(nap)
            while workers.left:
                workers.results(1.0)
        trip = (time.monotonic() - begin - ready) / 20
        for _ in range(NAPS):
            workers.submit(executor.Unit(kind="nap", arguments={"seconds": 0}))
        begin, cpu = time.monotonic(), time.process_time()
        while workers.left:
            workers.results(1.0)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
    return (
        f"start {ready:.2f} s, there and back {1e3 * trip:.2f} ms, per unit"
        f" {1e3 * wall / NAPS:.3f} ms on the wall, {1e3 * cpu / NAPS:.3f} ms of the head's CPU"
    )


def taking_in(results: Sequence[prove.Result]) -> float:
    """CPU seconds of the head per result: read, and written to the journal."""
    texts = [json.dumps(result) for result in results]
    with TemporaryDirectory() as folder:
        journal = prove.Journal(Path(folder, "journal"), resume=False)
        begin = time.process_time()
        for text in texts:
            journal.add(json.loads(text))
        seconds = time.process_time() - begin
        journal.file.close()
    return seconds / len(texts)


def proof(target: Target, jobs: int, address: str | None) -> str:
    """A whole `prove`, by its parts."""
    marks: dict[str, tuple[float, float]] = {}

    def show(line: str) -> None:
        marks.setdefault(line.split(maxsplit=1)[0], (time.monotonic(), time.process_time()))

    begin, cpu = time.monotonic(), time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    proving = prove.Proving(target, prove.Options(bound=BOUND, jobs=jobs, cluster=address), show)
    listed = time.process_time() - cpu
    done = proving.run()
    total = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    looked = marks.get("looking", (time.monotonic(), time.process_time()))
    exploring, head = (looked[i] - marks["proving:"][i] for i in (0, 1))
    executions = sum(one["executions"] + one["blocked"] for one in done.results)
    last = time.process_time() - looked[1]
    taken = taking_in(done.results)
    return (
        f"{total:.1f} s: {exploring:.1f} s of {len(done.results)} scenarios and {executions:,}"
        f" executions; CPU: listing {listed:.2f} s, head {1e3 * head / len(done.results):.2f} ms"
        f" per scenario, {1e3 * taken:.3f} of it for the result, counterexamples {last:.2f} s,"
        f" child processes {spent:.1f} s"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="What `prove` costs on n workers.")
    parser.add_argument("--measure", action="store_true", help="measure instead of simulating")
    parser.add_argument("--cluster", metavar="ADDRESS", help="with --measure: on Ray, too")
    chosen = parser.parse_args()
    if not chosen.measure:
        print("\n".join(table(sizes())))
        return 0
    target = Target(build.ensure())
    for address in dict.fromkeys((None, chosen.cluster)):
        for jobs in (1, 2):
            where = f"{address or 'processes'}, {jobs} workers"
            print(f"{where}: {naps(target, jobs, address)}", flush=True)
            print(f"{where}: {proof(target, jobs, address)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
