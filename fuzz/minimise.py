# SPDX-License-Identifier: GPL-2.0-only
"""Simplify a finding: fewer threads and operations, a plainer scenario, a shorter tape.

Greedy, and bounded in time: a change is kept when the same signature still shows. A changed
scenario has other decision points, so a search of a few thousand schedules looks for a new tape;
a tape is then shortened by itself. Whatever the time allowed, the answer is a finding that was
seen and replayed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cleanrace
from cleanrace import FileSystem, Operation, Scenario, Target
from fuzz import store
from fuzz.store import Finding

SCHEDULES_MIN, SCHEDULES_MAX = 300, 3000  # of a search in a changed scenario
HITS_MAX = 8  # violations of the verdict looked at for one with the same signature


@dataclass(frozen=True)
class _Work:
    target: Target
    end: float
    schedules: int = SCHEDULES_MAX

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end


def simplify(target: Target, finding: Finding, *, seconds: float = 2.0) -> Finding:
    """A finding of the same signature, at most as large; takes about `seconds`."""
    begin = time.monotonic()
    # Searching for a tape in each smaller scenario is slow, shortening a tape is fast.
    work = _Work(target, begin + 0.75 * seconds, _schedules(target, finding))
    finding = _simplify_scenario(work, finding)
    return shorten(target, finding, seconds=begin + seconds - time.monotonic())


def _schedules(target: Target, finding: Finding) -> int:
    """How long to search in a changed scenario: long enough to meet what is met in this one."""
    summary = cleanrace.search(
        target,
        finding.scenario,
        schedules=SCHEDULES_MAX,
        seconds=0.1,
        planted=finding.planted,
        judged=(finding.verdict,),
        steps_max=finding.steps_max,
        detect=True,
    )
    hits = summary.violations.get(finding.verdict, 0)
    wanted = 30 * summary.schedules // max(1, hits)
    return max(SCHEDULES_MIN, min(SCHEDULES_MAX, wanted))


def _simplify_scenario(work: _Work, finding: Finding) -> Finding:
    tried: set[Scenario] = {finding.scenario}
    progress = True
    while progress and not work.over:
        progress = False
        for scenario in smaller(finding.scenario):
            if work.over:
                break
            if scenario in tried:
                continue
            tried.add(scenario)
            found = _search(work, finding, scenario)
            if found is not None:
                finding, progress = found, True
                break
    return finding


def _search(work: _Work, finding: Finding, scenario: Scenario) -> Finding | None:
    """The same finding in another scenario, if some schedules of `random` show it."""
    first = 0
    for _ in range(HITS_MAX):
        if work.over or first >= work.schedules:
            return None
        summary = cleanrace.search(
            work.target,
            scenario,
            schedules=work.schedules - first,
            seconds=max(0.01, work.end - time.monotonic()),
            first=first,
            planted=finding.planted,
            judged=(finding.verdict,),
            steps_max=finding.steps_max,
            detect=True,
            stop_on=(finding.verdict,),
        )
        if not summary.violations.get(finding.verdict):
            return None
        schedule = summary.first[finding.verdict]
        found = store.examine(
            work.target,
            scenario,
            finding.verdict,
            schedule=schedule,
            planted=finding.planted,
            steps_max=finding.steps_max,
            method=finding.method,
        )
        if found.signature == finding.signature:
            return found
        first = schedule + 1
    return None


def smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little simpler, the boldest changes first."""
    yield from _fewer_operations(scenario)
    if not scenario.micro:
        yield from _plainer_options(scenario)
        yield from _plainer_file_systems(scenario)
        yield from _plainer_operands(scenario)


def _fewer_operations(scenario: Scenario) -> Iterator[Scenario]:
    threads = scenario.threads
    for number in range(len(threads)):
        if len(threads) > 1:
            yield _cleaned(replace(scenario, threads=threads[:number] + threads[number + 1 :]))
    for number, thread in enumerate(threads):
        for at in range(len(thread)):
            if len(thread) > 1:
                less = (thread[:at] + thread[at + 1 :],)
                changed = threads[:number] + less + threads[number + 1 :]
                yield _cleaned(replace(scenario, threads=changed))


