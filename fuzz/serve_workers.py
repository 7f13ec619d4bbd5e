# SPDX-License-Identifier: GPL-2.0-only
"""One process of the service: a method of searching, or one of the things done beside it.

    python fuzz/serve_workers.py METHOD     (the job as one line of JSON on standard input)

It speaks like fuzz/worker.py, whose search methods it has, and adds: a finding is written to the
shelf's pending folder, or to the reserve while the disk is full, before it is said, so that killing
anybody loses none; inputs that add
coverage go to the corpus folder that all share; what is being run is noted where it survives a
crash. Each search lasts one shift. Beside it there are

    keeper      runs every input of the folder, so that one process knows what the corpus reaches
    minimise    minimises, stores and draws findings; re-checks those on the shelf
    exchange    gives inputs and findings to other hosts, and takes theirs
    commit      commits what is on the shelf
    web         the dashboard
    measure     what inputs add, for the verbs `corpus merge`, `minimise` and `stats`
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cleanrace  # noqa: E402
from cleanrace import Explorer, Scenario, Summary, Target  # noqa: E402
from fuzz import (  # noqa: E402
    corpus,
    generate,
    keeping,
    mix,
    serve_exchange,
    serve_folder,
    shelf,
    store,
    worker,
)
from fuzz.minimise import Minimiser  # noqa: E402
from fuzz.serve_folder import Inputs, Layout, Running  # noqa: E402
from fuzz.serve_reserve import Reserve  # noqa: E402

PROGRAM = Path(__file__).resolve()
SHARED_RUNS = 2  # schedules of each batch that are offered to the corpus as inputs
REFRESH_SECONDS = 5.0  # between two looks for inputs of others
KEEPER_SECONDS = 0.5
ALIVE_SECONDS = 1.0
EXPLORE_SECONDS = 10.0  # for one scenario; what is larger is left to `prove` and `explore`
EXPLORE_OPERATIONS = 7  # larger scenarios are not tried
ROOM_SECONDS = 2.0  # between two tries on a full disk
ATHERIS_TIMEOUT = 25  # seconds of one input, after which libFuzzer ends the process
# Slices of the mix by method; "random" is the policy for scenarios that the others are blind to.
SLICES = {
    "surw": tuple(one for one in mix.DEFAULT if one.policy == "surw"),
    "pct": tuple(one for one in mix.DEFAULT if one.policy.startswith("pct")),
    "random": (
        mix.Slice(policy="random", share=0.9),
        mix.Slice(policy="random", share=0.1, detect=True),
    ),
}


class ServiceWorker(worker.Worker):
    """A campaign's worker that shares inputs, saves its findings, and notes what it runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layout = Layout(Path(self.job["corpus"]))
        self.running = Running(self.layout.running / str(self.job["post"]))
        self.inputs_shared = Inputs(
            self.layout.inputs,
            self.fuzzer,
            method=str(self.job.get("method", "")),
            before=self.note,
        )
        self.known = frozenset(self.job.get("known", ()))
        self.pending = store.folder_of(
            Path(self.job["findings"]) / shelf.PENDING, self.target, self.planted
        )
        self.shared = self.refreshed = self.noted = 0.0

    def found(self, finding: store.Finding) -> bool:
        """On disk first, then said; where the reserve has no room either, who listens keeps it."""
        saved, reserved = True, False
        if finding.signature not in self.known:
            try:
                store.keep(
                    self.pending / store.file_name(finding), store.to_case(self.target, finding)
                )
            except OSError as error:
                saved, reserved = False, self.put_aside(finding)
                self.trouble(self.pending, error)
        self.say(finding=finding.to_json(), saved=saved, reserved=reserved)
        return True

    def put_aside(self, finding: store.Finding) -> bool:
        """Put a finding into the reserve; whether it is there."""
        try:
            Reserve(self.layout.reserve).put(finding)
        except OSError as error:
            self.trouble(self.layout.reserve, error)
            return False
        return True

    def note(self, data: bytes) -> None:
        """From now on this input runs; who runs very many of them says so now and then."""
        self.running.write(data)
        clock = time.monotonic()
        if clock - self.noted > ALIVE_SECONDS:
            self.noted = clock
            self.say(alive=True)

    def begins(self, scenario: Scenario) -> None:
        """A machine runs this now."""
        self.note(scenario.to_bytes())

    def trouble(self, path: Path, error: OSError) -> None:
        """Something could not be written."""
        full = error.errno in serve_folder.FULL
        self.say(trouble=f"{path}: {error.strerror}", full=full)

    def ran(self, scenario: Scenario, batch: Summary) -> None:
        """Count a batch, and offer some of its schedules as inputs."""
        super().ran(scenario, batch)
        if batch.schedules and not scenario.micro:
            self.share(scenario)

    def share(self, scenario: Scenario) -> None:
        """A few schedules of a scenario become inputs if they reach what nothing did."""
        if time.monotonic() - self.refreshed > REFRESH_SECONDS:
            self.refreshed = time.monotonic()
            self.inputs_shared.refresh()
        for policy in ("random", "surw")[:SHARED_RUNS]:
            self.shared += 1
            result = cleanrace.run(
                self.target,
                scenario,
                policy=policy,
                seed=int(self.job["seed"]),
                schedule=int(self.shared),
                planted=self.planted,
                full=False,
                detect=False,
            )
            try:
                self.inputs_shared.offer(scenario.to_bytes() + result.tape)
            except OSError as error:
                self.trouble(self.layout.inputs, error)


