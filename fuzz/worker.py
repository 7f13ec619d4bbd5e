# SPDX-License-Identifier: GPL-2.0-only
"""One worker process of a campaign: one method on one core.

    python fuzz/worker.py METHOD        (the job as one line of JSON on standard input)

It answers in lines of JSON on its standard output: {"at": ...} before it enters what might crash,
{"stats": ...} (cumulative, about twice a second and at the end), {"finding": ...}, {"hint": ...},
{"outcome": ...} for a replayed case, {"minimal": ...}, {"broken": ...} when the harness failed
and {"done": true} as the last one. A worker that ends without that line has crashed. SIGTERM
ends it cleanly; it dies with its parent. `units` says {"ready": true}, and then {"answer": ...} or
{"broken": ...} for each line of its input (fuzz/executor.py).
"""

import base64
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cleanrace  # noqa: E402
from cleanrace import Case, Scenario, Summary, Target, words  # noqa: E402
from fuzz import corpus, generate, keeping, minimise, mix, shelf, store  # noqa: E402

if TYPE_CHECKING:
    from fuzz import harness

REPLAY_OK = 4000  # schedules of a case that expects none to violate: the tests run all of them
BATCH = 3000  # schedules of one scenario before the next one is drawn
REPORT_SECONDS = 0.5
CONFIRM_SCHEDULES = 200_000  # of the fiber engine, after a hint of the thread engine
PR_SET_PDEATHSIG = 1


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """A summary as it crosses between processes."""
    return {
        "schedules": summary.schedules,
        "steps": summary.steps,
        "choices": summary.choices,
        "seconds": summary.seconds,
        "violations": summary.violations,
        "first": summary.first,
        "marks": summary.marks,
        "registers": base64.b64encode(summary.registers).decode(),
        "steps_profiled": summary.steps_profiled,
        "known": summary.known,
    }


def summary_from_json(values: dict[str, Any]) -> Summary:
    """The summary that summary_to_json() wrote."""
    return Summary(**(values | {"registers": base64.b64decode(values["registers"])}))


@dataclass
class Own:
    """What happened in runs of the target as the user asked for it, not as a case plants it.

    violations: verdict -> schedules. plain, unremounted: schedules and violations of scenarios
    without a remount.
    """

    schedules: int = 0
    plain: int = 0
    violations: dict[str, int] = field(default_factory=dict)
    unremounted: dict[str, int] = field(default_factory=dict)

    def add(self, schedules: int, violations: dict[str, int], *, remounts: bool) -> None:
        """Count one scenario's schedules."""
        self.schedules += schedules
        _add(self.violations, violations)
        if not remounts:
            self.plain += schedules
            _add(self.unremounted, violations)

    def merge(self, other: "Own") -> None:
        """Add what another process or method met."""
        self.schedules += other.schedules
        self.plain += other.plain
        _add(self.violations, other.violations)
        _add(self.unremounted, other.unremounted)


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for verdict, count in more.items():
        counts[verdict] = counts.get(verdict, 0) + count


def remounts(scenario: Scenario) -> bool:
    """Whether a thread of the scenario remounts a file system."""
    return any(operation.name == "remount" for thread in scenario.threads for operation in thread)


