# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and edges of a target's kernel side were reached, without compiling it again.

The instrumented objects are compiled in one way only, so gcov has no part in this. The compiler's
trace-pc calls stand at the beginning of its basic blocks; objdump lists them all, DWARF says which
lines a block has, and the engine which blocks were reached. A line is reached if one of its blocks
was, partly if another was not: at a line with a condition that is a branch never taken.
"""

import hashlib
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

import build
from fuzz import store

TEXT = "cr_ktext"
HOOK = "__sanitizer_cov_trace_pc"
SOURCE = "kernel/"  # where the target's own files are in DWARF (build.py)


class Block(NamedTuple):
    """A basic block: where it begins, what the engine calls it, and whose it is."""

    start: int
    offset: int
    function: str


@dataclass(frozen=True, kw_only=True)
class File:
    """A file: line -> blocks, and the text of its lines where it is on this machine."""

    name: str
    lines: dict[int, set[int]]
    text: list[str]


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function: the file that most of its lines are in, its blocks, its lines."""

    name: str
    file: str
    blocks: set[int]
    lines: dict[tuple[str, int], set[int]]


@dataclass(kw_only=True)
class Kernel:
    """The kernel side of a target, and which of its blocks were reached."""

    files: list[File] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)

    def edges(self, blocks: Iterable[int]) -> tuple[int, int]:
        """How many of these blocks were reached, and how many there are."""
        listed = set(blocks)
        return len(listed & self.reached), len(listed)

    def lines(self, listed: Iterable[set[int]]) -> tuple[int, int]:
        """How many of these lines were reached, and how many there are."""
        each = [bool(blocks & self.reached) for blocks in listed]
        return sum(each), len(each)


def blocks(module: Path) -> list[Block]:
    """All basic blocks of the kernel's text, by address."""
    listed = build.run("objdump", "-d", "--no-show-raw-insn", "-j", TEXT, module)
    if listed.returncode != 0:
        raise build.BuildError(f"objdump {module}: {build.first_error(listed.stderr)}")
    start, _ = _section(module)
    found: list[Block] = []
    function, opened, call = "", 0, 0
    for line in listed.stdout.splitlines():
        if named := re.match(r"([0-9a-f]+) <(.+)>:$", line):
            function, opened = re.sub(r"\..*", "", named[2]), int(named[1], 16)
        elif step := re.match(r" +([0-9a-f]+):\t(.*)", line):
            address = int(step[1], 16)
            if call:
                found.append(Block(opened or call, address - start - 1, function))
                opened = call = 0
            if f"<{HOOK}" in step[2]:
                call = address
    return found


def _section(module: Path) -> tuple[int, int]:
    with module.open("rb") as file:
        elf: Any = ELFFile(file)
        section = elf.get_section_by_name(TEXT)
        return section["sh_addr"], section["sh_size"]


def places(module: Path) -> list[tuple[int, str, int]]:
    """(address, file, line) of every statement of the kernel's text."""
    start, size = _section(module)
    found = []
    with module.open("rb") as file:
        elf: Any = ELFFile(file)
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            names = _names(program)
            for entry in program.get_entries():
                state = entry.state
                if state is None or state.end_sequence or not state.is_stmt or not state.line:
                    continue
                if start <= state.address < start + size:
                    found.append((state.address, names[state.file], state.line))
    return found


def _names(program: Any) -> dict[int, str]:
    """The files of a line program by number."""
    header = program.header
    new = header["version"] >= 5  # counts from 0, and names its own folder
    folders = [folder.decode() for folder in header["include_directory"]]
    folders = folders if new else [".", *folders]
    return {
        number: str(Path(folders[entry.dir_index]) / entry.name.decode())
        for number, entry in enumerate(header["file_entry"], 0 if new else 1)
    }


def kernel(info: dict[str, Any], module: Path, reached: Iterable[int]) -> Kernel:
    """What was reached of a target (its info), whose module was loaded."""
    listed = blocks(module)
    starts = [block.start for block in listed]
    files: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    owned: dict[str, dict[tuple[str, int], set[int]]] = defaultdict(lambda: defaultdict(set))
    for address, name, line in places(module):
        at = bisect_right(starts, address) - 1
        if at < 0 or Path(name).is_absolute():
            continue
        block = listed[at]
        files[name][line].add(block.offset)
        owned[block.function][name, line].add(block.offset)
    functions = []
    for name in dict.fromkeys(block.function for block in listed):
        lines = owned[name]
        count = defaultdict(int)
        for file, _ in lines:
            count[file] += 1
        functions.append(
            Function(
                name=name,
                file=max(count, key=lambda file: count[file], default="?"),
                blocks={block.offset for block in listed if block.function == name},
                lines=lines,
            )
        )
    return Kernel(
        files=[
            File(name=name, lines=files[name], text=_text(info, name))
            for name in sorted(files, key=lambda name: (not name.startswith(SOURCE), name))
        ],
        functions=functions,
        reached=set(reached),
    )


def _text(info: dict[str, Any], name: str) -> list[str]:
    """The lines of a file: a model's, or the target's own if it is the one that was compiled."""
    path, expected = store.ROOT / name, None
    if name.startswith(SOURCE):
        folder = Path(info["source"]).parents[0 if info["kind"] == build.REFERENCE else 1]
        path = folder / name.removeprefix(SOURCE)
        expected = info["sha256" if name.endswith(".c") else "header_sha256"]
    if not path.is_file():
        return []
    data = path.read_bytes()
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        return []
    return data.decode(errors="replace").splitlines()
