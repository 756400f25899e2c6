"""Relocatable x86-64 ELF files (kernel modules, objects): sections, symbols, relocations."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64-bit, little-endian, version 1
_ET_REL = 1
_EM_X86_64 = 62
_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 2, 4, 8
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_SHN_RESERVED = 0xFF00
_STT_FUNC = 2
_STT_SECTION = 3

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


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode("ascii", "replace")


def read(path: Path) -> Relocatable:
    """Parse a file.

    :raises ElfError: it cannot be read, or is no relocatable file for x86-64
    """
    try:
        return _parse(path, path.read_bytes())
    except OSError as error:
        raise ElfError(f"{path}: {error.strerror}") from error
    except (struct.error, ValueError, IndexError) as error:
        raise ElfError(f"{path} is damaged: {error}") from error


def _parse(path: Path, data: bytes) -> Relocatable:
    if not data.startswith(_IDENT):
        raise ElfError(f"{path} is no 64-bit ELF file")
    header = _EHDR.unpack_from(data)
    if header[1] != _ET_REL or header[2] != _EM_X86_64:
        raise ElfError(f"{path} is no relocatable file for x86-64")
    shoff, shnum, shstrndx = header[6], header[12], header[13]
    raw = [_SHDR.unpack_from(data, shoff + i * _SHDR.size) for i in range(shnum)]

    def content(index: int) -> bytes:
        _, kind, _, _, offset, size, *_ = raw[index]
        return b"" if kind == _SHT_NOBITS else data[offset : offset + size]

    strings = content(shstrndx)
    names = [_text(strings, item[0]) for item in raw]
    sections = {
        name: Section(
            name, content(i), bool(raw[i][2] & _SHF_ALLOC), bool(raw[i][2] & _SHF_EXECINSTR)
        )
        for i, name in enumerate(names)
    }
    symtab = [i for i in range(shnum) if raw[i][1] == _SHT_SYMTAB]
    if len(symtab) != 1:
        raise ElfError(f"{path} has {len(symtab)} symbol tables")
    symbols = tuple(_symbols(content(symtab[0]), content(raw[symtab[0]][6]), names))
    relocations = tuple(
        relocation
        for i in range(shnum)
        if raw[i][1] == _SHT_RELA and sections[names[raw[i][7]]].alloc
        for relocation in _relocations(content(i), names[raw[i][7]], symbols)
    )
    return Relocatable(path, sections, symbols, relocations)


def _symbols(table: bytes, strings: bytes, names: list[str]) -> Iterator[Symbol]:
    for name, info, _, index, value, size in _SYM.iter_unpack(table):
        here = names[index] if 0 < index < _SHN_RESERVED else ""
        kind = info & 15
        text = here if kind == _STT_SECTION else _text(strings, name)
        yield Symbol(text, here, value, kind == _STT_FUNC, size)


def _relocations(table: bytes, section: str, symbols: tuple[Symbol, ...]) -> Iterator[Relocation]:
    for offset, info, addend in _RELA.iter_unpack(table):
        yield Relocation(
            Place(section, offset), symbols[info >> 32], addend, (info & 0xFFFFFFFF) in _RELATIVE
        )
