# SPDX-License-Identifier: GPL-2.0-only
"""Names for what a trace has as numbers: function:line for a pc, variables for an object.

A pc is an offset into the section cr_ktext, an object one into cr_kdata. Lines come from
addr2line (binutils), variables and the fields of their types from DWARF. Nothing here needs the
kernel's sources, and nothing of them is shown.
"""

import subprocess
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

TEXT: Final = "cr_ktext"
DATA: Final = "cr_kdata"

_SHIM: Final = "/kshim.h"
_WHOLE: Final = "lock"  # a struct whose fields are of no interest

_TRANSPARENT: Final = frozenset(
    ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_atomic_type")
)
_MEMBERS: Final = frozenset(("DW_TAG_structure_type", "DW_TAG_union_type"))


class Names:
    """The names of one module file."""

    def __init__(self, module: str | Path) -> None:
        """Nothing is read before the first question; OSError or ValueError then if it cannot."""
        self.module = Path(module)
        self._lines: dict[int, str] = {}
        self._objects: dict[int, str] = {}

    def function_line(self, pc: int) -> str:
        """Return "function:line" of a pc, "?:0" for an unknown one.

        Of inlined functions it is the innermost one that is not of kshim.h: who takes a spinlock
        says more than that spin_lock does.
        """
        if pc not in self._lines:
            self.load((pc,))
        return self._lines[pc]

    def load(self, pcs: Iterable[int]) -> None:
        """Look up many pcs at once, so that function_line() answers from memory."""
        wanted = sorted({pc for pc in pcs if pc not in self._lines})
        known = [pc for pc in wanted if pc]
        self._lines.update(dict.fromkeys(wanted, "?:0"))
        if not known:
            return
        start = self._sections[TEXT][0]
        addresses = "".join(f"{start + pc:#x}\n" for pc in known)
        command = ["addr2line", "-a", "-f", "-i", "-e", str(self.module)]
        try:
            done = subprocess.run(
                command, input=addresses, capture_output=True, text=True, check=True
            )
        except FileNotFoundError:
            raise OSError("addr2line not found: install the Debian package binutils") from None
        # Per address: a line with it, then function and file:line of each frame, innermost first.
        at = -1
        frames: list[tuple[str, str, str]] = []
        lines = iter(done.stdout.splitlines())
        for line in lines:
            if line.startswith("0x"):
                at += 1
                frames = []
                continue
            file, _, number = next(lines).rpartition(":")
            frames.append((line, file, number.split(" ")[0]))
            shown = next((f for f in frames if not f[1].endswith(_SHIM)), frames[0])
            self._lines[known[at]] = f"{shown[0]}:{shown[2] if shown[2].isdigit() else 0}"

    def object(self, offset: int) -> str:
        """The variable at an offset, with indices and fields: "super_table[1].s_umount"."""
        if offset not in self._objects:
            self._objects[offset] = self._object(offset)
        return self._objects[offset]

    def _object(self, offset: int) -> str:
        address = self._sections[DATA][0] + offset
        at = bisect_right(self._addresses, address) - 1
        if at >= 0:
            start, name, die = self._variables[at]
            if address < start + max(1, _size(die)):
                return name + _path(die, address - start)
        return f"{DATA}+{offset:#x}"

    @cached_property
    def _sections(self) -> dict[str, tuple[int, int]]:
        with self.module.open("rb") as file:
            elf: Any = ELFFile(file)
            found = {}
            for name in (TEXT, DATA):
                section = elf.get_section_by_name(name)
                if section is None:
                    raise ValueError(f"{self.module} has no section {name}: it is no target")
                found[name] = (section["sh_addr"], section["sh_size"])
            return found

    @cached_property
    def _addresses(self) -> list[int]:
        return [address for address, _, _ in self._variables]

    @cached_property
    def _variables(self) -> list[tuple[int, str, DIE]]:
        """Address, name and type of every variable in the data section, by address."""
        start, size = self._sections[DATA]
        found: dict[int, tuple[int, str, DIE]] = {}
        # From memory, since DIEs are read when they are asked for.
        dwarf = ELFFile(BytesIO(self.module.read_bytes())).get_dwarf_info()
        for unit in dwarf.iter_CUs():
            for die in unit.iter_DIEs():
                if die.tag != "DW_TAG_variable" or "DW_AT_location" not in die.attributes:
                    continue
                location = die.attributes["DW_AT_location"].value
                if not isinstance(location, list) or not location or location[0] != _ADDR:
                    continue
                address = int.from_bytes(bytes(location[1:9]), "little")
                named = _specified(die)
                if start <= address < start + size and "DW_AT_name" in named.attributes:
                    name = named.attributes["DW_AT_name"].value.decode()
                    found[address] = (address, name, _type(named))
        return [found[address] for address in sorted(found)]


_ADDR: Final = 0x03  # DW_OP_addr


def _specified(die: DIE) -> DIE:
    """The declaration that carries the name and type of a variable."""
    for attribute in ("DW_AT_specification", "DW_AT_abstract_origin"):
        if attribute in die.attributes:
            return die.get_DIE_from_attribute(attribute)
    return die


def _type(die: DIE) -> DIE:
    """The type of a variable, member or array, without typedefs and qualifiers."""
    die = die.get_DIE_from_attribute("DW_AT_type")
    while die.tag in _TRANSPARENT and "DW_AT_type" in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_type")
    return die


def _counts(array: DIE) -> list[int]:
    counts = []
    for child in array.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            if "DW_AT_count" in child.attributes:
                counts.append(int(child.attributes["DW_AT_count"].value))
            elif "DW_AT_upper_bound" in child.attributes:
                counts.append(int(child.attributes["DW_AT_upper_bound"].value) + 1)
            else:
                counts.append(0)
    return counts


def _size(die: DIE) -> int:
    if "DW_AT_byte_size" in die.attributes:
        return int(die.attributes["DW_AT_byte_size"].value)
    if die.tag == "DW_TAG_array_type":
        size = _size(_type(die))
        for count in _counts(die):
            size *= count
        return size
    return 8 if die.tag == "DW_TAG_pointer_type" else 0


def _path(die: DIE, offset: int) -> str:
    """Indices and fields from the start of a type down to the byte at `offset`."""
    if die.tag == "DW_TAG_array_type":
        element = _type(die)
        size = max(1, _size(element))
        number, rest = divmod(offset, size)
        indices = []
        for count in reversed(_counts(die)):
            indices.append(number % max(1, count))
            number //= max(1, count)
        return "".join(f"[{index}]" for index in reversed(indices)) + _path(element, rest)
    name = die.attributes.get("DW_AT_name")
    if die.tag in _MEMBERS and (name is None or name.value.decode() != _WHOLE):
        best: tuple[int, DIE] | None = None
        for child in die.iter_children():
            if child.tag != "DW_TAG_member":
                continue
            start = child.attributes.get("DW_AT_data_member_location")
            at = int(start.value) if start is not None else 0
            if at <= offset and (best is None or at > best[0]):
                best = (at, child)
        if best is not None:
            field = best[1].attributes.get("DW_AT_name")
            path = _path(_type(best[1]), offset - best[0])
            return f".{field.value.decode()}{path}" if field is not None else path
    return ""
