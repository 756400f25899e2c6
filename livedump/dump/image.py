"""The image: an ELF64 core with our note, as /proc/livedump shows it and as dumps hold it.

Layout: ELF header; program headers, exactly one PT_NOTE and it comes first; notes (NT_PRSTATUS for
each CPU, with its number + 1 as pr_pid, VMCOREINFO, LIVEDUMP with struct livedump_report); then the
data of the PT_LOADs, page-aligned: RAM, ascending, and last the kernel's text, which is part of it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

from livedump import abi, lockdown
from livedump.errors import ForeignImageError, ImageError, TruncatedImageError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NHDR = struct.Struct("<III")

_IDENT = b"\x7fELF\x02\x01\x01"  # 64-bit, little-endian, version 1
_ET_CORE = 4
_EM_X86_64 = 62
PT_LOAD = 1
_PT_NOTE = 4
_PN_XNUM = 0xFFFF
_NT_PRSTATUS = 1
_MAX_NOTES_BYTES = 64 << 20
_MAX_HEADERS = 1 << 20
_MAX_OFFSET = (1 << 63) - 1  # of any file

_STEP = "read image"

ReadAt = Callable[[int, int], bytes]


class Range(NamedTuple):
    """A PT_LOAD: ``file_bytes`` of memory at ``paddr`` lie at ``offset``; the rest is zero."""

    offset: int
    vaddr: int
    paddr: int
    file_bytes: int
    mem_bytes: int


class Note(NamedTuple):
    """An ELF note; ``offset`` is where its descriptor lies in the file."""

    name: str
    type: int
    offset: int
    desc: bytes


@dataclass(frozen=True)
class Layout:
    """What the headers and notes of an image say.

    :ivar ranges: the PT_LOADs in file order; the last is the kernel's text
    :ivar report_offset: where struct livedump_report lies in the file
    :ivar end: size of the whole image in bytes
    """

    ranges: tuple[Range, ...]
    notes: tuple[Note, ...]
    report_offset: int
    report: abi.Report
    end: int

    @property
    def ram(self) -> tuple[Range, ...]:
        """The ranges of RAM, without the kernel's text, which is in one of them."""
        return self.ranges[:-1]

    @property
    def left_out(self) -> int:
        """Bytes of memory that are not in the file: makedumpfile takes pages out."""
        return sum(item.mem_bytes - item.file_bytes for item in self.ranges)

    @property
    def vmcoreinfo(self) -> dict[str, str]:
        """VMCOREINFO as ``{"OSRELEASE": "6.1.0-56-amd64", "SYMBOL(_stext)": "ffff...", ...}``."""
        return _vmcoreinfo(self.notes)

    @property
    def cpus(self) -> int:
        """How many CPUs' registers the image has."""
        return sum(note.name == "CORE" and note.type == _NT_PRSTATUS for note in self.notes)


def _vmcoreinfo(notes: tuple[Note, ...]) -> dict[str, str]:
    for note in notes:
        if note.name == "VMCOREINFO":
            lines = note.desc.rstrip(b"\0").decode("ascii", "replace").splitlines()
            return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


