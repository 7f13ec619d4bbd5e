# SPDX-License-Identifier: GPL-2.0-only
"""Whether the files that the user named can be written, asked before anything runs.

Each check tries what the writing will do, with a file without a name, and leaves nothing behind.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


class Unwritable(Exception):
    """One line for the user: the option, its value, and what is wrong with it."""


def check_file(option: str, path: Path) -> None:
    """Unwritable unless a file can be written at `path`, in a folder that exists."""
    if path.is_dir():
        raise Unwritable(f"{option} {path}: it is a folder, name a file")
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK):
            raise Unwritable(f"{option} {path}: no permission to write to it")
        return  # a pipe or a device
    _probe(f"{option} {path}", _parent(f"{option} {path}", path))


def check_apart(files: Mapping[str, Path | None]) -> None:
    """Unwritable if two options name the same file: the later one would be all there is."""
    named: dict[Path, str] = {}
    for option, path in files.items():
        if path is None or (path.exists() and not path.is_file()):
            continue  # a pipe or a device takes several
        first = named.setdefault(path.resolve(), option)
        if first != option:
            raise Unwritable(f"{option} {path}: {first} names the same file, name another one")


def check_folder(option: str, path: Path) -> None:
    """Unwritable unless `path` is a folder to write in, or one can be made in its parent."""
    what = f"{option} {path}"
    if path.is_dir():
        _probe(what, path.resolve())
    elif path.exists() or path.is_symlink():
        raise Unwritable(f"{what}: it is not a folder")
    else:
        _probe(what, _parent(what, path))


def _parent(what: str, path: Path) -> Path:
    parent = path.resolve().parent
    if parent.is_dir():
        return parent
    for above in (parent, *parent.parents):
        if above.exists() and not above.is_dir():
            raise Unwritable(f"{what}: {above} is a file, not a folder")
    raise Unwritable(f"{what}: the folder {parent} does not exist, create it first")


def _probe(what: str, folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise Unwritable(f"{what}: cannot write in {folder}: {error.strerror}") from None
