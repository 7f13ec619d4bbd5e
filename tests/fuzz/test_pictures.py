# SPDX-License-Identifier: GPL-2.0-only
"""Pictures and pages say what happened, in names only, and no text can break out of them."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pictured import LITMUS, Drawn, crowd, litmus

import cleanrace
from cleanrace import Target
from fuzz import page, picture, shelf, sourcelines, steps
from fuzz import run as command_line

SVG = "{http://www.w3.org/2000/svg}"
ENEMY = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)> & \" ' \x1b]]>"
SHOWN = ("pool-dead", "premise-c", "data-race", "deadlock", "data-foreign", "use-after-free")


def drawn(shown: Drawn, target: Target, **options: Any) -> ET.Element:
    """The picture as a tree, which it is only if it is valid XML."""
    result, case = shown
    made = picture.svg(result, case.scenario, target, **options)
    return ET.fromstring(made)  # noqa: S314 - our own


def classed(tree: ET.Element, *names: str) -> list[ET.Element]:
    """The elements that have all of these classes."""
    return [e for e in tree.iter() if {*names} <= set(e.get("class", "").split())]


def text(tree: ET.Element) -> str:
    """All lines of text, joined."""
    return "\n".join(element.text or "" for element in tree.iter(f"{SVG}text"))


def story(shown: Drawn, target: Target) -> steps.Story:
    result, case = shown
    return steps.story(result, case.scenario, target)


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_is_valid_and_says_the_violated_property(name: str, real: Target):
    shown = litmus(name, real)
    tree = drawn(shown, real, title="how it went")
    verdict = shown[0].verdict
    assert tree.find(f"{SVG}title").text == f"{verdict}: how it went"
    sentence = real.table("verdicts")[verdict][1]
    assert sentence in tree.find(f"{SVG}desc").text
    lines = text(tree).splitlines()
    assert verdict in lines
    assert sentence in " ".join(lines)
    assert classed(tree, "wrong-box")


@pytest.mark.parametrize("threads", range(1, 9))
def test_each_thread_has_a_lane_and_texts_stay_in_it(threads: int, real: Target):
    tree = drawn(crowd(threads, real), real)
    lanes = classed(tree, "lane")
    assert len(lanes) == threads
    assert [line for line in text(tree).splitlines() if re.fullmatch(r"thread \d", line)] == [
        f"thread {number}" for number in range(threads)
    ]
    lefts = [float(lane.get("x")) for lane in lanes]
    assert lefts == sorted(lefts)
    width = float(lanes[0].get("width"))
    assert all(one + width < two for one, two in pairwise(lefts))
    assert lefts[-1] + width < float(tree.get("width"))


@pytest.mark.parametrize("threads", [1, 4, 8])
def test_a_picture_is_bounded_and_counts_what_it_leaves_out(threads: int, real: Target):
    result, case = crowd(threads, real)
    told = story((result, case), real)
    assert len(told.rows) <= steps.ROWS_MAX
    whole = steps.every(result, case.scenario, real)
    assert len(whole) > 2 * steps.ROWS_MAX or threads == 1
    assert sum(row.folded or 1 for row in told.rows) + told.rest == len(whole)
    assert float(drawn((result, case), real).get("height")) < 8000
    assert [step.number for step in whole] == list(range(1, len(whole) + 1))


@pytest.mark.parametrize("name", SHOWN)
def test_every_numbered_step_is_in_the_picture_and_in_the_table(name: str, real: Target):
    result, case = shown = litmus(name, real)
    told = page.steps(result, case.scenario, real)
    assert [step.number for step in told] == list(range(1, len(told) + 1))
    lines = text(drawn(shown, real))
    table = page.html(result, case, real).replace("<wbr>", "")
    for step in told:
        assert str(step.number) in lines.splitlines()
        assert step.where in lines
        assert step.words
        assert f'<td class="number">{step.number}</td>' in table
        assert f'<td class="where">{step.where}</td>' in table
    roles = [step.role for step in told]
    assert "violation" in roles
    if result.cause is not None and result.cause is not result.violation:
        assert "cause" in roles


@pytest.mark.parametrize("name", ["pool-dead", "data-race", "data-foreign"])
def test_the_violation_and_what_it_conflicts_with_are_joined(name: str, real: Target):
    tree = drawn(litmus(name, real), real)
    boxes = {key: classed(tree, key, "wrong") for key in ("wrong-box", "cause-box")}
    assert [len(found) for found in boxes.values()] == [1, 1]
    (line,) = classed(tree, "wrong", "none")
    numbers = [float(number) for number in re.findall(r"[\d.]+", line.get("d"))]
    ends = {"cause-box": (numbers[0], numbers[1]), "wrong-box": (numbers[4], numbers[3])}
    for key, (x, y) in ends.items():
        box = {name: float(boxes[key][0].get(name)) for name in ("x", "y", "width", "height")}
        assert x in (pytest.approx(box["x"]), pytest.approx(box["x"] + box["width"]))
        assert box["y"] < y < box["y"] + box["height"]


def test_a_data_race_joins_the_two_accesses(real: Target):
    result, case = litmus("data-race", real)
    told = page.steps(result, case.scenario, real)
    pair = [step for step in told if step.role]
    assert [step.role for step in pair] == ["cause", "violation"]
    assert pair[0].thread != pair[1].thread
    for step in pair:
        assert "micro_blocks[0].plain" in step.text
    lines = text(drawn((result, case), real))
    assert "first access of the race" in lines
    assert "second access of the race" in lines


def test_each_preemption_is_an_arrow_that_names_what_it_came_before(real: Target):
    shown = litmus("pool-dead", real)
    turns = [turn for turn in story(shown, real).handovers if turn.why == "preempted"]
    assert turns
    tree = drawn(shown, real)
    in_legend = 1
    assert len(classed(tree, "turn", "none")) == len(turns) + in_legend
    for turn in turns:
        assert f"before {turn.before}" in text(tree)
    rows = story(shown, real).rows
    for turn in turns:
        assert (rows[turn.row].thread, rows[turn.row + 1].thread) == (turn.thread, turn.to)


def test_a_thread_that_has_to_wait_is_not_called_preempted(real: Target):
    scenario = cleanrace.Scenario.from_text(
        "cleanrace 1\nmicro\nthread lock 0; store 0; unlock 0\nthread lock 0; unlock 0\n"
    )
    seen = set()
    for schedule in range(50):
        result = cleanrace.run(real, scenario, policy="uniform", seed=1, schedule=schedule)
        told = steps.story(result, scenario, real)
        for turn in told.handovers:
            seen.add(turn.why)
            if turn.why == "waits":
                assert turn.before == "micro_objects[0].lock"
                held = {span.thread for span in told.spans if span.first <= turn.row}
                assert turn.thread not in held
    assert seen == {"preempted", "waits", "ended"}


def test_locks_are_bars_that_say_which_and_how(real: Target):
    shown = litmus("premise-c", real)
    titles = [e.find(f"{SVG}title") for e in classed(drawn(shown, real), "lock-edge")]
    said = [title.text for title in titles if title is not None]
    assert any(
        re.fullmatch(r"thread 1 holds super_table\[\d\]\.s_umount, for itself alone", line)
        for line in said
    )
    assert any(
        re.fullmatch(r"thread 0 holds super_table\[\d\]\.s_umount, shared", line) for line in said
    )
    for span in story(shown, real).spans:
        assert span.first <= span.last
        for row in story(shown, real).rows[span.first + 1 : span.last]:
            assert row.thread != span.thread or span.lock.words in row.held


def test_a_deadlock_shows_who_waits_and_who_holds_what(real: Target):
    told = page.steps(*_scenario(litmus("deadlock", real)), real)
    stuck = [step for step in told if step.stuck]
    assert [step.thread for step in stuck] == [0, 1]
    assert "thread 1 holds micro_objects[1].lock" in stuck[0].text
    assert "thread 0 holds micro_objects[0].lock" in stuck[1].text


def _scenario(shown: Drawn) -> tuple[Any, Any]:
    return shown[0], shown[1].scenario


def test_accesses_that_no_lock_keeps_apart_are_told(real: Target):
    """Premise c broken: the mount's and the registration's accesses meet in the wrong order."""
    shown = litmus("premise-c", real)
    names = {pair.name for pair in story(shown, real).pairs}
    assert "cleancache_ops" in names
    assert any(name.endswith(".cleancache_poolid") for name in names)
    assert classed(drawn(shown, real), "pair", "none")


@pytest.fixture(scope="module")
def code(linux: dict[str, Any]) -> list[str]:
    """The lines of the real file that are too long to stand anywhere else by chance."""
    lines = Path(linux["source"]).read_text().splitlines()
    return [line.strip() for line in lines if len(line.strip()) > 25]


def plain(markup: str) -> str:
    """Markup without tags and entities, blanks folded."""
    from html import unescape

    return " ".join(unescape(re.sub(r"<[^>]*>", "", markup)).split())


@pytest.mark.parametrize("name", ["pool-dead", "premise-c"])
def test_what_may_be_committed_holds_no_kernel_text(name: str, real: Target, code: list[str]):
    result, case = litmus(name, real)
    for made in (picture.svg(result, case.scenario, real), page.html(result, case, real)):
        assert [line for line in code if line in plain(made)] == []
        assert "source line" not in made
        assert page.NOT_FOR_GIT not in made


def test_source_lines_stand_beside_the_steps_only_when_asked_for(real: Target, code: list[str]):
    result, case = litmus("pool-dead", real)
    made = page.html(result, case, real, sources=True)
    quoted = [line for line in code if line in plain(made)]
    # The call that gives the pool back is the cause, and stands beside its step.
    cause = next(
        s.where
        for s in page.steps(result, case.scenario, real)
        if s.role == "cause" and s.where.startswith("__cleancache_invalidate_fs:")
    )
    lines = Path(real.info["source"]).read_text().splitlines()
    assert lines[int(cause.rpartition(":")[2]) - 1].strip() in quoted
    assert page.NOT_FOR_GIT in made


def test_a_source_that_changed_since_the_build_is_not_shown(real: Target, tmp_path: Path):
    unit = tmp_path / "mm" / "cleancache.c"
    unit.parent.mkdir()
    unit.write_text(Path(real.info["source"]).read_text() + "\n")
    result, case = litmus("pool-dead", real)
    step = next(
        s
        for s in page.steps(result, case.scenario, real)
        if s.where.startswith("__cleancache_invalidate_fs:")
    )
    file, line = sourcelines.Sources(real).line(step.where)
    assert file == "cleancache.c"
    assert line
    changed = Target(real.info | {"source": str(unit)})
    assert not sourcelines.Sources(changed).kernel
    assert sourcelines.Sources(changed).line(step.where) == ("", "")
    assert page.NOT_FOR_GIT not in page.html(result, case, changed, sources=True)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "backend",
        "?:0",
        "sget",
        "sget:1",
        "sget:99999999",
        "nobody:163",
        "super_publish:163",
        "a.*b:7",
    ],
)
def test_a_line_is_shown_only_inside_of_its_function(where: str, real: Target):
    assert sourcelines.Sources(real).line(where) == ("", "")


def test_all_steps_find_their_source_line(real: Target):
    known = sourcelines.Sources(real)
    result, case = litmus("data-foreign", real)
    places = {step.where for step in steps.every(result, case.scenario, real)}
    lost = {place for place in places if ":" in place and not known.line(place)[1]}
    assert lost == set()


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_no_text_from_elsewhere_breaks_out(real: Target):
    result, case = litmus("data-race", real)
    tree = drawn((result, case), real, title=ENEMY)
    assert not any("script" in element.tag for element in tree.iter())
    # A case refuses what is no line; a page has to stand what came in any other way.
    evil = replace(case)
    object.__setattr__(evil, "title", ENEMY)
    object.__setattr__(evil, "comments", (ENEMY,))
    made = page.html(result, evil, real, meta={ENEMY: ENEMY}, commands=[ENEMY], explanation=ENEMY)
    seen = _Seen()
    seen.feed(made)
    assert {"script", "img", "iframe", "link", "object", "form", "a"}.isdisjoint(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "\x1b" not in made


def test_a_page_asks_for_nothing(real: Target):
    result, case = litmus("pool-dead", real)
    made = page.html(result, case, real, sources=True)
    seen = _Seen()
    seen.feed(made)
    assert not [name for name, _ in seen.attributes if name in ("src", "href", "srcset", "action")]
    policy = made.index("Content-Security-Policy")
    assert policy < made.index("<style")
    assert "default-src 'none'" in made[policy : policy + 100]
    assert set(re.findall(r"url\(([^)]*)\)", made)) <= {"#cleanrace-shared"}
    assert "@import" not in made
    assert set(re.findall(r"https?://[^\s\"'<]+", made)) == {"http://www.w3.org/2000/svg"}


def test_a_page_has_all_that_a_reader_needs(real: Target):
    result, case = litmus("pool-dead", real)
    made = page.html(
        result, case, real, meta={"found by": "random"}, commands=["python fuzz/run.py replay X"]
    )
    said = plain(made)
    for needed in (
        real.table("verdicts")["pool-dead"][1][1:],
        "python fuzz/run.py replay X",
        "found by",
        real.sha256,
        real.info["compiler"],
        " ".join(case.scenario.to_text().splitlines()[1:]),
    ):
        assert needed in said, needed
    assert made.count("<svg") == 1


def test_the_same_run_gives_the_same_bytes(real: Target):
    result, case = litmus("premise-c", real)
    again = cleanrace.run(real, case.scenario, result.tape, planted=("c",), judged=(case.expect,))
    assert again.digest == result.digest
    assert page.html(again, case, real) == page.html(result, case, real)
    assert picture.svg(again, case.scenario, real) == picture.svg(result, case.scenario, real)


def test_draw_writes_both_files_where_the_terminal_is(run: Callable[..., Any], tmp_path: Path):
    done = run("run.py", "draw", str(LITMUS / "data-race.litmus"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"data-race.svg", "data-race.html"}
    assert {"data-race.svg", "data-race.html"} <= set(done.stdout.splitlines())
    ET.parse(tmp_path / "data-race.svg")  # noqa: S314 - our own
    made = (tmp_path / "data-race.html").read_text()
    assert "python fuzz/run.py replay corpus/litmus/data-race.litmus" in made


@pytest.fixture
def draw(
    linux: dict[str, Any],
    reference: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """The verb in this process and an empty folder: exit status and standard error."""
    assert linux["build_id"] != reference["build_id"]
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str]:
        status = command_line.main(["draw", *arguments])
        return status, capsys.readouterr().err

    return called


Draw = Callable[..., tuple[int, str]]


def test_draw_writes_only_what_was_named(draw: Draw, tmp_path: Path):
    file = tmp_path / "x.svg"
    assert draw(str(LITMUS / "deadlock.litmus"), "--svg", str(file)) == (0, "")
    assert list(tmp_path.iterdir()) == [file]


def test_draw_shows_a_finding_with_all_that_is_kept_of_it(draw: Draw, tmp_path: Path):
    entries, _ = shelf.entries()
    entry = next(entry for entry in entries if entry.meta.target == "linux-5.10")
    assert draw(str(entry.folder)) == (0, "")
    made = plain((tmp_path / f"{entry.name}.html").read_text())
    for kept in (entry.meta.signature, entry.meta.found_by, " ".join(entry.explanation.split())):
        assert kept in made
    assert f"python fuzz/run.py replay corpus/findings/{entry.name}/scenario.litmus" in made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.litmus"], "there is no such scenario file"),
        (["."], "finding"),
        ([str(LITMUS / "deadlock.litmus"), "--svg", "no/such/x.svg"], "does not exist"),
        ([str(LITMUS / "deadlock.litmus"), "--html", str(LITMUS / "x.html")], "corpus/"),
        ([str(LITMUS / "init-twice.litmus"), "--target", "reference"], "nothing to draw"),
    ],
)
def test_draw_says_in_one_line_what_is_wrong(
    arguments: list[str], said: str, draw: Draw, tmp_path: Path
):
    status, err = draw(*arguments)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []
