#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Find kernel sources and compile targets.

A target is one kernel unit, mm/cleancache.c of some kernel or our own reference, linked with the
engine into two files: a cffi module for Python and the plain program `replay`. Invariants: kernel
sources never enter the repository, only the user's cache folder; a build's id hashes everything
that went into it, so a stale build is noticed by its id; complete folders appear by one rename;
what the user lacks or did wrong is a BuildError of one line. Imports the standard library and cffi
only. Every flag given to a compiler stands in FLAGS, every kernel version known by its sha256 in
KNOWN.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

try:
    import cffi
except ImportError:
    cffi = None

ROOT = Path(__file__).resolve().parent
DEFAULT, REFERENCE = "linux-5.10", "reference"
UNIT, HEADER = "mm/cleancache.c", "include/linux/cleancache.h"
BINDING = "_cleanrace.c"  # the module's C side, made by cffi
INCLUDES = ("kernel/include", "kernel", "engine", "check", "")  # below csrc, in this order
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# A kernel version known by its sha256 is one row: Debian suite, package, files.
KNOWN: dict[str, tuple[str, str, dict[str, str]]] = {
    DEFAULT: ("bullseye", "linux-source-5.10", {
        UNIT: "55993e1a17fe82611e0764febb77935f0e5a34c91875a06c0491ee3cacd2ebd4",
        HEADER: "75bcff622d59c56100972b195e74d1bd42ca50a6aa902355629bd3c56f69c0e8",
        "fs/super.c": "cf77e80fc981a3b9f6aa1a4709317cb58439194418616727ffc9d6c1f9233aa0",
    }),
}

# Who takes a flag (several apply to one file): `all` C files; `instrumented`, the unit and
# csrc/kernel, with a decision point at each access, compiled in one way only, because tapes hang on
# the points the compiler made; `engine`, the rest of csrc, never instrumented; `ours`, where a
# warning is an error; `foreign`, a kernel's file, which we may not change; `binding`, cffi's file;
# `asan`, `coverage`, `tsan`, a flavour's engine side (`tsan link`: linker); `bytes`, such kernels'.
# For which compiler: "" both, else "gcc" or "clang" alone.
FLAGS: tuple[tuple[str, str, str, str], ...] = (
    ("all", "", "-std=gnu11", "the kernel's dialect since 5.18; what was written before is in it"),
    ("all", "", "-g", "functions, lines and objects in a trace are named from DWARF"),
    ("all", "clang", "-gdwarf-4", "addresses of variables stand in their own entries"),
    ("all", "", "-fPIC", "the same objects make the module and the program"),
    ("all", "", "-pthread", "the thread engine"),
    ("all", "", "-fno-lto", "sections of single objects are renamed before linking"),
    ("all", "", "-fvisibility=hidden", "several targets and libFuzzer's hooks in one process"),
    ("all", "", "-fno-common", "a tentative definition would evade the data section"),
    ("all", "gcc", "-fno-ipa-reference", "statics change behind a call that hands over"),
    ("all", "", "-DCONFIG_CLEANCACHE=1", "the header's inlines call the real hooks"),
    ("all", "", "-DCONFIG_DEBUG_FS=1", "counters are found by their debugfs names"),
    ("all", "", "-DCONFIG_DEBUG_VM=1", "the kernel's own assertions are judged"),
    ("bytes", "", "-DCR_UUID_IS_BYTES=1", "up to 4.12 init_shared_fs takes a char pointer"),
    ("instrumented", "", "-O1", "the level decides where points are; or CLEANRACE_LEVEL=2"),
    ("instrumented", "", "-fsanitize=thread", "a hook before every access; the hooks are ours"),
    ("instrumented", "gcc", "--param=tsan-distinguish-volatile=1", "tells READ_ONCE, WRITE_ONCE"),
    ("instrumented", "clang", "-mllvm -tsan-distinguish-volatile=1", "the same"),
    ("instrumented", "clang", "-mllvm -tsan-instrument-read-before-write=1", "as gcc does"),
    ("instrumented", "gcc", "--param=tsan-instrument-func-entry-exit=0", "no shadow stack here"),
    ("instrumented", "clang", "-mllvm -tsan-instrument-func-entry-exit=0", "the same"),
    ("instrumented", "", "-fsanitize-coverage=trace-pc", "the edges that a fuzzer counts"),
    ("instrumented", "", "-fno-optimize-sibling-calls", "return addresses name the place"),
    ("instrumented", "", "-fno-strict-aliasing", "as kernels are compiled"),
    ("instrumented", "", "-fno-builtin", "no access hides in a library call made up"),
    ("instrumented", "", "-fno-zero-initialized-in-bss", "all data together: a reset is one copy"),
    ("instrumented", "gcc", "-fno-toplevel-reorder", "objects keep their order and offsets"),
    ("instrumented", "gcc", "-fno-section-anchors", "each access names its own object"),
    ("instrumented", "gcc", "-Wno-tsan", "fences are shims here, whatever TSan makes of them"),
    ("engine", "", "-O3", "the hot path of every run"),
    ("ours", "", "-Wall -Wextra -Werror", "what we wrote is clean"),
    ("foreign", "", "-Wall", "helps whoever reads why it did not compile"),
    ("foreign", "", "-Werror=implicit-function-declaration", "names a missing shim at its line"),
    ("binding", "", f"-I{sysconfig.get_path('include')}", "Python.h"),
    ("asan", "", "-fsanitize=address,undefined -fno-sanitize-recover=all", "errors end programs"),
    ("coverage", "", "--coverage -O0 -fprofile-update=atomic", "each line counts, in threads too"),
    ("tsan", "", "-DCR_TSAN=1", "our hooks pass on what they see to the real ThreadSanitizer"),
    ("tsan link", "", "-fsanitize=thread", "its library; the engine itself is not instrumented"),
    ("tsan link", "clang", "-shared-libsan", "else its library's hooks are linked and not ours"),
)
# Not taken from the user's CFLAGS and LDFLAGS: these would move decision points.
FLAGS_REFUSED = ("-fsanitize*", "-fno-sanitize*", "-fprofile*", "-fcoverage*", "--coverage")
SECTIONS_DATA = (".data", ".data.rel", ".data.rel.local", ".bss")
SECTIONS_TEXT = (".text", ".text.unlikely", ".text.startup", ".text.exit", ".text.hot")
# Besides cr_kdata: written only while the program is loaded, so no state of a run.
SECTIONS_WRITABLE = ("cr_kdata", ".data.rel.ro*", ".init_array*", ".fini_array*")
# The Debian packages of tools that may be missing.
BINUTILS = ("objcopy", "readelf", "objdump")
TOOLS = {"gcc": "gcc", "dpkg-deb": "dpkg", **dict.fromkeys(BINUTILS, "binutils")}
FULL = r"No space left on device|Disk quota exceeded|don't have enough free space"  # tools say
ROOM_FETCH, ROOM_BUILD = 256, 16  # MB: apt's lists and the package for a moment; a build
# Keep apt inside a folder of ours, whatever the machine's configuration says.
APT = ("Dir::State::Lists=lists", "Dir::Cache=cache", "Dir::Etc::SourceList=sources.list",
       "Dir::Etc::SourceParts=/dev/null", "Dir::Etc::PreferencesParts=/dev/null",
       "Acquire::Languages=none", "Acquire::http::Timeout=20", "APT::Update::Error-Mode=any")

Progress = Callable[[str, int, int], None]  # (stage, done, total)


class BuildError(Exception):
    """What was looked for, where, and what to do about it: one line for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class NoSource(BuildError):
    """No kernel source can be had here: the only case in which the reference stands in."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The unit of a target: its files in `folder`, and where they came from."""

    name: str
    version: str
    kind: str  # debian, tree or reference
    folder: Path
    unit: str = UNIT
    notice: str | None = None

    @property
    def warning(self) -> str | None:
        """What to know about a tree that has the files although its version says otherwise."""
        version = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if self.kind == "tree" and version and not (4, 1) <= version <= (5, 16):
            return (f"warning: the Makefile says Linux {self.version}, which is outside 4.1 to "
                    f"5.16; the {UNIT} that is there was built")
        return None

    def declares(self, pattern: str) -> bool:
        """Whether the header, comments apart, matches."""
        text = (self.folder / HEADER).read_text(encoding="utf-8", errors="replace")
        return re.search(pattern, re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)) is not None

    @property
    def has(self) -> dict[str, bool]:
        """What varies between 4.1 (`char *` up to 4.12, no const up to 4.5) and 5.16."""
        return {"uuid_bytes": self.declares(r"init_shared_fs\s*\)\s*\(\s*char\b"),
                "const_ops": self.declares(r"\bcleancache_register_ops\s*\(\s*const\b")}


# Our own implementation of the same interface, which is never called Linux.
OURS = Source(name=REFERENCE, version="unknown", kind=REFERENCE, unit="cleancache.c",
              folder=ROOT / "csrc/reference")


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool with its messages in English; a missing one is a BuildError."""
    need(str(command[0]))
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False,
                          cwd=cwd, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})


def need(*tools: str) -> None:
    """Name all the missing tools at once, and the packages that have them."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    packages = dict.fromkeys(TOOLS.get(tool, "") for tool in missing)
    if missing:
        named = "; ".join(", ".join(tool for tool in missing if TOOLS.get(tool, "") == package)
                          for package in packages)
        advice = ["set CC to a C compiler"] if "" in packages else []
        advice += [f"apt-get install {' '.join(filter(None, packages))}"] if any(packages) else []
        raise BuildError(f"{named} {'was' if len(missing) == 1 else 'were'} not found in PATH "
                         f"({os.environ.get('PATH', '')}): {', '.join(advice)}")


def first_error(text: str) -> str:
    """The line of a tool's output that says what is wrong; a full disk is a BuildError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if full := next((line for line in lines if re.search(FULL, line)), ""):
        raise disk_full(full)
    worst = (r"undefined reference|multiple definition", r"\berror: ", r"^E: ", r"")
    return next((line for word in worst for line in lines if re.search(word, line)), "no message")


def disk_full(why: object) -> BuildError:
    return BuildError(f"the disk of the cache folder {cache_folder()} is full ({why}): make room "
                      "there, or set XDG_CACHE_HOME to a folder on another disk")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """An object with these keys, from a file of the cache; a damaged one is a BuildError."""
    try:
        content = json.loads(path.read_bytes())
        return {**content, **{key: content[key] for key in keys}}
    except (ValueError, TypeError, KeyError) as error:
        advice = ("delete its folder, and fetch or name the tree again"
                  if path.name == "origin.json" else "--force makes it anew")
        raise BuildError(f"{path} is damaged ({error!r}): {advice}") from error


def cache_folder() -> Path:
    """The folder `cleanrace` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "cleanrace"


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Give a failing file operation its one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(error) from error
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        raise BuildError(f"{error}; the cache is in {cache}: set XDG_CACHE_HOME to a folder that "
                         "can be written") from error


