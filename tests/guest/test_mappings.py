"""Each way in which a driver maps the kernel's pages for user space: saved before, or said."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump import abi
from livedump.dump import open_image
from livedump.session import Session
from tools import witness

POOL = 64 << 20
PAGES = 8
MODULE = "livedump_mapper"
FOLDER = Path("/proc") / MODULE
BEFORE, AFTER = b"\xb4" * mmap.PAGESIZE, b"\xaf" * mmap.PAGESIZE


@pytest.fixture(scope="module", autouse=True)
def mapper() -> Iterator[None]:
    """The module that maps, from the folder of the others."""
    witness.insert(MODULE, os.environ["LIVEDUMP_KO"])
    yield
    witness.remove(MODULE)


def store(way: str) -> None:
    """User space maps the pages and fills them."""
    with (FOLDER / way).open("r+b", buffering=0) as file:
        with mmap.mmap(file.fileno(), PAGES * mmap.PAGESIZE) as mapped:
            for page in range(PAGES):
                mapped[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = AFTER


def frames() -> list[int]:
    """The page frames of the pages."""
    return [int(line) for line in (FOLDER / "pages").read_text().split()]


@pytest.mark.smoke
@pytest.mark.parametrize("way", ["remap", "page", "pfn", "prot", "mixed"])
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


@pytest.mark.smoke
def test_what_a_drivers_own_function_maps_is_unseen() -> None:
    with Session(pool_bytes=POOL) as session:
        with (FOLDER / "apply").open("r+b", buffering=0) as file:
            mmap.mmap(file.fileno(), PAGES * mmap.PAGESIZE).close()
        final = session.release()
    assert final.report["mappings_unseen"] >= 1
    assert final.verdict == "unproven"
