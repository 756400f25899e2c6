"""The judge's rules on single pages: each must be able to say no."""

from __future__ import annotations

import struct

from tools.oracle.judge.compare import Tables, explain, same_entry
from tools.oracle.read.core import PAGE
from tools.oracle.read.devices import Bytes
from tools.oracle.read.pages import parse_pages
from tools.oracle.read.tables import (
    ACCESSED,
    DIRTY,
    HUGE,
    PRESENT,
    RW,
    TAG_DIRTY,
    TAG_RW,
    Table,
    children,
    leaf_pfn,
    original,
    walk_kernel,
)

ENTRY = 0x1234 << 12 | PRESENT | RW | DIRTY
PROTECTED = (ENTRY | TAG_RW | TAG_DIRTY) & ~(RW | DIRTY)
ALLOWED = [Bytes(5 * PAGE + 8, 5 * PAGE + 12, "a ring")]


def page(changes: dict[int, int]) -> bytes:
    data = bytearray(PAGE)
    for place, value in changes.items():
        data[place] = value
    return bytes(data)


def test_protection_is_undone() -> None:
    assert original(PROTECTED) == ENTRY
    assert original(ENTRY) == ENTRY
    assert original(ENTRY | TAG_DIRTY) == ENTRY
    assert original((PROTECTED & ~TAG_DIRTY)) == ENTRY & ~DIRTY


def test_an_entry_may_differ_in_protection_and_what_the_cpu_sets() -> None:
    assert same_entry(PROTECTED, ENTRY, True)
    assert same_entry(PROTECTED | ACCESSED, ENTRY, True)
    assert same_entry(ENTRY & ~DIRTY, ENTRY, True)
    assert same_entry(ENTRY & ~DIRTY, ENTRY, False)


def test_an_entry_may_not_differ_in_anything_else() -> None:
    assert not same_entry(ENTRY, ENTRY & ~RW, True)
    assert not same_entry(PROTECTED, ENTRY + (1 << 12), True)
    assert not same_entry(PROTECTED, PROTECTED, True)
    assert not same_entry(0, ENTRY, True)
    assert not same_entry(PROTECTED, ENTRY, False)


def test_a_tagged_entry_that_is_writable_is_no_protection() -> None:
    assert not same_entry(PROTECTED | RW, ENTRY, True)
    assert not same_entry(PROTECTED | DIRTY, ENTRY, True)


LEAF = 0x40000000 | HUGE | PRESENT | RW | DIRTY | 1 << 63


def _table(values: list[int]) -> bytes:
    return struct.pack("<512Q", *values)


def _tables(memory: dict[int, bytes], level: int) -> Tables:
    """Table 7 maps from 0 on; livedump may have protected all but the last entry's range."""
    end = 511 << 12 + 9 * (level - 1)
    return Tables(lambda pfn: memory[pfn], {7: Table(level, 0)}, lambda address: address < end)


def test_entries_that_differ_are_listed() -> None:
    tables = _tables({}, 1)
    instant = _table([PROTECTED] * 510 + [ENTRY] * 2)
    assert tables.differing(7, instant, _table([ENTRY] * 512)) == []
    assert tables.differing(7, instant, _table([ENTRY] * 509 + [0] + [ENTRY] * 2)) == [509]
    # where nothing is protected, and in tables that are not the kernel's
    assert tables.differing(7, _table([PROTECTED] * 512), _table([ENTRY] * 512)) == [511]
    assert tables.differing(8, _table([PROTECTED] * 512), _table([ENTRY] * 512)) != []


def test_a_table_that_stands_for_a_large_leaf() -> None:
    pointer = 9 << 12 | PRESENT | RW
    instant = _table([pointer] + [0] * 511)
    image = _table([LEAF] + [0] * 511)
    same = [
        (child | TAG_RW | TAG_DIRTY) & ~(RW | DIRTY) if index % 2 else child
        for index, child in enumerate(children(LEAF, 2))
    ]
    good = _tables({9: _table(same)}, 2)
    assert good.differing(7, instant, image) == []
    assert good.stand_ins == {9}
    for wrong in (same[0] + (1 << 12), same[0] & ~RW, 0):
        bad = _tables({9: _table([wrong, *same[1:]])}, 2)
        assert bad.differing(7, instant, image) == [0]
        assert bad.stand_ins == set()


def test_children_of_large_leaves() -> None:
    assert list(children(LEAF, 2))[1] == 0x40001000 | PRESENT | RW | DIRTY | 1 << 63
    assert list(children(LEAF, 3))[1] == 0x40200000 | HUGE | PRESENT | RW | DIRTY | 1 << 63
    assert list(children(LEAF | 1 << 12, 2))[0] & (1 << 7)
    assert list(children(LEAF | 1 << 12, 3))[0] & (1 << 12)


def test_bytes_that_may_differ_explain_the_page() -> None:
    assert explain(5, page({}), page({8: 1, 11: 1}), ALLOWED) == "a ring"


def test_one_byte_beside_them_does_not() -> None:
    assert explain(5, page({}), page({8: 1, 12: 1}), ALLOWED) is None
    assert explain(5, page({}), page({7: 1}), ALLOWED) is None
    assert explain(6, page({}), page({8: 1}), ALLOWED) is None


def test_leaf_of_two_mebibytes_has_pat_in_bit_12() -> None:
    assert leaf_pfn(0x200000 | 1 << 12 | HUGE | PRESENT, 2) == 0x200


def test_walk_finds_tables_and_leaves() -> None:
    memory = {
        1: {511: 2 << 12 | PRESENT, 0: 9 << 12 | PRESENT},  # the lower half is the user's
        2: {511: 3 << 12 | PRESENT},
        3: {0: 4 << 12 | PRESENT, 1: 0x200000 | HUGE | PRESENT},
        4: {5: ENTRY, 6: ENTRY & ~PRESENT},
    }

    def read(pfn: int) -> bytes:
        return struct.pack("<512Q", *[memory[pfn].get(index, 0) for index in range(512)])

    walk = walk_kernel(read, 1, 4)
    base = 0xFFFF_FFFF_C000_0000
    assert {pfn: table.level for pfn, table in walk.tables.items()} == {1: 4, 2: 3, 3: 2, 4: 1}
    assert walk.tables[4].start == base
    assert walk.leaves == [
        (base + 5 * PAGE, ENTRY, 1),
        (base + (1 << 21), 0x200000 | HUGE | PRESENT, 2),
    ]


def test_struct_pages() -> None:
    untyped = struct.pack("<6Q2iQ", 1 << 16, 0, 0, 0xF00, 0, 0, 3, 1024, 0)
    buddy = struct.pack("<6Q2iQ", 0, 0xFFFF_EA00_0000_0041, 0, 0, 0, 0, -129, 0, 0)
    first, second = parse_pages(untyped + buddy)
    assert (first.flags, first.mapping, first.mapcount, first.references) == (
        1 << 16,
        0xF00,
        3,
        1024,
    )
    assert not first.has_type and not first.is_tail
    assert second.has_type and second.is_tail
