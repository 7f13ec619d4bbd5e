# SPDX-License-Identifier: GPL-2.0-only
"""`races` lists exactly what races, and its tapes show it."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Result, Scenario, Target
from fuzz import neighbours, premises, races, tsan
from fuzz import run as program
from fuzz.racetable import ACCESSES


def micro(*threads: str) -> Scenario:
    """A scenario of micro-operations."""
    lines = ["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)]
    return Scenario.from_text("\n".join(lines))


def listed(target: Target, *scenarios: Scenario) -> races.Races:
    """The races of some scenarios, with tapes."""
    found = races.Races(target=target, entries={})
    for scenario, policy in product(scenarios, races.POLICIES):
        races.collect(found, scenario, policy=policy, seed=1, schedules=300)
    races.add_tapes(found, seconds=5)
    return found


def kinds(found: races.Races) -> list[tuple[str, ...]]:
    """What both sides of each entry did."""
    return sorted(tuple(sorted(kind for _, kind in key)) for key in found.entries)


def accesses(result: Result) -> list[cleanrace.Event]:
    return [event for event in result.trace if event.kind in ACCESSES]


@pytest.mark.parametrize(("threads", "expected"), [
    (("store 0", "load 0"), [("read", "write")]),
    (("store 0", "store 0"), [("write", "write")]),
    (("load 0", "load 0"), []),
    (("store 0", "store 1"), []),
    (("lock 0; store 0; unlock 0", "lock 0; load 0; unlock 0"), []),
    (("store-marked 0", "load-marked 0"), []),
    (("lock 1; store 0; unlock 1", "lock 2; load 0; unlock 2"), [("read", "write")]),
])  # fmt: skip
def test_exactly_the_races_are_listed_each_with_its_tape(
    real: Target, threads: tuple[str, ...], expected: list[tuple[str, ...]]
):
    found = listed(real, micro(*threads))
    assert kinds(found) == expected
    for entry in found.entries.values():
        assert entry.tape is not None
        assert entry.tape.between == 0
        result = cleanrace.run(real, entry.tape.scenario, entry.tape.tape)
        pair = [event for event in accesses(result) if event.step <= entry.tape.step][-2:]
        assert pair[0].thread != pair[1].thread
        assert pair[0].object == pair[1].object
        assert pair[1].step == pair[0].step + 1
        assert sorted(event.kind for event in pair) == list(expected[0])


def test_the_locks_that_each_side_held_are_told(real: Target):
    found = listed(real, micro("lock 1; store 0; unlock 1", "load 0"))
    (entry,) = found.entries.values()
    held = {side.kind: len(side.held) for side in (entry.race.first, entry.race.second)}
    assert held == {"write": 1, "read": 0}
    assert "holding nothing" in "\n".join(races.lines(found))


def test_decisions_give_back_the_tape_of_any_run(real: Target):
    for scenario in (premises.MAIN, *(scenario for _, scenario in premises.SCENARIOS)):
        for policy in ("random", "uniform", "pct", "surw"):
            for schedule in range(25):
                result = cleanrace.run(real, scenario, policy=policy, schedule=schedule)
                made = neighbours.choices(result)
                assert made is not None
                assert neighbours.tape(made).rstrip(b"\0") == result.tape


def test_a_tape_that_shows_no_race_does_not_count(real: Target):
    """The two accesses are next to each other, and a lock orders them."""
    racing = listed(real, micro("store 0", "load 0"))
    (entry,) = racing.entries.values()
    ordered = micro("lock 0; store 0; unlock 0", "lock 0; load 0; unlock 0")
    for schedule in range(20):
        result = cleanrace.run(real, ordered, policy="random", schedule=schedule)
        assert neighbours.build(real, result, ordered, entry.race) is None


def test_what_is_reached_only_past_the_other_side_is_shown_apart(real: Target):
    """The load waits for a mark that comes after the store, and nothing orders the two."""
    found = listed(real, micro("store 1; store 0; clear-marked 1", "wait-zero 1; load 0"))
    assert all(entry.tape is not None for entry in found.entries.values())
    assert {entry.tape.between for entry in found.entries.values() if entry.tape} <= set(range(4))


def test_the_registration_and_its_readers_race_in_the_real_file(real: Target):
    found = listed(real, premises.MAIN)
    said = races.to_json(found, command=["races"])
    assert said["without_tape"] == 0
    pairs = {tuple(sorted(side["place"].split(":")[0] for side in race["sides"]))
             for race in said["races"]}  # fmt: skip
    assert ("__cleancache_init_fs", "cleancache_register_ops") in pairs
    for race in said["races"]:
        assert race["object"]
        case = cleanrace.Case.from_text(race["neighbours"]["case"])
        assert case.tape.hex() == race["neighbours"]["tape"]
    assert max(map(len, races.lines(found))) <= 80


def test_each_race_says_whether_the_real_thread_sanitizer_reports_it(real: Target):
    found = listed(real, premises.MAIN, micro("store 0; store 1", "load 0; load 1; store 1"))
    assert "ThreadSanitizer" not in "\n".join(races.lines(found))
    assert {row["tsan"] for row in races.to_json(found, command=[])["races"]} == {None}
    atomic = {key for key in found.entries if any(side.kind == "atomic" for side in key)}
    met = {min(atomic), min(set(found.entries) - atomic)}
    found.met = tsan.Met(pairs=set(map(tsan.told, met)), rounds=1, scenarios=1)
    said = races.to_json(found, command=[])
    rows = [*said["races"], *said["documented"]]
    others = len(rows) - len(met)
    assert others > 0
    assert [row["tsan"] for row in rows].count(True) == len(met)
    assert not any(found.entries[key] in found.further for key in met)
    assert len(found.further) == others
    further = said["tsan"]["further"]
    assert further == {"races": others, "neighbours": others, "never": 0}
    text = " ".join(" ".join(races.lines(found, width=200)).split())
    assert text.count("ThreadSanitizer reports it, too") == len(met)
    assert text.count("ThreadSanitizer did not report it") == others
    assert f"of the {len(rows)} in the list it reported 2; of the other {others}," in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time", "0"], "--time 0: expected a number from 1 to 1000000"),
        (["--tsan", "soon"], "--tsan soon: expected a number from 1 to 1000000"),
        (["--json", "no/such/out.json"], "does not exist"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    assert program.main(["races", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


def test_ctrl_c_leaves_the_races_that_were_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """No tape is built here, and nothing exhausted: nothing may be said of what never is."""

    def interrupted(*_: Any, **options: Any) -> None:
        options["show"]("exhausting")
        raise KeyboardInterrupt

    monkeypatch.setattr(races, "add_tapes", lambda *_, **__: None)
    monkeypatch.setattr(races.exhausted, "look", interrupted)
    out = tmp_path / "races.json"
    assert program.main(["races", "--time", "1", "--json", str(out)]) == 130
    said, shown = json.loads(out.read_text()), capsys.readouterr()
    assert len(said["races"] + said["documented"]) == said["without_tape"] > 0
    assert (said["never"], said["exhausted"], said["tsan"]) == (0, [], None)
    assert "never so in 0 exhausted scenarios: 0" in " ".join(shown.out.split())
    assert "interrupted: this is what was done so far" in shown.out
    assert shown.err == "run.py: interrupted\n"


def test_races_prints_the_list_and_writes_json(run: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "races.json"
    done = run("run.py", "races", "--target", "reference", "--time", "1", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    assert said["schedules"] > 0
    assert said["tsan"] is None
    assert max(map(len, done.stdout.splitlines())) <= 80
