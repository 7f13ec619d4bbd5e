# SPDX-License-Identifier: GPL-2.0-only
"""Findings: what identifies one, which are known, and how they are kept.

A violation that a search met becomes a finding only when it was seen again: re-run alone from
its seed and schedule number, which gives its tape, and replayed from that tape, which must give
the same trace. A run may violate several properties; each is a finding of its own.

While a campaign runs, two findings are the same when their signatures are: the verdict and two
events, the violation and what it conflicts with. That is the family of what the shelf keeps
(fuzz/shelf.py), whose signatures say as well between which steps the schedule switches. Files
appear whole (a temporary file, then os.replace).
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cleanrace
from cleanrace import Case, Event, Result, Scenario, ScenarioError, Target, schedule, words

ROOT = Path(__file__).resolve().parent.parent
FINDINGS = ROOT / "findings"
SUFFIX = ".litmus"
WITHIN = 20_000  # schedules in which a case is expected to show its verdict, at least
REMOUNT = 2  # in the value of init-call
# Verdicts that say that a table of ours was too small: never the target's fault.
LIMITS = frozenset(name for name, group in words.VERDICTS.items() if group == "harness")


class Broken(Exception):
    """The harness itself failed, whatever the target does: one line that says how."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Scenario, tape and verdict, and where they came from; digest is in hexadecimal.

    method names what met it ("random", "atheris", "hypothesis", "replay"); policy, seed and
    schedule repeat it without its tape unless a fuzzer's input brought the tape.
    """

    scenario: Scenario
    tape: bytes
    verdict: str
    signature: str
    digest: str
    planted: tuple[str, ...] = ()
    steps_max: int = 0
    method: str = "random"
    policy: str = "random"
    seed: int = 0
    schedule: int | None = None

    def to_json(self) -> dict[str, object]:
        """What crosses from a worker process to the campaign."""
        return {
            "scenario": self.scenario.to_bytes().hex(),
            "tape": self.tape.hex(),
            "verdict": self.verdict,
            "signature": self.signature,
            "digest": self.digest,
            "planted": list(self.planted),
            "steps_max": self.steps_max,
            "method": self.method,
            "policy": self.policy,
            "seed": self.seed,
            "schedule": self.schedule,
        }

    @staticmethod
    def from_json(values: dict[str, object]) -> "Finding":
        """The finding that to_json() wrote."""
        changed: dict[str, object] = {
            "scenario": Scenario.from_bytes(bytes.fromhex(str(values["scenario"]))),
            "tape": bytes.fromhex(str(values["tape"])),
            "planted": tuple(values["planted"]),  # type: ignore[arg-type]
        }
        return Finding(**(values | changed))  # type: ignore[arg-type]


def kind(target: Target) -> str:
    """What a case's `target` line calls this target: "linux" for every real kernel file."""
    return "reference" if target.info["kind"] == "reference" else "linux"


def signature(result: Result, verdict: str, target: Target) -> str:
    """The verdict and what happened at the violation and its cause: "pool-dead put+invalidate-fs".

    Not the operations: whichever operation lets go of a file system last shuts it down, so one
    bug shows under many of them. But who asked for a second pool makes another bug of it:
    "init-twice init-by-remount+init", and an access is told by its function and its object. No
    lines and no addresses. `result` is of a run with a full trace that judged this verdict
    alone, so that its violation is of this verdict.
    """
    if verdict in _APART:
        return f"{verdict} {_APART[verdict](result, target) or 'none'}"
    kinds = []
    if result.violation is not None:
        # A wrong init is wrong whoever asks; a second one is another bug for each who does.
        asked = "" if verdict == "init-wrong" else _asked_by(result)
        kinds.append(_what(result.violation, target) + asked)
    if result.cause is not None:
        # Whichever of the two hooks handed a pool out.
        kinds.append(_what(result.cause, target).replace("init-shared", "init"))
    if words.VERDICTS[verdict] in ("race", "rule"):
        kinds.sort()  # two accesses, whichever came first
    return f"{verdict} {'+'.join(dict.fromkeys(kinds)) or 'none'}"


def _what(event: Event, target: Target) -> str:
    if event.kind not in schedule.ACCESSES:
        return event.kind.removeprefix("cb-")
    function = target.names.function_line(event.pc).rpartition(":")[0]
    return f"{function}:{event.kind}:{schedule.without_indices(target.names.object(event.object))}"


