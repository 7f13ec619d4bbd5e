# SPDX-License-Identifier: GPL-2.0-only
"""A build is complete or absent, and done again exactly when what it depends on changed."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build

Cli = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]


def builds(cache: Path) -> list[Path]:
    """The complete builds, and nothing else that could be taken for one."""
    return sorted(path for path in (cache / "builds").iterdir() if path.name[0] != ".")


def test_a_build_has_what_its_info_says(linux: dict[str, Any]) -> None:
    folder = Path(linux["module"]).parent
    assert folder.name == linux["build_id"]
    assert Path(linux["program"]) == folder / "replay"
    assert json.loads((folder / "info.json").read_text()) == linux
    assert linux["edges"] > 50
    assert linux["python"] == sys.version.split()[0]
    spec = importlib.util.spec_from_file_location("_cleanrace", linux["module"])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.lib.CR_FORMAT_VERSION == 1


def test_a_second_call_builds_nothing(reference: dict[str, Any]) -> None:
    def unexpected(stage: str, done: int, total: int) -> None:
        raise AssertionError((stage, done, total))

    before = Path(reference["module"]).stat().st_mtime_ns
    assert build.ensure(target="reference", progress=unexpected) == reference
    assert Path(reference["module"]).stat().st_mtime_ns == before


@pytest.mark.long
def test_progress_counts_every_file(cache: Path, reference: dict[str, Any]) -> None:
    seen: list[tuple[str, int, int]] = []
    info = build.ensure(target="reference", progress=lambda *step: seen.append(step))
    files = seen[0][2]
    assert seen == [("compile", done, files) for done in range(files + 1)]
    assert info["build_id"] == reference["build_id"]
    assert builds(cache) == [cache / "builds" / info["build_id"]]


@pytest.mark.long
def test_two_builds_at_once_do_not_clash(cache: Path) -> None:
    command = [sys.executable, "-B", build.ROOT / "build.py", "--target", "reference"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum("compile" in said for _, said in outputs) == 1  # the other one waited
    assert len(builds(cache)) == 1


@pytest.mark.long
def test_forced_builds_at_once_leave_a_whole_one(cache: Path) -> None:
    command = [sys.executable, "-B", build.ROOT / "build.py", "--target", "reference", "--force"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all("compile" in said for _, said in outputs)
    (folder,) = builds(cache)
    info = json.loads((folder / "info.json").read_text())
    assert Path(info["module"]).is_file()
    assert os.access(info["program"], os.X_OK)


def test_the_hot_path_is_compiled_as_one(reference: dict[str, Any]) -> None:
    """From a hook to the oracle: what the compiler sees together it can put together."""
    hot = {"__tsan_read8", "engine_run", "fiber_run", "order_execution", "oracle_check", "run_once"}
    objects = (Path(reference["module"]).parent / "objects").glob("*.o")
    has = [hot & set(build.run("nm", "--defined-only", obj).stdout.split()) for obj in objects]
    assert [names for names in has if names] == [hot]


@pytest.mark.long
def test_the_same_inputs_give_the_same_objects_anywhere(
    cache: Path, project: Path, cli: Cli, reference: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a tape would be worth nothing on another machine."""
    monkeypatch.setenv("CCACHE_DISABLE", "1")  # they are compiled, and not remembered
    assert cli("--target", "reference", root=project).returncode == 0
    (folder,) = builds(cache)
    assert folder.name == reference["build_id"]
    for obj in sorted((folder / "objects").glob("*.o")):
        other = Path(reference["module"]).parent / "objects" / obj.name
        assert obj.read_bytes() == other.read_bytes(), obj.name


