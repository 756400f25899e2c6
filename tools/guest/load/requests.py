"""A service with a switch that makes it slow.

``python -m tools.guest.load.requests SECONDS [--huge]``

Each request takes 2 MiB, writes to a few pages of it, and gives it back. With --huge the memory is
advised to be of large pages, as some allocators do: then the first write to it clears all 2 MiB.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import time
from pathlib import Path

import click

NAME = "ldservice"
_MIB = 1 << 20
_TOUCHED = 8


def serve(advice: int) -> None:
    """One request. 4 MiB, so that 2 MiB of it are aligned: all writes go to one large page."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 4 * _MIB, flags=flags) as memory:
        memory.madvise(advice)
        aligned = -address(memory) % (2 * _MIB)
        for number in range(_TOUCHED):
            memory[aligned + number * mmap.PAGESIZE * 3] = 1


def address(memory: mmap.mmap) -> int:
    """Where it begins. What is borrowed for this is given back: else it cannot be closed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@click.command()
@click.argument("seconds", type=float)
@click.option("--huge", is_flag=True, help="Ask for large pages.")
@click.option("--pause", default=0.002, show_default=True, help="Seconds between two requests.")
def main(seconds: float, huge: bool, pause: float) -> None:
    """Serve requests for a time; prints how many, and how long one took, in us."""
    Path("/proc/self/comm").write_text(NAME)
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter_ns()
        serve(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        took.append((time.perf_counter_ns() - begun) // 1000)
        time.sleep(pause)
    took.sort()
    shown = {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}
    print(json.dumps({"requests": len(took), **shown}))


if __name__ == "__main__":
    main()
