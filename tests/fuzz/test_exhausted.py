# SPDX-License-Identifier: GPL-2.0-only
"""A pair of accesses is called never neighbours only after every schedule was looked through."""

import pytest

import cleanrace
from cleanrace import Scenario, Target
from fuzz import exhausted, neighbours, races, scenarios
from fuzz.exhausted import Looked
from fuzz.neighbours import Order

REGISTER = "cleancache_register_ops:53"
CHECK = "cleancache_fs_enabled_mapping:54"


def micro(*threads: str) -> Scenario:
    """A scenario of micro-operations."""
    lines = ["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)]
    return Scenario.from_text("\n".join(lines))


def looked(target: Target, *listed: Scenario, seconds: float = 60) -> dict[exhausted.Key, Looked]:
    """What all schedules of these say about each pair that races there."""
    found: dict[exhausted.Key, Looked] = {}
    for scenario in listed:
        for race in cleanrace.explore(target, scenario).races:
            if race.documented:
                continue  # its executions are not looked at
            target.names.load({race.first.pc, race.second.pc})
            found.setdefault(races.key_of(target, race), Looked())
    done = exhausted.look(
        target, found, lambda race: races.key_of(target, race), listed=listed, seconds=seconds
    )
    assert done == list(listed)
    return found


def test_two_accesses_that_can_be_neighbours_are_found_so(real: Target):
    """The store comes early and the load late, and many steps that matter to neither between."""
    found = looked(real, micro("store 0; load 1; load 2; load 1", "load 1; load 2; load 1; load 0"))
    assert found
    for one in found.values():
        assert one.tape is not None
        assert one.tape.between == 0
        assert not one.never


def test_a_scenario_that_is_not_exhausted_says_nothing(
    real: Target, monkeypatch: pytest.MonkeyPatch
):
    scenario = micro("store 0; store 0; store 0", "load 0; load 0; load 0")
    assert exhausted.executions(real, scenario) is not None
    monkeypatch.setattr(exhausted, "EXECUTIONS_MAX", 2)
    assert exhausted.executions(real, scenario) is None
    one = Looked()
    assert exhausted.look(real, {}, lambda _: (), listed=[scenario], seconds=60) == []
    assert not one.never


def test_an_order_has_the_steps_of_a_thread_and_what_conflicts(real: Target):
    """Against the plain closure of: same thread, or a common place that one of them changes."""
    scenario = micro("store 0; load 1; store 2", "load 0; store 1", "load 1; lock 0; unlock 0")
    for schedule in range(30):
        result = cleanrace.run(real, scenario, policy="uniform", schedule=schedule)
        made = neighbours.choices(result)
        assert made is not None
        order = Order(made)
        count = len(made)
        after = [[False] * count for _ in range(count)]
        for j in range(count):
            for i in range(j - 1, -1, -1):
                one, other = made[i], made[j]
                touch = set(neighbours.places(one.access)) & set(neighbours.places(other.access))
                kinds = {a.kind for a in (one.access, other.access) if a is not None}
                direct = one.chosen == other.chosen or (touch and not kinds <= neighbours.READS)
                after[i][j] = bool(direct) or any(
                    after[i][k] and after[k][j] for k in range(i + 1, j)
                )
        for j in range(count):
            for i in range(j):
                assert order.before(i, j) == after[i][j]
                between = [k for k in range(i + 1, j) if after[i][k] and after[k][j]]
                assert order.between(i, j) == between


def test_steps_brought_together_are_the_same_run(real: Target):
    """Every pair of neighbours in the order, of random runs of the real file, ends the same."""
    scenario = scenarios.from_line(
        "fs a local / thread register 0 / thread mount a / thread mount a"
    )
    shown = 0
    for schedule in range(40):
        result = cleanrace.run(real, scenario, policy="random", schedule=schedule, detect=True)
        made = neighbours.choices(result)
        assert made is not None
        order = Order(made)
        real.forget_races()
        cleanrace.run(real, scenario, result.tape, detect=True)
        for race in real.races():
            for pair in neighbours.candidates(made, race):
                if order.between(*pair):
                    continue
                tape = neighbours.together(real, scenario, order, pair, race)
                assert tape is not None
                assert tape.between == 0
                shown += 1
    assert shown > 20


def test_a_hook_is_no_neighbour_of_the_registration_that_let_it_in(real: Target):
    """It reads the operations only where it has seen a pool, which a registration brings about."""
    threads = "thread register 0 / thread mount a; read a 0 0; reclaim a 0 0"
    lines = (f"fs a local / {threads} / thread remount a", f"fs a shared uuid 1 / {threads}")
    found = looked(real, *map(scenarios.from_line, lines))
    never = {key for key, one in found.items() if one.never}
    hooks = {key for key in found if any(place == REGISTER for place, _ in key)
             and any("_page" in place for place, _ in key)}  # fmt: skip
    assert hooks
    assert hooks <= never
    for key in hooks:
        assert exhausted.after(real, found[key]) == (CHECK, "read")
        assert "stands between them" in exhausted.words(real, found[key])
    # In the same schedules, others are: a mount that sees the registration's operations at once.
    together = {place for key, one in found.items() if one.tape for place, _ in key}
    assert REGISTER in together
    assert CHECK in together


@pytest.mark.long
def test_every_race_of_the_real_file_is_shown_or_never_so(real: Target):
    """The whole list of exhausted scenarios, for every pair that races in any of them."""
    found = looked(real, *exhausted.listed(), seconds=600)
    never = {key for key, one in found.items() if one.never}
    assert len(found) > 20
    assert all(found[key].tape is not None for key in found.keys() - never)
    # A read behind the check for a pool, or of a block that a write made reachable again.
    behind = {exhausted.after(real, found[key]) for key in never}
    assert (CHECK, "read") in behind
    functions = {place.partition(":")[0] for place, _ in filter(None, behind)}
    assert functions == {"cleancache_fs_enabled_mapping", "page_fill"}
    assert len(never) == 13
