"""Reads of the image that meet a first write of the same page, on purpose. In the guest.

Left to chance, a drain hardly ever reads a page in the very microseconds in which it is saved. Here
the module's test build waits in both places (kmod/test.h), while one thread reads a page of the
image and another stores into the page. What was read goes into the dump, for the host to judge.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from livedump.dump import Layout, open_image

PAGES = 48
_PARAMETERS = Path("/sys/module/livedump/parameters")
_DELAYS, _DELAYED = _PARAMETERS / "delay_us", _PARAMETERS / "delay_pfn"
#: Busy waits in us at copied, published, read, demote, for every other page in turn. A reader waits
#: 50 ms before it reads in place; the writer comes meanwhile. Either its store is done by then: the
#: reader must look again. Or it is still being saved: what is published must be copied. Only at the
#: page in question: khugepaged, zeroing 2 MiB meanwhile, would wait 512 times, and did.
_WAITS = ("0,0,50000,0", "0,80000,50000,0")
_WRITE_AFTER_S = 0.005
_PFN_MASK = (1 << 55) - 1
_AT_INSTANT, _LATER = b"\x11", b"\x22"


class Ambush:
    """Pages of a file on tmpfs: written before the instant, and by nobody until :meth:`run`."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        os.pwrite(self._fd, _AT_INSTANT * (PAGES * mmap.PAGESIZE), 0)
        self._pfns = list(_page_frames(self._fd))

    def run(self, image_fd: int, disk: str) -> None:
        """Read each page once more while it is written, and put what was read into the dump."""
        with open_image(disk) as image:
            layout = image.layout
        before = _DELAYS.read_text()
        target = os.open(disk, os.O_WRONLY)
        try:
            for number, pfn in enumerate(self._pfns):
                _DELAYED.write_text(str(pfn))
                _DELAYS.write_text(_WAITS[number % len(_WAITS)])
                offset = offset_of(layout, pfn)
                os.pwrite(target, self._read_while_written(image_fd, offset, number), offset)
            os.fsync(target)
        finally:
            _DELAYS.write_text(before)
            _DELAYED.write_text("0")
            os.close(target)

    def _read_while_written(self, image_fd: int, offset: int, number: int) -> bytes:
        writer = threading.Thread(target=self._write, args=(number,))
        writer.start()
        data = os.pread(image_fd, mmap.PAGESIZE, offset)
        writer.join()
        return data

    def _write(self, number: int) -> None:
        time.sleep(_WRITE_AFTER_S)
        os.pwrite(self._fd, _LATER * mmap.PAGESIZE, number * mmap.PAGESIZE)


@contextmanager
def ambush() -> Iterator[Ambush]:
    """Make the file; it goes away with the block."""
    with tempfile.TemporaryFile(prefix="oracle-ambush-", dir="/tmp") as file:
        yield Ambush(file)


def _page_frames(fd: int) -> Iterator[int]:
    """Of the file's pages, from a mapping that is gone when they are known."""
    size = PAGES * mmap.PAGESIZE
    with mmap.mmap(fd, size) as mapped, open("/proc/self/pagemap", "rb", 0) as pagemap:
        for offset in range(0, size, mmap.PAGESIZE):
            mapped[offset : offset + 1] = _AT_INSTANT
        start = _address(mapped)
        for number in range(PAGES):
            place = start // mmap.PAGESIZE + number
            (entry,) = struct.unpack("<Q", os.pread(pagemap.fileno(), 8, place * 8))
            yield entry & _PFN_MASK


def _address(mapped: mmap.mmap) -> int:
    """Where it is mapped."""
    import ctypes

    view = ctypes.c_char.from_buffer(mapped)
    return ctypes.addressof(view)


def offset_of(layout: Layout, pfn: int) -> int:
    """Where the page lies in the image.

    :raises LookupError: nowhere
    """
    paddr = pfn * mmap.PAGESIZE
    for item in layout.ram:
        if item.paddr <= paddr < item.paddr + item.file_bytes:
            return item.offset + paddr - item.paddr
    raise LookupError(f"the image has no page {pfn:#x}")
