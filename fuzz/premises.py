# SPDX-License-Identifier: GPL-2.0-only
"""The proof's four premises, broken one at a time, and all of them intact.

Judges only what the proof concludes: init_fs at least once and at most once per active super
block. A search that does not find each broken premise is blind, and what it says about the
intact file is worth nothing; so these are also the campaign's canary.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cleanrace
from cleanrace import FileSystem, Operation, Scenario, Summary, Target
from fuzz import minimise, store

JUDGED = ("init-missing", "init-twice")
PREMISES = ("a", "b", "c", "d")
CANARY = "c"
CANARY_SECONDS = 1.0
FIRST_SECONDS = 10.0  # longest search for a first hit in the main scenario
OTHER_SECONDS = 0.5  # in the others, not all of which can show every premise
RATE_SECONDS = 0.4  # of counting hits
INTACT_SECONDS = 1.0  # per scenario
SEED = 1

LOCAL = FileSystem()
SHARED = FileSystem("shared")


def _register() -> Operation:
    return Operation("register", (0,))


def _mount(number: int) -> Operation:
    return Operation("mount", (number,))


def _unmount(number: int) -> Operation:
    return Operation("unmount", (number,))


MAIN = Scenario(
    file_systems=(LOCAL, LOCAL),
    threads=((_register(),), (_mount(0),), (_mount(1),)),
)

SCENARIOS: tuple[tuple[str, Scenario], ...] = (
    ("register | mount | mount", MAIN),
    (
        "register | mount, unmount | mount",
        Scenario(
            file_systems=(LOCAL, LOCAL),
            threads=((_register(),), (_mount(0), _unmount(0)), (_mount(1),)),
        ),
    ),
    (
        "register | mount shared | mount",
        Scenario(
            file_systems=(SHARED, LOCAL), threads=((_register(),), (_mount(0),), (_mount(1),))
        ),
    ),
    (
        "register | mount, unmount, mount | unmount",
        Scenario(
            file_systems=(SHARED,),
            threads=((_register(),), (_mount(0), _unmount(0), _mount(0)), (_unmount(0),)),
        ),
    ),
)


SEARCHES = (len(PREMISES) + 1) * len(SCENARIOS)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A search for a broken premise (None: all intact).

    seconds: until the first hit, or spent in vain; schedules: run until then; rate: hits per
    second of one core.
    """

    premise: str | None
    found: bool
    scenario: str
    schedules: int
    seconds: float
    rate: float = 0.0
    finding: store.Finding | None = None
    summary: Summary = field(default_factory=Summary)


def canary(target: Target, *, premise: str = CANARY, seconds: float = CANARY_SECONDS) -> Hit:
    """Look for one broken premise in the main scenario, for at most `seconds`."""
    begin = time.monotonic()
    summary = cleanrace.search(
        target,
        MAIN,
        schedules=10**9,
        seconds=seconds,
        seed=SEED,
        planted=(premise,),
        judged=JUDGED,
        stop_on=JUDGED,
    )
    return Hit(
        premise=premise,
        found=any(summary.violations.get(verdict) for verdict in JUDGED),
        scenario=SCENARIOS[0][0],
        schedules=summary.schedules,
        seconds=time.monotonic() - begin,
        summary=summary,
    )


def broken(target: Target, premise: str, *, name: str, scenario: Scenario) -> Hit:
    """How fast `random` finds one broken premise in one scenario, and its simplest schedule."""
    options: dict[str, Any] = {"planted": (premise,), "judged": JUDGED, "seed": SEED}
    begin = time.monotonic()
    first = cleanrace.search(
        target,
        scenario,
        schedules=10**9,
        seconds=FIRST_SECONDS if scenario is MAIN else OTHER_SECONDS,
        stop_on=JUDGED,
        **options,
    )
    seconds = time.monotonic() - begin
    met = [verdict for verdict in JUDGED if first.violations.get(verdict)]
    if not met:
        return Hit(
            premise=premise,
            found=False,
            scenario=name,
            schedules=first.schedules,
            seconds=seconds,
            summary=first,
        )
    rate = cleanrace.search(target, scenario, schedules=10**9, seconds=RATE_SECONDS, **options)
    hits = sum(rate.violations.get(verdict, 0) for verdict in JUDGED)
    finding = store.examine(
        target, scenario, met[0], seed=SEED, schedule=first.first[met[0]], planted=(premise,)
    )
    return Hit(
        premise=premise,
        found=True,
        scenario=name,
        schedules=first.schedules,
        seconds=seconds,
        rate=hits / rate.seconds if rate.seconds else 0.0,
        finding=finding,
        summary=rate,
    )


def intact(target: Target, *, name: str, scenario: Scenario, seconds: float) -> Hit:
    """The same search with nothing planted: a hit here is a finding about the target."""
    begin = time.monotonic()
    summary = cleanrace.search(
        target, scenario, schedules=10**12, seconds=seconds, seed=SEED, judged=JUDGED
    )
    met = [verdict for verdict in JUDGED if summary.violations.get(verdict)]
    finding = None
    if met:
        finding = store.examine(target, scenario, met[0], seed=SEED, schedule=summary.first[met[0]])
    return Hit(
        premise=None,
        found=bool(met),
        scenario=name,
        schedules=summary.schedules,
        seconds=time.monotonic() - begin,
        finding=finding,
        summary=summary,
    )


def run(
    target: Target,
    *,
    show: Callable[[str], None] = lambda _: None,
) -> Iterator[Hit]:
    """Every premise broken, in every scenario, then every scenario intact."""
    for premise in PREMISES:
        for name, scenario in SCENARIOS:
            show(f"premise {premise} broken: {name}")
            yield broken(target, premise, name=name, scenario=scenario)
    for name, scenario in SCENARIOS:
        show(f"all premises intact: {name}")
        yield intact(target, name=name, scenario=scenario, seconds=INTACT_SECONDS)


def simplest(target: Target, hits: Sequence[Hit]) -> store.Finding | None:
    """The simplest schedule behind these hits, further simplified; None if nothing was found."""
    findings = [hit.finding for hit in hits if hit.finding is not None]
    if not findings:
        return None
    finding = min(findings, key=lambda found: sum(map(len, found.scenario.threads)))
    return minimise.simplify(target, finding, seconds=1.0)


def blind(hits: Sequence[Hit]) -> list[str]:
    """Premises that no scenario found broken, of those for which all were searched."""
    found = {hit.premise for hit in hits if hit.found}
    searched = Counter(hit.premise for hit in hits if hit.premise is not None)
    whole = {premise for premise, count in searched.items() if count >= len(SCENARIOS)}
    return sorted(whole - found)
