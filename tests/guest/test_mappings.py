"""Each way in which a driver maps the kernel's pages for user space: saved before, or said."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livedump import abi, receipt
from livedump.dump import open_image
from livedump.session import Session
from tools.guest import modules, witness
from tools.guest.kernel import IS_7

POOL = 64 << 20
PAGES = 8
MODULE = "livedump_mapper"
FOLDER = Path("/proc") / MODULE
DEVICE = Path("/dev") / MODULE
LARGE = 2 << 20
#: By mmap_prepare() where the kernel has it.
WAYS = ["remap", "page", "pfn", "prot", "mixed", *(["action"] if IS_7 else [])]
BEFORE, AFTER = b"\xb4" * mmap.PAGESIZE, b"\xaf" * mmap.PAGESIZE


@pytest.fixture(scope="module", autouse=True)
def mapper() -> Iterator[None]:
    """The module that maps, from the folder of the others."""
    with modules.inserted(MODULE):
        yield


def store(way: str) -> None:
    """User space maps the pages and fills them."""
    path = DEVICE if way == "action" else FOLDER / way
    with path.open("r+b", buffering=0) as file:
        with mmap.mmap(file.fileno(), PAGES * mmap.PAGESIZE) as mapped:
            for page in range(PAGES):
                mapped[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = AFTER


def frames() -> list[int]:
    """The page frames of the pages."""
    return [int(line) for line in (FOLDER / "pages").read_text().split()]


@pytest.mark.smoke
@pytest.mark.parametrize("way", WAYS)
def test_pages_are_saved_before_user_space_has_them(way: str) -> None:
    (FOLDER / "fill").write_bytes(BEFORE[:1])
    with Session(pool_bytes=POOL) as session:
        store(way)
        with open_image(abi.IMAGE_PATH) as image:
            held = [image.read(pfn * witness.PAGE, witness.PAGE) for pfn in frames()]
        final = session.release()
    assert held == [BEFORE] * PAGES
    assert final.report["pages_saved_hook"] >= PAGES
    assert final.verdict == "complete"


@contextlib.contextmanager
def large_page_mapped() -> Iterator[None]:
    """User space maps a large page, somewhere in an area of twice its size, and fills it."""
    with (FOLDER / "pmd").open("r+b", buffering=0) as file:
        with mmap.mmap(file.fileno(), 2 * LARGE) as mapped:
            first = ctypes.c_char.from_buffer(mapped)
            start = -ctypes.addressof(first) % LARGE
            del first
            mapped[start : start + LARGE] = AFTER[:1] * LARGE
            yield


@pytest.mark.smoke
def test_a_large_page_is_saved_before_user_space_has_it() -> None:
    (FOLDER / "fill").write_bytes(BEFORE[:1])
    pfn = int((FOLDER / "large").read_text())
    with Session(pool_bytes=POOL) as session:
        with large_page_mapped():
            pass
        with open_image(abi.IMAGE_PATH) as image:
            held = image.read(pfn * witness.PAGE, LARGE)
        final = session.release()
    assert held == BEFORE[:1] * LARGE
    assert final.report["pages_saved_hook"] >= LARGE // witness.PAGE
    assert final.verdict == "complete"


def unguarded() -> int:
    """Pages counted so, when all have been looked at."""
    with Session(pool_bytes=POOL) as session:
        for _ in range(300):
            report = session.status().report
            assert report
            if receipt.is_counted(report):
                return int(report["pages_unguarded"])
            time.sleep(0.1)
    raise AssertionError("not counted within 30 s")


@pytest.mark.smoke
def test_what_user_space_has_at_the_instant_is_unguarded() -> None:
    """Though nobody counts mappings in such an area (VM_PFNMAP)."""
    usual = unguarded()
    with large_page_mapped():
        with_it = unguarded()
    assert with_it > max(usual, unguarded()) + LARGE // witness.PAGE // 2


def map_by_a_function() -> None:
    """apply_to_page_range(): only the function knows what it maps."""
    with (FOLDER / "apply").open("r+b", buffering=0) as file:
        mmap.mmap(file.fileno(), PAGES * mmap.PAGESIZE).close()


def map_a_device() -> None:
    """memremap_pages(): new entries in the direct map."""
    (FOLDER / "device").write_text("1")


def map_struct_pages_anew() -> None:
    """Those of a huge page are mapped to one page, which vmemmap's tables say. It stays: 6.12 finds
    bad page states when one goes, without livedump, too (42 of them in an emulated machine)."""
    optimize, huge = (
        Path("/proc/sys/vm") / name for name in ("hugetlb_optimize_vmemmap", "nr_hugepages")
    )
    optimize.write_text("1")
    try:
        more = int(huge.read_text()) + 1
        huge.write_text(str(more))
        assert int(huge.read_text()) == more
    finally:
        optimize.write_text("0")


@pytest.mark.smoke
@pytest.mark.parametrize(
    "change", [map_by_a_function, map_a_device, map_struct_pages_anew], ids=lambda f: f.__name__
)
def test_what_cannot_be_followed_is_unseen(change: Callable[[], None]) -> None:
    with Session(pool_bytes=POOL) as session:
        change()
        final = session.release()
    assert final.report["mappings_unseen"] >= 1
    assert final.verdict == "unproven"
