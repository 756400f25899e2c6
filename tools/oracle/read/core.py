"""ELF cores as physical memory: QEMU's dumps and livedump's image alike. No kernel knowledge."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment
from elftools.elf.segments import Segment as ElfSegment

PAGE = 4096
_REGISTERS_AT = 112  # in struct elf_prstatus
_RIP, _RSP = 16, 19  # in struct user_regs_struct, words
_CHUNK_PAGES = 512


class CoreError(Exception):
    """The file is no core, or lacks something."""


class Segment(NamedTuple):
    """Physical memory [start, end) lies at *offset* of the file."""

    start: int
    end: int
    offset: int


@dataclass(frozen=True)
class Cpu:
    """Registers of a CPU that matter here."""

    rip: int
    rsp: int


def _memory(segment: ElfSegment) -> Segment:
    start = segment["p_paddr"]
    return Segment(start, start + segment["p_filesz"], segment["p_offset"])


def _cpus(segment: NoteSegment) -> Iterator[Cpu]:
    for note in segment.iter_notes():
        if note["n_type"] == "NT_PRSTATUS" and note["n_name"] == "CORE":
            words = struct.unpack_from("<27Q", note["n_descdata"], _REGISTERS_AT)
            yield Cpu(words[_RIP], words[_RSP])


class Core:
    """A core file, mapped. Physical addresses in, bytes out."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            try:
                segments = list(ELFFile(file).iter_segments())
                self.segments = [_memory(it) for it in segments if it["p_type"] == "PT_LOAD"]
                notes = [it for it in segments if isinstance(it, NoteSegment)]
                self.cpus = [cpu for segment in notes for cpu in _cpus(segment)]
            except ELFError as error:
                raise CoreError(f"{path} is no ELF file, or damaged: {error}") from error

    def offset(self, paddr: int) -> int:
        """Where it is in the file.

        :raises CoreError: nowhere
        """
        for segment in self.segments:
            if segment.start <= paddr < segment.end:
                return segment.offset + paddr - segment.start
        raise CoreError(f"no memory at {paddr:#x}")

    def read(self, paddr: int, size: int) -> bytes:
        """*size* bytes, which must lie in one segment."""
        offset = self.offset(paddr)
        return self.data[offset : offset + size]

    def page(self, pfn: int) -> bytes:
        """One page."""
        return self.read(pfn * PAGE, PAGE)

    def vmcoreinfo(self) -> bytes:
        """The kernel's VMCOREINFO note, found in its memory."""
        note = rb"\x0b\0\0\0(....)\0\0\0\0VMCOREINFO\0\0(?=OSRELEASE=)"
        found = re.search(note, self.data, re.DOTALL)
        if not found:
            raise CoreError("no VMCOREINFO in the guest's memory")
        size = int.from_bytes(found[1], "little")
        return self.data[found.end() : found.end() + size].rstrip(b"\0")


def differing(one: Core, other: Core, pfns: range) -> Iterator[int]:
    """Page frames of *pfns* whose bytes differ."""
    for start in range(pfns.start, pfns.stop, _CHUNK_PAGES):
        count = min(_CHUNK_PAGES, pfns.stop - start)
        left = one.read(start * PAGE, count * PAGE)
        right = other.read(start * PAGE, count * PAGE)
        if left == right:
            continue
        for index in range(count):
            page = slice(index * PAGE, (index + 1) * PAGE)
            if left[page] != right[page]:
                yield start + index


def differing_bytes(one: bytes, other: bytes) -> range:
    """From the first byte that differs to the last; empty when none does."""
    places = [index for index, pair in enumerate(zip(one, other)) if pair[0] != pair[1]]
    return range(places[0], places[-1] + 1) if places else range(0)
