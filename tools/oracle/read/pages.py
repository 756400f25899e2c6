"""What every page of RAM is, from the struct pages in the dump of the instant."""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

from drgn import Object, cast
from drgn.helpers.linux.mm import pfn_to_page

from tools.oracle.read.core import PAGE
from tools.oracle.read.kernel import Kernel

#: flags, compound_head, -, mapping, index, private, mapcount or type, references
_STRUCT_PAGE = struct.Struct("<6Q2i")
_PIN_BIAS = 1024  # GUP_PIN_COUNTING_BIAS
_UNMAPPED = -1
_LAST_UNTYPED = -128  # PAGE_MAPCOUNT_RESERVE
_ANON, _TAIL = 1, 1


class Kind(Enum):
    """Of a page, at the instant; the first that fits, in this order.

    TABLE, PERCPU, STACK and IMAGE come before LIVE and UNGUARDED: livedump saves those, whoever
    else maps them. What the kernel gave away after boot of its image and per-CPU units is not
    reserved any more, and is what its struct page says.
    """

    OWN = "livedump's own"
    UNREADABLE = "not mapped"
    TABLE = "page table"
    PERCPU = "per-CPU"
    STACK = "stack"
    IMAGE = "kernel image"
    VMEMMAP = "struct pages"
    LIVE = "live"
    SLAB = "slab"
    FREE = "free"
    UNGUARDED = "unguarded"
    FILE = "page cache"
    READING = "page cache, being read"
    ANON = "anonymous, unmapped"
    KERNEL = "other kernel"


#: What livedump does not claim to hold as it was.
NOT_COVERED = frozenset({Kind.OWN, Kind.UNREADABLE, Kind.LIVE, Kind.UNGUARDED, Kind.READING})


class Page(NamedTuple):
    """A struct page, as far as it matters."""

    flags: int
    head: int
    mapping: int
    mapcount: int
    references: int

    @property
    def is_tail(self) -> bool:
        """Part of a compound page, but not its head."""
        return bool(self.head & _TAIL)

    @property
    def has_type(self) -> bool:
        """The field of the mapcount holds a page type."""
        return self.mapcount < _LAST_UNTYPED


def parse_pages(data: bytes) -> list[Page]:
    """An array of struct page."""
    return [
        Page(flags, head, mapping, mapcount, references)
        for flags, head, _, mapping, _, _, mapcount, references, _ in struct.iter_unpack(
            _STRUCT_PAGE.format + "Q", data
        )
    ]


