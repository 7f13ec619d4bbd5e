# SPDX-License-Identifier: GPL-2.0-only
"""The one module that touches a target's ffi and lib.

Module files are loaded by path, several targets side by side. C works on one static run per
target, so every call that leaves something to be copied out holds that target's lock. Arguments
have been checked when they get here; C refusing one is a bug of ours.
"""

import importlib.machinery
import importlib.util
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cleanrace import words

ENGINES: Final = MappingProxyType(
    {"fiber": "CR_ENGINE_FIBER", "thread": "CR_ENGINE_THREAD", "bare": "CR_ENGINE_BARE"}
)
POLICIES: Final = MappingProxyType(
    {
        "tape": "CR_POLICY_TAPE",
        "random": "CR_POLICY_RANDOM",
        "uniform": "CR_POLICY_UNIFORM",
        "pct": "CR_POLICY_PCT",
        "pct-1": "CR_POLICY_PCT_1",
        "pct-2": "CR_POLICY_PCT_2",
        "pct-3": "CR_POLICY_PCT_3",
        "surw": "CR_POLICY_SURW",
    }
)
POINTS: Final = MappingProxyType({"all": "CR_POINTS_ALL", "sync": "CR_POINTS_SYNC"})
EXPLORES: Final = MappingProxyType({"dpor": "CR_EXPLORE_DPOR", "dfs": "CR_EXPLORE_DFS"})
TABLES: Final = ("ops", "micro", "verdicts", "events", "planted", "marks")

#: Constants of api.h that words.py states too.
CONSTANTS: Final = MappingProxyType(
    {
        "CR_FORMAT_VERSION": words.FORMAT_VERSION,
        "CR_THREADS_MAX": words.THREADS_MAX,
        "CR_OPS_MAX": words.OPERATIONS_MAX,
        "CR_FS_MAX": words.FILE_SYSTEMS_MAX,
        "CR_BACKENDS_MAX": words.BACKENDS_MAX,
        "CR_INODES": words.INODES,
        "CR_PAGES": words.PAGES,
        "CR_OBJECTS": words.OBJECTS,
        "CR_SCENARIO_BYTES_MAX": words.SCENARIO_BYTES_MAX,
        "CR_TAPE_MAX": words.TAPE_MAX,
        "CR_STEPS_MAX": words.STEPS_MAX,
    }
)


@dataclass(frozen=True, slots=True)
class Config:
    """struct cr_config, with names instead of numbers for the engine and the policy."""

    engine: str
    policy: str
    planted: int
    judged: int
    steps_max: int
    full: bool
    points: str
    detect: bool
    seed: int
    schedule: int


@dataclass(frozen=True, slots=True)
class RawResult:
    """struct cr_result, copied out; `trace` is the bytes of its array of struct cr_event."""

    verdict: int
    verdicts: int
    violation: int
    cause: int
    marks: int
    steps: int
    tape: bytes
    interleaving: int
    digest: int
    trace: bytes


@dataclass(frozen=True, slots=True)
class RawRace:
    """struct cr_race, without the places for locks that are not used."""

    pc: tuple[int, ...]
    kind: tuple[int, ...]
    held: tuple[tuple[int, ...], ...]
    object: int
    documented: bool
    schedule: int
    count: int


