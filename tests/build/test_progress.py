# SPDX-License-Identifier: GPL-2.0-only
"""What people see while they wait: a bar on a terminal of any width, plain lines elsewhere."""

import io
import sys

import pytest

import build


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [20, 40, 80, 300])
def test_the_bar_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    show = build.Shown()
    for done in range(201):
        show("ask mirrors", done, 200)
    states = stream.getvalue().removesuffix("\n").split("\r")[1:]
    assert len(states) == 101  # one per percent
    assert "\n" not in "".join(states)
    assert states[0].endswith("  0 %")
    assert states[-1].endswith("100 %")
    assert states[-1].count("#") >= 5
    if columns >= 40:
        assert max(map(len, states)) < columns


def test_elsewhere_progress_is_a_few_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    show = build.Shown()
    for stage in ("download", "extract"):
        for done in range(1001):
            show(stage, done, 1000)
    assert stream.getvalue().splitlines() == [
        f"{stage}: {percent} %" for stage in ("download", "extract") for percent in (0, 50, 100)]


def test_a_stage_without_parts_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    build.Shown()("compile", 0, 0)
    assert stream.getvalue() == "compile: 0 %\n"
