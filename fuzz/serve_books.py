# SPDX-License-Identifier: GPL-2.0-only
"""What the service writes down: log and statistics, on a disk that may be full.

What cannot be written is a trouble with a name, told once and tried again; when none is left, the
disk has room again, and that is told, too.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from fuzz import serve_db, serve_folder
from fuzz.serve_folder import Layout

TROUBLE_SECONDS = 15.0  # after which what a worker complained about once is over
BROKEN = "broken "  # what the harness did wrong stays until a person looks, and starts it again
# Ours, which end when the next try works.
OWN = ("findings", "log", "statistics", "state", "quarantine", "textfile", "reserve")


class Books:
    """Log, statistics and troubles of one service."""

    def __init__(self, layout: Layout, show: Callable[[str], None]) -> None:
        self.layout, self.show = layout, show
        self.log = serve_db.Log(layout.log)
        self.database: serve_db.Database | None = None
        self.troubles: dict[str, tuple[str, float, bool]] = {}  # what -> line, when, no room
        self.full = False

    def open(self) -> None:
        """Open the statistics, or go on without them."""

        def opened() -> None:
            self.database, rebuilt = serve_db.open_or_rebuild(self.layout.database, self.layout.log)
            if rebuilt:
                self.event("database_rebuilt")

        self.attempt("statistics", opened)

    def close(self) -> None:
        """Nothing is written any more."""
        if self.database is not None:
            self.database.close()
            self.database = None

    def event(self, event: str, /, **values: Any) -> None:
        """Log something that happened, and put it into the statistics."""
        told = self.log.write(event, **values)
        database = self.database
        if event != "sample" and database is not None:
            self.attempt("statistics", lambda: database.event(told))

    def trouble(self, what: str, line: str, *, full: bool) -> None:
        """Something does not work at the moment."""
        fresh = what not in self.troubles
        self.troubles[what] = (line, time.monotonic(), full)
        if full and not self.full:
            self.full = True
            self.show(f"the disk is full: {line}; what cannot be written is kept and tried again")
            self.event("disk_full", what=line)
        elif fresh and not full:
            self.event("worker_trouble", worker=what, what=line)

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write something; a disk without room is trouble, and no reason to end."""
        try:
            write()
        except OSError as error:
            full = error.errno in serve_folder.FULL
            self.trouble(what, f"{what}: {error.strerror}", full=full)
            return False
        except sqlite3.Error as error:
            self.trouble(what, f"{what}: {error}", full="full" in str(error))
            return False
        self.troubles.pop(what, None)
        return True

    def retry(self) -> None:
        """Write what waits for room, and forget troubles that are over."""
        if not self.log.flush():
            self.trouble("log", "log: it cannot be written", full=True)
        else:
            self.troubles.pop("log", None)
        if "statistics" in self.troubles or self.database is None:
            self.close()
            self.open()
        clock = time.monotonic()
        for what, (_, said, _) in list(self.troubles.items()):
            lasts = what in OWN or what.startswith(BROKEN)
            if not lasts and clock - said > TROUBLE_SECONDS:
                del self.troubles[what]
        waits = any(full for _, _, full in self.troubles.values())
        if self.full and not waits and serve_folder.room(self.layout.root):
            self.full = False
            self.show("there is room on the disk again: all that waited is written")
            self.event("disk_room")

    def snapshot(self, told: dict[str, Any], sample: dict[str, float] | None) -> None:
        """What is so now, and a row of the charts if there is one."""
        database = self.database
        if database is None:
            return

        def write() -> None:
            if sample is not None:
                database.sample(time.time(), sample)
            database.now(told)

        self.attempt("statistics", write)
