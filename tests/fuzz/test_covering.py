# SPDX-License-Identifier: GPL-2.0-only
"""Coverage: exact on what is known exactly, and no page where git could take it up."""

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cleanrace
from cleanrace import Scenario, Target
from fuzz import covered, covered_lines, covering, store
from fuzz.command import Failure

pytestmark = pytest.mark.long


@pytest.fixture(params=["real", "control"])
def target(request: pytest.FixtureRequest) -> Target:
    return request.getfixturevalue(request.param)


def test_a_report_has_all_four_parts(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("run.py", "coverage", "--target", "reference", "--random", "50", "-o",
               str(tmp_path / "out"), cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"report: {tmp_path}/out/index.html\n")
    rows = re.findall(r"^(.+?)  +([\d,]+) of ([\d,]+) \(\d+ %\) lines", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["the reference", "what plays the kernel", "our C",
                                        "our Python"]  # fmt: skip
    for name, reached, total in rows:
        least = 0.1 if name == "our Python" else 0.7
        assert least < int(reached.replace(",", "")) / int(total.replace(",", "")) <= 1, name
    page = (tmp_path / "out/index.html").read_text()
    for link in re.findall(r"href='(.*?)'", page):
        assert (tmp_path / "out" / link).is_file(), link
    assert "://" not in page
    assert "<script" not in page
    assert re.search(r"<td><code>super_mount</code>|<td><code>iterate_supers</code>", page)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_every_edge_of_the_module_is_listed(target: Target) -> None:
    """The objects were when the target was built."""
    listed = covered_lines.blocks(target.module)
    assert len(listed) == len({block.offset for block in listed}) == target.info["edges"]
    assert [block.start for block in listed] == sorted(block.start for block in listed)
    reached = covered.inputs(target, count=50, seed=1)
    assert len(reached) > 200
    assert set(reached) <= {block.offset for block in listed}


def test_lines_follow_the_blocks(target: Target) -> None:
    every = {block.offset for block in covered_lines.blocks(target.module)}
    whole = covered_lines.kernel(target.info, target.module, every)
    nothing = covered_lines.kernel(target.info, target.module, ())
    for file in whole.files:
        count = len(file.lines)
        assert whole.lines(file.lines.values()) == (count, count)
        assert nothing.lines(file.lines.values()) == (0, count)
        assert not file.text or max(file.lines) <= len(file.text)
    one = next(each for each in whole.functions if each.name == "iterate_supers")
    alone = covered_lines.kernel(target.info, target.module, one.blocks)
    assert alone.lines(one.lines.values()) == (len(one.lines), len(one.lines))
    assert {each.name for each in alone.functions if alone.edges(each.blocks)[0]} == {one.name}
    assert one.file == "csrc/kernel/super.c"
    text = next(file.text for file in whole.files if file.name == one.file)
    first = min(number for file, number in one.lines if file == one.file)
    assert "iterate_supers(" in text[first - 2]  # its brace is the first that the compiler names


def test_lines_are_named_as_addr2line_names_them(real: Target) -> None:
    """At the places that a trace has."""
    result = cleanrace.run(real, Scenario.from_text("cleanrace 1\nfs a local\n"
                                                    "thread register 0\nthread mount a\n"))
    pcs = {event.pc for event in result.trace if event.pc}
    kernel = covered_lines.kernel(real.info, real.module, ())
    known = {(one.name, line) for one in kernel.functions for _, line in one.lines}
    names = [real.names.function_line(pc).rpartition(":") for pc in pcs]
    own = [name for name in names if name[0] in {one.name for one in kernel.functions}]
    assert len(own) > 10
    assert all((name, int(line)) in known for name, _, line in own)


def test_the_module_that_counts_lines_has_the_same_decision_points(
    control: Target, tmp_path: Path
) -> None:
    module = covering.module(control, tmp_path)
    own = Target(control.info | {"module": str(module)})
    assert [(block.offset, block.function) for block in covered_lines.blocks(module)] == [
        (block.offset, block.function) for block in covered_lines.blocks(control.module)]
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread register 0\nthread mount a\n")
    for schedule in range(20):
        how = {"policy": "random", "schedule": schedule}
        assert (cleanrace.run(own, scenario, **how).digest
                == cleanrace.run(control, scenario, **how).digest)


@pytest.mark.parametrize(("threads", "tape", "expected"), [
    (("store 0", "load 0"), b"", [("write", "read")]),
    (("store 0", "load 0"), b"\1", [("read", "write")]),
    (("store 0", "store 0"), b"", [("write", "write")]),
    (("load 0", "load 0"), b"", []),
    (("store 0", "load 1"), b"", []),
    (("store 0; store 0", "load 0"), b"", [("write", "read")]),
])  # fmt: skip
def test_accesses_that_meet_are_counted_exactly(
    real: Target, threads: tuple[str, ...], tape: bytes, expected: list[tuple[str, str]]
) -> None:
    text = "\n".join(["cleanrace 1", "micro", *(f"thread {thread}" for thread in threads)])
    result = cleanrace.run(real, Scenario.from_text(text), tape)
    kinds = {event.pc: event.kind for event in result.trace if event.pc}
    met: covered.Met = defaultdict(set)
    covered.pair(result, met)
    covered.pair(result, met)  # the same interleaving is one
    assert [(kinds[first], kinds[second]) for first, second in met] == expected
    assert all(classes == {result.interleaving} for classes in met.values())


def test_interleavings_are_summed_up_by_function(real: Target) -> None:
    blocks = {block.function: block.offset for block in covered_lines.blocks(real.module)}
    a, b = blocks["cleancache_register_ops"], blocks["iterate_supers"]
    found = covering.meetings(real, [(a, b, [1, 2]), (b, a, [3]), (b, b, [1, 2, 3])])
    assert [(one.first, one.second, one.places, one.interleavings) for one in found] == [
        ("iterate_supers", "iterate_supers", 1, 3),
        ("cleancache_register_ops", "iterate_supers", 1, 2),
        ("iterate_supers", "cleancache_register_ops", 1, 1)]


def test_source_that_is_not_what_was_compiled_is_not_shown(real: Target) -> None:
    info = real.info | {"sha256": "0" * 64}
    files = {file.name: file for file in covered_lines.kernel(info, real.module, ()).files}
    assert files["kernel/mm/cleancache.c"].text == []
    assert files["kernel/include/linux/cleancache.h"].text
    kernel = covered_lines.Kernel(files=list(files.values()))
    shown = covering.html(covering.Covered(target=real, kernel=kernel))
    assert "kernel/mm/cleancache.c: 0 of " in shown


def test_the_reference_is_shown_with_its_text(control: Target) -> None:
    kernel = covered_lines.kernel(control.info, control.module, ())
    text = (store.ROOT / "csrc/reference/cleancache.c").read_text().splitlines()
    assert next(file.text for file in kernel.files if file.name == "kernel/cleancache.c") == text


def test_text_is_escaped(real: Target) -> None:
    file = covered_lines.File(name="<b>", lines={1: {5}}, text=["if (a < b && c) <script>"])
    kernel = covered_lines.Kernel(files=[file], reached={5})
    shown = covering.html(covering.Covered(target=real, kernel=kernel))
    assert "if (a &lt; b &amp;&amp; c) &lt;script&gt;" in shown
    assert "<b>" not in shown


def test_no_report_where_git_could_take_it_up(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("run.py", "coverage", "-o", str(store.ROOT / "corpus" / "pages"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "must not get into this repository" in done.stderr
    assert not (store.ROOT / "corpus" / "pages").exists()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("/ignored/\n")
    monkeypatch.setattr(store, "ROOT", tmp_path)
    covering.check_folder(tmp_path / "ignored")
    covering.check_folder(tmp_path.parent)
    with pytest.raises(Failure, match="name a folder outside"):
        covering.check_folder(tmp_path / "other")


def test_what_is_missing_or_fails_is_one_line(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['gcovr'] = None\n")
    done = run("run.py", "coverage", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr == "run.py: gcovr cannot be imported: " + covering.INSTALL + (
        " in the checkout\n")
    with pytest.raises(Failure, match=r"json\.tool no-such-file failed: .*no-such-file"):
        covering._tool("json.tool", "no-such-file", cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "info.json").write_text(json.dumps({}))
    with pytest.raises(cleanrace.TargetError):
        covered.main(["info.json", "out.json", "1", "1"])
