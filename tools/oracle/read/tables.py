"""x86-64 page tables in physical memory, and what livedump's protection makes of an entry.

The bits are written down here once more, on purpose: the judge takes nothing from the module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

PRESENT, RW, ACCESSED, DIRTY, HUGE = 1 << 0, 1 << 1, 1 << 5, 1 << 6, 1 << 7
PAT, PAT_LARGE = 1 << 7, 1 << 12
TAG_RW, TAG_DIRTY = 1 << 9, 1 << 10
ADDRESS = ((1 << 52) - 1) & ~0xFFF
#: What the CPU itself sets in an entry.
HARDWARE = ACCESSED | DIRTY
ENTRIES = 512
#: The highest level whose entries livedump changes.
TOP_PROTECTED = 3
_TABLE = struct.Struct("<512Q")

ReadPage = Callable[[int], bytes]


def entries(page: bytes) -> tuple[int, ...]:
    """The entries of a table."""
    return _TABLE.unpack(page)


def original(entry: int) -> int:
    """The entry as it was before livedump protected it, or opened it again."""
    plain = entry & ~(TAG_RW | TAG_DIRTY)
    if not entry & TAG_RW:
        return plain
    return plain | RW | (DIRTY if entry & TAG_DIRTY else 0)


def is_well_tagged(entry: int) -> bool:
    """A tagged entry must be read-only and clean; others may be anything."""
    return not entry & TAG_RW or not entry & (RW | DIRTY)


def entry_bytes(level: int) -> int:
    """What one entry maps."""
    return int(1 << (12 + 9 * (level - 1)))


def leaf_pfn(entry: int, level: int) -> int:
    """The first page frame that a leaf maps; bit 12 of a large leaf is PAT, no address."""
    return ((entry & ADDRESS) >> 12) & ~((1 << 9 * (level - 1)) - 1)


def is_leaf(entry: int, level: int) -> bool:
    """Maps memory; else it points to a table."""
    return level == 1 or (level < 4 and bool(entry & HUGE))


def children(leaf: int, level: int) -> Iterator[int]:
    """The entries of the table that maps the same as a large leaf."""
    flags = leaf & ~ADDRESS
    pat = leaf & PAT_LARGE
    if level == 2:
        flags = flags & ~HUGE | (PAT if pat else 0)
    elif pat:
        flags |= PAT_LARGE
    first = leaf_pfn(leaf, level) << 12
    for index in range(ENTRIES):
        yield flags | first + index * entry_bytes(level - 1)


class Table(NamedTuple):
    """A table of the kernel's: its level, and the first address that it maps."""

    level: int
    start: int


@dataclass
class Walk:
    """What the kernel's half of an address space maps.

    :ivar tables: by page frame
    :ivar leaves: (virtual address, entry, level) of every present leaf
    """

    tables: dict[int, Table] = field(default_factory=dict)
    leaves: list[tuple[int, int, int]] = field(default_factory=list)


def walk_kernel(read: ReadPage, root_pfn: int, levels: int) -> Walk:
    """Walk the upper half. A table that is shared (ESPFIX) is walked once for each level."""
    walk = Walk()
    top = -1 << (12 + 9 * levels) & (1 << 64) - 1
    walk.tables[root_pfn] = Table(levels, top)
    for index, entry in enumerate(entries(read(root_pfn))):
        if index >= ENTRIES // 2 and entry & PRESENT:
            _descend(walk, read, entry, levels - 1, top | index * entry_bytes(levels))
    return walk


def _descend(walk: Walk, read: ReadPage, parent: int, level: int, start: int) -> None:
    pfn = (parent & ADDRESS) >> 12
    if pfn in walk.tables and walk.tables[pfn].level == level:
        return
    walk.tables[pfn] = Table(level, start)
    size = entry_bytes(level)
    for index, entry in enumerate(entries(read(pfn))):
        if not entry & PRESENT:
            continue
        if is_leaf(entry, level):
            walk.leaves.append((start + index * size, entry, level))
        else:
            _descend(walk, read, entry, level - 1, start + index * size)
