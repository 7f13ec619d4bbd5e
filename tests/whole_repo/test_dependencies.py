# SPDX-License-Identifier: GPL-2.0-only
"""Dependencies point one way, as ARCHITECTURE.md draws them."""

import ast
import fnmatch
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cffi

import build

Modules = dict[str, ast.Module]
Texts = dict[str, str]

# Which headers of ours a C file may include: the first row that fits it counts. Rows end with the
# file's own header unless they say otherwise.
MAY_INCLUDE = (
    ("csrc/kernel/include/linux/*", {"kshim.h"}),
    ("csrc/kernel/kshim.h", {"engine.h", "atomic.h", "lock.h", "memory.h", "trace.h", "planted.h",
                             "scenario.h"}),
    ("csrc/kernel/*", {"kernel/", "engine.h", "trace.h", "backend.h", "ops.def", "api.h"}),
    ("csrc/engine/policy_*.c", {"policy.h", "profile.h", "random.h"}),
    ("csrc/engine/*", {"engine/", "api.h", "verdict.h", "events.def"}),
    ("csrc/check/oracle.*", {"oracle.h", "trace.h", "verdict.h"}),
    ("csrc/check/verdict.h", {"verdicts.def"}),
    ("csrc/check/backend.*", {"backend.h", "engine.h", "judged.h", "trace.h", "trail.h",
                               "kshim.h"}),
    ("csrc/reference/*", set()),
    ("csrc/scenario.*", {"scenario.h", "api.h", "ops.def"}),
    ("csrc/words.c", {"api.h", "*.def"}),
    ("csrc/main.c", {"api.h", "random.h"}),
    ("csrc/api.h", set()),
    ("csrc/run.h", {"api.h", "oracle.h"}),
    ("csrc/hashes.*", {"hashes.h"}),
    ("csrc/run.c", {"*"}),
    ("csrc/exploring.c", {"*"}),
)
KERNEL_SIDE = ("csrc/kernel/*", "csrc/reference/*", "csrc/check/backend.*")


def c_files(texts: Texts) -> dict[str, str]:
    """Sources and headers."""
    return {name: text for name, text in texts.items()
            if name.startswith("csrc/") and name.endswith((".c", ".h"))}