def search(work: ServiceWorker) -> None:
    """Scenarios of the corpus, of its inputs, and drawn ones, with one policy's schedules."""
    random = Random(f"{work.job['seed']}/{work.job['method']}")
    slices = SLICES[work.job["method"]]
    listed = corpus.scenarios()
    work.inputs_shared.refresh()
    while work.inputs == 0 or work.left > 0:
        pools = [listed, work.inputs_shared.scenarios]
        pool = pools[random.random() < 0.5]
        if pool and random.random() < 0.5:
            scenario = random.choice(pool)
        else:
            scenario = generate.scenario(random)
        seed = random.getrandbits(48)
        work.running.write(scenario.to_bytes())
        work.say(at={"scenario": scenario.to_bytes().hex(), "seed": seed})
        work.inputs += 1
        for one, first, count in mix.parts(slices, worker.BATCH):
            batch = cleanrace.search(
                work.target,
                scenario,
                schedules=count,
                seconds=max(0.05, work.left),
                policy=one.policy,
                detect=one.detect,
                seed=seed,
                first=first,
                planted=work.planted,
            )
            work.ran(scenario, batch)
            work.met(scenario, batch, seed=seed, method="random", policy=one.policy)
        work.tick()


def explore(work: ServiceWorker) -> None:
    """Small scenarios that were not exhausted yet, each until it is or its time is up."""
    random = Random(f"{work.job['seed']}/explore")
    tried = set(work.job["exhausted"])
    work.inputs_shared.refresh()
    listed = [*corpus.scenarios(), *work.inputs_shared.scenarios]
    random.shuffle(listed)
    while work.inputs == 0 or work.left > 0:
        scenario = listed.pop() if listed else generate.scenario(random)
        name = exhausted_name(scenario)
        if sum(map(len, scenario.threads)) > EXPLORE_OPERATIONS or name in tried:
            if not listed and work.left <= 0:
                break
            continue
        tried.add(name)
        work.running.write(scenario.to_bytes())
        work.say(at={"scenario": scenario.to_bytes().hex()})
        work.inputs += 1
        exhaust(work, scenario, name)
        work.tick()


def exhausted_name(scenario: Scenario) -> str:
    """What an exhausted scenario is remembered by."""
    return hashlib.sha256(scenario.to_bytes()).hexdigest()[:16]


