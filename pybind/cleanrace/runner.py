# SPDX-License-Identifier: GPL-2.0-only
"""run and search: everything is checked here before C is entered."""

import struct
import time
from collections.abc import Iterable
from typing import Any, Final

from cleanrace import checks, words
from cleanrace._native import ENGINES, POINTS, POLICIES, Config, RawResult
from cleanrace.result import Event, Result, Summary
from cleanrace.scenario import Scenario
from cleanrace.target import Target

_U64: Final = 0xFFFFFFFFFFFFFFFF
_EVENT: Final = struct.Struct("=IIBBHiq")  # struct cr_event
_SLICE_NANOSECONDS: Final = 100_000_000  # between two looks at Ctrl-C


def run(
    target: Target,
    scenario: Scenario,
    tape: bytes = b"",
    *,
    engine: str = "fiber",
    policy: str = "tape",
    planted: Iterable[str] = (),
    judged: Iterable[str] | None = None,
    steps_max: int = 0,
    full: bool = True,
    points: str = "all",
    detect: bool = True,
    seed: int = 0,
    schedule: int = 0,
) -> Result:
    """Run one schedule of `scenario`.

    tape: choices of the policy "tape"; answer i is the i-th enabled thread from the running one
    upwards, past its end 0. engine: "fiber" (deterministic), "thread" (real threads, whose
    choices no tape repeats) or "bare" (fibers with nobody who looks on: no trace, no verdict).
    policy: "tape", or one that draws from `seed` and `schedule`: "random", "uniform", "pct" (of a
    depth drawn from 1 to 3), "pct-1", "pct-2", "pct-3", "surw".
    planted: planted bugs to switch on. judged: verdicts that count, None for all
    but "data-race", since the real file races by design; Target.races() has every race met.
    steps_max: decision points, 0 for the default of 20,000. full: the trace has every access.
    points: decision points, "all" at every access or "sync" at synchronisation and at promoted
    accesses only. detect: lock rules, guarded fields and data races are judged as well.
    ValueError names an argument that cannot be; TargetError if the target cannot be loaded.
    """
    config = _config(
        target,
        scenario,
        engine=engine,
        policy=policy,
        planted=planted,
        judged=judged,
        steps_max=steps_max,
        full=full,
        points=points,
        detect=detect,
        seed=seed,
        schedule=schedule,
    )
    checks.instance("tape", tape, bytes)
    if len(tape) > words.TAPE_MAX:
        raise ValueError(f"tape has {len(tape)} bytes: expected {words.TAPE_MAX} at most")
    return _result(target, scenario, target.native.run(config, scenario.to_bytes(), tape))


def run_forced(
    target: Target,
    scenario: Scenario,
    tape: bytes = b"",
    *,
    planted: Iterable[str] = (),
    judged: Iterable[str] | None = None,
    steps_max: int = 0,
) -> Result:
    """Run the schedule of a tape with real threads, which hand over as the fibers do.

    The arguments are run's. The thread engine has no detectors, so what they alone see is not
    judged; everything else, and all events of the trace but accesses, are the same.
    """
    fibers = run(
        target,
        scenario,
        tape,
        planted=planted,
        judged=judged,
        steps_max=steps_max,
        detect=False,
    )
    config = _config(
        target,
        scenario,
        engine="thread",
        policy="tape",
        planted=planted,
        judged=judged,
        steps_max=steps_max,
        full=False,
        points="all",
        detect=False,
        seed=0,
        schedule=0,
    )
    running: dict[int, int] = {}
    for event in fibers.trace:
        running.setdefault(event.step, event.thread)
    turns = bytes(running.get(step, 0) for step in range(max(running, default=-1) + 1))
    raw = target.native.run(config, scenario.to_bytes(), turns, forced=True)
    return _result(target, scenario, raw)