def _plainer_options(scenario: Scenario) -> Iterator[Scenario]:
    if scenario.init_fails:
        yield replace(scenario, init_fails=frozenset())
    if scenario.capacity is not None:
        yield replace(scenario, capacity=None)
    if scenario.ids != "smallest":
        yield replace(scenario, ids="smallest")


def _plainer_file_systems(scenario: Scenario) -> Iterator[Scenario]:
    for number, fs in enumerate(scenario.file_systems):
        for simpler in (FileSystem(), replace(fs, handles=False), replace(fs, uuid=0)):
            if simpler != fs:
                changed = list(scenario.file_systems)
                changed[number] = simpler
                yield from _if_valid(scenario, tuple(changed))


def _plainer_operands(scenario: Scenario) -> Iterator[Scenario]:
    """One inode, one page, backend 0: all operations at once, since they belong together."""
    for letter in "ipb":
        changed = tuple(
            tuple(
                Operation(
                    operation.name,
                    tuple(
                        0 if which == letter else value
                        for which, value in zip(operation.letters, operation.operands, strict=True)
                    ),
                )
                for operation in thread
            )
            for thread in scenario.threads
        )
        if changed != scenario.threads:
            yield replace(scenario, threads=changed)


def _cleaned(scenario: Scenario) -> Scenario:
    """The scenario without the file systems that no operation names any more."""
    if scenario.micro:
        return scenario
    used = sorted(
        {
            operation.file_system
            for thread in scenario.threads
            for operation in thread
            if operation.file_system is not None
        }
    )
    kept = used or [0]
    if len(kept) == len(scenario.file_systems):
        return scenario
    number_of = {old: new for new, old in enumerate(kept)}
    threads = tuple(
        tuple(
            Operation(
                operation.name,
                tuple(
                    number_of[value] if which == "s" else value
                    for which, value in zip(operation.letters, operation.operands, strict=True)
                ),
            )
            for operation in thread
        )
        for thread in scenario.threads
    )
    file_systems = tuple(scenario.file_systems[number] for number in kept)
    return replace(scenario, file_systems=file_systems, threads=threads)


def _if_valid(scenario: Scenario, file_systems: tuple[FileSystem, ...]) -> Iterator[Scenario]:
    """The scenario on other file systems, unless it would have page operations on twins."""
    empty = replace(scenario, file_systems=file_systems, threads=())
    if not any(empty.problem(op) for thread in scenario.threads for op in thread):
        yield replace(empty, threads=scenario.threads)


def shorten(target: Target, finding: Finding, *, seconds: float = 1.0) -> Finding:
    """The finding with a tape of fewer switches, then a shorter one."""
    end = time.monotonic() + seconds
    tape = bytearray(finding.tape)

    def shows(candidate: bytearray) -> bool:
        result = cleanrace.run(
            target,
            finding.scenario,
            bytes(candidate),
            planted=finding.planted,
            judged=(finding.verdict,),
            steps_max=finding.steps_max,
            full=False,
        )
        if finding.verdict not in result.verdicts:
            return False
        return store.signature(result, finding.verdict) == finding.signature

    for change in (_zeroed, _removed, _lowered, _zeroed, _removed):
        size = max(1, len(tape) // 2)
        while size and time.monotonic() < end:
            at = len(tape) - size
            while at > -size and time.monotonic() < end:
                candidate = change(tape, max(at, 0), size)
                if candidate != tape and shows(candidate):
                    tape = candidate
                at -= size
            size //= 2
    return store.examine(
        target,
        finding.scenario,
        finding.verdict,
        tape=bytes(tape),
        planted=finding.planted,
        steps_max=finding.steps_max,
        method=finding.method,
        policy=finding.policy,
        seed=finding.seed,
        schedule=finding.schedule,
    )


def _zeroed(tape: bytearray, at: int, size: int) -> bytearray:
    changed = bytearray(tape)
    changed[at : at + size] = bytes(len(changed[at : at + size]))
    return bytearray(changed.rstrip(b"\0"))


def _removed(tape: bytearray, at: int, size: int) -> bytearray:
    return bytearray((tape[:at] + tape[at + size :]).rstrip(b"\0"))


def _lowered(tape: bytearray, at: int, size: int) -> bytearray:
    changed = bytearray(tape)
    changed[at : at + size] = bytes(min(value, 1) for value in changed[at : at + size])
    return changed
