# SPDX-License-Identifier: GPL-2.0-only
"""The built 5.10 target as an object of the package."""

from typing import Any

import pytest

from cleanrace import Target


@pytest.fixture(scope="session")
def target_510(linux: dict[str, Any]) -> Target:
    """The real 5.10 file; `linux` is its record."""
    return Target(linux)