#: How other files begin, what they are, and what to do.
_OTHERS = (
    (b"KDUMP   ", "a kdump-compressed file", "crash and drgn open it; livedump needs the ELF file"),
    (b"makedumpfile\0", "a flattened file of makedumpfile", "Run: makedumpfile -R FILE < THIS"),
    (b"\x1f\x8b", "compressed with gzip", "Run: gzip -d"),
    (b"\xfd7zXZ\0", "compressed with xz", "Run: xz -d"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Run: zstd -d"),
)


def _something_else(begin: bytes) -> ForeignImageError:
    """What a file is that is no ELF file, as far as its first bytes say."""
    for magic, what, remedy in _OTHERS:
        if begin.startswith(magic):
            return ForeignImageError(f"not an ELF file but {what}", step=_STEP, remedy=remedy)
    return _foreign("no ELF file")


def _foreign(why: str) -> ForeignImageError:
    return ForeignImageError(
        f"not a livedump image: {why}",
        step=_STEP,
        remedy="Give a file written by 'livedump dump'",
    )


def _truncated(what: str, end: int) -> TruncatedImageError:
    return TruncatedImageError(
        f"truncated: {what} should reach byte {end:,}",
        step=_STEP,
        remedy="Copy it again, or dump again",
    )


def _exactly(read_at: ReadAt, offset: int, size: int, what: str) -> bytes:
    if offset + size > _MAX_OFFSET:
        raise _foreign(f"damaged, {what} at byte {offset:,}")
    data = read_at(offset, size)
    if len(data) != size:
        raise _truncated(what, offset + size)
    return data


def _align4(value: int) -> int:
    return (value + 3) & ~3


def _parse_notes(data: bytes, base: int) -> tuple[Note, ...]:
    notes = []
    offset = 0
    while offset + _NHDR.size <= len(data):
        name_size, desc_size, kind = _NHDR.unpack_from(data, offset)
        name_at = offset + _NHDR.size
        desc_at = name_at + _align4(name_size)
        if desc_at + desc_size > len(data):
            raise _foreign(f"a note at byte {base + offset:,} is longer than its segment")
        name = data[name_at : name_at + name_size].rstrip(b"\0").decode("ascii", "replace")
        if name_size or desc_size:
            desc = data[desc_at : desc_at + desc_size]
            notes.append(Note(name, kind, base + desc_at, desc))
        offset = desc_at + _align4(desc_size)
    return tuple(notes)


def program_headers(read_at: ReadAt) -> list[tuple[int, ...]]:
    """Those of a core: type, flags, offset, virtual and physical address, bytes in the file and in
    memory, alignment.

    :raises ForeignImageError: it is no core for x86-64
    :raises TruncatedImageError: it is too short
    """
    ehdr = read_at(0, _EHDR.size)
    if not ehdr:
        raise _truncated("the ELF header (the file is empty)", _EHDR.size)
    if ehdr[:4] != _IDENT[:4]:
        raise _something_else(ehdr)
    if len(ehdr) < _EHDR.size:
        raise _truncated("the ELF header", _EHDR.size)
    ident, kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, *_ = _EHDR.unpack(ehdr)
    if not ident.startswith(_IDENT) or machine != _EM_X86_64:
        raise _foreign("an ELF file, but not for x86-64")
    if kind != _ET_CORE:
        raise _foreign("an ELF file, but no core")
    if phentsize != _PHDR.size:
        raise _foreign(f"program headers of {phentsize} bytes")
    if phnum == _PN_XNUM:
        shdr = _SHDR.unpack(_exactly(read_at, shoff, _SHDR.size, "section header 0"))
        phnum = shdr[7]  # sh_info has the real number
    if not 0 < phnum <= _MAX_HEADERS:
        raise _foreign(f"{phnum} program headers")
    table = _exactly(read_at, phoff, phnum * _PHDR.size, "the program headers")
    return list(_PHDR.iter_unpack(table))


def _read_notes(read_at: ReadAt, headers: list[tuple[int, ...]]) -> tuple[tuple[Note, ...], int]:
    """The notes, and where they end in the file."""
    if headers[0][0] != _PT_NOTE or any(header[0] == _PT_NOTE for header in headers[1:]):
        raise _foreign("no PT_NOTE, or not only one, or not first")
    _, _, note_offset, _, _, note_bytes, _, _ = headers[0]
    if note_bytes > _MAX_NOTES_BYTES:
        raise _foreign(f"{note_bytes:,} bytes of notes")
    data = _exactly(read_at, note_offset, note_bytes, "the notes")
    return _parse_notes(data, note_offset), note_offset + note_bytes


def parse_layout(read_at: ReadAt) -> Layout:
    """Parse an image's headers and notes.

    :param read_at: ``(offset, size) -> bytes``, shorter at the end of the file
    :raises ForeignImageError: this is something else
    :raises TruncatedImageError: headers or notes are cut off
    :raises AbiError: the report is of another ABI
    """
    headers = program_headers(read_at)
    notes, notes_end = _read_notes(read_at, headers)
    ours = [n for n in notes if n.name == abi.NOTE_NAME and n.type == abi.NOTE_TYPE]
    if not ours:
        raise _foreign("a core, but without a LIVEDUMP note")
    ranges = tuple(
        Range(offset, vaddr, paddr, filesz, memsz)
        for kind, _, offset, vaddr, paddr, filesz, memsz, _ in headers
        if kind == PT_LOAD
    )
    ends = [notes_end, *(item.offset + item.file_bytes for item in ranges)]
    return Layout(
        ranges=ranges,
        notes=notes,
        report_offset=ours[0].offset,
        report=abi.report_from_bytes(ours[0].desc),
        end=max(ends),
    )


class Image:
    """An open image; a context manager. Made by :func:`open_image`."""

    def __init__(self, fd: int, path: str, layout: Layout) -> None:
        self._fd = fd
        self.path = path
        self.layout = layout

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def report(self) -> abi.ReportDict:
        """The receipt in the image's note, see :func:`livedump.abi.report_to_dict`."""
        return abi.report_to_dict(self.layout.report)

    @property
    def verdict(self) -> abi.Verdict:
        """The verdict in the note; ``PENDING`` in a file means that the dump never finished.

        :raises ImageError: a verdict that this version does not know
        """
        try:
            return abi.Verdict(self.layout.report.verdict)
        except ValueError:
            raise ImageError(
                f"unknown verdict {self.layout.report.verdict}",
                step=_STEP,
                remedy="Read it with the livedump version that wrote it",
            ) from None

    @property
    def is_complete(self) -> bool:
        """The snapshot was, and all of it is in the file."""
        return self.verdict is abi.Verdict.COMPLETE and not self.layout.left_out

    @property
    def vmcoreinfo(self) -> dict[str, str]:
        """The kernel's VMCOREINFO note, key to value."""
        return self.layout.vmcoreinfo

    @property
    def release(self) -> str:
        """The kernel's release, from VMCOREINFO; empty when it does not say."""
        return self.vmcoreinfo.get("OSRELEASE", "")

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The PT_LOADs; the last is the kernel's text, the others are RAM."""
        return self.layout.ranges

    @property
    def ram(self) -> tuple[Range, ...]:
        """The ranges of RAM."""
        return self.layout.ram

    @property
    def cpus(self) -> int:
        """How many CPUs' registers the image has."""
        return self.layout.cpus

    def read(self, paddr: int, size: int) -> bytes:
        """*size* bytes of memory at physical address *paddr*; zeros for what was left out of the
        file, see :attr:`Layout.left_out`.

        :raises ImageError: the image does not have all of them
        """
        parts = []
        while size > 0:
            item = self._range_at(paddr)
            if item is None:
                raise ImageError(f"the image has no memory at {paddr:#x}", step=_STEP)
            inside = paddr - item.paddr
            count = min(size, item.mem_bytes - inside)
            stored = min(count, max(0, item.file_bytes - inside))
            data = self._read_at(item.offset + inside, stored) if stored else b""
            if len(data) != stored:
                raise _truncated(f"memory at {paddr:#x}", item.offset + inside + stored)
            parts.append(data + bytes(count - stored))
            paddr += count
            size -= count
        return b"".join(parts)

    def _range_at(self, paddr: int) -> Range | None:
        for item in self.layout.ranges:
            if item.paddr <= paddr < item.paddr + item.mem_bytes:
                return item
        return None

    def _read_at(self, offset: int, size: int) -> bytes:
        return read_fully(self._fd, offset, size)

    def to_dict(self) -> dict[str, Any]:
        """What the image is, as plain values, for ``--json``."""
        return {
            "path": self.path,
            "bytes": self.layout.end,
            "release": self.release,
            "cpus": self.cpus,
            "verdict": self.verdict.name.lower(),
            "complete": self.is_complete,
            "left_out_bytes": self.layout.left_out,
            "ranges": [item._asdict() for item in self.ranges],
            "report": self.report,
        }


def read_fully(fd: int, offset: int, size: int) -> bytes:
    """*size* bytes at *offset*, fewer only at the end of the file."""
    parts = []
    while size > 0:
        data = os.pread(fd, min(size, 1 << 26), offset)
        if not data:
            break
        parts.append(data)
        offset += len(data)
        size -= len(data)
    return b"".join(parts)


def _open(name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise ImageError(
            f"{name}: {error.strerror}",
            step=_STEP,
            remedy=lockdown.IMAGE_REMEDY,
        ) from error
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}", step=_STEP) from error


def _check_size(fd: int, name: str, end: int) -> None:
    size = os.lseek(fd, 0, os.SEEK_END)
    if size < end:
        raise TruncatedImageError(
            f"truncated: {name} has {size:,} of {end:,} bytes",
            step=_STEP,
            remedy="Copy it again, or dump again",
        )


def check_whole(path: str | os.PathLike[str]) -> None:
    """Raise where a core is cut off, whoever wrote it.

    :raises ImageError: it is, or cannot be opened, or is no core
    """
    name = os.fspath(path)
    fd = _open(name)
    try:

        def read_at(offset: int, size: int) -> bytes:
            return read_fully(fd, offset, size)

        end = max(offset + filesz for _, _, offset, _, _, filesz, *_ in program_headers(read_at))
        _check_size(fd, name, end)
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}", step=_STEP) from error
    finally:
        os.close(fd)


