# SPDX-License-Identifier: GPL-2.0-only
"""The documents say what is so."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import build

RUN = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python fuzz/run.py"
TEST = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest"
NEEDED = ("gcc", "libc6-dev", "python3-venv", "python3-dev", "apt")
Texts = dict[str, str]


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
                                  "LICENSE", "tests/README.md", "corpus/README.md"])
def test_the_documents_are_there(name: str, texts: Texts) -> None:
    assert len(texts[name].splitlines()) > 5


def test_readme_opens_with_the_two_commands_and_what_must_be_there(texts: Texts) -> None:
    lines = texts["README.md"].splitlines()
    run, test = (next(i for i, line in enumerate(lines) if line.strip() == command)
                 for command in (RUN, TEST))
    assert run < 30
    assert test < 30
    above = "\n".join(lines[:min(run, test)])
    assert [name for name in NEEDED if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])",
                                                     above)] == []


def test_ci_runs_the_test_command_of_the_readme_and_the_linters(texts: Texts) -> None:
    lines = texts[".ci/run"].splitlines()
    assert any(line.startswith(TEST) for line in lines)
    for tool in ("ruff check .", "mypy"):
        assert any(line == f".venv/bin/python -m {tool}" for line in lines)
    packages = next(line for line in lines if line.startswith("packages=("))
    assert set(NEEDED) - {"apt"} <= set(shlex.split(packages.partition("(")[2].rstrip(")")))


def test_contributing_gives_the_test_command(texts: Texts) -> None:
    assert TEST in texts["CONTRIBUTING.md"]


def test_files_that_documents_name_exist(texts: Texts) -> None:
    """Names in capitals and stars stand for others."""
    path = r"(?<![\w/.<])((?:csrc|pybind|fuzz|tests|corpus|\.ci)/[\w./+-]*\w)"
    missing = [f"{name}: {file}" for name, text in texts.items() if name.endswith(".md")
               for file in re.findall(path, text)
               if not re.search(r"[A-Z]{2}", Path(file).stem) and not (build.ROOT / file).exists()]
    assert missing == []


def test_licence_is_one_and_the_same_everywhere(texts: Texts) -> None:
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["license"] == "GPL-2.0-only"
    assert texts["LICENSE"].startswith("SPDX-License-Identifier: GPL-2.0-only\n")
    assert "the cleanrace authors" in texts["LICENSE"]
    identifier = re.compile(r"^\W*SPDX-License-Identifier: (\S+)", re.MULTILINE)
    assert {found for text in texts.values() for found in identifier.findall(text)} == {
        "GPL-2.0-only"}


def test_changelog_has_the_version(texts: Texts) -> None:
    version = tomllib.loads(texts["pyproject.toml"])["project"]["version"]
    assert re.search(rf"^## .*{re.escape(version)}", texts["CHANGELOG.md"], re.MULTILINE)


def test_contributing_defines_the_eight_words(texts: Texts) -> None:
    defined = re.findall(r"^\| (\w+) \| [a-z]", texts["CONTRIBUTING.md"], re.MULTILINE)
    assert [word for word in defined if word != "word"] == [
        "target", "scenario", "tape", "trace", "policy", "oracle", "verdict", "finding"]


def test_tests_readme_names_every_folder(texts: Texts) -> None:
    folders = {Path(name).parts[1] for name in texts
               if name.startswith("tests/") and len(Path(name).parts) > 2}
    named = set(re.findall(r"^\| (\w+)/ \|", texts["tests/README.md"], re.MULTILINE))
    assert folders <= named
