"""Sampling of kernel-owned pages, on fake files of /proc."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from livedump.selftest.pages import (
    PAGE_BYTES,
    SLAB,
    TABLE,
    KernelPages,
    LiveMemory,
    kind_of,
    ram_pfns,
    same,
)

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-003fffff : System RAM
  00200000-002fffff : Kernel code
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 MiB: slab in the odd pages, page tables in each fourth of the others."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "iomem").write_text(IOMEM)
    words = [1 << 7 if n % 2 else (1 << 26 if n % 4 else 1 << 5) for n in range(1024)]
    (proc / "kpageflags").write_bytes(struct.pack("<1024Q", *words))
    return tmp_path


def test_ram() -> None:
    assert ram_pfns(IOMEM) == [range(1, 0x9F), range(0x100, 0x400)]
    assert ram_pfns("00000000-00000000 : System RAM\n") == []


def test_kinds() -> None:
    assert [kind_of(1 << bit) for bit in (26, 7, 5, 12)] == [TABLE, SLAB, "", ""]


def test_sample(root: Path) -> None:
    found = KernelPages(root).sample(1 << 20)
    assert set(found) == {n for n in (*range(1, 0x9F), *range(0x100, 0x400)) if n % 2 or n % 4 == 2}
    assert {n % 2 for n, kind in found.items() if kind == SLAB} == {1}
    few = KernelPages(root).sample(10)
    assert sorted(few.values()) == sorted([TABLE] * 10 + [SLAB] * 10)


def test_pages_that_have_become_something_else(root: Path) -> None:
    pages = KernelPages(root)
    assert pages.still({1: SLAB, 2: TABLE, 4: SLAB, 6: SLAB}) == {1: SLAB, 2: TABLE}


def test_without_the_files(tmp_path: Path) -> None:
    assert KernelPages(tmp_path).sample(10) == {}
    assert KernelPages(tmp_path).still({1: SLAB}) == {}


def test_accessed_and_dirty_bits_of_tables_do_not_count() -> None:
    one = struct.pack("<512Q", *[0x1063] * 512)
    cleared = struct.pack("<512Q", *[0x1003] * 512)
    written = one[:8] + struct.pack("<Q", 0x2063) + one[16:]
    assert same(TABLE, one, one) and same(TABLE, one, cleared)
    assert not same(TABLE, one, written) and not same(TABLE, one, b"")
    assert same(SLAB, one, one) and not same(SLAB, one, cleared)


def test_live_memory(tmp_path: Path) -> None:
    path = tmp_path / "kcore"
    ident = b"\x7fELF\2\1\1"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.Struct("<IIQQQQQQ")
    vmalloc = load.pack(1, 7, 4096, 0, (1 << 64) - 1, 1 << 40, 1 << 40, 0)
    ram = load.pack(1, 7, 4096, 0, 0x100000, 8192, 8192, 0)
    path.write_bytes((header + vmalloc + ram).ljust(4096, b"\0") + b"A" * 4096 + b"B" * 4096)
    with LiveMemory(path) as live:
        assert live.read(0x101) == b"B" * PAGE_BYTES
        assert live.read(0x102) == b""
    (tmp_path / "text").write_text("no core")
    for other in ("missing", "text"):
        with LiveMemory(tmp_path / other) as live:
            assert live.read(0x101) == b""