class Native:
    """One loaded target."""

    def __init__(self, path: Path) -> None:
        """Load the module file; ImportError if it is none, ValueError if its API is another."""
        name = f"cleanrace._targets.{path.parent.name}._cleanrace"
        loader = importlib.machinery.ExtensionFileLoader(name, str(path))
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        if spec is None:
            raise ImportError(f"{path} is no extension module")
        module: Any = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        self.ffi: Any = module.ffi
        self.lib: Any = module.lib
        self.lock = threading.Lock()
        for constant, expected in CONSTANTS.items():
            if getattr(self.lib, constant) != expected:
                raise ValueError(f"{constant} is {getattr(self.lib, constant)}, not {expected}")
        self.tables: dict[str, tuple[tuple[str, str, str], ...]] = {
            table: self._table(number) for number, table in enumerate(TABLES)
        }

    def _table(self, number: int) -> tuple[tuple[str, str, str], ...]:
        lines: list[tuple[str, str, str]] = []
        while self.lib.cr_word(number, len(lines), 0) != self.ffi.NULL:
            name, first, second = (self._word(number, len(lines), field) for field in range(3))
            lines.append((name, first, second))
        return tuple(lines)

    def _word(self, table: int, index: int, field: int) -> str:
        word = self.lib.cr_word(table, index, field)
        return "" if word == self.ffi.NULL else str(self.ffi.string(word).decode())

    def config(self, config: Config) -> Any:
        """A struct cr_config."""
        return self.ffi.new(
            "struct cr_config *",
            {
                "engine": getattr(self.lib, ENGINES[config.engine]),
                "policy": getattr(self.lib, POLICIES[config.policy]),
                "planted": config.planted,
                "judged": config.judged,
                "steps_max": config.steps_max,
                "trace_full": config.full,
                "points": getattr(self.lib, POINTS[config.points]),
                "detect": config.detect,
                "seed": config.seed,
                "schedule": config.schedule,
            },
        )

    def run(
        self, config: Config, scenario: bytes, tape: bytes, *, forced: bool = False
    ) -> RawResult:
        """cr_run; or cr_run_forced, of which `tape` has the threads."""
        result = self.ffi.new("struct cr_result *")
        call = self.lib.cr_run_forced if forced else self.lib.cr_run
        with self.lock:
            self._check(
                call(self.config(config), scenario, len(scenario), tape, len(tape), result)
            )
            size = result.trace_length * self.ffi.sizeof("struct cr_event")
            return RawResult(
                verdict=result.verdict,
                verdicts=result.verdicts,
                violation=result.violation,
                cause=result.cause,
                marks=result.marks,
                steps=result.steps,
                tape=self._bytes(result.tape, result.tape_length),
                interleaving=result.interleaving,
                digest=result.digest,
                trace=self._bytes(result.trace, size),
            )

    def _bytes(self, pointer: Any, size: int) -> bytes:
        return bytes(self.ffi.buffer(pointer, size)) if size else b""

    def summary(self) -> Any:
        """A struct cr_summary of zeros."""
        return self.ffi.new("struct cr_summary *")

    def registers(self, summary: Any) -> bytes:
        """The HyperLogLog registers of a struct cr_summary."""
        return bytes(self.ffi.buffer(summary.registers))

    def search(
        self,
        config: Any,
        scenario: bytes,
        count: int,
        *,
        nanoseconds_max: int,
        stop_on: int,
        summary: Any,
    ) -> None:
        """cr_search; `config` and `summary` are this class's structs."""
        with self.lock:
            self._check(
                self.lib.cr_search(
                    config, scenario, len(scenario), count, nanoseconds_max, stop_on, summary
                )
            )

    def explore_begin(
        self, config: Any, scenario: bytes, policy: str, how: Mapping[str, int | list[int]]
    ) -> None:
        """cr_explore_begin; `how` has the other fields of struct cr_explore."""
        fields = {"algorithm": getattr(self.lib, EXPLORES[policy]), **how}
        with self.lock:
            struct_how = self.ffi.new("struct cr_explore *", fields)
            self._check(self.lib.cr_explore_begin(config, scenario, len(scenario), struct_how))

    def explore_go_on(self, executions_max: int, nanoseconds_max: int) -> Any:
        """cr_explore_go_on: a struct cr_explored."""
        explored = self.ffi.new("struct cr_explored *")
        with self.lock:
            self._check(self.lib.cr_explore_go_on(executions_max, nanoseconds_max, explored))
        return explored

    def explore_tape(self, verdict: int) -> tuple[bytes, int] | None:
        """cr_explore_tape: the tape and its preemptions."""
        length, preemptions = self.ffi.new("size_t *"), self.ffi.new("uint32_t *")
        with self.lock:
            tape = self.lib.cr_explore_tape(verdict, length, preemptions)
            if tape == self.ffi.NULL:
                return None
            return self._bytes(tape, length[0]), int(preemptions[0])

    def explore_states(self) -> list[int]:
        """cr_explore_states."""
        with self.lock:
            count = self.lib.cr_explore_states(self.ffi.NULL, 0)
            states = self.ffi.new("uint64_t[]", max(1, count))
            return list(states[0 : self.lib.cr_explore_states(states, count)])

    def explore_save(self) -> bytes:
        """cr_explore_save."""
        with self.lock:
            size = self.lib.cr_explore_save(self.ffi.NULL, 0)
            room = self.ffi.new("uint8_t[]", max(1, size))
            return self._bytes(room, self.lib.cr_explore_save(room, size))

    def explore_load(self, saved: bytes) -> bool:
        """cr_explore_load; False if it does not fit what was begun."""
        with self.lock:
            return bool(self.lib.cr_explore_load(saved, len(saved)) == 0)

    def promote(self, offsets: Sequence[int]) -> None:
        """cr_promote."""
        with self.lock:
            self.lib.cr_promote(list(offsets), len(offsets))

    def promoted(self) -> list[int]:
        """cr_promoted."""
        with self.lock:
            count = self.lib.cr_promoted(self.ffi.NULL, 0)
            offsets = self.ffi.new("uint32_t[]", max(1, count))
            return list(offsets[0 : self.lib.cr_promoted(offsets, count)])

    def canonical(self, scenario: bytes) -> bytes:
        """cr_canonical."""
        out = self.ffi.new("uint8_t[]", words.SCENARIO_BYTES_MAX)
        return self._bytes(out, self.lib.cr_canonical(scenario, len(scenario), out))

    def scenario_bytes(self, data: bytes) -> int:
        """cr_scenario_bytes."""
        return int(self.lib.cr_scenario_bytes(data, len(data)))

    def counter(self, name: str) -> int | None:
        """cr_counter of the last run; None if the target has no such counter."""
        value = self.ffi.new("uint64_t *")
        return int(value[0]) if self.lib.cr_counter(name.encode(), value) else None

    def races(self) -> list[RawRace]:
        """cr_races."""
        out = self.ffi.new("struct cr_race[]", self.lib.CR_RACES_MAX)
        with self.lock:
            count = self.lib.cr_races(out, self.lib.CR_RACES_MAX)
        return [self._race(out[number]) for number in range(count)]

    def _race(self, race: Any) -> RawRace:
        none = self.lib.CR_RACE_NO_LOCK
        return RawRace(
            pc=tuple(race.pc),
            kind=tuple(race.kind),
            held=tuple(tuple(lock for lock in held if lock != none) for held in race.held),
            object=race.object,
            documented=bool(race.documented),
            schedule=race.schedule,
            count=race.count,
        )

    def races_forget(self) -> None:
        """cr_races_forget."""
        with self.lock:
            self.lib.cr_races_forget()

    def edges(self) -> tuple[int, ...]:
        """cr_edges."""
        offsets = self.ffi.new("uint32_t[]", self.lib.CR_EDGES_MAX)
        return tuple(offsets[0 : self.lib.cr_edges(offsets, self.lib.CR_EDGES_MAX)])

    def edges_seen(self) -> int:
        """cr_edges_seen."""
        return int(self.lib.cr_edges_seen())

    def pairs_seen(self) -> int:
        """cr_pairs_seen."""
        return int(self.lib.cr_pairs_seen())

    def fuzz_one(self, config: Config) -> Callable[[bytes], int]:
        """cr_fuzz_one with a fixed configuration; without the lock, for speed."""
        one, struct_config = self.lib.cr_fuzz_one, self.config(config)
        return lambda data: int(one(struct_config, data, len(data)))

    def fuzz_registers(self) -> bytes:
        """cr_fuzz_registers."""
        registers = self.ffi.new(f"uint8_t[{self.lib.CR_REGISTERS}]")
        self.lib.cr_fuzz_registers(registers)
        return bytes(self.ffi.buffer(registers))

    def fuzz_attach(self, counters_init: int, pcs_init: int) -> None:
        """cr_fuzz_attach; the functions by address."""
        self.lib.cr_fuzz_attach(
            self.ffi.cast("void *", counters_init), self.ffi.cast("void *", pcs_init)
        )

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise AssertionError(f"C refused an argument that Python had accepted: {code}")
