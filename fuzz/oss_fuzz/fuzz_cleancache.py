#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The harness as OSS-Fuzz and ClusterFuzzLite pack it: one executable file with everything in it.

pack.py puts the target beside it, pyinstaller both into the file, which unpacks itself into a
temporary folder. Arguments are libFuzzer's. A violation that corpus/findings does not have ends
the process as a crash, after its scenario file on the standard error. CLEANRACE_PLANTED=c plants
that bug: so one sees that the packed harness finds something.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent / "packed"
PLANTED = "CLEANRACE_PLANTED"


def main() -> int:
    """Fuzz what was packed; 2 if nothing was, 3 if the harness failed."""
    if not HERE.is_dir():
        print(f"{HERE}: nothing was packed; see fuzz/oss_fuzz/build.sh", file=sys.stderr)
        return 2
    from cleanrace import Target
    from fuzz import harness, preloaded, store

    info = json.loads((HERE / "info.json").read_text(encoding="utf-8"))
    info["module"] = str(HERE / info["module"])
    try:
        if preloaded.present() and not preloaded.mutates():
            preloaded.restart(HERE / preloaded.LIBRARY)
        planted = os.environ.get(PLANTED, "").split()
        return harness.fuzz(Target(info), sys.argv[1:], planted=planted, crash=True)
    except store.Broken as error:
        harness.say(str(error))
        return 3


if __name__ == "__main__":
    sys.exit(main())