def kernel_release(path: str | os.PathLike[str]) -> str:
    """The kernel's release in a core, whatever version of livedump wrote it.

    Empty when its VMCOREINFO does not say.

    :raises ImageError: it cannot be opened, or is no core
    """
    name = os.fspath(path)
    fd = _open(name)
    try:

        def read_at(offset: int, size: int) -> bytes:
            return read_fully(fd, offset, size)

        notes, _ = _read_notes(read_at, program_headers(read_at))
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}", step=_STEP) from error
    finally:
        os.close(fd)
    return _vmcoreinfo(notes).get("OSRELEASE", "")


def open_image(path: str | os.PathLike[str]) -> Image:
    """Open a dump (a file or a block device) or the live image, and check it.

    An image whose verdict is still pending is opened, too: :attr:`Image.verdict` says so.

    :raises ForeignImageError: not an image of ours
    :raises TruncatedImageError: the file is shorter than its headers say
    :raises ImageError: it cannot be opened
    """
    name = os.fspath(path)
    fd = _open(name)
    try:
        layout = parse_layout(lambda offset, size: read_fully(fd, offset, size))
        _check_size(fd, name, layout.end)
        return Image(fd, name, layout)
    except OSError as error:
        os.close(fd)
        raise ImageError(f"{name}: {error.strerror}", step=_STEP) from error
    except BaseException:
        os.close(fd)
        raise
