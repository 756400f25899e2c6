"""Relocatable x86-64 ELF files (kernel modules, objects): sections, symbols, relocations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section as RawSection
from elftools.elf.sections import SymbolTableSection

_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_SHN_RESERVED = 0xFF00

#: Relative to where they stand: the addend is short by the distance to the instruction's end.
_RELATIVE = {2: "R_X86_64_PC32", 4: "R_X86_64_PLT32"}


class ElfError(Exception):
    """The file is not what it should be."""


class Section(NamedTuple):
    """A section; ``data`` is empty where the file holds none (.bss)."""

    name: str
    data: bytes
    alloc: bool
    code: bool


class Symbol(NamedTuple):
    """A symbol; ``section`` is empty for those of other files."""

    name: str
    section: str
    offset: int
    function: bool
    size: int


class Place(NamedTuple):
    """Where a relocation or a branch points to, or where it stands."""

    section: str
    offset: int


class Relocation(NamedTuple):
    """What the loader puts at ``place``: the address of ``symbol`` plus ``addend``."""

    place: Place
    symbol: Symbol
    addend: int
    relative: bool

    @property
    def target(self) -> Place:
        """The place that is meant, when it is in this file, by an instruction's last operand."""
        addend = self.addend + 4 if self.relative else self.addend
        return Place(self.symbol.section, self.symbol.offset + addend)


@dataclass(frozen=True)
class Relocatable:
    """A parsed file; relocations are those of sections that are loaded."""

    path: Path
    sections: dict[str, Section]
    symbols: tuple[Symbol, ...]
    relocations: tuple[Relocation, ...]

    def functions(self) -> dict[Place, str]:
        """Start -> name of every function, the padding before them not."""
        return {
            Place(symbol.section, symbol.offset): symbol.name
            for symbol in self.symbols
            if symbol.function and symbol.section and not symbol.name.startswith("__pfx_")
        }

    def relocations_in(self, section: str) -> list[Relocation]:
        """The relocations that stand in *section*."""
        return [item for item in self.relocations if item.place.section == section]

    def bytes_at(self, place: Place, size: int) -> bytes:
        """*size* bytes of a section, as in the file."""
        return self.sections[place.section].data[place.offset : place.offset + size]


def read(path: Path) -> Relocatable:
    """Parse a file.

    :raises ElfError: it cannot be read, or is no relocatable file for x86-64
    """
    try:
        with open(path, "rb") as file:
            return _parse(path, ELFFile(file))
    except OSError as error:
        raise ElfError(f"{path}: {error.strerror}") from error
    except ELFError as error:
        raise ElfError(f"{path} is no ELF file, or damaged: {error}") from error


def _parse(path: Path, file: ELFFile) -> Relocatable:
    if file["e_type"] != "ET_REL" or file["e_machine"] != "EM_X86_64":
        raise ElfError(f"{path} is no relocatable file for x86-64")
    raw = list(file.iter_sections())
    names = [section.name for section in raw]
    tables = [section for section in raw if isinstance(section, SymbolTableSection)]
    if len(tables) != 1:
        raise ElfError(f"{path} has {len(tables)} symbol tables")
    symbols = tuple(_symbols(tables[0], names))
    sections = {section.name: _section(section) for section in raw}
    relocations = tuple(
        relocation
        for section in raw
        if isinstance(section, RelocationSection) and sections[names[section["sh_info"]]].alloc
        for relocation in _relocations(section, names[section["sh_info"]], symbols)
    )
    return Relocatable(path, sections, symbols, relocations)


def _section(raw: RawSection) -> Section:
    data = b"" if raw["sh_type"] == "SHT_NOBITS" else raw.data()
    flags = raw["sh_flags"]
    return Section(raw.name, data, bool(flags & _SHF_ALLOC), bool(flags & _SHF_EXECINSTR))


def _symbols(table: SymbolTableSection, names: list[str]) -> Iterator[Symbol]:
    for item in table.iter_symbols():
        index, kind = item["st_shndx"], item["st_info"]["type"]
        here = names[index] if isinstance(index, int) and 0 < index < _SHN_RESERVED else ""
        name = here if kind == "STT_SECTION" else item.name
        yield Symbol(name, here, item["st_value"], kind == "STT_FUNC", item["st_size"])


def _relocations(
    raw: RelocationSection, section: str, symbols: tuple[Symbol, ...]
) -> Iterator[Relocation]:
    for item in raw.iter_relocations():
        yield Relocation(
            Place(section, item["r_offset"]),
            symbols[item["r_info_sym"]],
            item["r_addend"],
            item["r_info_type"] in _RELATIVE,
        )