def exhaust(work: ServiceWorker, scenario: Scenario, name: str) -> None:
    """Explore one scenario; what it violates are findings."""
    explorer = Explorer(work.target, scenario, planted=work.planted, symmetry=True)
    end = time.monotonic() + min(EXPLORE_SECONDS, max(0.2, work.left))
    counted = Summary()
    while True:
        now = explorer.go_on(seconds=0.2)
        # Where accesses turned out to race it began anew, and its counts with it.
        total = Summary(
            schedules=max(now.executions, counted.schedules),
            steps=max(now.steps, counted.steps),
            seconds=now.seconds,
        )
        batch = Summary(
            schedules=total.schedules - counted.schedules,
            steps=total.steps - counted.steps,
            seconds=max(0.0, total.seconds - counted.seconds),
        )
        work.summary.merge(batch)
        work.own.add(batch.schedules, {}, remounts=True)
        counted = total
        work.tick()
        if now.done or work.stopping or time.monotonic() > end:
            break
    _add(work.summary.violations, now.violations)
    if now.done:
        work.say(exhausted=name)
    for verdict in sorted(set(now.simplest) - store.LIMITS):
        if not work.examiner.due(verdict):
            continue
        tape = now.simplest[verdict].tape
        finding = work.examiner.fresh(scenario, verdict, tape=tape, method="explore")
        if finding is not None:
            work.found(finding)


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def atheris(work: ServiceWorker) -> None:
    """The harness over the shared folder, until the shift is over."""
    from fuzz import harness

    class Watched(harness.Harness):
        """Notes each input before it is run."""

        def one(self, data: bytes) -> None:
            work.running.write(data)
            super().one(data)

    fuzz = Watched(
        work.target,
        planted=work.planted,
        seeds=corpus.seeds(),
        found=work.found,
        tick=lambda: worker.harnessed(work, fuzz),
    )
    seed = Random(f"{work.job['seed']}/atheris").randrange(1, 2**31)
    fuzz.run(
        [
            str(work.layout.inputs),
            f"-seed={seed}",
            "-handle_term=0",
            "-handle_int=0",
            "-rss_limit_mb=0",  # the supervisor looks
            f"-timeout={ATHERIS_TIMEOUT}",
            f"-artifact_prefix={work.layout.quarantine}/",
            "-verbosity=0",
            "-reload=1",
            "-reduce_inputs=0",  # it would delete files that others may be reading
        ]
    )


def hypothesis(work: ServiceWorker) -> None:
    """The stateful machines, until the shift is over."""
    from fuzz import machines

    work.inputs_shared.refresh()
    machines.campaign(work)


def keeper(work: ServiceWorker) -> None:
    """What the corpus as a whole reaches, and who brought what; seeds go in first."""
    inputs = work.inputs_shared
    inputs.method = "seed"
    gained: dict[str, int] = {}
    said: tuple[Any, ...] = ()

    def look() -> None:
        nonlocal said
        for name, added in inputs.refresh():
            method = name.partition("-")[0] if "-" in name else "atheris"
            if added:
                gained[method] = gained.get(method, 0) + 1
        now = (*inputs.reached, len(inputs.names))
        if now != said or gained:
            work.say(coverage={"edges": now[0], "pairs": now[1], "inputs": now[2]}, gained=gained)
            gained.clear()
        said = now

    look()
    gained.clear()  # what was there before is nobody's news
    try:
        for data in corpus.seeds():
            inputs.offer(data)
    except OSError as error:
        work.trouble(work.layout.inputs, error)
    while not work.stopping:
        look()
        work.say(alive=True)
        time.sleep(KEEPER_SECONDS)


def minimise_all(work: ServiceWorker) -> None:
    """Tasks from standard input, one a line: a finding, or a name to check or minimise again."""
    said = time.monotonic()

    def alive(_: str) -> None:
        nonlocal said
        if time.monotonic() - said > ALIVE_SECONDS:
            said = time.monotonic()
            work.say(alive=True)

    minimiser = Minimiser(work.target, show=alive)
    for line in sys.stdin:
        if work.stopping:
            break
        task = json.loads(line)
        work.say(at={"task": str(task.get("check") or task["finding"]["signature"])})
        if "finding" in task:
            minimiser.seconds = float(task["seconds"])
            put(work, minimiser, store.Finding.from_json(task["finding"]), task)
        else:
            check(work, minimiser, task)


def put(
    work: ServiceWorker,
    minimiser: Minimiser,
    finding: store.Finding,
    task: dict[str, Any],
) -> None:
    """Minimise one finding, put it on the shelf and draw its page."""
    try:
        minimal = minimiser.minimise(finding)
    except store.Broken as error:
        work.say(unminimised=finding.signature, why=str(error))
        return
    kept = with_room(
        work,
        lambda: keeping.put(
            work.target,
            minimal,
            schedules=task.get("schedules"),
            root=Path(work.job["findings"]),
        ),
    )
    if kept is None:
        return
    draw(work, kept.entry)
    work.say(
        kept={
            "of": finding.signature,
            "name": kept.entry.name,
            "signature": kept.entry.meta.signature,
            "new": kept.new,
            "again": "check" in task,
            "finished": minimal.finished,
            "aside": list(kept.aside),
        }
    )
    for other in minimal.others:
        work.found(other)


