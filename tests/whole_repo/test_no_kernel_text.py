# SPDX-License-Identifier: GPL-2.0-only
"""No kernel text is in the repository: no comment, no function body.

Names, signatures and structure members may be, since an interface must be spelled as it is. So
comments and bodies are cut out of the cached sources and compared as runs of words, which neither
layout nor line breaks can hide.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import build

# So many in a row are a quotation; shorter runs in common are idioms, such as a condition on two
# members.
COMMENT_WORDS = 7
BODY_TOKENS = 20
LINE_LETTERS = 38  # shorter lines are idioms, too, such as a declaration
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def runs(words: list[str], length: int) -> set[tuple[str, ...]]:
    """All runs of so many words."""
    return {tuple(words[i:i + length]) for i in range(len(words) - length + 1)}


def prose(text: str) -> list[str]:
    """The words of a text, whatever is between them."""
    return re.findall(r"[a-z0-9_]+", text.lower())


def tokens(text: str) -> list[str]:
    """The tokens of C, comments apart."""
    return re.findall(r"\w+|[^\w\s]", COMMENT.sub(" ", text))


def bodies(text: str) -> Iterator[str]:
    """What stands between the braces of each function."""
    code = COMMENT.sub(" ", text)
    for opening in re.finditer(r"\)\s*\{", code):
        depth, end = 1, opening.end()
        while depth and end < len(code):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        yield code[opening.end():end - 1]


@pytest.fixture(scope="module")
def kernel(linux: dict[str, Any]) -> dict[str, str]:
    """The cached kernel files."""
    folder = Path(linux["source"]).parents[1]
    found = {file: (folder / file).read_text() for file in build.KNOWN["linux-5.10"][2]}
    assert len(found) == 3
    return found


@pytest.fixture(scope="module")
def comment_runs(kernel: dict[str, str]) -> set[tuple[str, ...]]:
    """What only a quotation of a comment has."""
    return {run for text in kernel.values() for comment in COMMENT.findall(text)
            if "SPDX" not in comment for run in runs(prose(comment), COMMENT_WORDS)}


@pytest.fixture(scope="module")
def body_runs(kernel: dict[str, str]) -> set[tuple[str, ...]]:
    """What only a quotation of code has."""
    return {run for text in kernel.values() for body in bodies(text)
            for run in runs(tokens(body), BODY_TOKENS)}


def test_no_comment_of_the_kernel_is_quoted(
    texts: dict[str, str], comment_runs: set[tuple[str, ...]],
) -> None:
    assert len(comment_runs) > 1000
    quoted = {name: sorted(" ".join(run) for run in common)[:3] for name, text in texts.items()
              if (common := runs(prose(text), COMMENT_WORDS) & comment_runs)}
    assert quoted == {}


def test_no_body_of_the_kernel_is_quoted(
    texts: dict[str, str], body_runs: set[tuple[str, ...]],
) -> None:
    assert len(body_runs) > 1000
    quoted = {name: sorted(" ".join(run) for run in common)[:3] for name, text in texts.items()
              if (common := runs(tokens(text), BODY_TOKENS) & body_runs)}
    assert quoted == {}


def test_no_statement_of_the_file_under_test_is_quoted(
    texts: dict[str, str], kernel: dict[str, str],
) -> None:
    """Not even one line, letter for letter: a test has to take it from the source it runs on."""
    lines = {line.strip() for body in bodies(kernel[build.UNIT]) for line in body.splitlines()}
    statements = [line for line in lines if len(line) > LINE_LETTERS]
    assert len(statements) > 20
    quoted = {name: found for name, text in texts.items()
              if (found := [line for line in statements if line in text])}
    assert quoted == {}


def test_a_quotation_in_other_clothes_is_found(
    kernel: dict[str, str], comment_runs: set[tuple[str, ...]], body_runs: set[tuple[str, ...]],
) -> None:
    """One function and one comment, with all layout changed."""
    longest = max(bodies(kernel[build.UNIT]), key=len)
    squeezed = "\n".join(tokens(longest))
    assert runs(tokens(squeezed), BODY_TOKENS) & body_runs
    remark = max(COMMENT.findall(kernel[build.UNIT]), key=len)
    assert runs(prose("# " + "\n# ".join(prose(remark))), COMMENT_WORDS) & comment_runs
