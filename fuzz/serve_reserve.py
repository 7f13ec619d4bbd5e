# SPDX-License-Identifier: GPL-2.0-only
"""Findings for which the disk has no room, in a file that took its room beforehand.

The file is written once from end to end and keeps its size. Overwriting what it has needs no new
room on file systems that write in place (ext4, xfs, tmpfs; not btrfs or zfs), so that a finding
met while the disk is full is on it at once, and whoever is killed then loses none. Once there is
room the findings move to the pending folder.

A record is its length, a digest, and the finding as JSON; the first that is none ends the file, so
half a record, of a writer that was killed, is overwritten by the next one. A whole record that is
no finding to this version, but may be to the one that wrote it, is skipped, told and kept.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuzz import store

BYTES = 1 << 20  # about two thousand findings
LENGTH, DIGEST = 4, 16  # bytes of a record's head
END = bytes(LENGTH)


@dataclass(frozen=True)
class Reserve:
    """The file; any process may put a finding into it."""

    path: Path

    @contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        """The file, for one process at a time; the lock ends with the process."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def take(self) -> None:
        """Take its room, unless it has it. OSError if there is none; then ask again."""
        with self._opened(os.O_CREAT) as descriptor:
            at = os.fstat(descriptor).st_size
            while at < BYTES:
                # Written, not only promised: that may need room once more when it is used.
                at += os.pwrite(descriptor, bytes(min(1 << 16, BYTES - at)), at)
            os.fsync(descriptor)

    def put(self, finding: store.Finding) -> None:
        """Add a finding unless one like it is there. OSError if it does not fit."""
        data = json.dumps(finding.to_json()).encode()
        record = len(data).to_bytes(LENGTH, "little") + _digest(data) + data + END
        with self._opened() as descriptor:
            there = list(_records(descriptor))
            if any(old.finding and old.finding.signature == finding.signature for old in there):
                return
            end = sum(len(old.data) for old in there)
            if end + len(record) > os.fstat(descriptor).st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.pwrite(descriptor, record, end)
            os.fsync(descriptor)

    def findings(self) -> list[store.Finding]:
        """What is in it; nothing if there is no such file."""
        return [one.finding for one in self._read() if one.finding is not None]

    def unreadable(self) -> list[str]:
        """One line if records are no findings to this version."""
        whys = [one.why for one in self._read() if one.finding is None]
        if not whys:
            return []
        return [f"{self.path}: left alone, as they are no findings here: {len(whys)} ({whys[0]})"]

    def _read(self) -> list["_Record"]:
        try:
            with self._opened() as descriptor:
                return list(_records(descriptor))
        except OSError:
            return []

    def move(self, save: Callable[[store.Finding], object]) -> None:
        """Save each finding elsewhere, then forget them; OSError of `save` keeps them all."""
        if not self.path.exists():
            return
        with self._opened() as descriptor:
            left = b""
            for one in _records(descriptor):
                if one.finding is None:
                    left += one.data
                else:
                    save(one.finding)
            os.pwrite(descriptor, left + END, 0)
            os.fsync(descriptor)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


@dataclass(frozen=True)
class _Record:
    """A whole record: its bytes, and its finding, or why it is none."""

    data: bytes
    finding: store.Finding | None
    why: str = ""


def _records(descriptor: int) -> Iterator[_Record]:
    """Each record, one after the other from the beginning of the file."""
    data = os.pread(descriptor, BYTES, 0)
    at = 0
    while True:
        begin = at + LENGTH + DIGEST
        end = begin + int.from_bytes(data[at : at + LENGTH], "little")
        if not begin < end <= len(data) or _digest(data[begin:end]) != data[begin - DIGEST : begin]:
            return
        try:
            yield _Record(data[at:end], store.Finding.from_json(json.loads(data[begin:end])))
        except (ValueError, TypeError, KeyError) as error:  # what another version wrote
            yield _Record(data[at:end], None, f"{type(error).__name__}: {error}")
        at = end
