# SPDX-License-Identifier: GPL-2.0-only
"""The target on which micro scenarios run; which one it is makes no difference to them."""

from typing import Any

import pytest

from cleanrace import Target


@pytest.fixture(scope="session")
def target(linux: dict[str, Any]) -> Target:
    """The real 5.10 file, of which a micro scenario calls nothing."""
    return Target(linux)


@pytest.fixture(scope="session")
def control(reference: dict[str, Any]) -> Target:
    """Our own implementation, in which every property holds."""
    return Target(reference)
