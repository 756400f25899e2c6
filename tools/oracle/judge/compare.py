"""One page of the image against the same page at the instant. Pure: bytes in, verdict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.oracle.read.core import PAGE
from tools.oracle.read.devices import Bytes
from tools.oracle.read.tables import (
    ADDRESS,
    HARDWARE,
    PRESENT,
    RW,
    TOP_PROTECTED,
    ReadPage,
    Table,
    children,
    entries,
    entry_bytes,
    is_leaf,
    is_well_tagged,
    original,
)

#: Whether livedump may have changed the entry that maps an address.
MayProtect = Callable[[int], bool]


def explain(pfn: int, instant: bytes, image: bytes, allowed: Sequence[Bytes]) -> str | None:
    """Why the bytes that differ may differ; None unless each of them lies in *allowed*."""
    start = pfn * PAGE
    reasons: dict[str, None] = {}
    here = [item for item in allowed if item.start < start + PAGE and item.end > start]
    if not here:
        return None
    for offset, pair in enumerate(zip(instant, image, strict=True)):
        if pair[0] == pair[1]:
            continue
        why = next((i.why for i in here if i.start <= start + offset < i.end), None)
        if why is None:
            return None
        reasons[why] = None
    return ", ".join(reasons)


def same_entry(instant: int, image: int, may_protect: bool) -> bool:
    """The image has the entry that livedump's protection replaced; Accessed and Dirty are free."""
    if may_protect:
        if not is_well_tagged(instant):
            return False
        instant = original(instant)
    return not (instant ^ image) & ~HARDWARE


class Tables:
    """Compares page tables. Large leaves that livedump split are leaves in the image.

    :ivar stand_ins: page frames of livedump's tables whose leaf in the image says the same
    """

    def __init__(self, read: ReadPage, tables: dict[int, Table], may_protect: MayProtect) -> None:
        self._read = read
        self._tables = tables
        self._may_protect = may_protect
        self.stand_ins: set[int] = set()

    def differing(self, pfn: int, instant: bytes, image: bytes) -> list[int]:
        """Entries that differ in more than protection and what the CPU sets."""
        return [
            index
            for index, (one, other) in enumerate(zip(entries(instant), entries(image), strict=True))
            if one != other and not self._same(pfn, index, one, other)
        ]

    def _same(self, pfn: int, index: int, instant: int, image: int) -> bool:
        table = self._tables.get(pfn)
        if table is None or table.level > TOP_PROTECTED:
            return same_entry(instant, image, may_protect=False)
        may = self._may_protect(table.start + index * entry_bytes(table.level))
        if same_entry(instant, image, may):
            return True
        return may and self._stands_for(instant, image, table.level)

    def _stands_for(self, entry: int, leaf: int, level: int) -> bool:
        """A table of livedump's whose entries map what *leaf* maps."""
        if not entry & PRESENT or is_leaf(entry, level) or not is_leaf(leaf, level):
            return False
        if level == 1 or not is_well_tagged(entry) or not original(entry) & RW:
            return False
        pfn = (entry & ADDRESS) >> 12
        for child, wanted in zip(entries(self._read(pfn)), children(leaf, level)):
            same = same_entry(child, wanted, may_protect=True)
            if not same and not self._stands_for(child, wanted, level - 1):
                return False
        self.stand_ins.add(pfn)
        return True