@contextlib.contextmanager
def making(final: Path, room: int) -> Iterator[Path]:
    """Yield an empty folder whose content is `final`, at once, when the block ends well.

    One process at a time is at it; the kernel drops the lock of one that dies. In a folder that is
    there already, files are replaced one by one. Temporary files fit beside the yielded folder.
    room: how many MB must be free.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / ".lock").open("w") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in final.parent.glob(".new-*"):  # by a process that was killed
            shutil.rmtree(left)
        if (free := shutil.disk_usage(final.parent).free >> 20) < room:
            raise disk_full(f"{free} MB are free, {room} are needed")
        place = tempfile.TemporaryDirectory(dir=final.parent, prefix=".new-")
        new = Path(stack.enter_context(place), "new")
        new.mkdir()
        yield new
        if not final.exists():
            new.rename(final)
            return
        for file in (path for path in new.rglob("*") if path.is_file()):
            (final / file.relative_to(new)).parent.mkdir(parents=True, exist_ok=True)
            file.replace(final / file.relative_to(new))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file at once, unless it says so already."""
    text = json.dumps(content, indent=2) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def apt_download(suite: str, package: str, work: Path, progress: Progress) -> Path:
    """The package's file, from the first of the machine's own mirrors that has the suite."""
    lacking = ("apt-get, which was not found in PATH" if not shutil.which("apt-get") else
               f"{KEYRING}, which is missing: apt-get install debian-archive-keyring")
    if not shutil.which("apt-get") or not KEYRING.is_file():
        raise NoSource(f"{package} comes through Debian's {lacking}; or name a kernel tree with "
                       "--kernel")
    need("dpkg-deb")
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    # As root apt becomes a user who may not write into our folder.
    sandbox = ["-oAPT::Sandbox::User="] if os.geteuid() == 0 else []
    apt = ["apt-get", "-q", *(f"-o{key}={work / value if key.startswith('Dir') else value}"
                              for key, value in (option.split("=") for option in APT)), *sandbox]
    # Without --no-release-info apt names nothing that it has not downloaded before.
    listed = run("apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)")
    mirrors = list(dict.fromkeys(listed.stdout.split()))
    failure = "apt knows no mirror"
    for number, mirror in enumerate(mirrors):
        progress("ask mirrors", number, len(mirrors))
        (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")
        update = run(*apt, "update", cwd=work)
        failure = (first_error(update.stderr + update.stdout) if update.returncode
                   else apt_get([*apt, "-oAPT::Status-Fd=1", "download", package], work, progress))
        if not failure:
            return next(work.glob("*.deb"))
    raise NoSource(f"{package} of Debian {suite} could not be had from apt's {len(mirrors)} "
                   f"mirrors ({failure}): connect to the network, or name a kernel tree with "
                   "--kernel")


def apt_get(command: Sequence[str], work: Path, progress: Progress) -> str:
    """Run a download of apt in `work`; what went wrong, or nothing."""
    said = ""
    with subprocess.Popen(
        command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        errors="replace", stderr=subprocess.STDOUT, env={**os.environ, "LC_ALL": "C"}) as process:
        try:
            for line in process.stdout or ():
                said += line
                if line.startswith("dlstatus:"):  # dlstatus:<item>:<percent>:<text>
                    progress("download", int(float(line.split(":")[2])), 100)
        except BaseException:  # Ctrl-C: nobody may write into a folder that is about to go
            process.kill()
            raise
    progress("download", 100, 100)
    return first_error(said) if process.returncode else ""


def extract(package: Path, names: Sequence[str], into: Path, progress: Progress) -> None:
    """Take files out of the kernel's tar.xz inside a .deb, reading no further than needed."""
    wanted = set(names)
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    try:
        with (subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dpkg,
              tarfile.open(fileobj=dpkg.stdout, mode="r|") as outer):
            source = next(member for member in outer if member.name.endswith(".tar.xz"))
            stream: Any = outer.extractfile(source)
            with tarfile.open(fileobj=stream, mode="r|xz") as inner:
                while wanted:
                    member = inner.next() or next(iter(()))
                    name = member.name.partition("/")[2]
                    if name in wanted:
                        (into / name).parent.mkdir(parents=True, exist_ok=True)
                        content: Any = inner.extractfile(member)
                        (into / name).write_bytes(content.read())
                        wanted.remove(name)
                    progress("extract", stream.tell() if wanted else source.size, source.size)
    except (tarfile.TarError, EOFError, StopIteration) as error:
        raise BuildError(f"{package.name} cannot be unpacked, {', '.join(sorted(wanted))} not "
                         f"found ({error}): use a Python that has its lzma module") from error


def load(name: str, folder: Path) -> Source:
    """A source in the cache; the files of a known version must be what they are known to be."""
    for file, expected in KNOWN[name][2].items() if name in KNOWN else ():
        found = sha256(folder / file) if (folder / file).is_file() else "of nothing"
        if found != expected:
            raise BuildError(
                f"{file} of {name} in {folder} has sha256 {found}, expected {expected}: `build.py "
                "--fetch --force` takes it anew, --kernel PATH compiles your own")
    return Source(name=name, folder=folder, **read_json(folder / "origin.json", "version", "kind"))


def fetch(name: str, progress: Progress, *, force: bool = False) -> Source:
    """The sources of a known version, from the cache or else from its Debian package."""
    suite, package, files = KNOWN[name]
    folder = cache_folder() / "sources" / name
    if force or not folder.exists():
        with making(folder, ROOM_FETCH) as new:
            if force or not folder.exists():
                deb = apt_download(suite, package, new.parent, progress)
                extract(deb, list(files), new, progress)
                version = deb.name.split("_")[1]
                write_json(new / "origin.json", {"version": version, "kind": "debian"})
                load(name, new)
    return load(name, folder)


def from_tree(tree: Path) -> Source:
    """Copy the two files of a tree the user names into the cache, recognised by their content."""
    tree = tree.expanduser().resolve()
    makefile = tree / "Makefile"
    text = makefile.read_text(errors="replace") if makefile.is_file() else ""
    found = re.findall(r"^(?:VERSION|PATCHLEVEL|SUBLEVEL) *= *(\d+)", text, re.MULTILINE)
    version = ".".join(found) or "unknown"
    for file in (UNIT, HEADER):
        if not (tree / file).is_file():
            raise BuildError(
                f"{tree} (Linux version: {version}) has no {file}: cleancache was removed in Linux "
                f"5.17; name a kernel tree of 4.1 to 5.16, or a folder with {UNIT} and {HEADER}"
                if tree.is_dir() else f"{tree} is {'a file' if tree.is_file() else 'no folder'}: "
                "--kernel takes the folder above mm/")
        if "cleancache_register_ops" not in (tree / file).read_text(errors="replace"):
            raise BuildError(f"{tree / file} is not that file of Linux, it has no "
                             "cleancache_register_ops: name a kernel tree of 4.1 to 5.16")
    digest = hashlib.sha256((tree / UNIT).read_bytes() + (tree / HEADER).read_bytes()).hexdigest()
    name = f"{f'linux-{version}' if found else 'tree'}-{digest[:8]}"
    folder = cache_folder() / "sources" / name
    if not folder.exists():
        with making(folder, ROOM_BUILD) as new:
            for file in (UNIT, HEADER):
                (new / file).parent.mkdir(parents=True)
                shutil.copyfile(tree / file, new / file)
            write_json(new / "origin.json", {"version": version, "kind": "tree"})
    source = load(name, folder)
    if not source.declares(r"\bint\s+cleancache_register_ops\s*\("):
        raise BuildError(f"{tree / HEADER} (Linux version: {version}) is older than Linux 4.1, its "
                         "cleancache_register_ops does not return int: name a tree of 4.1 to 5.16")
    return source


def find(target: str | None, kernel: Path | None, progress: Progress) -> Source:
    """The source of the target asked for; see ensure()."""
    if kernel is not None:
        return from_tree(kernel)
    name = target or DEFAULT
    if name in KNOWN:
        try:
            return fetch(name, progress)
        except NoSource as error:
            if target is not None:
                raise
            return replace(OURS, notice=f"NOT LINUX: {error}. Until then our own reference stands "
                           "in, and nothing here says anything about the kernel.")
    folder = cache_folder() / "sources" / name
    if name != REFERENCE and (Path(name).name != name or not folder.is_dir()):
        raise BuildError(f"there is no target {name!r}: `python build.py --list` lists the known "
                         "ones, --kernel PATH takes a kernel tree")
    return OURS if name == REFERENCE else load(name, folder)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one target is built: of what, with the user's CC, CFLAGS and LDFLAGS, and whereto."""

    source: Source
    instrumented: tuple[Path, ...]  # the unit comes first
    engine: tuple[Path, ...]  # two that stay apart; many that run.c, the next, includes; main.c
    compiler: tuple[str, ...]
    version: str  # the compiler's
    cflags: tuple[str, ...]
    ldflags: tuple[str, ...]
    level: str
    folder: Path = Path()

    def foreign(self, file: Path) -> bool:
        return file == self.instrumented[0] and self.source.kind != REFERENCE

    def flags(self, *kinds: str) -> list[str]:
        """The flags of FLAGS for these kinds, after the user's own so that ours win."""
        compiler = "clang" if "clang" in self.version else "gcc"
        return [*self.cflags, *(flag for kind, only, flags, _ in FLAGS
                                if kind in ("all", *kinds) and only in ("", compiler)
                                for flag in flags.replace("-O1", f"-O{self.level}").split())]

    def command(self, file: Path, flavour: str) -> list[str]:
        """The compiler, and its arguments for one C file and what it includes, but not whereto."""
        kinds = ["instrumented"] if file in self.instrumented else ["engine", flavour]
        kinds += ["bytes"] if self.source.has["uuid_bytes"] else []
        written = "foreign" if self.foreign(file) else "ours"
        kinds += ["binding" if file.name == BINDING else written]
        joined = self.engine[2:-2] if (file, flavour) == (self.engine[-2], "") else ()
        return [
            *self.compiler, *self.flags(*kinds), *(f"-include{named(one)}" for one in joined),
            # Warnings about a kernel's header in files of ours are not ours to mend.
            "-I" if self.foreign(file) else "-isystem", str(self.source.folder / "include"),
            *(f"-I{ROOT / 'csrc' / folder}" for folder in INCLUDES),
            # Objects are the same wherever these folders are.
            f"-ffile-prefix-map={ROOT}=.", f"-ffile-prefix-map={self.source.folder}=kernel",
            *([f"-ffile-prefix-map={file.parent}=."] if file.name == BINDING else [])]


def named(file: Path) -> str:
    """A file as users know it: inside this project, or mm/cleancache.c."""
    return str(file.relative_to(ROOT if file.is_relative_to(ROOT) else file.parents[1]))


def compiler_command(*more: str) -> tuple[str, ...]:
    """The user's CC or gcc. Where it is missing, all that is missing with it is named."""
    compiler = tuple(shlex.split(os.environ.get("CC", ""))) or ("gcc",)
    if not shutil.which(compiler[0]):
        need(compiler[0], *BINUTILS, *more)
    return compiler


def make_plan(source: Source) -> Plan:
    """Look at the compiler and at every input, and hash them all into the build's id."""
    compiler = compiler_command()
    asked = run(*compiler, "--version")
    if asked.returncode != 0:
        raise BuildError(f"{compiler[0]} --version failed: {first_error(asked.stderr)}")
    cflags, ldflags = (
        tuple(word for word in shlex.split(os.environ.get(name, ""))
              if not any(fnmatch.fnmatchcase(word, refused) for refused in FLAGS_REFUSED))
        for name in ("CFLAGS", "LDFLAGS"))
    level = os.environ.get("CLEANRACE_LEVEL") or "1"
    if level not in ("1", "2"):
        raise BuildError(f"CLEANRACE_LEVEL={level}: instrumented code has the level 1 or 2")
    unit = source.folder / source.unit
    ends = [ROOT / f"csrc/{name}.c" for name in ("check/backend", "engine/switch", "run", "main")]
    engine = {file for side in ("", "engine/", "check/") for file in ROOT.glob(f"csrc/{side}*.c")}
    files = {path for path in ROOT.glob("csrc/**/*") if path.is_file()}
    inputs = [source.name, source.version, asked.stdout, sys.version, cffi and cffi.__version__,
              compiler, cflags, ldflags, level,
              sorted((named(file), sha256(file))
                     for file in files | {ROOT / "build.py", unit, source.folder / HEADER})]
    build_id = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    return Plan(source=source, instrumented=(unit, *sorted(ROOT.glob("csrc/kernel/*.c"))),
                engine=(*ends[:2], *sorted(engine - {*ends}), *ends[2:]), compiler=compiler,
                version=asked.stdout.partition("\n")[0], cflags=cflags, ldflags=ldflags,
                level=level, folder=cache_folder() / "builds" / build_id)


def check_machine(*more: str) -> None:
    """Look for everything a build needs, and for more tools, before anything is done."""
    compiler = compiler_command(*more)
    need(*BINUTILS, *more)
    if cffi is None:
        raise BuildError(f"{sys.executable} has no module cffi: `pip install -e .` in a virtual "
                         "environment, and use that one's python")
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").is_file():
        raise BuildError(f"Python.h was not found in {include}: apt-get install python3-dev")
    with tempfile.TemporaryDirectory() as work:
        empty = run(*compiler, "-include", "stdio.h", "-shared", "-o", f"{work}/empty", "-xc",
                    os.devnull)
    if empty.returncode != 0:
        raise BuildError(f"{compiler[0]} cannot build an empty library, apt-get install "
                         f"libc6-dev binutils: {first_error(empty.stderr)}")


def failed(plan: Plan, what: str, messages: str, *, foreign: bool = False) -> NoReturn:
    """Say at which line a tool stopped, and what to report."""
    error, log = first_error(messages), cache_folder() / "messages.txt"
    log.write_text(messages)
    unit = sha256(plan.source.folder / plan.source.unit)
    against = (f"of {plan.source.name} (sha256 {unit}) does not compile against the shims"
               if foreign else f"does not build for {plan.source.name} with {plan.version}")
    report = "this line, the sha256 and the kernel's version" if foreign else "this line"
    raise BuildError(f"{what} {against}: {error}; please report {report} to the "
                     f"authors of cleanrace; all messages are in {log}")


def gather_sections(plan: Plan, obj: Path, file: str) -> None:
    """Give an instrumented object's data and text the two names that the linker frames."""
    rename = [*(f"--rename-section={name}=cr_kdata" for name in SECTIONS_DATA),
              *(f"--rename-section={name}=cr_ktext" for name in SECTIONS_TEXT)]
    # .bss gets its zeros in the file, or it could not be joined with data.
    result = run("objcopy", "--set-section-flags=.bss=alloc,load,data,contents", *rename, obj)
    listed = run("readelf", "-SW", obj)
    if result.returncode or listed.returncode:
        failed(plan, file, result.stderr + listed.stderr)
    # [Nr] Name Type Address Off Size ES Flg Lk Inf Al
    row = r"^ *\[ *\d+\] (\S+) +\S+ +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+ +([A-Za-z]+) "
    for name, size, letters in re.findall(row, listed.stdout, re.MULTILINE):
        known = any(fnmatch.fnmatchcase(name, pattern) for pattern in SECTIONS_WRITABLE)
        if {"W", "A"} <= set(letters) and int(size, 16) > 0 and not known:
            failed(plan, file, f"internal error: {int(size, 16)} writable bytes are in section "
                               f"{name}, which a reset does not restore")


def compile_all(plan: Plan, files: Sequence[Path], work: Path, progress: Progress,
                flavour: str = "") -> list[Path]:
    """Compile in parallel; the objects in the order of the files."""
    objects = [work / f"{number:02}-{file.stem}.o" for number, file in enumerate(files)]

    def compile_one(file: Path, obj: Path) -> None:
        result = run(*plan.command(file, flavour), "-c", file, "-o", obj, cwd=ROOT)
        if result.returncode != 0:
            failed(plan, named(file), result.stderr,
                   foreign=plan.foreign(file) or plan.source.kind == "tree")
        if file in plan.instrumented:
            gather_sections(plan, obj, named(file))

    progress("compile", 0, len(files))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(compile_one, files, objects), 1):
            progress("compile", done, len(files))
    return objects


