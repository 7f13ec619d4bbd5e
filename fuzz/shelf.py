# SPDX-License-Identifier: GPL-2.0-only
"""The shelf: minimised findings, kept for years, one folder each.

    corpus/findings/<verdict>-<operations>/
        scenario.litmus   what to run: scenario, named switches, and the tape for one build
        finding.json      what is known about it: signature, status, target, who found it
        explanation.md    how it happens, in numbered steps, and why the kernel allows it
        picture.svg       the same as a picture

A finding is there once: two are the same when their signatures and planted bugs are. Folders
appear and change whole: they are made under a name that nobody reads and then renamed, or
exchanged with the one they replace. Writers hold a lock on the shelf itself, which dies with
them. Reading believes nothing: what is not as it should be is one line, and never stops the
others; a writer that meets such a folder renames it to NAME.unreadable, and deletes nothing.

Status: `expected` findings are the target's known faults and must show; `open` and `fixed` ones
must not show any more, and a test fails as long as they do.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cleanrace import Case, ScenarioError, words
from fuzz import smaller, store

FOLDER = store.ROOT / "corpus" / "findings"
SCENARIO, META, EXPLANATION = "scenario.litmus", "finding.json", "explanation.md"
PICTURE = "picture.svg"
FILES = (SCENARIO, META, EXPLANATION, PICTURE)
STATUSES = ("open", "fixed", "expected")
FORMAT = 1
META_MAX = 65_536  # bytes
EXPLANATION_MAX = 262_144
PICTURE_MAX = 1_048_576
NAMES_MAX = 100  # findings of one verdict and the same operations
UNREADABLE = ".unreadable"
PENDING = ".pending"  # below the shelf: findings as they were met, which wait to be minimised
_NAME = re.compile(r"[a-z0-9]+([-+][a-z0-9]+)*")
_HIDDEN = ".new-"
_AT_FDCWD, _EXCHANGE = -100, 2  # of renameat2(2)


class Unreadable(Exception):
    """A folder that is no finding: one line with the file, the place in it, and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What finding.json says.

    signature: what identifies it. status: one of STATUSES. target, sha256, compiler: where it was
    found; planted: bugs that were switched on there. found_by: method, policy and seed. date: ISO.
    schedules: how many it took until it was found, None if that means nothing. preemptions: of
    its schedule; fewest: all schedules with fewer were run, and none shows it.
    """

    signature: str
    status: str
    target: str
    planted: tuple[str, ...]
    sha256: str
    compiler: str
    found_by: str
    date: str
    schedules: int | None
    preemptions: int
    fewest: bool


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finding on the shelf."""

    folder: Path
    case: Case
    meta: Meta
    explanation: str
    picture: str

    @property
    def name(self) -> str:
        """What the finding is called."""
        return self.folder.name

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What makes two findings the same."""
        return self.meta.signature, tuple(sorted(self.meta.planted))


def entries(root: Path = FOLDER) -> tuple[list[Entry], list[str]]:
    """The findings that can be read, by name, and one line for each folder that cannot."""
    found, broken = [], []
    for folder in _folders(root):
        try:
            found.append(read(folder))
        except Unreadable as error:
            broken.append(str(error))
    return found, broken


def _folders(root: Path) -> list[Path]:
    try:
        listed = sorted(root.iterdir())
    except FileNotFoundError:
        return []
    hidden = (".", "_")
    return [
        path
        for path in listed
        if not path.name.startswith(hidden) and UNREADABLE not in path.name and path.is_dir()
    ]


def read(folder: Path) -> Entry:
    """One finding. Unreadable says in one line what is wrong, and where."""
    shown = _shown(folder)
    if folder.is_symlink() or not folder.is_dir():
        raise Unreadable(f"{shown}: it is no folder of a finding")
    if not _NAME.fullmatch(folder.name):
        raise Unreadable(f"{shown}: a finding's name has small letters, digits, - and + only")
    data = {name: _bytes(folder / name) for name in FILES}
    try:
        case = Case.from_data(data[SCENARIO], source=f"{shown}/{SCENARIO}")
    except ScenarioError as error:
        raise Unreadable(str(error)) from None
    meta = _meta(data[META], f"{shown}/{META}")
    if case.expect == "ok":
        raise Unreadable(f"{shown}/{SCENARIO}: a finding expects a verdict, not ok")
    if not meta.signature.startswith(f"{case.expect} "):
        raise Unreadable(f"{shown}/{META}: the signature is not of the verdict {case.expect}")
    if frozenset(meta.planted) != case.broken:
        raise Unreadable(f"{shown}/{META}: planted is not what {SCENARIO} says is broken")
    return Entry(
        folder=folder,
        case=case,
        meta=meta,
        explanation=_text(data[EXPLANATION], f"{shown}/{EXPLANATION}"),
        picture=_text(data[PICTURE], f"{shown}/{PICTURE}"),
    )


def _shown(path: Path) -> str:
    """A path in one line; a link as itself, not as what it leads to."""
    text = str(Path(store.shown(path.parent)) / path.name)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _text(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unreadable(f"{shown}: line {line}: it is not UTF-8") from None


def _bytes(path: Path) -> bytes:
    """A file's content, whose size is bounded; nothing else than a file is opened."""
    shown = _shown(path)
    most = {META: META_MAX, EXPLANATION: EXPLANATION_MAX, PICTURE: PICTURE_MAX}.get(path.name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not _is_file(descriptor):
                raise Unreadable(f"{shown}: it is not a file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read((most or words.TEXT_MAX) + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Unreadable(f"{shown}: it is missing") from None
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise Unreadable(f"{shown}: {reason}") from None
    if most is not None and len(data) > most:
        raise Unreadable(f"{shown}: it is larger than {most:,} bytes")
    return data


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _meta(data: bytes, shown: str) -> Meta:
    text = _text(data, shown)
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"{shown}: {place}: it is not JSON: {error.msg}") from None
    except RecursionError:
        raise Unreadable(f"{shown}: it is nested too deeply") from None
    except ValueError as error:  # a key twice, or a number with thousands of digits
        raise Unreadable(f"{shown}: {str(error).partition(';')[0]}") from None
    if not isinstance(values, dict):
        raise Unreadable(f"{shown}: expected an object")
    version = values.pop("format", None)
    if version != FORMAT or type(version) is not int:
        newer = isinstance(version, int) and version > FORMAT
        what = "it was written by a newer cleanrace" if newer else "this format is not known"
        raise Unreadable(f"{shown}: format {json.dumps(version)[:20]}: {what}, expected {FORMAT}")
    _check(values, shown)
    return Meta(**(values | {"planted": tuple(values["planted"])}))


_LINE = r"[^\x00-\x1f\x7f-\x9f]{1,2000}"
_PATTERNS = {
    "signature": _LINE,
    "status": "|".join(STATUSES),
    "target": r"[A-Za-z0-9._+-]{1,100}",
    "sha256": r"[0-9a-f]{64}",
    "compiler": _LINE,
    "found_by": _LINE,
    "date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two, which is meant cannot be known."""
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{json.dumps(twice)[:40]} is there twice")
    return values


def _check(values: Mapping[str, Any], shown: str) -> None:
    known = {one.name for one in fields(Meta)}
    for name in sorted(known ^ values.keys()):
        word = "is missing" if name in known else "is not known"
        raise Unreadable(f"{shown}: {json.dumps(name)[:40]} {word}")
    for name, pattern in _PATTERNS.items():
        value = values[name]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Unreadable(f"{shown}: {name}: {json.dumps(value)[:40]} cannot be")
    planted = values["planted"]
    if not isinstance(planted, list) or any(name not in words.PLANTED for name in planted):
        raise Unreadable(f"{shown}: planted: expected names of planted bugs")
    for name, least in (("schedules", 1), ("preemptions", 0)):
        value = values[name]
        if name == "schedules" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise Unreadable(f"{shown}: {name}: expected a number from {least}")
    if not isinstance(values["fewest"], bool):
        raise Unreadable(f"{shown}: fewest: expected true or false")


def known(root: Path = FOLDER) -> dict[tuple[str, tuple[str, ...]], Entry]:
    """The findings by what makes two the same."""
    return {entry.key: entry for entry in entries(root)[0]}


@dataclass(frozen=True)
class Kept:
    """What keep() did: the finding as it is on the shelf now, and whether it was new there."""

    entry: Entry
    new: bool
    aside: tuple[str, ...] = ()  # one line for each folder that had to be set aside


def keep(
    case: Case,
    meta: Meta,
    *,
    explanation: str,
    picture: str,
    name: str,
    root: Path = FOLDER,
) -> Kept:
    """Put a finding on the shelf, unless it is there and as simple.

    A known one keeps its name, its status and the first date; `name` is for a new one, which gets
    a number behind it if the name is taken. OSError if it cannot be written, and nothing changed.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root):
        aside = _tidied(root)
        old = known(root).get((meta.signature, tuple(sorted(meta.planted))))
        made = Entry(
            folder=_free(root, name) if old is None else old.folder,
            case=case,
            meta=meta,
            explanation=explanation,
            picture=picture,
        )
        if old is not None:
            if not _better(case, old.case):
                return Kept(old, new=False, aside=aside)
            was = old.meta
            meta = replace(meta, status=was.status, date=was.date, found_by=was.found_by)
            words_ = _with_own_words(explanation, old.explanation)
            made = replace(made, meta=meta, explanation=words_)
        _write(made)
        return Kept(made, new=old is None, aside=aside)


def _better(new: Case, old: Case) -> bool:
    """Whether it is simpler than what is there, or as simple and of another build."""
    if _simplicity(new) != _simplicity(old):
        return _simplicity(new) < _simplicity(old)
    return new.found.get("build") != old.found.get("build")


def update(entry: Entry) -> None:
    """Give the finding on the shelf the status of `entry`; all else stays as it is there now.

    Unreadable if somebody broke or removed it meanwhile.
    """
    with _lock(entry.folder.parent):
        now = read(entry.folder)
        if now.key == entry.key and now.meta.status != entry.meta.status:
            _write(replace(now, meta=replace(now.meta, status=entry.meta.status)))


def _simplicity(case: Case) -> tuple[Any, ...]:
    return *smaller.rank(case.scenario), len(case.switches)


# What people write below this line of explanation.md stays when the steps above are written anew.
OWN_WORDS = "## Why the kernel allows it"


def _with_own_words(new: str, old: str) -> str:
    if OWN_WORDS not in old or OWN_WORDS in new:
        return new
    return f"{new.rstrip()}\n\n{old[old.index(OWN_WORDS) :]}"


def _free(root: Path, name: str) -> Path:
    clean = name if _NAME.fullmatch(name) else "finding"
    for number in range(1, NAMES_MAX + 1):
        folder = root / (clean if number == 1 else f"{clean}-{number}")
        if not os.path.lexists(folder):
            return folder
    raise OSError(errno.EEXIST, f"there are {NAMES_MAX} findings of that name", str(root / name))


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with the process, however that ends."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _tidied(root: Path) -> tuple[str, ...]:
    """Remove what writers that died left behind, and set aside what cannot be read."""
    for left in root.glob(f"{_HIDDEN}*"):
        shutil.rmtree(left, ignore_errors=True)
    aside = []
    for folder in _folders(root):
        try:
            read(folder)
        except Unreadable as error:
            place = _aside(folder)
            aside.append(f"{error}; set aside as {place.name}")
    return tuple(aside)


def _aside(folder: Path) -> Path:
    for number in range(1, NAMES_MAX + 1):
        place = folder.with_name(f"{folder.name}{UNREADABLE}{'' if number == 1 else number}")
        if not os.path.lexists(place):
            folder.rename(place)
            return place
    return folder


def _write(entry: Entry) -> None:
    """Make the folder beside its place, whole and on disk, and put it there in one step."""
    root = entry.folder.parent
    new = Path(tempfile.mkdtemp(dir=root, prefix=_HIDDEN))
    try:
        meta = {"format": FORMAT} | asdict(entry.meta)
        store.write(new / SCENARIO, entry.case.to_text())
        store.write(new / META, json.dumps(meta, indent=2) + "\n")
        store.write(new / EXPLANATION, entry.explanation)
        store.write(new / PICTURE, entry.picture)
        new.chmod(0o755)
        if entry.folder.exists():
            _exchange(new, entry.folder)
        else:
            new.rename(entry.folder)
    finally:
        with suppress(OSError):
            shutil.rmtree(new)
    _synced(root)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    ends = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if libc.renameat2(*ends, _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
