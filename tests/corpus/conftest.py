# SPDX-License-Identifier: GPL-2.0-only
"""The corpus as cases, and the targets that they are for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Target

LITMUS = Path(__file__).resolve().parents[2] / "corpus" / "litmus"


@pytest.fixture(scope="session")
def built(linux: dict[str, Any], reference: dict[str, Any]) -> Mapping[str, Target]:
    """The two targets by the word that a case uses for them."""
    return {"linux": Target(linux), "reference": Target(reference)}


@pytest.fixture(scope="session")
def cases() -> Mapping[str, Case]:
    """Every litmus by its name."""
    found = {path.stem: Case.read(path) for path in sorted(LITMUS.glob("*.litmus"))}
    assert len(found) > 100
    return found