def link(plan: Plan, output: Path, *parts: str | Path) -> None:
    """Link in the order given, so that offsets are the same in each build."""
    result = run(*plan.compiler, *parts, "-o", output, "-pthread", *plan.ldflags)
    if result.returncode != 0:
        failed(plan, output.name, result.stderr)


def declarations() -> str:
    """csrc/api.h as cffi reads it: of the preprocessor's lines only `#define NAME number`."""
    text = (ROOT / "csrc/api.h").read_text(encoding="utf-8")
    return re.sub(r"^#(?!define\s+\w+\s+\d+$).*$", "", text, flags=re.MULTILINE)


def write_binding(file: Path) -> None:
    """Let cffi make the C side of the module."""
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    ffi.set_source("_cleanrace", '#include "api.h"')
    with contextlib.redirect_stdout(None):
        ffi.emit_c_code(str(file))


def build(plan: Plan, new: Path, progress: Progress) -> None:
    """Compile and link a target into a new folder, with the info.json that tells about it."""
    source, unit = plan.source, plan.source.folder / plan.source.unit
    binding = new.parent / BINDING
    write_binding(binding)
    (new / "objects").mkdir()  # kept: a flavour links the instrumented ones again
    files = [*plan.instrumented, *plan.engine[:2], *plan.engine[-2:], binding]
    *objects, main, bound = compile_all(plan, files, new / "objects", progress)
    module = f"_cleanrace{sysconfig.get_config_var('EXT_SUFFIX')}"
    link(plan, new / module, "-shared", *objects, bound)
    link(plan, new / "replay", *objects, main)
    instrumented = objects[:len(plan.instrumented)]
    edges = r"R_\S+\s+__sanitizer_cov_trace_pc\b"  # calls of the coverage hook
    write_json(new / "info.json", {
        "name": source.name, "version": source.version, "kind": source.kind,
        "sha256": sha256(unit), "header_sha256": sha256(source.folder / HEADER),
        "source": str(unit), "build_id": plan.folder.name, "compiler": plan.version,
        "flags": {kind: " ".join(plan.flags(*kind.split())) for kind in
                  ("instrumented foreign", "instrumented ours", "engine ours")},
        "module": str(plan.folder / module), "program": str(plan.folder / "replay"),
        "python": sys.version.split()[0], "notice": None, "warning": source.warning,
        "edges": len(re.findall(edges, run("objdump", "-dr", *instrumented).stdout)),
        "has": source.has,
    })


