# SPDX-License-Identifier: GPL-2.0-only
"""What `bench` says has every row, counts right, and is about the same schedules everywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Case, Scenario, Target
from fuzz import bench, bugs, mix, premises, rarity, store, tree
from fuzz import run as program
from fuzz.bugs import Bug, Cell, Row


def test_the_bare_limit_runs_the_same_steps(real: Target):
    scenario = bench.scenario("C3")
    for points in ("all", "sync"):
        for policy in bench.SAMPLERS:
            met = [
                cleanrace.search(
                    real, scenario, schedules=500, policy=policy, engine=engine, points=points
                )
                for engine in ("fiber", "bare")
            ]
            assert met[0].steps == met[1].steps > 0
            assert met[0].choices == met[1].choices
            assert any(met[0].registers)
            assert not any(met[1].registers)


def test_the_bare_limit_judges_nothing(real: Target):
    bug = next(bug for bug in bugs.listed(real) if bug.name == "premise-c")
    found = {
        engine: cleanrace.search(
            real, bug.case.scenario, schedules=2000, engine=engine, planted=("c",), detect=True
        ).violations
        for engine in ("fiber", "bare")
    }
    assert found["fiber"]["init-missing"] > 0
    assert found["bare"] == {}


def test_configurations_say_what_they_are():
    assert [bench.title(name) for name in bench.CONFIGURATIONS] == [
        "register | mount",
        "register | mount | mount",
        "register | mount | mount | mount, unmount",
        "register | register | mount | mount",
    ]
    assert len(bench.scenario("C3").file_systems) == 3


def test_every_planted_bug_that_threads_bring_about_is_listed(real: Target):
    listed = {bug.name: bug for bug in bugs.listed(real)}
    broken = {name for bug in listed.values() for name in bug.case.broken}
    assert {"a", "b", "c", "d", "weak-cmpxchg", "early-put", "register-mutex"} <= broken
    verdicts = {bug.case.expect for bug in listed.values()}
    detectors = {"data-race", "use-after-free", "out-of-bounds", "null-dereference", "lock-order",
                 "sleep-in-atomic", "recursive-lock", "unguarded", "step-limit",
                 "deadlock"}  # fmt: skip
    assert detectors <= verdicts
    assert listed["data-race"].detect
    assert not listed["deadlock"].detect


def test_a_bug_is_looked_for_until_it_is_found(real: Target):
    case = Case.from_text(
        "cleanrace 1\nexpect use-after-free\nmicro\nthread load 0\nthread free 0\n"
    )
    rows = list(bugs.run(real, [Bug(name="uaf", case=case)], seeds=20, cap=1000, thread_seeds=1))
    cells = rows[0].cells
    assert list(cells) == list(bugs.SLICES)
    assert {policy for policy, _ in cells} == set(bugs.POLICIES)
    for (policy, points), cell in cells.items():
        assert cell.missed == 0
        for seed, found in enumerate(cell.schedules):
            # The schedule with that number shows it, and none before.
            alone = cleanrace.search(
                real, case.scenario, schedules=1000, seed=seed, policy=policy, points=points
            ).first["use-after-free"]
            assert alone == (found or 0) - 1
    text = "\n".join(bugs.markdown(rows, seeds=20))
    assert "| uaf | use-after-free |" in text
    said = json.loads(json.dumps(bugs.to_json(rows, cap=1000)))
    policies = [(one["policy"], one["points"]) for one in said["bugs"][0]["policies"]]
    assert policies == list(bugs.SLICES)
    depths = {p["policy"]: p["probability_missed_after_95"] for p in said["bugs"][0]["policies"]}
    assert all((depths[name] is not None) == (name[-1] in "123") for name in depths)


def row_of(**cells: list[int | None]) -> Row:
    case = Case(scenario=Scenario.from_text("cleanrace 1\nmicro\nthread load 0\n"))
    row = Row(bug=Bug(name="bug", case=case))
    for policy, schedules in cells.items():
        ran = sum(n or 100 for n in schedules)
        row.cells[policy, "all"] = Cell(
            policy=policy,
            points="all",
            schedules=schedules,
            searched=len(schedules),
            limit=100,
            ran=ran,
            seconds=ran / 1000,
        )
    return row


def deep(seeds: int, *, steps: int = 40, ran: int = 100_000) -> Row:
    """A row of a bug that pct-1 and pct-2 never find and pct-3 does, from so many seeds."""
    row = row_of()
    for depth in (1, 2, 3):
        row.cells[f"pct-{depth}", "all"] = Cell(
            policy=f"pct-{depth}",
            points="all",
            schedules=[7] * seeds if depth == 3 else [None] * seeds,
            ran=ran,
            steps=steps,
        )
    return row


def test_a_policy_that_cannot_find_a_bug_is_told_the_depth_that_can():
    row = deep(5)
    wanted = [bugs.needs(row, row.cells[f"pct-{depth}", "all"]) for depth in (1, 2, 3)]
    assert wanted == [3, 3, None]
    text = "\n".join(bugs.markdown([row], seeds=5))
    assert "| needs depth 3 | needs depth 3 | 7 |" in text


def cell_said(row: Row) -> str:
    """What the table says in the only cell of such a row."""
    *_, line = bugs.markdown([row], seeds=2)
    return line.split(" | ")[2]


def test_what_the_baseline_needs_stands_where_it_found_nothing():
    row = row_of(uniform=[None, None])
    assert cell_said(row) == "> 100 (p < 1.5e-2)"
    cell = row.cells["uniform", "all"]
    cell.chance = 1e-6
    assert cell_said(row) == "693,147 / 2,995,731 (counted)"
    cell.chance = 1e-29
    assert cell_said(row) == "7e28 / 3e29 (counted)"
    said = bugs.to_json([row], cap=100)["bugs"][0]
    assert said["uniform_chance"] == said["policies"][0]["chance"] == 1e-29
    assert said["policies"][0]["chance_bounds"] == pytest.approx([0, 0.0149], rel=0.01)


def test_the_table_says_what_is_known_from_fewer_seeds():
    assert cell_said(row_of(surw=[7, None, None, None])) == "> 100 (p 8.2e-5 to 1.8e-2)"
    assert cell_said(row_of(surw=[7, 9, None])) == "9 / > 100 (2 found)"
    row = row_of(surw=[None] * 30)
    row.cells["surw", "all"].searched = 10
    row.cells["surw", "all"].ran = 1_000
    assert cell_said(row) == "> 100 (p < 3.0e-3, 10 seeds)"


def test_who_missed_a_bug_that_most_found_goes_on_until_it_is_found(real: Target):
    """With a cap of 2 some seeds miss it; they need what a search without that cap needs."""
    case = Case.from_text(
        "cleanrace 1\nexpect use-after-free\nmicro\nthread load 0\nthread free 0\n"
    )
    bug = Bug(name="uaf", case=case)
    cells = {}
    for cap, patience in ((2, 1), (2, 50), (100, 1)):
        cell = cells[cap, patience] = Cell(policy="random", points="all")
        bugs.look(real, bug, cell, seeds=range(40), cap=cap, patience=patience)
    short, patient, long = cells.values()
    assert 0 < short.missed < 20
    assert patient.missed == 0
    assert patient.schedules == long.schedules
    assert (short.limit, patient.limit, patient.ran) == (2, 100, long.ran)


def test_nobody_goes_on_where_most_searches_were_in_vain(real: Target):
    case = Case.from_text("cleanrace 1\nexpect deadlock\nmicro\nthread load 0\nthread load 0\n")
    cell = Cell(policy="random", points="all")
    bugs.look(real, Bug(name="none", case=case), cell, seeds=range(15), cap=20, patience=10)
    assert (cell.missed, cell.searched, cell.ran, cell.limit) == (15, 10, 200, 20)


def test_side_by_side_the_baseline_finds_what_it_hardly_ever_does(real: Target):
    listed = {bug.name: bug for bug in bugs.listed(real)}
    apart, abreast = listed["premise-c"], listed[f"premise-c{bugs.ABREAST}"]
    assert apart.case.broken == abreast.case.broken
    chances = [bugs.chance(real, bug, states_max=20_000) for bug in (apart, abreast)]
    assert chances[0] is not None
    assert chances[1] is not None
    assert chances[1] > 1_000 * chances[0] > 0


def test_what_a_cell_with_reduced_points_says_does_not_depend_on_other_cells(real: Target):
    """Which locks were tried moves points, and the thread that registers tries one."""
    bug = next(bug for bug in bugs.listed(real) if bug.name == "premise-a")
    wanted = ("uniform", "sync")
    met = []
    for others in ((), (("random", "all"), ("uniform", "all"))):
        slices = [*others, wanted]
        (row,) = bugs.run(real, [bug], seeds=40, cap=1_000, slices=slices, thread_seeds=0)
        met.append(row.cells[wanted].schedules)
    assert met[0] == met[1]


def test_a_tree_with_reduced_points_gives_what_a_search_meets(real: Target):
    bug = next(bug for bug in bugs.listed(real) if bug.name == "premise-b")
    case = bug.case
    real.promote(bugs.promoted(real, case.scenario, **bug.options()))
    met = cleanrace.search(
        real, case.scenario, schedules=20_000, policy="uniform", points="sync", **bug.options()
    )
    count = tree.Schedules(target=real, case=case, points="sync").count(b"")
    low, high = rarity.bounds(met.violations[case.expect], met.schedules)
    assert low < count.chance < high
    assert count.chance != bugs.chance(real, bug, states_max=20_000)


@pytest.mark.parametrize(
    ("hits", "ran", "low", "high"),
    [  # with nothing met the rule of three; the others from published tables
        (0, 2_000_000, 0.0, 1.4979e-6),
        (0, 10, 0.0, 0.25887),
        (1, 10, 0.002529, 0.44502),
        (5, 10, 0.18709, 0.81291),
        (10, 10, 0.69150, 1.0),
        (0, 0, 0.0, 1.0),
        (3, 30_000_000, 2.0622e-8, 2.9224e-7),
    ],
)
def test_bounds_are_those_of_clopper_and_pearson(hits: int, ran: int, low: float, high: float):
    assert rarity.bounds(hits, ran) == pytest.approx((low, high), rel=1e-3)


def test_what_may_have_been_missed_by_luck_needs_no_depth():
    """So few schedules miss a bug of depth 2 too often, or pct-2 found it once."""
    row = deep(5, steps=20_000, ran=1_000)
    assert bugs.needs(row, row.cells["pct-1", "all"]) is None
    assert bugs.needs(row, row.cells["pct-2", "all"]) is None
    row = deep(5)
    row.cells["pct-2", "all"].schedules[3] = 90
    assert bugs.needs(row, row.cells["pct-2", "all"]) is None
    assert bugs.needs(row, row.cells["pct-1", "all"]) == 2


def test_the_depth_of_a_planted_bug_is_that_of_its_preemptions(real: Target):
    """A premise that breaks at one preemption is of depth 2: pct-1 cannot find it, pct-2 does."""
    bug = next(bug for bug in bugs.listed(real) if bug.name == "premise-c")
    slices = [("pct-1", "all"), ("pct-2", "all")]
    (row,) = bugs.run(real, [bug], seeds=10, cap=5_000, slices=slices, thread_seeds=0)
    assert bugs.needs(row, row.cells["pct-1", "all"]) == 2
    options = {"planted": ("c",), "policy": "dfs"}
    assert not cleanrace.explore(real, bug.case.scenario, bound=0, **options).violations
    assert cleanrace.explore(real, bug.case.scenario, bound=1, **options).violations


def test_quantiles_count_what_was_not_found_as_more_than_the_cap():
    cell = Cell(policy="random", points="all", schedules=[5, None, 1, 3])
    assert (cell.quantile(0.5), cell.quantile(0.75), cell.quantile(0.95)) == (3, 5, None)
    assert cell.missed == 1


def test_a_mix_has_found_a_bug_when_one_of_its_policies_has():
    row = row_of(random=[10, None], surw=[4, 30])
    half = {("random", "all"): 0.5, ("surw", "all"): 0.5}
    one = bugs.score([row], "mix", half, cap=100)
    # Seed 0: surw's 4th is the mix's 8th. Seed 1: its 30th is the 60th. A schedule takes 1 ms.
    assert one.schedules == pytest.approx(34)
    assert one.seconds == pytest.approx(0.034)
    assert one.missed == 0
    alone = bugs.score([row], "random", {("random", "all"): 1.0}, cap=100)
    assert (alone.missed, alone.schedules) == (1, pytest.approx(55))


@pytest.mark.parametrize("schedules", [0, 1, 7, 3000])
def test_the_slices_of_a_batch_are_all_of_it(schedules: int):
    parts = list(mix.parts(mix.DEFAULT, schedules))
    assert sum(count for _, _, count in parts) == schedules
    ends = [first + count for _, first, count in parts]
    assert [first for _, first, _ in parts] == [0, *ends][: len(parts)]


def test_the_default_mix_is_whole_and_detects_in_part():
    assert sum(one.share for one in mix.DEFAULT) == pytest.approx(1)
    assert len({one.name for one in mix.DEFAULT}) == len(mix.DEFAULT)
    detecting = sum(one.share for one in mix.DEFAULT if one.detect)
    assert 0 < detecting < 0.5


@pytest.mark.parametrize("policy", sorted({one.policy for one in mix.DEFAULT}))
def test_what_any_policy_of_the_mix_meets_repeats_from_its_number(real: Target, policy: str):
    options: dict[str, Any] = {"planted": ("c",), "seed": 5}
    met = cleanrace.search(real, premises.MAIN, schedules=5000, first=700, policy=policy, **options)
    schedule = met.first["init-missing"]
    assert schedule >= 700
    found = store.examine(
        real, premises.MAIN, "init-missing", policy=policy, schedule=schedule, **options
    )
    assert found == store.Finding.from_json(json.loads(json.dumps(found.to_json())))
    kept = store.from_case(Case.from_text(store.to_case(real, found).to_text()))
    assert (kept.policy, kept.seed, kept.schedule) == (policy, 5, schedule)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time", "0"], "--time 0: expected a number from 1 to 1000000"),
        (["--bugs", "--ablation"], "--bugs and --ablation exclude each other"),
        (["--seeds", "3"], "--seeds 3: only --bugs and --ablation search from seeds"),
        (["--cap", "3"], "--cap 3: only --bugs and --ablation search for something"),
        (["--bugs", "--time", "3"], "--time 3: --bugs and --ablation end by --seeds and --cap"),
        (["--json", "no/such/out.json"], "does not exist"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    assert program.main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


def interrupted_after(call: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The same function, until Ctrl-C comes in it."""
    left = iter(range(times))

    def cut(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return call(*arguments, **options)

    return cut


def test_ctrl_c_leaves_the_bugs_that_were_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(bugs, "look_by_threads", interrupted_after(bugs.look_by_threads, 2))
    monkeypatch.setattr(bugs, "THREAD_SECONDS", 0.01)
    out = tmp_path / "bugs.json"
    few = ["--seeds", "1", "--cap", "9", "--json", str(out)]
    assert program.main(["bench", "--bugs", *few]) == 130
    said = capsys.readouterr()
    measured = [bug["bug"] for bug in json.loads(out.read_text())["bugs"]]
    everything = [bug.name for bug in bugs.listed(cleanrace.target("linux-5.10"))]
    assert 2 <= len(measured) < len(everything)
    assert measured == everything[: len(measured)]
    assert f"what was done so far, {len(measured)} of {len(everything)} bugs" in said.out
    assert all(name in said.out for name in measured)
    assert said.err == "run.py: interrupted\n"


def test_ctrl_c_leaves_the_rounds_that_were_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    cells = len(list(bench.cells()))
    monkeypatch.setattr(bench, "_sample", interrupted_after(bench._sample, 2 * cells + 5))
    out = tmp_path / "bench.json"
    assert program.main(["bench", "--time", "1", "--json", str(out)]) == 130
    said = json.loads(out.read_text())
    assert (said["rounds"], len(said["rows"])) == (2, cells)
    assert said["seconds"] == pytest.approx(2 / bench.ROUNDS)
    assert f"done so far, 2 of {bench.ROUNDS} rounds" in capsys.readouterr().out


def test_ctrl_c_before_anything_was_measured_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(bench, "_sample", interrupted_after(bench._sample, 5))
    out = tmp_path / "bench.json"
    assert program.main(["bench", "--time", "1", "--json", str(out)]) == 130
    assert not out.exists()
    said = capsys.readouterr()
    assert "policy" not in said.out
    assert said.err == "run.py: interrupted\n"


def expected_rows() -> set[tuple[Any, ...]]:
    """Configuration, engine, policy, points and detectors of all that is measured."""
    policies = {(policy, "fiber") for policy in bench.SAMPLERS}
    policies |= {(policy, "explorer") for policy in bench.EXPLORERS}
    rows: set[tuple[Any, ...]] = set()
    for name in bench.CONFIGURATIONS:
        rows.add((name, "thread", "random", "all", False))
        for points in bench.POINTS:
            rows.add((name, "bare", "random", points, False))
            rows |= {
                (name, engine, policy, points, detect)
                for policy, engine in policies
                for detect in (False, True)
            }
    return rows


def test_bench_measures_every_row(run: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "bench.json"
    done = run("run.py", "bench", "--target", "reference", "--time", "1", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = json.loads(out.read_text())
    assert said["target"]["name"] == "reference"
    keys = ("configuration", "engine", "policy", "points", "detect")
    rows = {tuple(row[key] for key in keys): row for row in said["rows"]}
    assert set(rows) == expected_rows()
    assert len(said["rows"]) == len(rows)
    for row in rows.values():
        assert row["schedules_per_second"]["best"] >= row["schedules_per_second"]["median"] > 0
        assert row["points_per_schedule"] > 0
        assert row["times_bare"] > 0
    assert all(row["times_bare"] == 1 for key, row in rows.items() if key[1] == "bare")