def search(
    target: Target,
    scenario: Scenario,
    *,
    schedules: int,
    seconds: float | None = None,
    policy: str = "random",
    seed: int = 0,
    first: int = 0,
    engine: str = "fiber",
    planted: Iterable[str] = (),
    judged: Iterable[str] | None = None,
    steps_max: int = 0,
    points: str = "all",
    detect: bool = False,
    stop_on: Iterable[str] = (),
    into: Summary | None = None,
) -> Summary:
    """Run many schedules of `scenario`: number `first`, `first` + 1, and so on.

    Stops when `schedules` are done, `seconds` have passed, or a verdict in `stop_on` was met.
    Returns what they met: `into` with it added, or a new Summary. The other arguments are run's.
    An interrupt (Ctrl-C) is noticed within about 0.1 s; `into` then has what was done so far.
    """
    config = _config(
        target,
        scenario,
        engine=engine,
        policy=policy,
        planted=planted,
        judged=judged,
        steps_max=steps_max,
        full=False,
        points=points,
        detect=detect,
        seed=seed,
        schedule=first,
    )
    checks.number("schedules", schedules, 0, _U64 - first)
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"seconds={checks.shown(seconds)}: expected a number from 0, or None")
    if into is not None:
        checks.instance("into", into, Summary)
    stop = target.bits("verdicts", stop_on, argument="stop_on")
    total = Summary() if into is None else into
    native = target.native
    struct_config = native.config(config)
    met = native.summary()
    data = scenario.to_bytes()
    end = None if seconds is None else time.monotonic() + seconds
    try:
        while met.schedules < schedules:
            limit = _SLICE_NANOSECONDS
            if end is not None:
                left = int((end - time.monotonic()) * 1e9)
                if left <= 0:
                    break
                limit = min(limit, left)
            struct_config.schedule = first + met.schedules
            native.search(
                struct_config,
                data,
                schedules - met.schedules,
                nanoseconds_max=limit,
                stop_on=stop,
                summary=met,
            )
            if any(met.violations[n] for n in range(stop.bit_length()) if stop >> n & 1):
                break
    finally:
        total.merge(_summary(target, met))
    return total


def _config(
    target: Target,
    scenario: Scenario,
    *,
    engine: str,
    policy: str,
    planted: Iterable[str],
    judged: Iterable[str] | None,
    steps_max: int,
    full: bool,
    points: str,
    detect: bool,
    seed: int,
    schedule: int,
) -> Config:
    checks.instance("target", target, Target)
    checks.instance("scenario", scenario, Scenario)
    checks.choice("engine", engine, ENGINES)
    checks.choice("policy", policy, POLICIES)
    checks.number("steps_max", steps_max, 0, words.STEPS_MAX)
    checks.instance("full", full, bool)
    checks.choice("points", points, POINTS)
    checks.instance("detect", detect, bool)
    checks.number("seed", seed, 0, _U64)
    checks.number("schedule", schedule, 0, _U64)
    return Config(
        engine=engine,
        policy=policy,
        planted=target.bits("planted", planted, argument="planted"),
        judged=target.bits("verdicts", judged, argument="judged"),
        steps_max=steps_max,
        full=full,
        points=points,
        detect=detect,
        seed=seed,
        schedule=schedule,
    )


def _result(target: Target, scenario: Scenario, raw: RawResult) -> Result:
    kinds = [line[0] for line in target.native.tables["events"]]
    trace = tuple(
        Event(step, thread, kinds[kind], thing, value, pc, enabled)
        for step, pc, thread, kind, enabled, thing, value in _EVENT.iter_unpack(raw.trace)
    )
    names = [line[0] for line in target.native.tables["verdicts"]]
    return Result(
        verdict=names[raw.verdict],
        verdicts=target.named("verdicts", raw.verdicts) - {"ok"},
        violation=_event(trace, raw.violation) if raw.verdict else None,
        cause=_event(trace, raw.cause) if raw.verdict else None,
        marks=target.named("marks", raw.marks),
        steps=raw.steps,
        tape=raw.tape.rstrip(b"\0"),
        interleaving=raw.interleaving,
        digest=raw.digest,
        trace=trace,
        threads=len(scenario.threads),
    )


def _event(trace: tuple[Event, ...], index: int) -> Event | None:
    return trace[index] if index < len(trace) else None


def _summary(target: Target, met: Any) -> Summary:
    tables = target.native.tables
    verdicts = [(n, line[0]) for n, line in enumerate(tables["verdicts"]) if met.violations[n]]
    return Summary(
        schedules=met.schedules,
        steps=met.steps,
        choices=met.choices,
        seconds=met.nanoseconds / 1e9,
        violations={name: met.violations[n] for n, name in verdicts if n},
        first={name: met.first[n] for n, name in verdicts if n},
        marks={line[0]: met.marks[n] for n, line in enumerate(tables["marks"]) if met.marks[n]},
        registers=target.native.registers(met),
        steps_profiled=met.steps_profiled,
        known=met.known,
    )
