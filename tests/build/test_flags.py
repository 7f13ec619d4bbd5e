# SPDX-License-Identifier: GPL-2.0-only
"""The table of flags: reasons, the user's wishes, and one way only for the instrumented side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import build


@pytest.fixture
def plan(cache: Path) -> build.Plan:
    """How reference is built here."""
    assert not cache.exists()
    return build.make_plan(build.find("reference", None, lambda *_: None))


def kinds_of(plan: build.Plan, file: str) -> list[str]:
    """The flags of one file of ours."""
    return plan.command(build.ROOT / "csrc" / file, "")


def test_each_flag_has_a_reason_and_a_known_taker() -> None:
    takers = {"all", "instrumented", "engine", "ours", "foreign", "binding", "bytes", "asan",
              "coverage", "tsan", "tsan link"}
    for taker, compiler, flags, reason in build.FLAGS:
        assert taker in takers
        assert compiler in ("", "gcc", "clang")
        assert flags.startswith("-")
        assert reason


def test_no_flag_is_given_outside_the_table(plan: build.Plan) -> None:
    known = {flag for _, _, flags, _ in build.FLAGS for flag in flags.split()}
    for file in (*plan.instrumented, *plan.engine):
        for flag in plan.command(file, "")[1:]:
            assert flag in known or flag.startswith(
                ("-I", "-isystem", "-include", "-ffile-prefix-map", "/"))


def test_the_instrumented_side_is_compiled_one_way_only(plan: build.Plan) -> None:
    for flavour in ("", "asan", "coverage", "tsan"):
        for file in plan.instrumented:
            flags = plan.command(file, flavour)
            assert [flag for flag in flags if flag.startswith("-fsanitize")] == [
                "-fsanitize=thread", "-fsanitize-coverage=trace-pc"]
            assert [flag for flag in flags if flag.startswith("-O")] == ["-O1"]


def test_each_file_of_the_engine_side_is_compiled_once(plan: build.Plan) -> None:
    backend, switch, *joined, run, main = plan.engine
    assert [file.name for file in (backend, switch, run, main)] == [
        "backend.c", "switch.c", "run.c", "main.c"]
    for file in plan.engine:
        more = [flag.removeprefix("-include") for flag in plan.command(file, "")
                if flag.startswith("-include")]
        assert more == ([build.named(one) for one in joined] if file == run else [])
        assert not any(flag.startswith("-include") for flag in plan.command(file, "asan"))


def test_the_engine_is_never_instrumented(plan: build.Plan) -> None:
    for file in plan.engine:
        assert "-fsanitize=thread" not in plan.command(file, "") + plan.command(file, "tsan")
        assert "-fsanitize=address,undefined" in plan.command(file, "asan")
    assert plan.engine[-1] == build.ROOT / "csrc/main.c"


def test_warnings_are_errors_in_ours_and_not_in_a_kernels_file(
    plan: build.Plan, linux: dict[str, Any],
) -> None:
    for file in (*plan.instrumented, *plan.engine):
        assert {"-Wall", "-Wextra", "-Werror"} <= set(plan.command(file, ""))
    folder = Path(linux["source"]).parents[1]
    real = replace(plan, source=build.load("linux-5.10", folder),
                   instrumented=(Path(linux["source"]), *plan.instrumented[1:]))
    assert "-Werror" not in real.command(real.instrumented[0], "")
    assert "-Werror" in real.command(real.instrumented[1], "")


def test_the_users_flags_come_first_and_lose_against_ours(
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CFLAGS", "-O3 -fsanitize=address -fsanitize-coverage=edge --coverage "
                                 "-fprofile-arcs '-DNAME=a b'")
    monkeypatch.setenv("LDFLAGS", "-fsanitize=address -Wl,-z,now")
    plan = build.make_plan(build.find("reference", None, lambda *_: None))
    flags = kinds_of(plan, "kernel/super.c")
    assert flags[1:3] == ["-O3", "-DNAME=a b"]
    assert flags.index("-O3") < flags.index("-O1")
    assert not {"-fsanitize=address", "--coverage", "-fprofile-arcs"} & set(flags)
    assert plan.ldflags == ("-Wl,-z,now",)
    assert not cache.exists()


@pytest.mark.long
def test_the_users_optimisation_does_not_move_decision_points(
    cache: Path, monkeypatch: pytest.MonkeyPatch, reference: dict[str, Any],
) -> None:
    """The accesses of each instrumented object stay what they were."""
    monkeypatch.setenv("CFLAGS", "-O3 -fsanitize=address")
    info = build.ensure(target="reference")
    assert info["build_id"] != reference["build_id"]
    assert info["edges"] == reference["edges"]
    for obj in sorted((cache / "builds" / info["build_id"] / "objects").glob("0*.o"))[:3]:
        other = Path(reference["module"]).parent / "objects" / obj.name
        assert [build.run("objdump", "-d", "-j", "cr_ktext", file).stdout.partition("cr_ktext")[2]
                for file in (obj, other)] == [
                    build.run("objdump", "-d", "-j", "cr_ktext", other).stdout.partition(
                        "cr_ktext")[2]] * 2


def test_each_compiler_gets_its_own_spelling(plan: build.Plan) -> None:
    clang = replace(plan, version="Debian clang version 14.0.6").flags("instrumented")
    gcc = plan.flags("instrumented")
    assert "-mllvm" in clang
    assert "-mllvm" not in gcc
    assert "--param=tsan-distinguish-volatile=1" in gcc
    assert not any(flag.startswith("--param") for flag in clang)


def test_a_uuid_of_bytes_is_told_to_every_file(plan: build.Plan) -> None:
    assert "-DCR_UUID_IS_BYTES=1" not in kinds_of(plan, "check/backend.c")
    kind = type("Old", (build.Source,), {"has": {"uuid_bytes": True, "const_ops": False}})
    old = kind(**{name: getattr(plan.source, name) for name in
                  ("name", "version", "kind", "folder", "unit")})
    for file in ("check/backend.c", "kernel/super.c", "main.c"):
        assert "-DCR_UUID_IS_BYTES=1" in kinds_of(replace(plan, source=old), file)


def test_no_command_names_the_processor(plan: build.Plan) -> None:
    """A build must run on the next machine too."""
    assert not any(flag.startswith(("-march", "-mtune", "-mcpu"))
                   for file in (*plan.instrumented, *plan.engine)
                   for flag in plan.command(file, ""))
