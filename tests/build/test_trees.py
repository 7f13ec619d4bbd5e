# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees that users name: what varies is recognised, what cannot be raced is told why."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import build

Tree = Callable[..., Path]
Cli = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]


def without_const(text: str) -> str:
    """As up to 4.5: the ops are not const, neither the pointer nor the parameter."""
    changed = text.replace("const struct cleancache_ops", "struct cleancache_ops")
    assert changed != text
    return changed


def with_bytes(text: str) -> str:
    """As up to 4.12: the uuid is a pointer to char."""
    changed = text.replace("(uuid_t *uuid,", "(char *uuid,")
    assert changed != text
    return changed


def with_vendor_includes(text: str) -> str:
    """As vendor trees have it: up to four more includes."""
    more = "".join(f"#include <linux/{name}.h>\n"
                   for name in ("pagemap", "timer", "memcontrol", "spinlock"))
    return text.replace("#include <linux/mm.h>\n", f"#include <linux/mm.h>\n{more}", 1)


@pytest.mark.long
def test_a_tree_of_4_1_is_recognised_and_built(seeded: Path, tree: Tree) -> None:
    """4.1's differences in declarations: no const, a uuid of bytes."""
    kernel = tree("4.1.0", unit=without_const,
                  header=lambda text: with_bytes(without_const(text)))
    info = build.ensure(kernel=kernel)
    assert info["kind"] == "tree"
    assert info["version"] == "4.1.0"
    assert info["name"].startswith("linux-4.1.0-")
    assert info["has"] == {"uuid_bytes": True, "const_ops": False}
    assert info["sha256"] == build.sha256(kernel / build.UNIT)
    assert Path(info["module"]).is_file()
    assert Path(info["program"]).is_file()
    # Its name alone is enough from now on, even when the tree is gone.
    shutil.rmtree(kernel)
    assert build.ensure(target=info["name"]) == info
    assert (seeded / f"targets/{info['name']}.json").is_file()


@pytest.mark.long
def test_a_vendor_tree_between_4_6_and_4_12_is_built(seeded: Path, tree: Tree, cli: Cli) -> None:
    """Const ops, a uuid of bytes, more includes, and no Makefile."""
    result = cli("--kernel", tree(unit=with_vendor_includes, header=with_bytes))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("tree-")
    assert " unknown, sha256 " in result.stdout
    assert f"{result.stdout.split()[0]:<24} built" in cli("--list").stdout
    assert seeded.is_dir()


def test_the_real_file_varies_in_nothing_from_5_10(linux: dict[str, object]) -> None:
    assert linux["has"] == {"uuid_bytes": False, "const_ops": True}
    assert linux["kind"] == "debian"
    assert str(linux["version"]).startswith("5.10.")
    assert linux["sha256"] == build.KNOWN["linux-5.10"][2][build.UNIT]


def test_comments_of_a_header_are_not_declarations(cache: Path, tree: Tree) -> None:
    kernel = tree(header=lambda text: text + "\n/* (*init_shared_fs)(char *uuid) */\n")
    assert build.from_tree(kernel).has == {"uuid_bytes": False, "const_ops": True}
    assert cache.is_dir()


def test_a_tree_without_the_file_is_told_that_5_17_removed_it(
    cache: Path, tree: Tree, refused: Refused,
) -> None:
    kernel = tree("5.17.0")
    (kernel / build.UNIT).unlink()
    said = refused("--kernel", kernel)
    assert "Linux version: 5.17.0" in said
    assert "has no mm/cleancache.c" in said
    assert "removed in Linux 5.17" in said
    assert not list(cache.glob("sources/[!.]*"))


def test_a_tree_without_the_header_names_it(
    cache: Path, tree: Tree, refused: Refused,
) -> None:
    kernel = tree()
    (kernel / build.HEADER).unlink()
    assert "has no include/linux/cleancache.h" in refused("--kernel", kernel)
    assert not list(cache.glob("sources/[!.]*"))


