# SPDX-License-Identifier: GPL-2.0-only
"""Inputs and findings exchanged between hosts, as files in a folder that they share or copy.

    FOLDER/HOST/inputs/SHA1              an input, called what its bytes are
    FOLDER/HOST/findings/SHA1.litmus     a finding of HOST's shelf, likewise

HOST is a random name that a corpus folder has for ever. Each host adds files to its own folder,
under another name first, and never changes or removes one; of the others it only reads. So there
is nothing to lock, any tool may copy the folders, and doing it again changes nothing.

Our folder is made once, when the service starts. If it is away later the disk that has it may be,
too, and below its mount point nothing is made; nor through a link that somebody put there.

Nothing that is read is believed. A file counts when its bytes are what its name says, which half
a file's are not; it is a plain file of bounded size, and of each host only so many are looked at
in one turn. An input is run here, by a process that may die of it, and kept if it adds something
here. Of a finding only the scenario and the schedule are taken, if they are of bounded size: it is
run here, and if it shows its verdict it goes the way of one that was met here.
"""

import errno
import heapq
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cleanrace import Case, ScenarioError
from fuzz import keeping, serve_folder, shelf, store
from fuzz.serve_folder import Inputs, Layout

if TYPE_CHECKING:
    from fuzz.serve_workers import ServiceWorker

INPUTS, FINDINGS = "inputs", "findings"
METHOD = "exchange"  # what names of inputs from other hosts begin with
OWN = ("seed", METHOD)  # inputs that every host has, or that another one gave
LOOK_SECONDS = 5.0  # between two looks
FINDING_MAX = 1 << 16  # bytes
HOSTS_MAX = 1000
INPUTS_MAX = 200_000  # of one host, in one turn
FINDINGS_MAX = 50  # likewise; each may take seconds
SWITCHES_MAX = 64  # of a finding; its scenario and tape are at most what an input is
TOO_LONG = "another host's finding is too long to be run here: it was not taken"
SEARCH_SECONDS = 2.0  # with each policy, for a finding that another build met
HOST_NAME = re.compile(r"[0-9a-f]{16}")
FILE_NAME = re.compile(r"([0-9a-f]{40})(\.litmus)?")
BEGUN = "exchange-folder"  # the note of where our folder was made; each start empties it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WHY = {
    errno.ENOENT: "it is gone, perhaps with its disk: nothing is exchanged",
    errno.ENOTDIR: "it should be a folder, and no link: nothing is exchanged",
}


def host_of(layout: Layout) -> str:
    """The name of this corpus folder among hosts, made when it is asked for first. OSError."""
    path = layout.root / "host"
    data = serve_folder.read_input(path, most=64) or b""
    name = data.decode("ascii", "replace").strip()
    if not HOST_NAME.fullmatch(name):
        name = secrets.token_hex(8)
        serve_folder.put(layout.root, path.name, f"{name}\n".encode())
    return name


