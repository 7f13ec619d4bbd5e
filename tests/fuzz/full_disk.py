# SPDX-License-Identifier: GPL-2.0-only
"""A program for test_serve_reserve.py: a service on a small disk of its own, in three acts.

    python full_disk.py FOLDER     (in a mount namespace of its own, where it may mount)

The disk is filled before the first search; once findings wait that no file has, everybody is
killed -9. Then a service starts while there still is no room, and is killed, too. Then there is
room, and one starts again. Each act prints one line of JSON: the findings that wait or are kept.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from serving import log, served, until

import build
from cleanrace import Target
from fuzz import serve_folder, soak, store

ENOUGH = 2  # findings that wait


def act(folder: Path, number: int) -> None:
    """One service, killed -9 at its end."""
    target = Target(build.ensure(target="linux-5.10"))
    options = {"planted": ("remount-twice",), "shift": 60.0, "jobs": 1 if number == 0 else 0}
    with served(target, folder / "disk", **options) as service:
        if number == 0:
            soak.fill_up(folder / "disk" / "fill")
            assert not serve_folder.room(service.layout.root)
            until(service, lambda: len(service.pipeline.unsaved) >= ENOUGH)
        elif number == 1:
            service.turn()
        else:
            until(service, lambda: not service.pipeline.unsaved)
        files = {path.name for path in service.pipeline.folder.glob(f"*{store.SUFFIX}")}
        kept = {one["of"] for one in log(service, "finding_kept")}
        told = {
            "known": sorted({*service.pipeline.waiting, *kept}),
            "pending": sorted(files),
        }
        print(json.dumps(told), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """The disk and the acts."""
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        act(folder, int(sys.argv[2]))
    (folder / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "cleanrace-test", str(folder / "disk")]
    subprocess.run(mount, check=True)
    for number in range(3):
        if number == 2:
            (folder / "disk" / "fill").unlink()
        done = subprocess.run([sys.executable, __file__, str(folder), str(number)], check=False)
        assert done.returncode == -signal.SIGKILL, done.returncode


if __name__ == "__main__":
    main()
