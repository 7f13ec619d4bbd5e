# SPDX-License-Identifier: GPL-2.0-only
"""A campaign: show that a planted bug is found, replay the corpus, then search by every method.

The methods take turns, each on all cores. Nothing stops at a finding. What happened is collected
in a Report, which the table and the JSON file are made of; an interrupt ends the search and
leaves the report so far. A method that executed nothing, a worker that crashed and a corpus case
that plants its own bug and misses it are failures of the harness, not results.
"""

import importlib.util
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cleanrace
from cleanrace import Case, Scenario, Summary, Target
from fuzz import corpus, keeping, premises, shelf, store
from fuzz.pool import Member, Pool
from fuzz.worker import Own, summary_from_json

# Shares of the time that is left after the replay; where Atheris is not installed (it has no
# wheel for every machine), the others share its time.
SHARES = {"random": 0.5, "atheris": 0.32, "hypothesis": 0.18}
RESERVE_SECONDS = 1.0  # for ending workers and writing the summary
SPEED_SECONDS = 2.0
MINIMISE_SECONDS = 20.0  # per finding, at most; a short campaign gives less
LATE_SECONDS = 10.0  # after its deadline a worker hangs


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. seconds: of everything after the build. jobs: processes."""

    seconds: float = 60.0
    jobs: int = 1
    seed: int = 1
    engine: str = "fiber"
    planted: tuple[str, ...] = ()
    findings: Path = shelf.FOLDER


@dataclass(kw_only=True)
class Row:
    """What one method did, over all its workers. seconds: of all of them together.

    policies: schedules by slice of the mix, empty for methods without one.

    new, known: distinct findings that this method met, whether another one did so before or not.
    """

    method: str
    summary: Summary = field(default_factory=Summary)
    own: Own = field(default_factory=Own)
    inputs: int = 0
    policies: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    new: int = 0
    known: int = 0
    started: bool = False


@dataclass(kw_only=True)
class Found:
    """A finding as the report lists it.

    path: of its scenario file, on the shelf once it is minimised, until then among those that
    wait for that. methods: all that met it. unsaved: its text where that could not be written.
    """

    finding: store.Finding
    new: bool
    path: Path
    minimised: bool = False
    methods: list[str] = field(default_factory=list)
    unsaved: str | None = None
    kept: shelf.Entry | None = None


@dataclass(kw_only=True)
class Report:
    """Everything a campaign has to say."""

    target: Target
    options: Options
    planted: premises.Hit | None = None
    speed: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    hints: list[dict[str, Any]] = field(default_factory=list)
    edges: set[int] = field(default_factory=set)
    pairs: int = 0
    absent: list[str] = field(default_factory=list)  # methods that cannot run on this machine
    broken: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # about files that are not as they should be
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def summary(self) -> Summary:
        """All methods together."""
        return Summary.merged(row.summary for row in self.rows.values())

    @property
    def own(self) -> Own:
        """All methods together, without the cases of the corpus that plant a bug."""
        total = Own()
        for row in self.rows.values():
            total.merge(row.own)
        return total

    @property
    def skipped(self) -> int:
        """Cases of the corpus that the time was too short for."""
        return sum(bool(outcome.get("skipped")) for outcome in self.outcomes)

    @property
    def new(self) -> list[Found]:
        """Findings that no file of the corpus holds."""
        return [found for found in self.found.values() if found.new]

    @property
    def known(self) -> list[Found]:
        """Findings that the corpus holds."""
        return [found for found in self.found.values() if not found.new]

    @property
    def vacuous(self) -> list[str]:
        """Marks that no run set: what the search never reached."""
        marks = self.summary.marks
        return [name for name in self.target.table("marks") if not marks.get(name)]

    @property
    def limits(self) -> int:
        """Runs that a table of ours was too small for."""
        return sum(self.summary.violations.get(name, 0) for name in store.LIMITS)

    @property
    def status(self) -> int:
        """The exit status: 3 the harness failed, 1 new findings, 0 nothing new.

        130 if an interrupt came before anything was executed: nothing can be said then.
        """
        if self.interrupted and not (self.broken or self.new or self.summary.schedules):
            return 130
        return 3 if self.broken else 1 if self.new else 0


# Called about five times a second with the phase, its share done (0 to 1), and the report.
Shown = Callable[[str, float, Report], None]


class Campaign:
    """Runs one campaign; run() returns the report, also after an interrupt."""

    def __init__(self, target: Target, options: Options, *, show: Shown | None = None) -> None:
        self.target = target
        self.options = options
        self.show = show or _silent
        self.report = Report(target=target, options=options)
        if importlib.util.find_spec("atheris") is None:
            self.report.absent.append("atheris")
        roots = dict.fromkeys((shelf.FOLDER, options.findings))
        self.known: dict[str, Path] = {}
        for root in roots:
            known, unreadable = keeping.known(target, planted=options.planted, root=root)
            self.known |= known
            self.report.warnings += unreadable
        self.folder = store.folder_of(options.findings / shelf.PENDING, target, options.planted)
        self.begin = time.monotonic()
        self.deadline = self.begin + options.seconds - min(RESERVE_SECONDS, options.seconds / 10)
        self.waiting: deque[store.Finding] = deque()
        self.schedules: dict[str, int] = {}  # signature -> schedules of all until it was met
        self.minimiser: Member | None = None
        self.minimising = 0
        self.stats: dict[str, dict[int, dict[str, Any]]] = {}  # method -> worker -> its last

    def run(self) -> Report:
        """All phases."""
        report = self.report
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with Pool(self.heard) as pool:
                try:
                    self.canary()
                    if not report.broken:
                        self.measure()
                        self.phases(pool)
                        self.finish(pool)
                except KeyboardInterrupt:
                    report.interrupted = True
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            signal.signal(signal.SIGTERM, before)
        self.judge()
        report.seconds = time.monotonic() - self.begin
        return report

    def canary(self) -> None:
        """A search that cannot find a planted bug says nothing about the real file."""
        self.show("planted bug", 0.0, self.report)
        self.take_up()
        hit = premises.canary(self.target)
        self.report.planted = hit
        if not hit.found:
            self.report.broken.append(
                f"the planted bug {hit.premise} was not found in {hit.schedules:,} schedules"
                f" ({hit.seconds:.1f} s): the search is blind, so nothing else was run; report it"
            )

    def measure(self) -> None:
        """Schedules per second of one core: of CPU time, since others may share the machine."""
        self.show("speed", 0.0, self.report)
        seconds = min(SPEED_SECONDS, self.options.seconds / 15)
        begin = time.process_time()
        summary = cleanrace.search(
            self.target, premises.MAIN, schedules=10**12, seconds=seconds, seed=self.options.seed
        )
        self.report.speed = summary.schedules / (time.process_time() - begin)

    def phases(self, pool: Pool) -> None:
        """The corpus, then every method on all cores."""
        listed = corpus.paths()
        left = self.deadline - time.monotonic()
        if listed:
            jobs = [
                {"paths": list(map(str, shard))}
                for shard in corpus.shards(listed, self.options.jobs)
                if shard
            ]
            self.phase(pool, "replay", jobs, left * 0.25)
        left = max(0.0, self.deadline - time.monotonic())
        shares = {name: share for name, share in SHARES.items() if name not in self.report.absent}
        for method, share in shares.items():
            seconds = left * share / sum(shares.values())
            self.phase(pool, method, [{}] * self.options.jobs, seconds)

    def phase(self, pool: Pool, method: str, jobs: list[dict[str, Any]], seconds: float) -> None:
        """One method until its share of the time is over."""
        row = self.report.rows.setdefault(method, Row(method=method))
        row.started = True
        begin = time.monotonic()
        deadline = begin + seconds
        common = {
            "target": self.target.info,
            "seed": self.options.seed,
            "engine": self.options.engine,
            "planted": self.options.planted,
            "deadline": deadline,
        }
        members = [
            pool.start(method, common | {"index": index} | job) for index, job in enumerate(jobs)
        ]
        while any(not member.ended for member in members):
            pool.listen(0.2)
            self.feed(pool)
            clock = time.monotonic()
            self.show(method, min(1.0, (clock - begin) / max(seconds, 0.1)), self.report)
            if clock > deadline + LATE_SECONDS:
                late = [member for member in members if not member.ended]
                self.report.broken.append(
                    f"{len(late)} workers ({method}) hung, at {late[0].at}: report it"
                )
                pool.stop(late)

    def take_up(self) -> None:
        """What an earlier campaign met and did not get to minimise is minimised by this one."""
        for path in sorted(self.folder.glob(f"*{store.SUFFIX}")):
            try:
                finding = store.from_case(Case.read(path))
            except (cleanrace.ScenarioError, OSError) as error:
                self.report.warnings.append(f"{error}; it was left alone")
                continue
            if finding.signature in self.known:
                path.unlink(missing_ok=True)
            elif finding.signature not in self.report.found:
                found = Found(finding=finding, new=True, path=path, methods=["left over"])
                self.report.found[finding.signature] = found
                self.waiting.append(finding)

    @property
    def minimise_seconds(self) -> float:
        """How long the minimiser may take for one finding."""
        return max(2.0, min(MINIMISE_SECONDS, self.options.seconds / 3))

    def feed(self, pool: Pool) -> None:
        """Give the minimiser what waits for it; it runs beside the others when needed."""
        if not self.waiting:
            return
        if self.minimiser is None or self.minimiser.ended:
            job = {
                "target": self.target.info,
                "deadline": self.deadline,
                "seconds": self.minimise_seconds,
            }
            self.minimiser = pool.start("minimise", job, stay=True)
        while self.waiting and self.minimising < 2:
            self.minimiser.send(self.waiting.popleft().to_json())
            self.minimising += 1

    def finish(self, pool: Pool) -> None:
        """Let the minimiser end what it has, within a little more than the time asked for."""
        end = self.begin + self.options.seconds + self.minimise_seconds
        while self.minimising and time.monotonic() < end:
            self.show("minimising", 1.0, self.report)
            pool.listen(0.2)
            self.feed(pool)
            if self.minimiser is None or self.minimiser.ended:
                break
        if self.minimiser is not None and not self.minimiser.ended:
            self.minimiser.close()

    def heard(self, member: Member, message: dict[str, Any]) -> None:
        """One message of a worker."""
        report = self.report
        if "stats" in message:
            self.counted(member)
        elif "finding" in message:
            self.met(store.Finding.from_json(message["finding"]), member.method)
        elif "minimal" in message:
            self.minimising = max(0, self.minimising - 1)
            self.minimal(message["minimal"])
        elif "outcome" in message:
            self.replayed(message["outcome"])
        elif "hint" in message:
            self.hinted(message["hint"])
        elif "broken" in message:
            report.broken.append(message["broken"])
        elif message.get("ended") and not member.done and not member.stopped:
            if member.method == "minimise":
                self.minimising = 0
            report.broken.append(member.obituary())

    def counted(self, changed: Member) -> None:
        """Add up the counts of a method's workers, each of which reports its own total."""
        row = self.report.rows.get(changed.method)
        if row is None:
            return
        totals = self.stats.setdefault(changed.method, {})
        totals[changed.process.pid] = changed.stats
        row.summary = Summary.merged(
            summary_from_json(stats["summary"]) for stats in totals.values()
        )
        row.own = Own()
        for stats in totals.values():
            row.own.merge(Own(**stats["own"]))
        row.inputs = sum(stats["inputs"] for stats in totals.values())
        row.policies = {}
        for stats in totals.values():
            for name, count in stats["policies"].items():
                row.policies[name] = row.policies.get(name, 0) + count
        row.seconds = sum(stats["seconds"] for stats in totals.values())
        self.report.edges.update(changed.stats["edges"])
        self.report.pairs = max(self.report.pairs, changed.stats["pairs"])

    def replayed(self, outcome: dict[str, Any]) -> None:
        """A case of the corpus; one that keeps a finding shows that it is still there."""
        self.report.outcomes.append(outcome)
        path = Path(outcome["path"])
        if outcome.get("known"):
            for signature, known in self.known.items():
                if known == path:
                    self.met(store.from_case(Case.read(path), signature=signature), "replay")

    def met(self, finding: store.Finding, method: str) -> None:
        """A finding of a worker: known, met already in this campaign, or new and saved at once."""
        found = self.report.found.get(finding.signature)
        if found is None:
            found = self.first(finding)
        if method in found.methods:
            return
        found.methods.append(method)
        row = self.report.rows.get(method)
        if row is None:
            return  # the minimiser, which is no method of its own
        if found.new:
            row.new += 1
        else:
            row.known += 1

    def first(self, finding: store.Finding) -> Found:
        """A finding that this campaign meets for the first time."""
        path = self.known.get(finding.signature)
        if path is not None:
            found = Found(finding=finding, new=False, path=path)
        else:
            path = self.folder / store.file_name(finding)
            found = Found(finding=finding, new=True, path=path)
            found.unsaved = self.save(path, store.to_case(self.target, finding))
            self.schedules[finding.signature] = self.report.summary.schedules + 1
            self.waiting.append(finding)
        self.report.found[finding.signature] = found
        return found

    def minimal(self, message: dict[str, Any]) -> None:
        """A minimised finding: it goes on the shelf, and what waited for that goes."""
        case = Case.from_text(message["case"])
        found = self.report.found[message["of"]]
        values = message["meta"] | {"schedules": self.schedules.get(message["of"])}
        meta = shelf.Meta(**(values | {"planted": tuple(values["planted"])}))
        found.finding = store.from_case(case, signature=message["of"])
        found.minimised = message["finished"]
        try:
            kept = shelf.keep(case, meta, root=self.options.findings, **message["files"])
        except OSError as error:
            self.unwritable(self.options.findings, error)
            found.unsaved = case.to_text()
            return
        self.report.warnings += kept.aside
        found.path.unlink(missing_ok=True)
        found.path, found.unsaved = kept.entry.folder / shelf.SCENARIO, None
        found.kept = kept.entry
        for other in message["others"]:
            self.met(store.Finding.from_json(other), "minimise")

    def save(self, path: Path, case: Case) -> str | None:
        """Keep a finding; where nothing can be written the campaign goes on and says so.

        Returns the text that is in no file then, else None.
        """
        try:
            store.keep(path, case)
        except OSError as error:
            self.unwritable(path, error)
            return case.to_text()
        return None

    def unwritable(self, path: Path, error: OSError) -> None:
        """A finding that is in no file is a failure of the harness, said once."""
        line = f"the finding cannot be written to {path}: {error.strerror}"
        if line not in self.report.broken:
            self.report.broken.append(line)

    def hinted(self, hint: dict[str, Any]) -> None:
        """What the thread engine met and the fiber engine did not: kept, but no finding."""
        scenario = Scenario.from_bytes(bytes.fromhex(hint["scenario"]))
        names = sorted({op.name for thread in scenario.threads for op in thread})
        name = f"{hint['verdict']}-{'+'.join(names)}{store.SUFFIX}"
        path = self.folder / "unreproduced" / name
        case = Case(
            scenario=scenario,
            title=f"met once by the thread engine: {hint['verdict']}",
            target=store.kind(self.target),
            broken=frozenset(self.options.planted),
            expect=hint["verdict"],
            within=max(1, hint["schedules"]),
            found={"method": "thread", "build": self.target.build_id},
        )
        unsaved = self.save(path, case)
        kept = {"path": str(path)} if unsaved is None else {"path": None, "text": unsaved}
        self.report.hints.append(hint | kept)

    def judge(self) -> None:
        """What was planned and did not happen is a failure of the harness."""
        report = self.report
        for outcome in report.outcomes:
            missed = outcome.get("complete") and not outcome["met"]
            if missed and outcome["ours"]:
                report.broken.append(
                    f"{store.shown(Path(outcome['path']))}: expected {outcome['expect']} and did"
                    " not get it, on a case that holds for every target"
                )
        if report.interrupted or report.broken:
            return
        for method in ("replay", *SHARES):
            if method in report.absent:
                continue
            row = report.rows.get(method)
            nothing = row is None or row.summary.schedules == 0
            if nothing and (method != "replay" or corpus.paths()):
                report.broken.append(f"nothing was executed by the method {method}")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _silent(_phase: str, _done: float, _report: Report) -> None:
    """For callers who want no progress."""


def cores() -> int:
    """Cores this process may use."""
    return max(1, len(os.sched_getaffinity(0)))