def test_each_input_changes_the_build_id(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = build.find("reference", None, lambda *_: None)
    ids = {build.make_plan(source).folder.name}
    monkeypatch.setenv("CFLAGS", "-DANYTHING=1")
    ids.add(build.make_plan(source).folder.name)
    monkeypatch.delenv("CFLAGS")
    monkeypatch.setenv("LDFLAGS", "-Wl,-O1")
    ids.add(build.make_plan(source).folder.name)
    monkeypatch.delenv("LDFLAGS")
    compiler = tmp_path / "other-cc"
    compiler.write_text('#!/bin/sh\necho "other cc 1.0"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    ids.add(build.make_plan(source).folder.name)
    compiler.write_text('#!/bin/sh\necho "other cc 1.1"\n')
    ids.add(build.make_plan(source).folder.name)
    monkeypatch.delenv("CC")
    monkeypatch.setattr(sys, "version", "3.99.0 of tomorrow")
    ids.add(build.make_plan(source).folder.name)
    assert len(ids) == 6
    assert not cache.exists()


@pytest.mark.parametrize("file", ["build.py", "csrc/api.h", "csrc/kernel/planted.def",
                                  "csrc/reference/cleancache.c"])
def test_a_changed_file_makes_the_build_stale(
    file: str, cache: Path, project: Path, cli: Cli,
) -> None:
    script = ("import build; "
              "print(build.make_plan(build.find('reference', None, None)).folder.name)")

    def build_id() -> str:
        return subprocess.run([sys.executable, "-B", "-c", script], cwd=project, check=True,
                              capture_output=True, text=True).stdout

    before = build_id()
    assert build_id() == before
    with (project / file).open("a") as text:
        text.write("\n")
    assert build_id() != before
    assert cli("--list", root=project).returncode == 0
    assert not cache.exists()


@pytest.mark.long
def test_list_tells_built_from_stale(cache: Path, project: Path, cli: Cli) -> None:
    assert cli("--target", "reference", root=project).returncode == 0
    assert re.search(r"^reference +built,", cli("--list", root=project).stdout, re.MULTILINE)
    with (project / "csrc/api.h").open("a") as text:
        text.write("\n")
    assert re.search(r"^reference +stale,", cli("--list", root=project).stdout, re.MULTILINE)
    assert len(builds(cache)) == 1


@pytest.mark.long
def test_a_failed_build_leaves_the_last_good_one(
    cache: Path, project: Path, cli: Cli, refused: Refused,
) -> None:
    assert cli("--target", "reference", root=project).returncode == 0
    good, record = builds(cache), (cache / "targets/reference.json").read_text()
    run = project / "csrc/run.c"
    run.write_text(run.read_text() + "\nint broken(void) { return nothing_here; }\n")
    said = refused("--target", "reference", root=project)
    assert "csrc/run.c does not build" in said
    assert "nothing_here" in said
    assert builds(cache) == good
    assert (cache / "targets/reference.json").read_text() == record
    assert not list((cache / "builds").glob(".new-*"))


@pytest.mark.long
def test_a_missing_function_is_named_by_the_linker(
    cache: Path, project: Path, refused: Refused,
) -> None:
    main = project / "csrc/main.c"
    main.write_text(main.read_text()
                    + "\nvoid absent(void);\nvoid caller(void);\nvoid caller(void) { absent(); }\n")
    said = refused("--target", "reference", root=project)
    assert "replay does not build" in said
    assert "undefined reference to `absent'" in said
    assert builds(cache) == []


@pytest.mark.long
def test_a_killed_build_does_not_block_the_next(cache: Path, cli: Cli) -> None:
    process = subprocess.Popen(
        [sys.executable, "-B", build.ROOT / "build.py", "--target", "reference"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(cache.glob("builds/.new-*/new/objects")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert builds(cache) == []
    assert list(cache.glob("builds/.new-*"))
    result = cli("--target", "reference")
    assert result.returncode == 0, result.stderr
    assert len(builds(cache)) == 1
    assert not list(cache.glob("builds/.new-*"))


def test_ctrl_c_while_compiling_is_one_line_and_leaves_nothing(
    cache: Path, interrupted: Callable[..., None],
) -> None:
    interrupted(lambda: bool(list(cache.glob("builds/.new-*/new/objects/*.o"))),
                "--target", "reference")
    assert builds(cache) == []
    assert not list(cache.glob("builds/.new-*"))
    assert not list(cache.glob("targets/*"))


def test_state_that_a_reset_would_miss_fails_the_build(
    cache: Path, project: Path, refused: Refused,
) -> None:
    super_c = project / "csrc/kernel/super.c"
    super_c.write_text(super_c.read_text() + '\nint hidden __attribute__((section("mine"))) = 1;\n')
    said = refused("--target", "reference", root=project)
    assert "internal error: 4 writable bytes are in section mine" in said
    assert builds(cache) == []


@pytest.mark.parametrize("name", ["linux", "reference"])
def test_all_state_of_a_run_is_in_one_section(name: str, request: pytest.FixtureRequest) -> None:
    """Every writable object of the instrumented side lies between the linker's two marks."""
    info = request.getfixturevalue(name)
    objects = sorted((Path(info["module"]).parent / "objects").glob("*.o"))
    kernel_side = objects[:1 + len(list(build.ROOT.glob("csrc/kernel/*.c")))]
    assert kernel_side[0].name == "00-cleancache.o"
    writable = 0
    for obj in kernel_side:
        sections = build.run("readelf", "-SW", obj).stdout
        symbols = build.run("readelf", "-sW", obj).stdout
        row = r"\[ *(\d+)\] (\S+) +\S+ +[0-9a-f]+ [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ +WA"
        state = {number for number, section in re.findall(row, sections)
                 if not section.startswith((".data.rel.ro", ".init_array"))}
        assert {section for number, section in re.findall(row, sections) if number in state} <= {
            "cr_kdata"}
        writable += len(re.findall(rf"OBJECT .* (?:{'|'.join(state) or 'none'}) \S+$", symbols,
                                   re.MULTILINE))
        assert " COM " not in symbols
    assert writable >= 5  # the unit's own five, at least


@pytest.mark.long
@pytest.mark.parametrize(("flavour", "start"), [("asan", "__asan_init"), ("tsan", "__tsan_init")])
def test_a_flavour_links_the_plain_builds_instrumented_objects(
    reference: dict[str, Any], flavour: str, start: str,
) -> None:
    folder = Path(reference["module"]).parent
    before = {obj.name: obj.read_bytes() for obj in (folder / "objects").glob("*.o")}
    program = build.program("reference", flavour=flavour)
    assert program == folder / f"replay-{flavour}"
    assert f" U {start}" in build.run("nm", program).stdout
    assert f" U {start}" not in build.run("nm", folder / "replay").stdout
    assert {obj.name: obj.read_bytes() for obj in (folder / "objects").glob("*.o")} == before
    assert build.program("reference") == folder / "replay"
    with pytest.raises(build.BuildError, match="no flavour 'msan', only 'asan', 'tsan' and"):
        build.program("reference", flavour="msan")
