"""The module tests/guest/kmod/livedump_bench.c from Python."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("/proc/livedump_bench")


def control(command: str) -> None:
    """``first``, ``near``, ``copy``, ``loop`` or ``vmalloc MIB``."""
    (FOLDER / "control").write_text(command)


def samples(command: str) -> list[int]:
    """Run the command; cycles of the time stamp counter, a number for each write or copy."""
    control(command)
    return [int(line) for line in (FOLDER / "samples").read_text().split()]


def tsc_khz() -> int:
    """Cycles in a millisecond."""
    return int((FOLDER / "tsc_khz").read_text())
