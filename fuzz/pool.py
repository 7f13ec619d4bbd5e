# SPDX-License-Identifier: GPL-2.0-only
"""Worker processes: started, listened to, and ended whatever happens.

A Pool owns the processes it started: leaving its `with` block ends them all, so that none
outlives the campaign, and a worker that dies by itself is told apart from one that finished.
Each worker has a session of its own, so that Ctrl-C reaches only the parent.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from fuzz import store

PROGRAM = store.ROOT / "fuzz" / "worker.py"
GRACE_SECONDS = 3.0  # between SIGTERM and SIGKILL


@dataclass(eq=False)
class Member:
    """One worker process, and what it said last."""

    method: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    buffer: bytearray = field(default_factory=bytearray)  # of a line that has not ended
    at: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    stopped: bool = False  # by us, so that its end is no crash
    ended: bool = False

    def send(self, message: object) -> None:
        """One line for its standard input; a worker that is gone is noticed elsewhere."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.done = self.ended and self.done

    def close(self) -> None:
        """End its standard input, which ends a worker that reads jobs from there."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            self.done = self.ended and self.done

    def obituary(self) -> str:
        """Why it counts as crashed, in one line."""
        code = self.process.returncode
        how = f"exit status {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        self.log.seek(0)
        text = self.log.read()[-8000:].decode(errors="replace").strip().splitlines()
        # libFuzzer's own last words follow the line that says what happened.
        telling = [line for line in text if "ERROR" in line or "Error" in line] or text
        last = f": {telling[-1].strip()}" if telling else ""
        doing = ", ".join(f"{key} {value}" for key, value in self.at.items())
        where = f"; it was at {doing}" if doing else ""
        return f"a worker ({self.method}) died, {how}{last}{where}"


class Pool:
    """The workers of one campaign."""

    def __init__(
        self, heard: Callable[[Member, dict[str, Any]], None], *, program: Path | None = None
    ) -> None:
        self.heard = heard
        self.program = program or PROGRAM
        self.members: list[Member] = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.selector.close()

    def start(self, method: str, job: dict[str, Any], *, stay: bool = False) -> Member:
        """Start a worker; with `stay` its standard input stays open for more jobs."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        process = subprocess.Popen(
            [sys.executable, str(self.program), method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        member = Member(method, process, log)
        self.members.append(member)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self.selector.register(process.stdout, selectors.EVENT_READ, member)
        member.send(job)
        if not stay:
            member.close()
        return member

    @property
    def running(self) -> list[Member]:
        """Workers that have not ended."""
        return [member for member in self.members if not member.ended]

    def listen(self, seconds: float) -> None:
        """Hear what workers say for at most `seconds`; returns after the first batch of it."""
        for key, _ in self.selector.select(max(0.0, seconds)):
            self._read(key.data)

    def _read(self, member: Member) -> None:
        assert member.process.stdout is not None
        try:
            data = os.read(member.process.stdout.fileno(), 1 << 20)
        except BlockingIOError:
            return
        if not data:
            self._ended(member)
            return
        first, *lines = data.split(b"\n")  # not of the buffer: a line may have megabytes
        member.buffer += first
        for line in lines:
            whole, member.buffer = member.buffer, bytearray(line)
            self._message(member, json.loads(whole))

    def _message(self, member: Member, message: dict[str, Any]) -> None:
        if "at" in message:
            member.at = message["at"]
        elif "stats" in message:
            member.stats = message["stats"]
        elif message.get("done"):
            member.done = True
        self.heard(member, message)

    def _ended(self, member: Member) -> None:
        assert member.process.stdout is not None
        self.selector.unregister(member.process.stdout)
        member.process.wait()
        member.process.stdout.close()
        member.close()
        member.ended = True
        self.heard(member, {"ended": True})
        member.log.close()

    def stop(self, members: list[Member] | None = None) -> None:
        """End workers (all): politely, hearing their last words, then by force."""
        chosen = [m for m in (self.members if members is None else members) if not m.ended]
        for member in chosen:
            member.stopped = True
            member.close()  # whoever waits for a job there does not see the signal
            member.process.terminate()
        end = time.monotonic() + GRACE_SECONDS
        while any(not m.ended for m in chosen) and time.monotonic() < end:
            self.listen(0.1)
        for member in chosen:
            if not member.ended:
                member.process.kill()
        while any(not m.ended for m in chosen):
            self.listen(0.1)
