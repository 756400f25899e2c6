"""The witness module (tests/kmod/livedump_witness.c) from Python, and other outside views.

Nothing here asks livedump what is true.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livedump.dump import Image
from tools.guest.kernel import CLEANS, IS_7

FOLDER = Path("/proc/livedump_witness")
PAGE = 4096

# One byte for each page frame of the direct map, see livedump_witness.c.
PRESENT, RW, NX, DIRTY, SOFTW1, SOFTW2, SOFTW3, SHADOW = (1 << bit for bit in range(8))

Rows = dict[int, list[int]]


def control(command: str) -> None:
    """``start`` or ``stop`` the writers, or ``poke ROW PAGE VALUE`` while they are stopped."""
    (FOLDER / "control").write_text(command)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """The writers write while the block runs."""
    control("start")
    try:
        yield
    finally:
        control("stop")


def poke_all(value: int) -> None:
    """Write *value* to every slab page of the witness."""
    for row, pages in pages_by_row().items():
        for page in range(len(pages)):
            control(f"poke {row} {page} {value}")


@dataclass(frozen=True)
class Page:
    """A slab page of the witness: physical and virtual address."""

    paddr: int
    vaddr: int

    @property
    def pfn(self) -> int:
        """Page frame number."""
        return self.paddr // PAGE


def pages_by_row() -> dict[int, list[Page]]:
    """The slab pages, in the order in which a writer writes them."""
    rows: dict[int, list[Page]] = {}
    for line in (FOLDER / "writers").read_text().splitlines():
        row, _page, paddr, vaddr = line.split()
        rows.setdefault(int(row), []).append(Page(int(paddr, 16), int(vaddr, 16)))
    return rows


def live_values() -> Rows:
    """The values in memory now, read page by page: a plain copy, torn under load."""
    return _values("values")


def values_at_instant() -> Rows:
    """The values as written down inside the last stop: what an image of it must hold."""
    return _values("instant")


def _values(name: str) -> Rows:
    rows: Rows = {}
    for line in (FOLDER / name).read_text().splitlines():
        row, _page, value = line.split()
        rows.setdefault(int(row), []).append(int(value))
    return rows


def image_values(image: Image) -> Rows:
    """The values that the image holds."""
    return {
        row: [int.from_bytes(image.read(page.paddr, 8), "little") for page in pages]
        for row, pages in pages_by_row().items()
    }


def torn_rows(rows: Rows) -> int:
    """Rows whose values no instant can have had: rising along the row, or more than 1 apart."""
    return sum(
        1
        for values in rows.values()
        if values != sorted(values, reverse=True) or values[0] - values[-1] > 1
    )


def wrong_pages(rows: Rows) -> int:
    """Pages of the image that are not as they were at the instant."""
    right = values_at_instant()
    return sum(
        a != b for row, values in rows.items() for a, b in zip(values, right[row], strict=True)
    )


def forget() -> None:
    """Before a snapshot, so that what an older stop was like is not taken for its own."""
    control("forget")


def tasks() -> list[tuple[int, str]]:
    """(pid, comm) of every thread, as written down inside the last stop."""
    result = []
    for line in (FOLDER / "tasks").read_text().splitlines():
        pid, _, comm = line.partition(" ")
        result.append((int(pid), comm))
    return result


def direct_map() -> bytes:
    """Permissions of the direct map, one byte for each page frame."""
    fd = os.open(FOLDER / "directmap", os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def changes(before: bytes, after: bytes) -> list[tuple[int, int, int]]:
    """Page frame, permissions before and after, where the kernel did not do it by itself.

    It makes pages of code read-only and back, and leaves Dirty set when it does so (module text,
    BPF programs); livedump never does. Since 6.6 it gives them back without Dirty, and 7.3 marks by
    SOFTW3 what it has split for good.
    """
    own = (DIRTY if CLEANS else 0) | (SOFTW3 if IS_7 else 0)
    pairs = enumerate(zip(before, after, strict=True))
    return [(pfn, a, b) for pfn, (a, b) in pairs if (a ^ b) & ~own and not (a | b) & SHADOW]


def tags(permissions: bytes) -> int:
    """Pages whose mapping carries a software bit of ours: none, unless a snapshot is held."""
    return _count(permissions, SOFTW1 | SOFTW2)


def protected(permissions: bytes) -> int:
    """Pages that livedump has made read-only, at whatever level."""
    return _count(permissions, SOFTW1)


def _count(permissions: bytes, bits: int) -> int:
    return sum(permissions.count(value) for value in set(permissions) if value & bits)