@pytest.mark.long
@pytest.mark.parametrize("version", ["6.1.0", "3.16.0"])
def test_a_version_that_should_not_have_the_file_is_built_with_a_warning(
    version: str, cache: Path, tree: Tree, cli: Cli,
) -> None:
    kernel = tree(version)
    result = cli("--kernel", kernel)
    assert result.returncode == 0, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert f"says Linux {version}, which is outside 4.1 to 5.16" in said
    info = build.ensure(kernel=kernel)
    assert info["warning"] == said
    assert info["notice"] is None
    assert (cache / f"targets/{info['name']}.json").is_file()


@pytest.mark.parametrize(("version", "warns"), [
    ("4.0.9", True), ("4.1.0", False), ("5.16.20", False), ("5.17.0", True), ("unknown", False)])
def test_who_is_warned(version: str, warns: bool) -> None:  # noqa: FBT001 - a parameter
    source = build.Source(name="a", version=version, kind="tree", folder=build.ROOT)
    assert (source.warning is not None) == warns


@pytest.mark.parametrize("file", [build.UNIT, build.HEADER])
@pytest.mark.parametrize("content", ["", "int something_else;\n"])
def test_a_file_that_only_has_the_name_is_told_so(
    file: str, content: str, cache: Path, tree: Tree, refused: Refused,
) -> None:
    kernel = tree("5.10.0")
    (kernel / file).write_text(content)
    said = refused("--kernel", kernel)
    assert f"{kernel / file} is not that file of Linux" in said
    assert "no cleancache_register_ops" in said
    assert not list(cache.glob("sources/[!.]*"))


def test_a_file_instead_of_a_folder_is_told_which_folder(
    cache: Path, tree: Tree, refused: Refused,
) -> None:
    said = refused("--kernel", tree() / build.UNIT)
    assert "cleancache.c is a file: --kernel takes the folder above mm/" in said
    assert not list(cache.glob("sources/[!.]*"))


def test_a_folder_that_is_not_there_is_named(
    cache: Path, tmp_path: Path, refused: Refused,
) -> None:
    said = refused("--kernel", tmp_path / "gone")
    assert f"{tmp_path / 'gone'} is no folder" in said
    assert not list(cache.glob("sources/[!.]*"))


def test_a_tree_before_4_1_is_told_so(cache: Path, tree: Tree, refused: Refused) -> None:
    """Before 4.1 registration returned the ops it replaced."""
    kernel = tree("4.0.0", header=lambda text: text.replace(
        "int cleancache_register_ops", "struct cleancache_ops *cleancache_register_ops"))
    said = refused("--kernel", kernel)
    assert "older than Linux 4.1" in said
    assert "Linux version: 4.0.0" in said
    assert not list(cache.glob("builds/[!.]*"))


@pytest.mark.parametrize(("change", "expected"), [
    (lambda text: text + "\nint broken(void) { return vendor_thing; }\n", "'vendor_thing'"),
    (lambda text: text + "\nint broken(void) { return vendor_call(); }\n", "'vendor_call'"),
    (lambda text: "#include <linux/vendor_only.h>\n" + text, "linux/vendor_only.h"),
])
def test_a_file_that_does_not_compile_shows_the_first_error_and_what_to_report(
    change: Callable[[str], str], expected: str, cache: Path, tree: Tree,
    refused: Refused,
) -> None:
    kernel = tree("5.4.0", unit=change)
    said = refused("--kernel", kernel)
    assert "mm/cleancache.c of linux-5.4.0-" in said
    assert "error: " in said
    assert expected in said
    assert "report this line" in said
    assert build.sha256(kernel / build.UNIT) in said
    assert expected in (cache / "messages.txt").read_text()
    assert not list(cache.glob("builds/[!.]*"))
    assert not list(cache.glob("targets/[!.]*"))


def test_two_trees_of_one_version_are_two_targets(cache: Path, tree: Tree) -> None:
    kernel = tree("5.4.0")
    first = build.from_tree(kernel)
    (kernel / build.UNIT).write_text((kernel / build.UNIT).read_text() + "\n")
    second = build.from_tree(kernel)
    assert first.name != second.name
    assert len(list((cache / "sources").glob("linux-5.4.0-*"))) == 2