@cache  # the same trees for each test: the fixture is the session's
def imports(tree: ast.Module) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each import of a file as (module, names taken from it)."""
    return tuple(_imports(tree))


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), tuple(a.name for a in node.names)


def importers(modules: Modules, package: str) -> set[str]:
    """The files that import a package, or part of it, as a whole or later."""
    return {name for name, tree in modules.items()
            for module, _ in imports(tree) if module.split(".")[0] == package}


def allowed(name: str, header: str) -> bool:
    """Whether the table lets a C file include a header of ours."""
    row = next((may for pattern, may in MAY_INCLUDE if fnmatch.fnmatchcase(name, pattern)), None)
    assert row is not None, f"{name} has no row in MAY_INCLUDE"
    folders = {entry for entry in row if entry.endswith("/")}
    return (any(fnmatch.fnmatchcase(Path(header).name, entry) for entry in row - folders)
            or any((build.ROOT / "csrc" / folder / header).is_file() for folder in folders))


def test_c_files_include_only_what_lies_below_them(texts: Texts) -> None:
    wrong = [f"{name} includes {header}" for name, text in c_files(texts).items()
             for header in re.findall(r'^#\s*include "([^"]+)"', text, re.MULTILINE)
             if not allowed(name, header)]
    assert wrong == []


def test_only_the_kernel_side_knows_kernel_headers(texts: Texts) -> None:
    wrong = [name for name, text in c_files(texts).items()
             if re.search(r"^#\s*include <linux/", text, re.MULTILINE)
             and not any(fnmatch.fnmatchcase(name, side) for side in KERNEL_SIDE)]
    assert wrong == []


def test_no_c_file_is_included_in_another(texts: Texts) -> None:
    assert [name for name, text in c_files(texts).items()
            if re.search(r'^#\s*include [<"].*\.c[>"]', text, re.MULTILINE)] == []


def test_build_imports_the_standard_library_and_cffi(modules: Modules) -> None:
    others = {module.split(".")[0] for module, _ in imports(modules["build.py"])}
    assert others - sys.stdlib_module_names == {"cffi"}


def test_cleanrace_imports_nothing_above_it(modules: Modules) -> None:
    package = {name for name in modules if name.startswith("pybind/")}
    assert package
    for above in ("fuzz", "atheris", "build", "tests", "typer", "rich"):
        assert package & importers(modules, above) == set(), above


def test_only_strategies_knows_hypothesis(modules: Modules) -> None:
    package = {name for name in importers(modules, "hypothesis") if name.startswith("pybind/")}
    assert package == {"pybind/cleanrace/strategies.py"}


def test_nobody_imports_internals_of_hypothesis(modules: Modules) -> None:
    assert [name for name, tree in modules.items() for module, names in imports(tree)
            if module.startswith("hypothesis.internal")
            or (module == "hypothesis" and "internal" in names)] == []


def test_only_the_harness_knows_atheris(modules: Modules) -> None:
    assert {name for name in importers(modules, "atheris") if name.startswith("fuzz/")} <= {
        "fuzz/harness.py"}


def test_only_one_private_module_touches_the_native_one(modules: Modules) -> None:
    touching = {name for name, tree in modules.items() if name.startswith("pybind/")
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and node.attr in {"ffi", "lib"}}
    assert touching == {"pybind/cleanrace/_native.py"}


def test_fuzz_uses_public_names_of_cleanrace_only(modules: Modules) -> None:
    init = modules["pybind/cleanrace/__init__.py"]
    public = next(ast.literal_eval(node.value) for node in init.body
                  if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
                  and node.targets[0].id == "__all__")
    wrong = [f"{name}: {module} {names}" for name, tree in modules.items()
             if name.startswith("fuzz/") for module, names in imports(tree)
             if module.split(".")[0] == "cleanrace"
             and not (module == "cleanrace" and set(names) <= {*public, "strategies"})
             and module != "cleanrace.strategies"]
    assert wrong == []


def test_what_is_imported_is_declared(modules: Modules) -> None:
    """A fresh environment has all that the commands of README.md import."""
    project = tomllib.loads((build.ROOT / "pyproject.toml").read_text())["project"]
    # The extras are for the dashboard of `serve` and for --cluster, which say what to install where
    # it is missing.
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["service"] + extras["cluster"]
    declared = {re.match(r"[\w-]+", line)[0] for line in lines}
    distributions = {"elftools": "pyelftools", "markupsafe": "jinja2",
                     "prometheus_client": "prometheus-client"}
    ours = {"build", "cleanrace", "fuzz", *(Path(name).stem for name in modules
                                           if name.startswith("fuzz/"))}
    used = {module.split(".")[0] for name, tree in modules.items()
            if not name.startswith("tests/") for module, _ in imports(tree)}
    third = {name for name in used if name} - sys.stdlib_module_names - ours
    assert {distributions.get(name, name) for name in third} <= declared


def test_cffi_can_read_api_h() -> None:
    ffi = cffi.FFI()
    ffi.cdef(build.declarations())
    assert dict(ffi.typeof("struct cr_event").fields)["thread"].type.cname == "uint8_t"
    text = (build.ROOT / "csrc/api.h").read_text()
    functions = set(re.findall(r"\b(cr_\w+)\(", text))
    assert len(functions) > 5
    assert functions <= set(re.findall(r"\b(cr_\w+)\(", build.declarations()))
    numbers = set(re.findall(r"^#define (CR_\w+)\s+\d+$", text, re.MULTILINE))
    assert numbers
    assert all(f"#define {name}" in build.declarations() for name in numbers)