def ensure(*, target: str | None = None, kernel: Path | None = None, force: bool = False,
           progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Build a target unless that very build exists, and return its info.json.

    target: a name that `--list` shows. None: the default one, for which, and only then, the
        reference stands in where no kernel source can be had; the info's "notice" says why.
    kernel: instead, a kernel tree or a folder with mm/cleancache.c and include/linux/cleancache.h.
    force: build again. progress: called as progress(stage, done, total).
    Raises BuildError, whose text is one line for the user.
    """
    with explained():
        name = target or DEFAULT
        if kernel is None and name in KNOWN and not (cache_folder() / "sources" / name).exists():
            check_machine(*["dpkg-deb"] * bool(shutil.which("apt-get")))  # before a long download
        plan = make_plan(find(target, kernel, progress))
        if force or not (plan.folder / "info.json").is_file():
            check_machine()
            with making(plan.folder, ROOM_BUILD) as new:
                if force or not (plan.folder / "info.json").is_file():
                    build(plan, new, progress)
        info = read_json(plan.folder / "info.json", "build_id", "module", "program")
        info["notice"] = plan.source.notice
        write_json(cache_folder() / "targets" / f"{plan.source.name}.json", info)
        return info


def program(target: str | None = None, *, kernel: Path | None = None, flavour: str = "") -> Path:
    """The program `replay` of a target, plain or in a flavour, which changes the engine side only.

    The instrumented objects are the plain build's own, so a tape is valid in each. "asan" is
    AddressSanitizer and UndefinedBehaviorSanitizer, "tsan" ThreadSanitizer for the thread engine,
    "coverage" gcov, whose notes are beside the objects in the folder of that name.
    """
    if flavour not in ("", "asan", "tsan", "coverage"):
        raise BuildError(f"there is no flavour {flavour!r}, only 'asan', 'tsan' and 'coverage'")
    plain = Path(ensure(target=target, kernel=kernel)["program"])
    final = plain.with_name(f"replay-{flavour}" if flavour else plain.name)
    with explained():
        if not final.exists():
            plan = make_plan(find(target, kernel, lambda *_: None))
            with making(plain.parent, ROOM_BUILD) as new:
                (work := new / flavour).mkdir()
                objects = compile_all(plan, plan.engine, work, lambda *_: None, flavour)
                extra = plan.flags(flavour, f"{flavour} link")
                if "-shared-libsan" in extra:  # its folder is one where no loader looks
                    extra += [f"-Wl,-rpath={run(*plan.compiler, '-print-runtime-dir').stdout[:-1]}"]
                kept = sorted(plain.parent.glob("objects/*.o"))[:len(plan.instrumented)]
                link(plan, new / final.name, *extra, *kept, *objects)
    return final


class Shown:
    """Progress on stderr: a bar on a terminal, plain lines elsewhere."""

    last = ("", -1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        terminal, percent = sys.stderr.isatty(), 100 * done // max(total, 1)
        now = (stage, percent if terminal else percent // 50 * 50)
        if now != self.last and not terminal:
            print(f"{stage}: {now[1]} %", file=sys.stderr, flush=True)
        elif now != self.last:
            width = max(5, min(shutil.get_terminal_size().columns, 80) - 22)
            bar = ("#" * (width * percent // 100)).ljust(width, ".")
            end = "\n" if percent == 100 else ""
            print(f"\r{stage:<12}[{bar}] {percent:>3} %", end=end, file=sys.stderr, flush=True)
        self.last = now


def list_targets() -> str:
    sources = sorted(path.parent.name for path in cache_folder().glob("sources/*/origin.json"))
    lines = []
    for name in dict.fromkeys([*KNOWN, REFERENCE, *sources]):
        record, state = cache_folder() / "targets" / f"{name}.json", "not built"
        if record.is_file() and name in (REFERENCE, *sources):
            info = read_json(record, "build_id", "version", "sha256")
            current = make_plan(find(name, None, lambda *_: None)).folder.name == info["build_id"]
            state = (f"{'built' if current else 'stale'}, version {info['version']}, sha256 "
                     f"{info['sha256'][:12]}")
        lines.append(f"{name:<24} {state}")
    return "\n".join(lines)


def carry_out(chosen: argparse.Namespace) -> None:
    show, name = Shown(), chosen.target or DEFAULT
    if chosen.list:
        print(list_targets())
    elif chosen.fetch:
        source = (fetch(name, show, force=chosen.force) if name in KNOWN and chosen.kernel is None
                  else find(name, chosen.kernel, show))
        print(*sorted(source.folder.rglob("*.[ch]")), sep="\n")
    else:
        info = ensure(target=chosen.target, kernel=chosen.kernel, force=chosen.force, progress=show)
        for said in filter(None, (info["notice"], info.get("warning"))):
            print(said, file=sys.stderr)
        print(f"{info['name']} {info['version']}, sha256 {info['sha256'][:12]}: {info['program']}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build.py", description="Compile targets.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--target", metavar="NAME", help=f"one of --list; default {DEFAULT}")
    which.add_argument("--kernel", metavar="PATH", type=Path,
                       help=f"a kernel tree of 4.1 to 5.16, or a folder with {UNIT} and {HEADER}")
    parser.add_argument("--list", action="store_true", help="list the known targets")
    parser.add_argument("--fetch", action="store_true", help="only put the sources in the cache")
    parser.add_argument("--force", action="store_true", help="do again what is done")
    try:
        with explained():
            carry_out(parser.parse_args(arguments))
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        said = "build.py: interrupted: nothing half-done is left, run it again"
        print("\n" * sys.stderr.isatty() + said, file=sys.stderr)  # after half a bar
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
