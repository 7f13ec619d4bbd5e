# SPDX-License-Identifier: GPL-2.0-only
"""The shape of the files: heads, lengths, indentation, and words that must not be there."""

import ast
import fnmatch
import re
from pathlib import Path

import pytest

LINES_MAX = {"build.py": 645}
LINES_MAX_ELSE = 600
COLUMNS_MAX = 100
Modules = dict[str, ast.Module]
Texts = dict[str, str]
C = (".c", ".h", ".def", ".S")
PROSE = (".md", ".py", ".toml", ".sh", *C)


def lines(texts: Texts, *suffixes: str) -> list[tuple[str, int, str]]:
    """Every line of the files with these endings: (file, number, text)."""
    return [(name, number, line) for name, text in texts.items() if name.endswith(suffixes)
            for number, line in enumerate(text.splitlines(), 1)]


def offenders(texts: Texts, pattern: str, *suffixes: str) -> list[str]:
    """Where lines match."""
    return [f"{name}:{number}: {line.strip()[:80]}"
            for name, number, line in lines(texts, *suffixes) if re.search(pattern, line)]


def is_forwarder(name: str, text: str) -> bool:
    """One include under a kernel header's name has no text of its own."""
    return name.startswith("csrc/kernel/include/") and text.strip() in ("", '#include "kshim.h"')


def test_files_have_one_idea(texts: Texts) -> None:
    """Blank lines do not count: they are for readers. build.py is one file, and may not grow."""
    counts = {name: sum(1 for line in text.splitlines() if line.strip())
              for name, text in texts.items() if name.endswith(PROSE)}
    too_long = {name: count for name, count in counts.items()
                if count >= LINES_MAX.get(name, LINES_MAX_ELSE)}
    assert too_long == {}


def test_each_c_file_opens_with_licence_and_purpose(texts: Texts) -> None:
    head = re.compile(r"(// (?=.*\n)|/\* (?=.* \*/\n))SPDX-License-Identifier: GPL-2\.0-only.*\n"
                      r"/\*(\n \*)? \w.+\n")
    assert [name for name, text in texts.items() if name.endswith(C)
            and not is_forwarder(name, text) and not head.match(text)] == []


def test_each_python_file_opens_with_licence_and_purpose(texts: Texts, modules: Modules) -> None:
    licence = re.compile(r"(#!.*\n)?# SPDX-License-Identifier: GPL-2\.0-only\n")
    assert [name for name in modules if not licence.match(texts[name])] == []
    assert [name for name, tree in modules.items() if not ast.get_docstring(tree)] == []


def test_no_folder_of_tests_is_left_out(pytestconfig: pytest.Config) -> None:
    """By its name, as pytest leaves out a folder `build` unless it is told otherwise."""
    folders = [path.name for path in Path(__file__).resolve().parents[1].iterdir()
               if list(path.glob("test_*.py"))]
    assert "build" in folders
    left_out = pytestconfig.getini("norecursedirs")
    assert [name for name in folders
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out)] == []


def test_c_is_indented_with_tabs(texts: Texts) -> None:
    assert offenders(texts, r"^ {2,}\S|^ [^ *]|^\t* {8,}", *C) == []


def test_c_lines_fit(texts: Texts) -> None:
    """A message is not broken, so that it can be searched for."""
    assert [f"{name}:{number}" for name, number, line in lines(texts, *C)
            if len(line.expandtabs(8)) > COLUMNS_MAX
            and not re.fullmatch(r'\s*"[^"]*"[),;]*', line)] == []


def test_no_blanks_at_ends(texts: Texts) -> None:
    assert offenders(texts, r"[ \t\r]$", *PROSE) == []
    assert [name for name, text in texts.items()
            if name.endswith(PROSE) and text and not text.endswith("\n")] == []


def test_nothing_is_left_to_be_done(texts: Texts) -> None:
    assert offenders(texts, r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b", *PROSE) == []


def test_no_code_is_switched_off(texts: Texts) -> None:
    assert offenders(texts, r"^\s*#\s*if\s+0\b", *C) == []


def test_no_machine_or_host_is_named(texts: Texts) -> None:
    """Folders of one machine, registries and mirrors: apt and pip know where these are."""
    assert offenders(texts, r"(?<![\w.~$}])/(?:home|root|work|mnt|Users)/\w", *PROSE) == []
    assert offenders(texts, r"(?i)\b[\w-]*(?:deb|pypi|npm|registry|mirror)[\w.-]*"
                            r"\.(?:org|com|net|io|dev)\b", *PROSE) == []


def test_no_test_is_skipped_or_expected_to_fail(modules: Modules) -> None:
    evasions = {"skip", "skipif", "xfail", "importorskip", "SkipTest"}
    wrong = [f"{name}:{node.lineno}" for name, tree in modules.items() for node in ast.walk(tree)
             if name.startswith("tests/") and isinstance(node, ast.Attribute)
             and node.attr in evasions]
    assert wrong == []


def test_no_exception_is_swallowed(modules: Modules) -> None:
    wrong = [f"{name}:{node.lineno}" for name, tree in modules.items() for node in ast.walk(tree)
             if isinstance(node, ast.ExceptHandler)
             and (node.type is None or all(isinstance(step, ast.Pass) for step in node.body))]
    assert wrong == []


@pytest.mark.parametrize(("pattern", "sample"), [
    (r"^ {2,}\S", "    int four_blanks;"),
    (r"[ \t\r]$", "trailing "),
    (r"^\s*#\s*if\s+0\b", "# if 0"),
])
def test_the_checks_find_what_they_look_for(pattern: str, sample: str) -> None:
    assert offenders({"a.c": f"int fine;\n{sample}\n"}, pattern, ".c") == [
        f"a.c:2: {sample.strip()}"]
