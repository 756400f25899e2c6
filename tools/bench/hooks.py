"""What the module's hooks cost while nothing is held: first touches of pages, which are where the
kernel calls a hooked function most often.

``python -m tools.bench.hooks FILE ROUNDS``, in a machine that counts instructions (-icount).
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from livedump.session import Session
from livedump.trace import bench
from tools.bench import module
from tools.bench.rows import POOL_BYTES

PAGES = 4096


def anonymous(rounds: int) -> list[float]:
    """Instructions of each first touch of a page of a process's own, of each round."""
    return bench.first_touches(PAGES, rounds, "thread_time_ns")


def shared(rounds: int) -> list[float]:
    """The same of a page of shared memory that is there, and is mapped."""
    found = []
    fd = os.memfd_create("livedump-bench")
    try:
        os.write(fd, bytes(PAGES * mmap.PAGESIZE))
        for _ in range(rounds):
            with mmap.mmap(fd, PAGES * mmap.PAGESIZE) as memory:
                memory.madvise(mmap.MADV_RANDOM)  # page by page: no fault around
                begun = time.thread_time_ns()
                for at in range(0, len(memory), mmap.PAGESIZE):
                    memory[at] = 1
                found.append((time.thread_time_ns() - begun) / PAGES)
    finally:
        os.close(fd)
    return found


def sample(rounds: int) -> dict[str, list[float]]:
    """Both kinds."""
    return {"anonymous": anonymous(rounds), "shared": shared(rounds)}


def measure(rounds: int) -> dict[str, Any]:
    """State by state; and the clock."""
    states = {"unloaded": sample(rounds)}
    with module.loaded():
        clock = module.clock()
        states["loaded"] = sample(rounds)
        with Session(pool_bytes=POOL_BYTES):
            pass
        states["armed"] = sample(rounds)
        with Session(pool_bytes=POOL_BYTES):
            states["held"] = sample(rounds)
        states["released"] = sample(rounds)
    states["unloaded_again"] = sample(rounds)
    return {"kernel": platform.release(), "clock": clock._asdict(), "states": states}


def main() -> None:
    """See the module."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    target.write_text(json.dumps(measure(rounds)))


if __name__ == "__main__":
    main()
