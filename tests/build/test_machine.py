# SPDX-License-Identifier: GPL-2.0-only
"""A machine that lacks something is told what, in one line, and nothing is lost."""

import errno
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import build

PathWithout = Callable[..., Path]
Cli = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]


class Disk(NamedTuple):
    """What shutil.disk_usage tells, as far as it is looked at."""

    free: int


def wrapper(folder: Path, script: str) -> Path:
    """A stand-in for a compiler."""
    file = folder / "fake-cc"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(("tool", "package"), [
    ("gcc", "gcc"), ("objcopy", "binutils"), ("readelf", "binutils"), ("objdump", "binutils"),
])
def test_missing_tool_names_its_package(
    tool: str, package: str, cache: Path, path_without: PathWithout, refused: Refused,
) -> None:
    path_without(tool)
    said = refused("--target", "reference")
    assert f"{tool} was not found in PATH" in said
    assert f"apt-get install {package}" in said
    assert not list(cache.glob("builds/[!.]*"))


def test_a_cut_down_path_names_all_tools_before_any_download(
    cache: Path, path_without: PathWithout, refused: Refused,
) -> None:
    """In one line, grouped by package; apt-get is there and would be asked next."""
    path_without("gcc", "objcopy", "readelf", "objdump", "dpkg-deb")
    said = refused()
    assert "gcc; objcopy, readelf, objdump; dpkg-deb were not found in PATH" in said
    assert said.endswith("apt-get install gcc binutils dpkg")
    assert not cache.exists()
    assert "gcc; objcopy, readelf, objdump were not found" in refused("--target", "reference")


@pytest.mark.long
def test_a_fresh_build_needs_the_compiler_alone(
    cache: Path, cli: Cli, path_without: PathWithout, refused: Refused,
) -> None:
    """Its version is in the id; without it nothing is touched."""
    assert cli("--target", "reference").returncode == 0
    bin_folder = path_without("objcopy", "readelf", "objdump")
    assert cli("--target", "reference").returncode == 0
    (bin_folder / "gcc").unlink()
    before = sorted(cache.rglob("*"))
    assert "gcc; objcopy, readelf, objdump were not found" in refused("--target", "reference")
    assert sorted(cache.rglob("*")) == before


def test_missing_dpkg_deb_names_its_package(
    cache: Path, path_without: PathWithout, refused: Refused,
) -> None:
    path_without("dpkg-deb")
    assert "dpkg-deb was not found in PATH" in refused()
    assert refused("--fetch").endswith("apt-get install dpkg")
    assert not list(cache.glob("sources/linux*"))


def test_a_cache_disk_that_is_almost_full_is_told_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(3 << 20))
    for target in ("reference", None):
        with pytest.raises(build.BuildError, match=r"cache folder .* is full \(3 MB are free, "
                                                   r"\d+ are needed\)") as caught:
            build.ensure(target=target)
        assert not isinstance(caught.value, build.NoSource)
    assert not list(cache.glob("targets/*.json"))


def test_a_disk_that_fills_up_while_compiling_is_nobodys_bug(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
) -> None:
    gcc = wrapper(tmp_path, 'case "$*" in *--version|*empty*) exec gcc "$@";; esac\n'
                            'echo "Fatal error: a.o: No space left on device" >&2; exit 1')
    monkeypatch.setenv("CC", str(gcc))
    said = refused("--target", "reference")
    assert f"the disk of the cache folder {cache} is full" in said
    assert "report" not in said
    assert not list(cache.glob("builds/[!.]*"))
    assert not list(cache.glob("builds/.new-*"))


def test_a_write_that_fails_for_want_of_room_is_a_full_disk(
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "write_binding", full)
    with pytest.raises(build.BuildError, match=r"the disk of the cache folder .* is full"):
        build.ensure(target="reference")
    assert not list(cache.glob("builds/[!.]*"))


@pytest.mark.parametrize("damage", [
    b"", pytest.param(b"{", marks=pytest.mark.long), b"[]", b"{}", b"\xff"])