@dataclass
class Worker:
    """What every method needs: the job, the clock, the counts and the way out."""

    job: dict[str, Any]
    out: Any
    target: Target
    summary: Summary = field(default_factory=Summary)
    own: Own = field(default_factory=Own)
    inputs: int = 0
    policies: dict[str, int] = field(default_factory=dict)  # slice of the mix -> schedules
    reported: float = 0.0
    stopping: bool = False

    def __post_init__(self) -> None:
        self.begin = time.monotonic()
        self.planted = tuple(self.job.get("planted", ()))
        self.examiner = store.Examiner(self.target, planted=self.planted)
        self.fuzzer = self.target.fuzzer(planted=self.planted)
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, _number: int, _frame: object) -> None:
        """The signal handler: whoever works sees that no time is left."""
        self.stopping = True

    @property
    def left(self) -> float:
        """Seconds until the deadline, which is one of time.monotonic()."""
        return 0.0 if self.stopping else float(self.job["deadline"]) - time.monotonic()

    def say(self, **message: Any) -> None:
        """One line to the parent."""
        self.out.write(json.dumps(message) + "\n")
        self.out.flush()

    def tick(self, *, now: bool = False) -> None:
        """Report the counts if it is time to."""
        clock = time.monotonic()
        if not now and clock - self.reported < REPORT_SECONDS:
            return
        self.reported = clock
        self.say(
            stats={
                "summary": summary_to_json(self.summary),
                "own": vars(self.own),
                "inputs": self.inputs,
                "policies": self.policies,
                "seconds": clock - self.begin,
                "edges": list(self.fuzzer.edges()),
                "pairs": self.fuzzer.pairs_seen,
            }
        )

    def begins(self, scenario: Scenario) -> None:
        """A machine is about to run this; who notes it where a crash leaves it says so."""

    def ran(self, scenario: Scenario, batch: Summary) -> None:
        """Count a batch of schedules of one scenario."""
        self.summary.merge(batch)
        self.own.add(batch.schedules, batch.violations, remounts=remounts(scenario))

    def found(self, finding: store.Finding) -> bool:
        """Tell the parent, who knows what is known; to this process it is new."""
        self.say(finding=finding.to_json())
        return True

    def met(
        self,
        scenario: Scenario,
        summary: Summary,
        *,
        seed: int,
        method: str,
        policy: str = "random",
        planted: Sequence[str] | None = None,
        steps_max: int = 0,
    ) -> None:
        """Make findings of what one batch of the fiber engine violated.

        planted: what the batch had switched on, None for what the user asked for. steps_max: its.
        """
        for verdict in sorted(set(summary.violations) - store.LIMITS):
            if self.examiner.due(verdict):
                finding = self.examiner.fresh(
                    scenario,
                    verdict,
                    policy=policy,
                    seed=seed,
                    schedule=summary.first[verdict],
                    planted=planted,
                    steps_max=steps_max,
                    method=method,
                )
                if finding is not None:
                    self.found(finding)


def random_search(worker: Worker) -> None:
    """Scenarios of the corpus and drawn ones, some thousand native schedules each."""
    random = Random(f"{worker.job['seed']}/{worker.job['index']}")
    engine = worker.job["engine"]
    listed = corpus.scenarios()
    hinted: set[tuple[str, tuple[str, ...]]] = set()
    while worker.inputs == 0 or worker.left > 0:
        if listed and random.random() < 0.25:
            scenario = random.choice(listed)
        else:
            scenario = generate.scenario(random)
        seed = random.getrandbits(48)
        worker.say(at={"scenario": scenario.to_bytes().hex(), "seed": seed})
        worker.inputs += 1
        if engine == "fiber":
            search_mixed(worker, scenario, seed=seed)
        else:
            batch = cleanrace.search(
                worker.target,
                scenario,
                schedules=BATCH,
                seconds=max(0.05, worker.left),
                seed=seed,
                engine=engine,
                planted=worker.planted,
            )
            worker.ran(scenario, batch)
            confirm(worker, scenario, batch, hinted)
        worker.tick()


def search_mixed(worker: Worker, scenario: Scenario, *, seed: int) -> None:
    """One batch of the default mix: slice by slice, each with schedule numbers of its own."""
    for one, first, count in mix.parts(mix.DEFAULT, BATCH):
        batch = cleanrace.search(
            worker.target,
            scenario,
            schedules=count,
            seconds=max(0.05, worker.left),
            policy=one.policy,
            detect=one.detect,
            seed=seed,
            first=first,
            planted=worker.planted,
        )
        worker.policies[one.name] = worker.policies.get(one.name, 0) + batch.schedules
        worker.ran(scenario, batch)
        worker.met(scenario, batch, seed=seed, method="random", policy=one.policy)


def confirm(
    worker: Worker, scenario: Scenario, batch: Summary, hinted: set[tuple[str, tuple[str, ...]]]
) -> None:
    """What the thread engine meets is a hint; a tape of the fiber engine makes it a finding."""
    for verdict in sorted(set(batch.violations) - store.LIMITS):
        names = {operation.name for thread in scenario.threads for operation in thread}
        key = (verdict, tuple(sorted(names)))
        if key in hinted:
            continue
        hinted.add(key)
        again = cleanrace.search(
            worker.target,
            scenario,
            schedules=CONFIRM_SCHEDULES,
            seconds=max(0.5, min(2.0, worker.left)),
            planted=worker.planted,
            stop_on=(verdict,),
        )
        if again.violations.get(verdict):
            found = Summary(violations={verdict: 1}, first={verdict: again.first[verdict]})
            worker.met(scenario, found, seed=0, method="thread")
        else:
            worker.say(
                hint={
                    "verdict": verdict,
                    "scenario": scenario.to_bytes().hex(),
                    "schedules": again.schedules,
                }
            )


def harnessed(worker: Worker, fuzz: "harness.Harness") -> None:
    """After each input of a harness: count it, and end this process when the time is over."""
    worker.inputs = worker.summary.schedules = fuzz.inputs
    worker.summary.seconds = time.monotonic() - worker.begin
    worker.summary.violations = fuzz.own.violations
    worker.own = fuzz.own
    if fuzz.inputs & 63:
        return
    worker.summary.registers = fuzz.fuzzer.registers
    if worker.left <= 0:
        worker.tick(now=True)
        worker.say(done=True)
        os._exit(0)
    worker.tick()


