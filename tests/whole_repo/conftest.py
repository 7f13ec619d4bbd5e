# SPDX-License-Identifier: GPL-2.0-only
"""The files of the repository, as the tests of this folder read them."""

import ast
import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORED = [line for line in (ROOT / ".gitignore").read_text().splitlines()
           if line and not line.startswith("#")]


def is_ours(file: Path) -> bool:
    """Whether git would take a file, going by .gitignore."""
    parts = file.relative_to(ROOT).parts
    return parts[0] != ".git" and not any(
        fnmatch.fnmatchcase(part, pattern.strip("/"))
        for pattern in IGNORED for part in (parts[:1] if pattern.startswith("/") else parts))


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Every file of the repository by its name from the root; all of them are text."""
    files = [file for file in sorted(ROOT.rglob("*")) if file.is_file() and is_ours(file)]
    found = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    assert {"build.py", "csrc/api.h", "tests/whole_repo/conftest.py"} <= set(found)
    return found


@pytest.fixture(scope="session")
def modules(texts: dict[str, str]) -> dict[str, ast.Module]:
    """Every Python file, parsed."""
    return {name: ast.parse(text, name) for name, text in texts.items() if name.endswith(".py")}
