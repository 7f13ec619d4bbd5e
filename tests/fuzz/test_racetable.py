# SPDX-License-Identifier: GPL-2.0-only
"""The race table says what happened, where, and who held a lock, in the width there is."""

import re

import pytest

import cleanrace
from cleanrace import Result, Scenario, Target
from fuzz import minimise, premises, racetable


@pytest.fixture(scope="module")
def race(real: Target) -> tuple[Result, Scenario]:
    """The simplest schedule of a broken premise."""
    hit = premises.broken(real, "a", name="main", scenario=premises.MAIN)
    assert hit.finding is not None
    finding = minimise.simplify(real, hit.finding)
    result = cleanrace.run(
        real, finding.scenario, finding.tape, planted=("a",), judged=premises.JUDGED
    )
    return result, finding.scenario


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_asked_for(race: tuple[Result, Scenario], real: Target, width: int):
    lines = racetable.table(*race, real, width=width)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_it_names_functions_lines_objects_and_events(race: tuple[Result, Scenario], real: Target):
    text = "\n".join(racetable.table(*race, real, width=160))
    assert "cleancache_register_ops:" in text
    assert "__cleancache_init_fs:" in text
    assert "atomic on cleancache_ops" in text
    assert re.search(r"super_table\[\d+\]\.cleancache_poolid", text)
    for words in ("> register 0", "backend 0 registered: 0", "> mount a", "^ violation"):
        assert words in text


def test_each_thread_stays_in_its_column(race: tuple[Result, Scenario], real: Target):
    lines = racetable.table(*race, real, width=160)
    head = lines[0]
    columns = [head.index("thread 0"), head.index("thread 1")]
    result, scenario = race
    for number, thread in enumerate(scenario.threads):
        begins = [line for line in lines if f"> {thread[0].name}" in line]
        assert len(begins) == 1
        assert begins[0].index(">") == columns[number]
    assert {event.thread for event in result.trace} == {0, 1}


def test_a_bar_stands_beside_a_thread_that_holds_a_lock(
    race: tuple[Result, Scenario], real: Target
):
    result, scenario = race
    lines = racetable.table(result, scenario, real, width=160, everything=True)
    mount = next(n for n, thread in enumerate(scenario.threads) if thread[0].name == "mount")
    bar = lines[0].index(f"thread {mount}") - 1
    made, number = next((n, found[1]) for n, line in enumerate(lines)
                        if (found := re.search(r"super block (\d+) of a appears", line)))
    freed = next(n for n, line in enumerate(lines)
                 if f"unlocks super_table[{number}].s_umount" in line)
    assert made + 10 < freed
    for line in lines[made:freed]:
        assert line[bar] == "|", line
    assert all(line[bar : bar + 1] in ("", " ") for line in lines[freed + 3 : -3])


def test_everything_shows_every_access_and_the_default_folds(
    race: tuple[Result, Scenario], real: Target
):
    result, scenario = race
    accesses = sum(event.kind in racetable.ACCESSES for event in result.trace)
    whole = racetable.table(result, scenario, real, width=200, everything=True)
    names = [line for line in whole if line[:5].strip().isdigit()]
    assert len(names) >= accesses
    short = racetable.table(result, scenario, real, width=200)
    assert len(short) < len(whole)
    assert any("accesses)" in line for line in short)
    assert not any("accesses)" in line for line in whole)


def test_every_kind_of_event_has_words(real: Target):
    scenario = Scenario.from_text(
        "cleanrace 1\nfs a local\nfs b shared uuid 1\nthread register 0; mount a; mount b;"
        " read a 0 0; reclaim a 0 0; read a 0 0; write a 0 1; truncate a 0 0; delete a 0;"
        " unmount a; unmount b; register 1\n"
    )
    result = cleanrace.run(real, scenario)
    kinds = {event.kind for event in result.trace} - set(racetable.ACCESSES)
    assert len(kinds) >= 20
    for event in result.trace:
        if event.kind not in racetable.ACCESSES:
            text = racetable.words_of(event, scenario)
            assert text
            assert not text.startswith(f"{event.kind} {event.object}")


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [
        ("short", 5, "short"),
        ("cleancache_register_ops:53", 20, "cleancach..er_ops:53"),
        ("abcdefgh", 4, "abcd"),
    ],
)
def test_clipping_keeps_the_line_number(text: str, width: int, clipped: str):
    assert racetable.clip(text, width) == clipped
    assert len(clipped) <= width
