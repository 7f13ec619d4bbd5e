# SPDX-License-Identifier: GPL-2.0-only
"""The posts of the service: each is held by one worker process at a time.

A post knows who holds it, since when, and how it went before, so that whoever dies again and
again at once is started less and less often.
"""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.pool import Member

QUICK_SECONDS = 10.0  # who dies sooner than that after its start is started later
BACKOFF_MAX = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")
# How a process ends by its own fault, or by that of its input.
GUILTY_SIGNALS = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSYS,
}
GUILTY_STATUS = {70, 71, 77}  # libFuzzer: timeout, out of memory, crash


@dataclass(eq=False)
class Post:
    """One process that should run. silence: seconds without a word after which it hangs."""

    name: str
    silence: float
    nice: int = 0
    stay: bool = False  # its standard input stays open
    method: str = ""
    member: Member | None = None
    started: float = 0.0
    heard: float = 0.0
    memory: int = 0  # bytes
    deaths: int = 0  # in a row, each soon after the start
    not_before: float = 0.0
    killed: str = ""  # why we killed it: "hung" or "grew"
    signatures: set[str] = field(default_factory=set)
    news: float = 0.0
    findings: int = 0

    def begin(self, member: Member, method: str) -> None:
        """A process takes the post."""
        self.member, self.method = member, method
        self.started = self.heard = time.monotonic()
        self.killed = ""
        self.memory = 0
        self.signatures, self.news, self.findings = set(), 0.0, 0

    def end(self, *, died: bool) -> None:
        """The process is gone."""
        self.member = None
        clock = time.monotonic()
        if died and clock - self.started < QUICK_SECONDS:
            self.deaths += 1
            self.not_before = clock + min(BACKOFF_MAX, 0.25 * 2**self.deaths)
        else:
            self.deaths = 0
            self.not_before = clock

    def late(self) -> bool:
        """Whether it said nothing for too long."""
        return self.member is not None and time.monotonic() - self.heard > self.silence

    def measure(self) -> None:
        """Look how much memory it has."""
        if self.member is not None:
            self.memory = memory_of(self.member.process.pid)

    def kill(self, why: str) -> None:
        """End it by force; what it says until then is still heard."""
        if self.member is not None and not self.killed:
            self.killed = why
            self.member.process.kill()

    def told(self) -> dict[str, Any]:
        """What the dashboard shows of it."""
        clock = time.monotonic()
        running = self.member is not None
        at: Mapping[str, Any] = self.member.at if self.member else {}
        state = "runs" if running else "waits" if clock < self.not_before else "idle"
        return {
            "post": self.name,
            "method": self.method,
            "state": state,
            "pid": self.member.process.pid if self.member else None,
            "seconds": round(clock - self.started, 1) if running else 0.0,
            "silent": round(clock - self.heard, 1) if running else 0.0,
            "memory": self.memory if running else 0,
            "deaths": self.deaths,
            "at": {key: str(value)[:120] for key, value in at.items()},
        }


def memory_of(pid: int) -> int:
    """Resident bytes of a process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def guilty(post: Post, status: int | None) -> bool:
    """Whether a process that ended so did it by itself, and not because someone killed it."""
    if post.killed:
        return True
    if status is None:
        return False
    if status < 0:
        return signal.Signals(-status) in GUILTY_SIGNALS
    return status in GUILTY_STATUS