def with_room(work: ServiceWorker, write: Callable[[], Any]) -> Any:
    """What a writer gives; on a full disk tried again until there is room, None if told to stop."""
    while True:
        try:
            return write()
        except OSError as error:
            work.trouble(Path(work.job["findings"]), error)
            end = time.monotonic() + ROOM_SECONDS
            while time.monotonic() < end:
                if work.stopping:
                    return None
                work.say(alive=True)
                time.sleep(0.2)


def draw(work: ServiceWorker, entry: shelf.Entry) -> None:
    """The page of a finding, for the dashboard; it says nothing that the shelf does not know."""
    from fuzz import page

    try:
        result = keeping.replayed(work.target, entry.case)
        text = page.html(result, entry.case, work.target, meta={"signature": entry.meta.signature})
        serve_folder.put(work.layout.pages, f"{entry.name}.html", text.encode())
    except cleanrace.NotExpressible as error:
        work.say(trouble=f"{entry.name}: no page: {error}", full=False)
    except OSError as error:
        work.trouble(work.layout.pages, error)


def check(work: ServiceWorker, minimiser: Minimiser, task: dict[str, Any]) -> None:
    """Whether a finding of the shelf still shows; with "again", minimise it once more."""
    folder = Path(work.job["findings"]) / task["check"]
    try:
        entry = shelf.read(folder)
    except shelf.Unreadable as error:
        work.say(checked=folder.name, shows=False, how=str(error))
        return
    if not task["again"]:
        shows, how = keeping.check(work.target, entry, planted=work.planted)
        draw(work, entry)
        work.say(checked=entry.name, shows=shows, how=how)
        return
    finding = keeping.raw(work.target, entry.case)
    if finding is None:
        work.say(checked=entry.name, shows=False, how=f"{entry.case.expect} does not show here")
        return
    minimiser.seconds = float(task["seconds"])
    put(work, minimiser, replace(finding, planted=entry.meta.planted), task)


def commit_all(work: ServiceWorker) -> None:
    """One commit of what the shelf has and the last commit has not."""
    from fuzz import commit
    from fuzz.command import Failure

    try:
        done = commit.commit(Path(work.job["findings"]))
    except Failure as error:
        work.say(uncommitted=str(error))
        return
    work.say(committed=list(done.names), commit=done.commit)


def measure(work: ServiceWorker) -> None:
    """Runs the inputs on standard input, one path a line, and says what each adds."""
    inputs = work.inputs_shared
    inputs.before = None
    for line in sys.stdin:
        if work.stopping:
            break
        path = Path(json.loads(line)["input"])
        work.say(at={"input": str(path)})
        data = serve_folder.data_of(path)
        added = 0 if data is None or serve_folder.is_micro(data) else inputs.run(data)
        edges, pairs = inputs.reached
        work.say(measured=str(path), added=added, edges=edges, pairs=pairs)


METHODS: dict[str, Callable[[ServiceWorker], None]] = {
    "random": search,
    "surw": search,
    "pct": search,
    "explore": explore,
    "atheris": atheris,
    "hypothesis": hypothesis,
    "keeper": keeper,
    "minimise": minimise_all,
    "exchange": serve_exchange.trade,
    "commit": commit_all,
    "measure": measure,
}


def main() -> int:
    """Do the job on standard input."""
    ctypes.CDLL(None).prctl(worker.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline() or "{}")
    if os.getppid() != job.get("parent"):
        return 0  # the parent died before we could ask to die with it
    os.nice(job["nice"])
    if sys.argv[1] == "web":
        from fuzz import serve_web

        return serve_web.child(job, out)
    work = ServiceWorker(job=job, out=out, target=Target(job["target"]))
    try:
        METHODS[sys.argv[1]](work)
    except store.Broken as error:
        work.say(broken=str(error))
    work.tick(now=True)
    work.say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
