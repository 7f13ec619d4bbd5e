# SPDX-License-Identifier: GPL-2.0-only
"""The source line of a "function:line", where the sources are on this machine.

For reading beside a picture, and never for what is committed. A kernel file counts only if it is
the one that the target was built from, byte for byte; a line only if it is in that function.
"""

import hashlib
import re
from functools import cache
from pathlib import Path

from cleanrace import Target
from fuzz import store

MODELS = ("csrc/kernel/*.c", "csrc/kernel/*.h", "csrc/reference/*.c", "csrc/check/backend.c")
FILE_BYTES_MAX = 1_000_000


class Sources:
    """What can be shown of a target: its kernel file, the header of it, and our models."""

    def __init__(self, target: Target, *, root: Path = store.ROOT) -> None:
        self._files: dict[str, list[str]] = {}
        unit = Path(str(target.info.get("source") or ""))
        tree = unit.parent.parent
        for path, sha256 in (
            (unit, target.sha256),
            (tree / "include" / "linux" / "cleancache.h", target.info.get("header_sha256")),
        ):
            data = _read(path)
            if data and hashlib.sha256(data).hexdigest() == sha256:
                self._files[path.name] = data.decode(errors="replace").splitlines()
        self.kernel = bool(self._files)
        for pattern in MODELS:
            for path in sorted(root.glob(pattern)):
                name = str(path.relative_to(root))
                self._files[name] = _read(path).decode(errors="replace").splitlines()

    def line(self, where: str) -> tuple[str, str]:
        """File and text of the line that `where` names; two empty strings if none does."""
        function, _, number = where.rpartition(":")
        if not function or not number.isdigit():
            return "", ""
        for name, lines in self._files.items():
            at = int(number)
            if 0 < at <= len(lines) and _inside(tuple(lines[:at]), function):
                return name, lines[at - 1].strip()
        return "", ""


def _read(path: Path) -> bytes:
    """A file's bytes; none if it is not there or no source could be so big."""
    try:
        return path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else b""
    except OSError:
        return b""


@cache
def _inside(lines: tuple[str, ...], function: str) -> bool:
    """Whether the last of these lines is in a function of that name.

    The nearest line above that begins in column 0 with a name and is no label opens it; its name
    is there or, behind a line of its own for the type, below.
    """
    for number in range(len(lines) - 1, -1, -1):
        if re.match(r"[A-Za-z_].*[^:;]$|[A-Za-z_][\w\s*]*\(", lines[number]):
            head = " ".join(lines[number : number + 3])
            return re.search(rf"\b{re.escape(function)}\s*\(", head) is not None
        if lines[number].startswith("}") and number < len(lines) - 1:
            return False
    return False
