"""The direct map in what QEMU's `info tlb` prints."""

from __future__ import annotations

from tools.oracle.read.leaves import Leaf, differences, parse, sizes, split_by_kernel

PAGE = 4096

BASE = 0xFF11000000000000
TEXT = f"""\
00007f0000000000: 0000000000003000 X--DA--UW
{BASE:016x}: 0000000000000000 XG-DA---W
{BASE + 0x1000:016x}: 0000000000001000 XG------W
{BASE + 0x200000:016x}: 0000000000200000 XGPDA---W
{BASE + 0x400000:016x}: 0000000000400000 XGPDA----
{BASE + 0x40000000:016x}: 0000000040000000 XGPDA---W
{BASE + 0x80000000:016x}: 0000000080000000 XGPDA---W
{BASE + 0x80200000:016x}: 0000000080200000 XGPDA---W
ffffffff81000000: 0000000001000000 -GPDA----
"""


def test_only_the_direct_map_by_size() -> None:
    found = parse(TEXT)
    assert {leaf.address - leaf.frame for leaf in found} == {BASE}
    assert sizes(found) == {"4K": 2, "2M": 4, "1G": 1}
    assert parse("PG disabled") == []


def test_accessed_and_dirty_make_no_difference_but_all_else_does() -> None:
    before = parse(TEXT)
    assert differences(before, parse(TEXT.replace("XGPDA----", "XGP------"))) == []
    assert len(differences(before, parse(TEXT.replace("XGPDA----", "XGPDA---W")))) == 2
    gone = TEXT.replace(f"{BASE + 0x200000:016x}: 0000000000200000 XGPDA---W\n", "")
    assert differences(before, parse(gone)) == [f"gone {BASE + 0x200000:#x} XGP---W"]


def test_what_the_kernel_split_itself_is_as_it_was() -> None:
    large = Leaf(0xFF00_0000_0020_0000, 0x20_0000, "XGP---W")
    pieces = [
        Leaf(large.address + at, large.frame + at, "XG----W") for at in range(0, 2 << 20, PAGE)
    ]
    assert not differences(split_by_kernel([large], pieces, 1), pieces)
    # None of them by the kernel; and one whose pieces are not what it was.
    assert len(differences(split_by_kernel([large], pieces, 0), pieces)) == 513
    other = [*pieces[:-1], Leaf(pieces[-1].address, pieces[-1].frame, "XG-----")]
    assert len(differences(split_by_kernel([large], other, 1), other)) == 2