def atheris(worker: Worker) -> None:
    """The harness, until the deadline; libFuzzer would end the process without a last word."""
    from fuzz import harness

    fuzz = harness.Harness(
        worker.target,
        planted=worker.planted,
        seeds=corpus.seeds(),
        found=worker.found,
        tick=lambda: harnessed(worker, fuzz),
    )
    seed = Random(f"{worker.job['seed']}/{worker.job['index']}").randrange(1, 2**31)
    fuzz.run([f"-seed={seed}", "-handle_term=0", "-handle_int=0", "-rss_limit_mb=0"])


def hypothesis(worker: Worker) -> None:
    """The stateful machines, until the deadline."""
    from fuzz import machines

    machines.campaign(worker)


def replay(worker: Worker) -> None:
    """The cases of job["paths"], each as its expectation says."""
    for name in worker.job["paths"]:
        path = Path(name)
        case = Case.read(path)
        if not corpus.applies(case, worker.target):
            worker.say(outcome={"path": name, "applies": False})
            continue
        if worker.inputs and worker.left <= 0:  # one case at least, however slow the start was
            worker.say(outcome={"path": name, "applies": True, "skipped": True})
            continue
        worker.say(at={"path": name})
        summary = Summary()
        outcome = corpus.replay(
            path,
            case,
            worker.target,
            seconds=max(0.05, worker.left),
            schedules_max=REPLAY_OK if case.expect == "ok" else None,
            into=summary,
        )
        worker.inputs += 1
        if not summary.schedules and outcome.met:
            # The tape alone showed it.
            summary = Summary(schedules=outcome.schedules, violations={case.expect: 1})
        # A case is run with its own bugs and limit, whatever the user planted.
        same = case.broken == set(worker.planted) and not case.steps_max
        if same and not case.scenario.micro:
            worker.ran(case.scenario, summary)
        else:
            worker.summary.merge(summary)
        worker.say(
            outcome={
                "path": name,
                "applies": True,
                "met": outcome.met,
                "complete": outcome.complete,
                "ours": outcome.ours,
                "expect": case.expect,
                "known": outcome.met and path.name == shelf.SCENARIO,
            }
        )
        if not case.scenario.micro and case.broken <= set(worker.planted):
            # What the case expects is no news.
            first = {name: at for name, at in outcome.violated.items() if name != case.expect}
            worker.met(
                case.scenario,
                Summary(violations=dict.fromkeys(first, 1), first=first),
                seed=0,
                method="replay",
                planted=tuple(name for name in words.PLANTED if name in case.broken),
                steps_max=case.steps_max,
            )
        worker.tick()


def minimise_all(worker: Worker) -> None:
    """Findings from standard input, one a line, until it ends: minimised and described."""
    minimiser = minimise.Minimiser(worker.target, worker.job["seconds"])
    for line in sys.stdin:
        if worker.stopping:
            break
        finding = store.Finding.from_json(json.loads(line))
        worker.say(at={"scenario": finding.scenario.to_bytes().hex()})
        minimal = minimiser.minimise(finding)
        case, files = keeping.made(worker.target, minimal)
        worker.say(
            minimal={
                "of": finding.signature,
                "case": case.to_text(),
                "meta": asdict(keeping.to_meta(worker.target, minimal, schedules=None)),
                "files": files,
                "finished": minimal.finished,
                "others": [other.to_json() for other in minimal.others],
            }
        )


def units(worker: Worker) -> None:
    """Units of an executor from standard input, one a line, until it ends."""
    from fuzz.units import Life

    life = Life(worker.target, stopping=lambda: worker.stopping)
    worker.say(ready=True)
    for line in sys.stdin:
        unit = json.loads(line)
        try:
            worker.say(answer=life.do(unit["kind"], unit["arguments"]))
        except store.Broken as error:
            worker.say(broken=str(error))
        if worker.stopping:
            break


METHODS = {
    "units": units,
    "replay": replay,
    "random": random_search,
    "atheris": atheris,
    "hypothesis": hypothesis,
    "minimise": minimise_all,
}


def main() -> int:
    """Do the job on standard input."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Whatever libraries print goes to the log, so that only our lines reach the parent.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    worker = Worker(job=job, out=out, target=Target(job["target"]))
    try:
        METHODS[sys.argv[1]](worker)
    except store.Broken as error:
        worker.say(broken=str(error))
    worker.tick(now=True)
    worker.say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
