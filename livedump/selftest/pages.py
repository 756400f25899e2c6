"""Pages that only the kernel writes: which they are, what they hold now."""

from __future__ import annotations

import os
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from livedump.dump.image import PT_LOAD, program_headers
from livedump.errors import LivedumpError

PAGE_BYTES = 4096

TABLE = "page table"
SLAB = "slab"

_WINDOW_PAGES = 512
_KPF_SLAB, _KPF_PGTABLE = 1 << 7, 1 << 26

_MAX_PADDR = 1 << 52  # segments that are not RAM say ~0

#: Accessed and Dirty of all entries of a table: the CPU sets them by itself.
_AD_BITS = int.from_bytes(struct.pack("<Q", 0x60) * (PAGE_BYTES // 8), "little")


def kind_of(flags: int) -> str:
    """The kind of a page by its word of /proc/kpageflags; empty when not of ours."""
    if flags & _KPF_PGTABLE:
        return TABLE
    return SLAB if flags & _KPF_SLAB else ""


def same(kind: str, one: bytes, other: bytes) -> bool:
    """Two contents are the same but for what the CPU writes into page tables by itself."""
    if one == other:
        return True
    if kind != TABLE:
        return False
    changed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return not changed & ~_AD_BITS


def ram_pfns(iomem: str) -> list[range]:
    """The page frames of each ``System RAM`` line of /proc/iomem, top level only."""
    found = []
    for first, last in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", iomem, re.MULTILINE):
        begin, end = int(first, 16), int(last, 16) + 1
        pfns = range(-(-begin // PAGE_BYTES), end // PAGE_BYTES)
        if len(pfns) and end > PAGE_BYTES:  # unprivileged readers see only zeros
            found.append(pfns)
    return found


class KernelPages:
    """Kernel-owned pages, sampled all over RAM.

    :param root: /proc is below it
    """

    def __init__(self, root: Path = Path("/"), chance: random.Random | None = None) -> None:
        self._flags = root / "proc/kpageflags"
        self._iomem = root / "proc/iomem"
        self._chance = chance or random.Random()

    def sample(self, limit: int, windows: int = 2048) -> dict[int, str]:
        """Up to *limit* pages of each kind, by page frame number, from so many places."""
        found: dict[int, str] = {}
        counts = {TABLE: 0, SLAB: 0}
        try:
            ranges = ram_pfns(self._iomem.read_text())
            with open(self._flags, "rb", buffering=0) as file:
                for start, flags in self._windows(file.fileno(), ranges, windows):
                    for number, word in enumerate(flags):
                        kind = kind_of(word)
                        if kind and counts[kind] < limit and start + number not in found:
                            found[start + number] = kind
                            counts[kind] += 1
                    if min(counts.values()) >= limit:
                        break
        except OSError:
            return {}
        return found

    def still(self, pages: dict[int, str]) -> dict[int, str]:
        """Those of *pages* that are of the same kind now."""
        try:
            with open(self._flags, "rb", buffering=0) as file:
                return {
                    pfn: kind
                    for pfn, kind in pages.items()
                    for flags in _words(file.fileno(), pfn, 1)
                    if kind_of(flags) == kind
                }
        except OSError:
            return {}

    def _windows(
        self, fd: int, ranges: list[range], count: int
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        if not ranges:
            return
        for item in self._chance.choices(ranges, weights=[len(r) for r in ranges], k=count):
            start = item[self._chance.randrange(len(item))] & ~(_WINDOW_PAGES - 1)
            start = max(start, item.start)
            yield start, _words(fd, start, min(_WINDOW_PAGES, item.stop - start))


def _words(fd: int, pfn: int, count: int) -> tuple[int, ...]:
    data = os.pread(fd, count * 8, pfn * 8)
    return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])


class LiveMemory:
    """Memory as it is now, by /proc/kcore; a context manager."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._loads: list[tuple[int, int, int]] = []
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            headers = program_headers(lambda offset, size: os.pread(self._fd, size, offset))
            self._loads = [
                (paddr, paddr + size, offset)
                for kind, _, offset, _, paddr, size, _, _ in headers
                if kind == PT_LOAD and paddr < _MAX_PADDR
            ]
        except (OSError, LivedumpError):
            pass  # read() knows nothing then

    def __enter__(self) -> LiveMemory:
        return self

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, pfn: int) -> bytes:
        """The page, or nothing where it cannot be read."""
        address = pfn * PAGE_BYTES
        for start, end, offset in self._loads:
            if start <= address < end:
                try:
                    return os.pread(self._fd, PAGE_BYTES, offset + address - start)
                except OSError:
                    return b""
        return b""