def _held(result: Result, target: Target) -> str:
    """The locks that are held when nobody can go on: what the threads wait for is among them."""
    held: set[tuple[int, int]] = set()
    for event in result.trace:
        if event.kind in ("lock", "lock-shared"):
            held.add((event.thread, event.object))
        elif event.kind in ("unlock", "unlock-shared"):
            held.discard((event.thread, event.object))
    names = {schedule.without_indices(target.names.object(thing)) for _, thing in held}
    return "+".join(sorted(names))


def _turning(result: Result, target: Target) -> str:
    """The functions that a run goes round in when its steps end."""
    last = [event for event in result.trace[-LOOP:] if event.kind in schedule.ACCESSES]
    functions = Counter(target.names.function_line(e.pc).rpartition(":")[0] for e in last)
    return "+".join(sorted(name for name, count in functions.items() if count > len(last) // 10))


LOOP = 400  # events at the end of a run without progress that its loop is read from


def _either(_result: Result, _target: Target) -> str:
    """It shows when the later of the two is done, whichever that is."""
    return "sb-mounted+registered"


def _memory(result: Result, target: Target) -> str:
    """The object whose memory it was: many places touch it once it is gone."""
    what = result.violation
    if what is None or what.kind not in schedule.ACCESSES:
        return ""
    return schedule.without_indices(target.names.object(what.object)).partition(".")[0]


_APART: dict[str, Callable[[Result, Target], str]] = {
    "deadlock": _held,
    "step-limit": _turning,
    "init-missing": _either,
    "use-after-free": _memory,
    "out-of-bounds": _memory,
}


def _asked_by(result: Result) -> str:
    """Who called a violating init callback: a mount, a remount or the registration."""
    asker = ""
    if result.violation is None or not result.violation.kind.startswith("cb-init"):
        return asker
    for event in result.trace:
        if event is result.violation:
            break
        if event.thread == result.violation.thread and event.kind in ("init-call", "visit"):
            by_mount = "-by-remount" if event.value & REMOUNT else "-by-mount"
            asker = "-by-registration" if event.kind == "visit" else by_mount
    return asker


def examine(
    target: Target,
    scenario: Scenario,
    verdict: str,
    *,
    tape: bytes | None = None,
    policy: str = "random",
    seed: int = 0,
    schedule: int | None = None,
    planted: Sequence[str] = (),
    steps_max: int = 0,
    method: str = "random",
) -> Finding:
    """The finding behind a violation: run again alone, then replayed from its tape.

    Without `tape`, the run is number `schedule` of `policy` under `seed`; with it
    these only say where the tape once came from. Broken if
    it does not show `verdict` again or if the replay's trace is another one.
    """
    options: dict[str, Any] = {
        "planted": tuple(planted),
        "judged": (verdict,),
        "steps_max": steps_max,
    }
    source: dict[str, Any] = {"tape": tape}
    where = "a given tape"
    if tape is None:
        source = {"policy": policy, "seed": seed, "schedule": schedule or 0}
        where = f"schedule {schedule} of {policy}, seed {seed}"
    again = cleanrace.run(target, scenario, **source, **options)
    if verdict not in again.verdicts:
        raise Broken(
            f"determinism broken: {where} violated {verdict} in a search and not when run alone;"
            f" scenario {scenario.to_bytes().hex()}, report it"
        )
    replayed = cleanrace.run(target, scenario, again.tape, **options)
    if replayed.digest != again.digest:
        raise Broken(
            f"determinism broken: the tape of {where} gives another trace"
            f" ({replayed.digest:016x} instead of {again.digest:016x}); scenario"
            f" {scenario.to_bytes().hex()}, report it"
        )
    return Finding(
        scenario=scenario,
        tape=again.tape,
        verdict=verdict,
        signature=signature(again, verdict, target),
        digest=f"{again.digest:016x}",
        planted=tuple(planted),
        steps_max=steps_max,
        method=method,
        policy=policy,
        seed=seed,
        schedule=schedule,
    )


def file_name(finding: Finding) -> str:
    """The file that a finding is kept in: "pool-dead-put+invalidate-fs.litmus"."""
    return finding.signature.replace(" ", "-") + SUFFIX


def folder_of(findings: Path, target: Target, planted: Iterable[str] = ()) -> Path:
    """Where the findings about this target are kept, apart from those with planted bugs."""
    return findings / "+".join((target.name, *sorted(planted)))


def to_case(
    target: Target,
    finding: Finding,
    *,
    switches: Sequence[cleanrace.Switch] = (),
    within: int = WITHIN,
) -> Case:
    """The scenario file that keeps `finding`; `within` is for builds that its tape is not of."""
    found = {
        "signature": finding.signature,
        "build": target.build_id,
        "sha256": target.sha256,
        "compiler": str(target.info["compiler"]),
        "digest": finding.digest,
        "seed": str(finding.seed),
        "method": finding.method,
        "date": datetime.now(UTC).date().isoformat(),
    }
    if finding.schedule is not None:
        found["policy"] = finding.policy
        found["schedule"] = str(finding.schedule)
    return Case(
        scenario=finding.scenario,
        title=finding.signature,
        target=kind(target),
        broken=frozenset(finding.planted),
        expect=finding.verdict,
        within=within,
        steps_max=finding.steps_max,
        tape=finding.tape,
        found=found,
        switches=tuple(switches),
    )


def from_case(case: Case, *, signature: str = "") -> Finding:
    """The finding that a case with a tape keeps; its file need not say the signature."""
    return Finding(
        scenario=case.scenario,
        tape=case.tape,
        verdict=case.expect,
        signature=signature or case.found.get("signature", case.expect),
        digest=case.found.get("digest", ""),
        planted=tuple(name for name in words.PLANTED if name in case.broken),
        steps_max=case.steps_max,
        method=case.found.get("method", "random"),
        policy=case.found.get("policy", "random"),
        seed=int(case.found.get("seed", "0")),
        schedule=int(case.found["schedule"]) if "schedule" in case.found else None,
    )


def size(case: Case) -> tuple[int, int, int]:
    """How simple a finding is: operations, switches, length of the tape. Less is simpler."""
    operations = sum(map(len, case.scenario.threads))
    return operations, sum(map(bool, case.tape)), len(case.tape)


def write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all. OSError if it cannot be.

    A pipe or a device is written to as it is.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def keep(path: Path, case: Case) -> bool:
    """Write `case` to `path` unless a file there is as simple and of the same build."""
    try:
        old = Case.read(path)
    except (FileNotFoundError, ScenarioError):
        old = None
    keys = ("build", "signature")
    same = old is not None and all(old.found.get(key) == case.found.get(key) for key in keys)
    if old is not None and same and size(old) <= size(case):
        return False
    write(path, case.to_text())
    return True


def shown(path: Path) -> str:
    """A path as messages show it: relative to the current folder where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass
class Examiner:
    """Turns what the searches of one process met into findings, each signature once.

    The same few bugs are met thousands of times and examining one costs as much as thousands of
    schedules, so due() lets the first EXAMINED of each verdict through and then one in
    EXAMINED; `met` counts them all.
    """

    target: Target
    planted: tuple[str, ...] = ()
    signatures: set[str] = field(default_factory=set)
    met: dict[str, int] = field(default_factory=dict)

    EXAMINED = 100

    def due(self, verdict: str) -> bool:
        """Count a violation of `verdict`, and say whether to look at this one."""
        met = self.met[verdict] = self.met.get(verdict, 0) + 1
        return met <= self.EXAMINED or met % self.EXAMINED == 0

    def fresh(
        self,
        scenario: Scenario,
        verdict: str,
        *,
        tape: bytes | None = None,
        policy: str = "random",
        seed: int = 0,
        schedule: int | None = None,
        planted: Sequence[str] | None = None,
        steps_max: int = 0,
        method: str = "random",
    ) -> Finding | None:
        """The finding (see examine), or None if its signature was met before.

        planted: what was switched on when it was met, None for the examiner's own.
        """
        finding = examine(
            self.target,
            scenario,
            verdict,
            tape=tape,
            policy=policy,
            seed=seed,
            schedule=schedule,
            planted=self.planted if planted is None else planted,
            steps_max=steps_max,
            method=method,
        )
        if finding.signature in self.signatures:
            return None
        self.signatures.add(finding.signature)
        return finding