@dataclass
class Exchange:
    """The shared folder as one host sees it."""

    root: Path
    host: str
    # Digests of the others' files that were looked at, by kind.
    read: dict[str, set[str]] = field(default_factory=lambda: {INPUTS: set(), FINDINGS: set()})
    given: set[str] = field(default_factory=set)  # digests that some host has given
    after: dict[Path, str] = field(default_factory=dict)  # folder -> the last name of a turn
    hidden: OSError | None = None  # why a host's files could not be looked at

    @property
    def own(self) -> Path:
        """What this host writes to."""
        return self.root / self.host

    @contextmanager
    def opened(self, kind: str, *, make: bool = False) -> Iterator[int]:
        """Our folder of this kind, through no link. OSError if it is away; its strerror says it."""
        descriptor = os.open(self.root, _FOLDER)
        try:
            for path in (self.own, self.own / kind):
                try:
                    if make:
                        with suppress(FileExistsError):
                            os.mkdir(path.name, dir_fd=descriptor)
                    inner = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                except OSError as error:
                    number = error.errno or 0
                    why = _WHY.get(number, os.strerror(number))
                    raise OSError(number, why, str(path)) from None
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """OSError unless our folder is there."""
        for kind in (INPUTS, FINDINGS):
            with self.opened(kind):
                pass

    def begin(self, *, make: bool = True) -> None:
        """Remove what a kill left half written, and see what this host has given. OSError.

        make: make our folder, if it is not there.
        """
        for kind in (INPUTS, FINDINGS):
            with self.opened(kind, make=make) as folder:
                with os.scandir(folder) as listed:
                    names = [entry.name for entry in listed]
                for name in names:
                    if name.startswith(".") and name.endswith(".tmp"):
                        with suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)
            self.given |= {name.partition(".")[0] for name in self.whole(self.own / kind)}

    def whole(self, folder: Path) -> Iterator[str]:
        """Names of our files that are as they should be; a machine that died leaves others."""
        for path, _ in _files(folder, INPUTS_MAX):
            data = serve_folder.read_input(path, most=FINDING_MAX)
            if data is not None and serve_folder.digest(data) == path.stem:
                yield path.name

    def give(self, kind: str, data: bytes, suffix: str = "") -> bool:
        """Give the others these bytes, unless one of us did. OSError if that cannot be."""
        name = serve_folder.digest(data)
        if name in self.given:
            return False
        fresh = f".{name}.{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self.opened(kind) as folder:
            try:
                with os.fdopen(os.open(fresh, flags, 0o644, dir_fd=folder), "wb") as file:
                    file.write(data)
                os.rename(fresh, f"{name}{suffix}", src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                with suppress(OSError):
                    os.unlink(fresh, dir_fd=folder)
                number = error.errno or 0
                raise OSError(number, os.strerror(number), str(self.own / kind)) from None
        self.given.add(name)
        return True

    def take(self, kind: str) -> Iterator[bytes]:
        """What others gave and was not looked at yet, as far as it is what it says it is.

        Of each host so many at once; the next time those that come after them in the folder.
        """
        most, count = (
            (serve_folder.INPUT_MAX, INPUTS_MAX) if kind == INPUTS else (FINDING_MAX, FINDINGS_MAX)
        )
        for host in self.hosts():
            folder = host / kind
            try:
                after = self.after.get(folder, "")
                files = _files(folder, count, after=after, done=self.read[kind])
            except OSError as error:  # who hides files from us keeps nobody else from giving
                self.hidden = error
                continue
            for path, name in files:
                data = serve_folder.read_input(path, most=most)
                # Otherwise it may be half of a file, and whole when we look again.
                if data is not None and serve_folder.digest(data) == name:
                    if name not in self.given:
                        yield data
                    self.read[kind].add(name)
                    self.given.add(name)
            # From the beginning again after the last one: what was half a file may be whole.
            self.after[folder] = files[-1][0].name if len(files) == count else ""

    def hosts(self) -> list[Path]:
        """The folders of all hosts. OSError if the shared folder cannot be read.

        Ours as well: a copy of our corpus folder, on another host, has the same name.
        """
        with os.scandir(self.root) as listed:
            names = (
                entry.name
                for entry in listed
                if HOST_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
            return [self.root / name for name in heapq.nsmallest(HOSTS_MAX, names)]


def _files(
    folder: Path, most: int, *, after: str = "", done: Collection[str] = ()
) -> list[tuple[Path, str]]:
    """Files of a host and the digests in their names, in one order everywhere.

    after: the name that they come after. done: digests that are left out.
    """
    try:
        with os.scandir(folder) as listed:
            # However many there are, no more than these are kept in memory.
            names = heapq.nsmallest(
                most,
                (
                    entry.name
                    for entry in listed
                    if entry.name > after
                    and FILE_NAME.fullmatch(entry.name)
                    and entry.name.partition(".")[0] not in done
                ),
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [(folder / name, name.partition(".")[0]) for name in names]


@dataclass
class Counts:
    """What went where: files given and taken, and hosts seen."""

    hosts: int = 0
    given: int = 0
    taken: int = 0
    findings_given: int = 0
    findings_taken: int = 0


@dataclass
class Trader:
    """One process of the service that gives and takes."""

    work: "ServiceWorker"
    exchange: Exchange
    counts: Counts = field(default_factory=Counts)
    shared: set[str] = field(default_factory=set)  # names of our files that were looked at

    @property
    def inputs(self) -> Inputs:
        """Our corpus, as this process has run it."""
        return self.work.inputs_shared

    def turn(self) -> None:
        """Once around: ours to the others, theirs to us. OSError."""
        self.inputs.refresh()
        self.inputs.flush()
        self.exchange.check()
        self.counts.hosts = len(set(self.exchange.hosts()) - {self.exchange.own})
        # Taking first: what another host has given need not be given again.
        for data in self.exchange.take(INPUTS):
            self.take_input(data)
        for data in self.exchange.take(FINDINGS):
            self.take_finding(data)
        self.give_inputs()
        self.give_findings()
        hidden, self.exchange.hidden = self.exchange.hidden, None
        if hidden is not None:
            raise hidden

    def give_inputs(self) -> None:
        """Our inputs, but for those that others have."""
        for name in sorted(self.inputs.names - self.shared):
            if name.partition("-")[0] not in OWN:
                data = serve_folder.read_input(self.work.layout.inputs / name)
                digest = name.rpartition("-")[2]
                if data is None or serve_folder.digest(data) != digest:
                    continue  # of libFuzzer, which may still be writing it
                self.counts.given += self.exchange.give(INPUTS, data)
            self.shared.add(name)

    def give_findings(self) -> None:
        """What is on our shelf about what we serve."""
        for entry in shelf.entries(Path(self.work.job["findings"]))[0]:
            if self.fits(entry.case):
                data = entry.case.to_text().encode()
                if len(data) <= FINDING_MAX:
                    self.counts.findings_given += self.exchange.give(FINDINGS, data, store.SUFFIX)

    def take_input(self, data: bytes) -> None:
        """Keep another host's input if it adds something here."""
        if not self.wicked(data):
            self.counts.taken += self.inputs.offer(data)

    def wicked(self, data: bytes) -> bool:
        """Whether a process died at it before."""
        return (self.work.layout.quarantine / serve_folder.digest(data)).exists()

    def take_finding(self, data: bytes) -> None:
        """Run another host's finding; if it shows, it was met."""
        try:
            case = Case.from_data(data, source="another host's finding")
        except ScenarioError:
            return
        if case.scenario.micro or case.expect in ("ok", *store.LIMITS) or not self.fits(case):
            return
        ran = case.scenario.to_bytes() + case.tape
        if len(case.switches) > SWITCHES_MAX or len(ran) > serve_folder.INPUT_MAX:
            self.work.say(trouble=TOO_LONG, full=False)
            return
        if self.wicked(ran):
            return
        self.work.note(ran)
        finding = keeping.raw(self.work.target, case, seconds=SEARCH_SECONDS, method=METHOD)
        self.work.note(b"")
        if finding is not None:
            self.counts.findings_taken += finding.signature not in self.work.known
            self.work.found(finding)

    def fits(self, case: Case) -> bool:
        """Whether a finding is about what we serve; one of fewer planted bugs is, too."""
        about = case.target in ("any", store.kind(self.work.target))
        return about and case.broken <= frozenset(self.work.planted)


def begun(layout: Layout, root: Path) -> Exchange:
    """The exchange folder of this service; our part is made once after each of its starts. OSError.

    The note of that outlives this process, as the one that comes after it must not make it.
    """
    exchange, name = Exchange(root, host_of(layout)), os.fsencode(root)
    note = layout.running / BEGUN
    exchange.begin(make=serve_folder.ran(note) != name)
    serve_folder.Running(note).write(name)
    return exchange


def trade(work: "ServiceWorker", *, pause: Callable[[float], None] = time.sleep) -> None:
    """Give and take until told to stop; a folder that is away is told, and looked for again."""
    trader: Trader | None = None
    work.inputs_shared.method = METHOD
    said: Counts | None = None
    while not work.stopping:
        root = Path(work.job["exchange"])
        try:
            if trader is None:
                trader = Trader(work, begun(work.layout, root))
            trader.turn()
        except OSError as error:
            work.trouble(Path(error.filename or root), error)
        if trader is not None and trader.counts != said:
            said = replace(trader.counts)
            work.say(exchanged=vars(said))
        end = time.monotonic() + LOOK_SECONDS
        while not work.stopping and time.monotonic() < end:
            work.say(alive=True)
            pause(0.5)
