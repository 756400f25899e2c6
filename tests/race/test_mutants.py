"""Judges that cannot fail prove nothing: builds with one rule left out must be caught.

Here those whose race can be made certain; the oracle catches the others (`make oracle`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from livedump import abi
from livedump.control import Control
from livedump.dump import open_image
from livedump.session import Session
from tests.race.conftest import PARAMETERS, set_delays
from tests.race.provoke import PAGE, control, pages
from tests.race.test_races import POOL
from tools.guest import witness

ROUNDS = 6
#: A mutant's race may take so many to come; nearly always it is there in the first ones.
CHANCES = 30


@contextlib.contextmanager
def mutant(name: str) -> Iterator[None]:
    """The module with one rule left out (kmod/test.h)."""
    (PARAMETERS / "mutant").write_text(name)
    try:
        yield
    finally:
        (PARAMETERS / "mutant").write_text("none")


def image_of_races() -> list[bytes]:
    """Every race page as the image has it."""
    with open_image(abi.IMAGE_PATH) as image:
        return [image.read(paddr, PAGE) for paddr in pages("race")]


def changed_by_savers(value: int) -> int:
    """Pages of the image that change while all CPUs write them at the same moment."""
    with Session(pool_bytes=POOL, strategy="lazy"):
        before = image_of_races()
        set_delays(published=300)
        control(f"race {value}")
        set_delays()
        return sum(a != b for a, b in zip(before, image_of_races(), strict=True))


def changed_by_readers(value: int) -> int:
    """Pages that a reader gets wrong because they are written between its look and its copy.

    The writer is on its own: it overtakes the reader, who waits 3 ms over every page.
    """
    with Session(pool_bytes=POOL, strategy="lazy"), open_image(abi.IMAGE_PATH) as image:
        before = witness.image_values(image)
        set_delays(read=3000)
        writer = threading.Thread(target=witness.poke_all, args=(value,))
        writer.start()
        during = witness.image_values(image)
        writer.join()
        set_delays()
    return sum(
        a != b for row, values in before.items() for a, b in zip(values, during[row], strict=True)
    )


def changed_by_timers(_value: int) -> int:
    """Pages unlike the instant: a timer's interrupt wrote them right before the stop, and after."""
    with witness.writing(), Session(pool_bytes=POOL, strategy="lazy"):
        with open_image(abi.IMAGE_PATH) as image:
            return witness.wrong_pages(witness.image_values(image))


#: Fixed pages of two CPUs, and what the kernel may have opened by then: some hundreds.
FEW = 700


def writable_beside_fixed_pages(_value: int) -> int:
    """Pages of the direct map, beyond the fixed ones, that anybody may write unseen."""
    unseen = 0
    with Session(pool_bytes=POOL, strategy="lazy"):
        for page in witness.direct_map():
            ours = page & (witness.SOFTW1 | witness.SOFTW2)
            unseen += bool(page & witness.RW) and not ours
    return max(0, unseen - FEW)


def vanished_before_the_stop(_value: int) -> int:
    """Pages that are believed to be there, and have left the direct map before the stop."""
    control("change gone")
    try:
        with Session(pool_bytes=POOL, strategy="lazy"), open_image(abi.IMAGE_PATH) as image:
            image.read(pages("changing")[0], PAGE)
    finally:
        control("change none")
    with Control() as client:
        report = client.status().report
    assert report
    return int(report["pages_vanished"])


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("flush", changed_by_timers),
        ("publish", changed_by_savers),
        ("neighbours", writable_beside_fixed_pages),
        ("recheck", changed_by_readers),
        ("changes", vanished_before_the_stop),
        ("armed", changed_by_timers),
    ],
)
def test_mutant_is_caught(name: str, judge: Callable[[int], int]) -> None:
    assert sum(judge(value) for value in range(1, ROUNDS)) == 0, "the module itself is wrong"
    with mutant(name):
        # NMIs and scheduling decide when the race is on.
        assert any(judge(100 + value) for value in range(CHANCES)), f"mutant {name} survives"
