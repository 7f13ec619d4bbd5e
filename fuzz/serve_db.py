# SPDX-License-Identifier: GPL-2.0-only
"""The service's log (JSON lines) and its statistics (SQLite).

The log is the record: one object a line, with "at" (UTC) and "event", whose names are EVENTS and
stay. The database is for the dashboard; rebuild() makes it from the log, and what cannot be
written for want of room is kept for later (the log) or left out (the database).
"""

import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVENTS = {
    "service_started": "the service began",
    "service_stopped": "the service ended, as it was told to",
    "worker_died": "a worker ended by itself",
    "worker_hung": "a worker said nothing for too long, and was ended",
    "worker_grew": "a worker needed too much memory, and was ended",
    "worker_trouble": "a worker could not do something",
    "input_quarantined": "the input at which a worker died was set aside",
    "finding_met": "a finding that is not known was met",
    "finding_kept": "a finding is minimised and on the shelf",
    "finding_not_minimised": "a finding could not be minimised; it waits as it was met",
    "finding_checked": "a finding of the shelf was run again",
    "committed": "findings were committed",
    "commit_failed": "git could not commit",
    "disk_full": "something could not be written",
    "disk_room": "all that waited for room is written",
    "paused": "searching was paused",
    "resumed": "searching goes on",
    "database_rebuilt": "the statistics were made again from the log",
    "state_lost": "the state file could not be read, and counting begins anew",
    "build_changed": "the target's build is another one now",
    "sample": "counts, about once a minute",
}
LOG_BYTES = 16 << 20  # then it is renamed, and a new one begins
LOGS_KEPT = 4
WAITING_MAX = 2000  # lines that wait for room
EVENTS_KEPT = 500
DAY = 86_400
THINNED = 600  # seconds of one sample that is older than a day
COLUMNS = (
    "schedules",
    "interleavings",
    "edges",
    "pairs",
    "inputs",
    "signatures",
    "memory",
    "seconds",
)


class Log:
    """The log file; a line that does not fit on the disk waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: deque[bytes] = deque(maxlen=WAITING_MAX)

    def write(self, event: str, **values: Any) -> dict[str, Any]:
        """One event; returns it as it is told."""
        assert event in EVENTS, event
        told = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        told |= values
        self.waiting.append(json.dumps(told).encode() + b"\n")
        self.flush()
        return told

    def flush(self) -> bool:
        """Write what waits; whether all is written."""
        try:
            if self.waiting:
                self._turn_over()
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                try:
                    self._append(descriptor)
                finally:
                    os.close(descriptor)
        except OSError:
            return False
        return True

    def _append(self, descriptor: int) -> None:
        while self.waiting:
            size = os.fstat(descriptor).st_size
            line = self.waiting[0]
            try:
                whole = os.write(descriptor, line) == len(line)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            if not whole:
                os.ftruncate(descriptor, size)  # half a line would spoil the next one
                raise OSError(28, os.strerror(28), str(self.path))
            self.waiting.popleft()

    def _turn_over(self) -> None:
        if not self.path.exists() or self.path.stat().st_size < LOG_BYTES:
            return
        for number in range(LOGS_KEPT, 0, -1):
            old = self.path.with_name(f"{self.path.name}.{number}")
            older = self.path.with_name(f"{self.path.name}.{number + 1}")
            if old.exists():
                old.replace(older) if number < LOGS_KEPT else old.unlink()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))


def events(path: Path) -> Iterator[dict[str, Any]]:
    """What a log says, the oldest first; lines that a kill cut off are left out."""
    olds = [path.with_name(f"{path.name}.{number}") for number in range(LOGS_KEPT, 0, -1)]
    for file in (*olds, path):
        if not file.exists():
            continue
        with file.open("rb") as lines:
            for line in lines:
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                if isinstance(told, dict) and "event" in told and "at" in told:
                    yield told


SCHEMA = f"""
CREATE TABLE IF NOT EXISTS samples (at REAL PRIMARY KEY, {", ".join(COLUMNS)});
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, at TEXT, event TEXT, told TEXT);
CREATE TABLE IF NOT EXISTS now (one INTEGER PRIMARY KEY CHECK (one = 1), told TEXT);
"""


class Database:
    """The statistics, for the one process that writes them. sqlite3.Error where it cannot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.executescript(SCHEMA)
        self.connection.execute("SELECT count(*) FROM samples").fetchone()

    def sample(self, at: float, values: dict[str, float]) -> None:
        """One row of the charts; old ones are thinned out."""
        row = (at, *(values[name] for name in COLUMNS))
        marks = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT OR REPLACE INTO samples VALUES ({marks})", row)  # noqa: S608 - our names
        self.connection.execute(
            "DELETE FROM samples WHERE at < ? AND at NOT IN"
            " (SELECT min(at) FROM samples GROUP BY CAST(at / ? AS INTEGER))",
            (at - DAY, THINNED),
        )

    def event(self, told: dict[str, Any]) -> None:
        """One event, of which only the last ones stay."""
        self.connection.execute(
            "INSERT INTO events (at, event, told) VALUES (?, ?, ?)",
            (told["at"], told["event"], json.dumps(told)),
        )
        self.connection.execute(
            "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?",
            (EVENTS_KEPT,),
        )

    def now(self, told: dict[str, Any]) -> None:
        """What is so at this moment."""
        self.connection.execute("INSERT OR REPLACE INTO now VALUES (1, ?)", (json.dumps(told),))

    def close(self) -> None:
        """Close it, which puts all into one file."""
        self.connection.close()


def rebuild(path: Path, log: Path) -> Database:
    """Make the database again from the log; what is there is no database, or is old."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    database = Database(path)
    connection = database.connection
    connection.execute("BEGIN")
    for told in events(log):
        if told["event"] == "sample":
            at = datetime.fromisoformat(told["at"]).timestamp()
            if all(isinstance(told.get(name), int | float) for name in COLUMNS):
                database.sample(at, told)
        else:
            database.event(told)
    connection.execute("COMMIT")
    return database


def open_or_rebuild(path: Path, log: Path) -> tuple[Database, bool]:
    """The database, made again if there is none or it is damaged; whether it was."""
    if path.exists():
        try:
            return Database(path), False
        except sqlite3.DatabaseError:
            return rebuild(path, log), True
    return rebuild(path, log), log.exists()


class Reader:
    """The statistics as the dashboard reads them: each call opens the file and changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        try:
            with closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
            ) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error:
            return []

    def now(self) -> dict[str, Any]:
        """What was so when it was written last; empty if never."""
        rows = self._ask("SELECT told FROM now")
        told: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
        return told

    def samples(self, *, most: int = 400) -> list[dict[str, float]]:
        """The rows of the charts, the oldest first, evenly thinned to about `most`."""
        rows = self._ask("SELECT * FROM samples ORDER BY at")
        step = max(1, len(rows) // most)
        kept = rows[::-step][::-1]
        return [dict(zip(("at", *COLUMNS), row, strict=True)) for row in kept]

    def events(self, *, most: int = 40) -> list[dict[str, Any]]:
        """The last events, the newest first."""
        rows = self._ask("SELECT told FROM events ORDER BY number DESC LIMIT ?", (most,))
        return [json.loads(row[0]) for row in rows]
