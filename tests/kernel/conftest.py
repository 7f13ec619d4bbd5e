# SPDX-License-Identifier: GPL-2.0-only
"""The target under which the stubs are watched."""

from typing import Any

import pytest

from cleanrace import Target


@pytest.fixture(scope="session")
def target(linux: dict[str, Any]) -> Target:
    """The real 5.10 file: what the stubs do is seen through it."""
    return Target(linux)


@pytest.fixture(scope="session")
def control(reference: dict[str, Any]) -> Target:
    """Our own implementation, in which every property holds."""
    return Target(reference)
