"""The module tests/kmod/livedump_race.c from Python."""

from __future__ import annotations

from pathlib import Path

from livedump.dump import Image

FOLDER = Path("/proc/livedump_race")
PAGE = 4096


def control(command: str) -> None:
    """One of the commands at the top of the module's source."""
    (FOLDER / "control").write_text(command)


def nmis() -> int:
    """NMIs that wrote to a page."""
    return int((FOLDER / "nmis").read_text())


def pages(kind: str) -> list[int]:
    """Physical addresses of the ``race``, ``chain`` pages or 2 MiB ``block``s."""
    rows = [line.split() for line in (FOLDER / "pages").read_text().splitlines()]
    return [int(paddr, 16) for name, _number, paddr in rows if name == kind]


def word(image: Image, paddr: int, number: int = 0) -> int:
    """A word of the page, as the image has it."""
    return int.from_bytes(image.read(paddr + 8 * number, 8), "little")
