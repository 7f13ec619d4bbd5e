# SPDX-License-Identifier: GPL-2.0-only
"""Which threads can change places, and which only look as if they could."""

from typing import Any

import pytest

from cleanrace import Explorer, Scenario, Target
from cleanrace.symmetry import families, images, twins


@pytest.fixture(scope="module")
def real(linux: dict[str, Any]) -> Target:
    return Target(linux)


def kernel(kinds: str, *threads: str) -> Scenario:
    systems = [f"fs {'abcdef'[n]} {kind}" for n, kind in enumerate(kinds.split(", "))]
    return Scenario.from_text("\n".join(
        ("cleanrace 1", *systems, *(f"thread {thread}" for thread in threads))))


@pytest.mark.parametrize(("kinds", "threads", "expected"), [
    ("local, local", ("mount a", "mount b"), (None, 0)),
    ("local, local, local", ("mount a", "mount c", "mount b"), (None, 0, 1)),
    ("local", ("mount a", "mount a"), (None, 0)),
    ("local, local", ("register 2", "mount a", "register 0", "mount b"), (None, None, 0, 1)),
    ("local, local", ("register 0", "register 0"), (None, 0)),
    ("shared uuid 1, shared uuid 3", ("mount a", "mount b"), (None, 0)),
    ("shared uuid 1, shared uuid 1", ("mount a", "mount b"), (None, 0)),
    ("local, local", ("mount a; read a 0 1", "mount b; read b 0 1"), (None, 0)),
    ("local, local", ("mount a; mount b", "mount b; mount a"), (None, 0)),
])
def test_threads_alike_are_twins(
    kinds: str, threads: tuple[str, ...], expected: tuple[int | None, ...]
) -> None:
    assert twins(kernel(kinds, *threads)) == expected


@pytest.mark.parametrize(("kinds", "threads", "why"), [
    ("local, none", ("mount a", "mount b"), "file systems of two kinds"),
    ("local, local handles", ("mount a", "mount b"), "keys of two kinds"),
    ("local, local", ("mount a", "mount b; unmount b"), "one does more"),
    ("local, local", ("mount a; read a 0 0", "mount b; read b 0 1"), "another page"),
    ("local, local", ("mount a", "mount b", "reclaim a 0 0"), "a third thread tells them apart"),
    ("local, local", ("mount a; mount a", "mount b; mount a"), "one name would stand for two"),
    ("shared uuid 0, shared uuid 1, shared uuid 0", ("mount a", "mount b", "mount c; unmount c"),
     "one shares its pool with a third"),
])
def test_threads_that_something_tells_apart_are_not(
    kinds: str, threads: tuple[str, ...], why: str
) -> None:
    assert twins(kernel(kinds, *threads)) == (None,) * len(threads), why


def test_families_of_twins_multiply_their_images() -> None:
    mounts = kernel("local, none, local, none, local", "mount a", "register 0", "mount b",
                    "mount c", "register 1", "mount d", "mount e")
    assert families(mounts) == ((0, 3, 6), (1, 4), (2, 5))
    assert images(mounts) == 6 * 2 * 2
    assert images(kernel("local, none", "mount a", "mount b")) == 1


def test_a_bound_on_preemptions_and_symmetry_exclude_each_other(real: Target) -> None:
    scenario = kernel("local, local", "mount a", "mount b")
    with pytest.raises(ValueError, match=r"symmetry=True: not with bound=1"):
        Explorer(real, scenario, policy="dfs", bound=1, symmetry=True)
    with pytest.raises(ValueError, match="symmetry"):
        Explorer(real, scenario, symmetry=1)  # type: ignore[arg-type]