class Pages:
    """Classes pages.

    :param free_stacks: stacks of nobody are covered, too: `lazy` saves all that look like one
    """

    def __init__(self, kernel: Kernel, free_stacks: bool) -> None:
        self._kernel = kernel
        self._stacks = set(kernel.stacks) | (kernel.free_stacks if free_stacks else set())
        self._slab_flag, self._slab_type = self._slab_marks()
        self._buddy_type = int(kernel.info["NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"])
        self._table_type = self._type("PGTY_table", ~0x200)
        self._head_flag = 1 << kernel.value("PG_head")
        self._locked_flag = 1 << kernel.value("PG_locked")
        self._read_flags = self._locked_flag | 1 << kernel.value("PG_uptodate")
        self._reserved_flag = 1 << kernel.value("PG_reserved")
        self._percpu = {pfn for unit in kernel.percpu_units for pfn in unit}
        self._tables = set(kernel.walk.tables) | kernel.user_roots
        self._folios: dict[int, bool] = {}

    def _type(self, name: str, before: int) -> int:
        """A page type: the top byte since 6.11, a cleared bit before."""
        if name not in self._kernel.program:
            return before
        value = self._kernel.value(name) << 24
        return value - (1 << 32)

    def _slab_marks(self) -> tuple[int, int | None]:
        kind = self._kernel.info.get("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)")
        if kind is not None:
            return 0, int(kind)
        return 1 << self._kernel.value("PG_slab"), None

    def read(self, pfns: range) -> list[Page]:
        """The struct pages of a range of RAM."""
        size = self._kernel.page_size
        start = self._kernel.vmemmap.start + pfns.start * size
        return parse_pages(self._kernel.program.read(start, len(pfns) * size))

    def head_pfn(self, pfn: int, page: Page) -> int:
        """The first page of the compound page.

        A tail has the address of its head's struct page, or in 7.x, as set_compound_head()
        says, the mask that makes its own address that one.
        """
        if not page.is_tail:
            return pfn
        vmemmap, size = self._kernel.vmemmap, self._kernel.page_size
        head = page.head - _TAIL
        if head not in vmemmap:
            head &= vmemmap.start + pfn * size
        return (head - vmemmap.start) // size

    def is_slab(self, page: Page) -> bool:
        """The head of a slab."""
        return bool(page.flags & self._slab_flag) or page.mapcount == self._slab_type

    def kind(self, pfn: int, page: Page) -> Kind:
        """What the page was at the instant."""
        kernel = self._kernel
        if pfn in kernel.own_pfns:
            return Kind.OWN
        if pfn not in kernel.in_direct_map:
            return Kind.UNREADABLE
        if pfn in self._tables or page.mapcount == self._table_type:
            return Kind.TABLE
        reserved = page.flags & self._reserved_flag
        if reserved and pfn in self._percpu:
            return Kind.PERCPU
        if pfn in self._stacks:
            return Kind.STACK
        if reserved and pfn in kernel.image_pfns:
            return Kind.IMAGE
        if pfn in kernel.aliases:
            return Kind.LIVE
        if pfn in kernel.vmemmap_pfns:
            return Kind.VMEMMAP
        return self._by_struct_page(pfn, page)

    def _by_struct_page(self, pfn: int, page: Page) -> Kind:
        head_pfn = self.head_pfn(pfn, page)
        head = self.read(range(head_pfn, head_pfn + 1))[0] if page.is_tail else page
        if self.is_slab(head):
            return Kind.SLAB
        if head.has_type:
            return Kind.FREE if head.mapcount == self._buddy_type else Kind.KERNEL
        if not head.references:
            return Kind.FREE  # per-CPU lists and the inner pages of a free block
        if self._is_unguarded(head_pfn, head):
            return Kind.UNGUARDED
        if head.mapping & _ANON:
            return Kind.ANON
        if not head.mapping:
            return Kind.KERNEL
        # Locked and not valid yet: a device is about to fill it, the buffer may not be in its
        # queue yet.
        return Kind.READING if head.flags & self._read_flags == self._locked_flag else Kind.FILE

    def _is_unguarded(self, pfn: int, head: Page) -> bool:
        if not head.flags & self._head_flag:
            return head.mapcount > _UNMAPPED or head.references >= _PIN_BIAS
        if pfn not in self._folios:
            self._folios[pfn] = self._is_folio_unguarded(pfn)
        return self._folios[pfn]

    def _is_folio_unguarded(self, pfn: int) -> bool:
        """A compound page: mapped as a whole, by pages, or pinned."""
        head = pfn_to_page(self._kernel.program, pfn)
        folio = cast("struct folio *", head)
        if _counter(folio, "_pincount") > 0:
            return True
        if folio.prog_.type("struct folio").has_member("_large_mapcount"):
            return _counter(folio, "_large_mapcount") > _UNMAPPED
        if (head + 1).compound_mapcount.counter.value_() > _UNMAPPED:
            return True
        count = int(folio._folio_nr_pages.value_())
        return any(page.mapcount > _UNMAPPED for page in self.read(range(pfn, pfn + count)))


def _counter(folio: Object, name: str) -> int:
    return int(folio.member_(name).counter.value_())


def direct_address(kernel: Kernel, pfn: int) -> int:
    """Where the direct map has the page."""
    return kernel.direct_map.start + pfn * PAGE