def test_a_damaged_record_is_named_and_force_mends_it(
    damage: bytes, cache: Path, cli: Cli, refused: Refused, reference: dict[str, Any],
) -> None:
    shutil.copytree(Path(reference["module"]).parent, cache / "builds" / reference["build_id"])
    record = cache / "targets/reference.json"
    record.parent.mkdir()
    for file, arguments in ((record, ["--list"]),
                            (cache / "builds" / reference["build_id"] / "info.json", [])):
        file.write_bytes(damage)
        said = refused("--target", "reference", *arguments)
        assert f"{file} is damaged" in said
        assert "--force" in said
    if damage == b"{":
        assert cli("--target", "reference", "--force").returncode == 0
        assert "built" in cli("--list").stdout
        assert cli("--target", "reference").returncode == 0


def test_a_damaged_origin_is_named(seeded: Path, refused: Refused) -> None:
    (seeded / "sources/linux-5.10/origin.json").write_text("{")
    said = refused("--target", "linux-5.10")
    assert "sources/linux-5.10/origin.json is damaged" in said
    assert "delete its folder" in said


def test_unknown_cc_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    said = refused("--target", "reference")
    assert "no-such-compiler was not found in PATH" in said
    assert "CC" in said
    assert not list(cache.glob("builds/[!.]*"))


def test_cc_with_arguments_and_unbalanced_quotes_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
) -> None:
    monkeypatch.setenv("CC", "gcc '")
    assert "No closing quotation" in refused("--target", "reference")
    assert not list(cache.glob("builds/[!.]*"))


def test_missing_libc_headers_are_told_from_a_missing_compiler(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
) -> None:
    gcc = wrapper(tmp_path, 'case "$*" in --version) exec gcc --version;; esac\n'
                            'echo "fatal error: stdio.h: No such file or directory" >&2; exit 1')
    monkeypatch.setenv("CC", str(gcc))
    said = refused("--target", "reference")
    assert "stdio.h: No such file" in said
    assert "apt-get install libc6-dev" in said
    assert not list(cache.glob("builds/[!.]*"))


def test_missing_python_headers_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = sysconfig.get_path
    monkeypatch.setattr(sysconfig, "get_path", lambda name, *rest: (
        str(tmp_path / "nothing") if name == "include" else original(name, *rest)))
    with pytest.raises(build.BuildError, match=r"Python\.h was not found.*install python3-dev"):
        build.ensure(target="reference")
    assert not list(cache.glob("builds/[!.]*"))


def test_missing_cffi_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "cffi", None)
    with pytest.raises(build.BuildError, match=r"no module cffi: `pip install -e \.`"):
        build.ensure(target="reference")
    assert not list(cache.glob("builds/[!.]*"))


def test_a_file_in_the_place_of_the_cache_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
) -> None:
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = refused("--target", "reference")
    assert "Not a directory" in said
    assert "set XDG_CACHE_HOME to a folder that can be written" in said
    assert (tmp_path / "file").read_text() == "precious"


def test_a_cache_that_cannot_be_written_is_one_line(
    cache: Path, refused: Refused,
) -> None:
    """Permissions do not stop root; a link into /proc stops everybody."""
    cache.mkdir(parents=True)
    (cache / "builds").symlink_to("/proc/cleanrace")
    said = refused("--target", "reference")
    assert "set XDG_CACHE_HOME to a folder that can be written" in said


def test_a_relative_cache_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert build.cache_folder() == Path.home() / ".cache/cleanrace"


def test_what_argparse_refuses_ends_with_2(cli: Cli) -> None:
    for arguments in (["--tragedy"], ["--target", "a", "--kernel", "b"], ["--target"]):
        result = cli(*arguments)
        assert result.returncode == 2
        assert result.stderr.splitlines()[-1].startswith("build.py: error: ")
        assert "Traceback" not in result.stderr


def test_an_unknown_target_is_told_where_the_known_ones_are(
    cache: Path, refused: Refused,
) -> None:
    for name in ("linux-9.9", "../../etc", ".", ""):
        if name:
            assert "--list" in refused("--target", name)
    assert not (cache / "builds").exists()


def test_list_works_before_anything_is_built(cache: Path, cli: Cli) -> None:
    result = cli("--list")
    assert result.returncode == 0
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["linux-5.10", "not built"], ["reference", "not built"]]
    assert not cache.exists()


def test_messages_do_not_depend_on_the_language(
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "LC_ALL" in os.environ
    assert build.run("sh", "-c", "echo $LC_ALL").stdout == "C\n"
    assert not cache.exists()
