# SPDX-License-Identifier: GPL-2.0-only
"""The checks of `doctor` that look at the machine: its clock, disks, cores and git."""

import os
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import build
from fuzz import campaign, commit, places
from fuzz.doctor_place import FAIL, OK, WARN, Place, Said

ROOM_LEAST, ROOM_LITTLE = 64, 1024  # MB
FILES_LEAST = 1000  # that a disk can still take
YEAR_LAST = 2100


def clock(
    place: Place,
    *,
    steady: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Said:
    """That time goes on, in both clocks alike, and that the date is one that can be."""
    mend = "timedatectl set-ntp true"
    for _ in range(3):  # what stops this process between two looks is no fault of the clocks
        begun, date = steady(), wall()
        time.sleep(0.02)
        went, changed = steady() - begun, wall() - date
        if abs(went - changed) < 0.5:
            break
    else:
        what = f"the date went on by {changed:.1f} s in {went:.2f} s"
        return Said(state=FAIL, text=what, mend=mend)
    if went <= 0:
        return Said(state=FAIL, text="the monotonic clock stands still", mend="reboot")
    folders = (place.repository / name for name in ("csrc", "fuzz", "pybind"))
    times = [file.stat().st_mtime for folder in folders for file in folder.rglob("*.[ch]")]
    times += [file.stat().st_mtime for folder in folders for file in folder.rglob("*.py")]
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(date))
    if date < max(times, default=0) - 60:
        what = f"it is {shown}: before the newest file of this checkout"
        return Said(state=FAIL, text=what, mend=mend)
    if time.gmtime(date).tm_year > YEAR_LAST:
        return Said(state=FAIL, text=f"it is {shown}", mend=mend)
    return Said(state=OK, text=f"{shown} UTC, after the newest file, and both clocks go on")


def disk(place: Place) -> Said:
    """That there is room, and leave to write, where builds, corpus and temporary files go."""
    folders = {
        "cache": build.cache_folder(),
        "corpus": place.corpus,
        "temporary": Path(tempfile.gettempdir()),
    }
    parts, state, mend = [], OK, ""
    for what, folder in folders.items():
        at = next(above for above in (folder, *folder.parents) if above.exists())
        there = os.statvfs(at)
        free, files = there.f_bavail * there.f_frsize >> 20, there.f_favail
        look = f"du -xsh {shlex.quote(str(at))}; make room there"
        if what == "cache":
            look += ", or set XDG_CACHE_HOME to another disk"
        limited = there.f_files > 0  # some file systems have no such limit
        if free < ROOM_LEAST or (limited and files < FILES_LEAST):
            full = f"the disk of {at} is full: {free} MB and {files:,} files are free"
            return Said(state=FAIL, text=full, mend=look)
        try:
            places.check_folder(what, at)
        except places.Unwritable as error:
            if there.f_flag & os.ST_RDONLY:
                at = next(above for above in (at, *at.parents) if above.is_mount())
                mend = f"mount -o remount,rw {shlex.quote(str(at))}"
            elif not at.is_dir():
                mend = f"mv {shlex.quote(str(at))} {shlex.quote(str(at))}.old"
            else:
                mend = f"chmod u+w {shlex.quote(str(at))}"
            return Said(state=FAIL, text=str(error), mend=mend)
        parts.append(f"{what} {free / 1024:.1f} GB" if free > ROOM_LITTLE else f"{what} {free} MB")
        if free < ROOM_LITTLE and state == OK:
            state, mend = WARN, look
    return Said(state=state, text=f"free: {', '.join(parts)}", mend=mend)


def cores(place: Place) -> Said:
    """How many cores there are, and how many of them we may use."""
    usable, all_of_them = campaign.cores(), os.cpu_count() or 1
    quota = _quota(place.groups)
    text = f"{usable} of {all_of_them}"
    if quota is not None and quota < usable - 0.01:
        what = f"{text}, but this control group has the time of {quota:.2g}"
        return Said(state=WARN, text=what, mend=f"python fuzz/run.py --jobs {max(1, int(quota))}")
    if usable < all_of_them:
        what = f"{text}: this process is kept off the others"
        return Said(state=WARN, text=what, mend=f"taskset -pc 0-{all_of_them - 1} $$")
    load = os.getloadavg()[0]
    return Said(state=OK, text=f"{text}, no limit below that; load {load:.1f}")


def _quota(groups: Path) -> float | None:
    """The cores that the control groups of this process leave it; None without a limit."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        top = groups / names if names else groups
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder == groups.parent:
                break
            found += [limit for limit in (_limit(folder),) if limit is not None]
    return min(found, default=None)


def _limit(folder: Path) -> float | None:
    """The limit of one group, as either version of the interface has it."""
    new, quota, period = (
        folder / name for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    if new.is_file():
        share, of = new.read_text().split()
        return None if share == "max" else int(share) / int(of)
    if quota.is_file() and period.is_file() and int(quota.read_text()) > 0:
        return int(quota.read_text()) / int(period.read_text())
    return None


def identity(place: Place) -> Said:
    """That git would take a commit from here, which is asked only when --commit is given."""
    git = commit.Git(place.repository)
    if not git.holds("rev-parse", "--is-inside-work-tree"):
        mend = f"git clone it; or git -C {shlex.quote(str(place.repository))} init"
        return Said(state=WARN, text="not a git repository, --commit cannot work", mend=mend)
    strict = ("-c", "user.useConfigOnly=true", "var")
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if not git.holds(*strict, who):
            mend = "git config user.name NAME; git config user.email ADDRESS"
            return Said(state=WARN, text="git does not know you, --commit cannot work", mend=mend)
    return Said(state=OK, text=git.ask(*strict, "GIT_AUTHOR_IDENT").rpartition(">")[0] + ">")
