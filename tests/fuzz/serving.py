# SPDX-License-Identifier: GPL-2.0-only
"""Services in the tests' own process: driven turn by turn, over real workers."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cleanrace import Target
from fuzz.serve_supervisor import Options, Supervisor

DEADLINE_SECONDS = 90.0  # no claim: a service that does nothing must not hang the tests


@contextmanager
def served(target: Target, root: Path, **options: Any) -> Iterator[Supervisor]:
    """A service over folders below `root`."""
    chosen = {
        "corpus": root / "corpus",
        "findings": root / "findings",
        "shift": 5.0,
        "port": None,
        "planted": ("b",),
        "token": "a token",
    } | options
    service = Supervisor(target, Options(**chosen), show=lambda _: None)
    with service.serving():
        yield service


def until(service: Supervisor, reached: Callable[[], Any]) -> Any:
    """Let the service work until something is so; what that gave."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := reached()):
        assert time.monotonic() < end, log(service)[-20:]
        service.turn()
    return found


def log(service: Supervisor, *names: str) -> list[dict[str, Any]]:
    """What the log says, of these events."""
    lines = service.layout.log.read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return [one for one in told if not names or one["event"] in names]
