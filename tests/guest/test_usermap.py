"""Stores of user space, past the direct map, into pages that it maps after the instant."""

from __future__ import annotations

import ctypes
import mmap
import struct
from pathlib import Path

import pytest

from livedump import abi
from livedump.dump import open_image
from livedump.session import Session
from tools.guest import witness

PAGES = 256
BEFORE, AFTER = b"\xb4" * mmap.PAGESIZE, b"\xaf" * mmap.PAGESIZE
_PRESENT, _PFN = 1 << 63, (1 << 55) - 1


def page_frames(mapped: mmap.mmap) -> list[int]:
    """The page frame of each page of a mapping that is in memory, from /proc/self/pagemap."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(start // mmap.PAGESIZE * 8)
        entries = struct.unpack(f"{PAGES}Q", pagemap.read(PAGES * 8))
    assert all(entry & _PRESENT for entry in entries)
    return [entry & _PFN for entry in entries]


@pytest.mark.smoke
def test_page_cache_mapped_after_the_instant_is_as_it_was(tmp_path: Path, strategy: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(BEFORE * PAGES)  # write(2): nothing maps it
    with path.open("r+b") as file, Session(pool_bytes=256 << 20, strategy=strategy) as session:
        mapped = mmap.mmap(file.fileno(), 0)
        for page in range(PAGES):
            mapped[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = AFTER
        frames = page_frames(mapped)
        with open_image(abi.IMAGE_PATH) as image:
            held = [image.read(pfn * witness.PAGE, witness.PAGE) for pfn in frames]
        report = session.status().report
    assert path.read_bytes() == AFTER * PAGES
    assert held == [BEFORE] * PAGES
    assert report["pages_saved_hook"] >= PAGES
