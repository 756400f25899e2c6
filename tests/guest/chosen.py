"""Faults of which only some are to be recorded.

``python -m tests.guest.chosen READY PAGES CGROUP``

Once the file READY exists, touches PAGES pages as :data:`tests.guest.faults.TOUCHER`, as many under
its own name, moves to the cgroup CGROUP and touches as many again as TOUCHER. Writes getrusage's
minor faults of the first to READY.PID.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from pathlib import Path

from tests.guest.faults import touch


def main() -> None:
    """Do everything once."""
    ready, pages, cgroup = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    while not ready.exists():
        time.sleep(0.05)
    minor = touch(pages)
    with mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as more:
        more.madvise(mmap.MADV_NOHUGEPAGE)
        for offset in range(0, len(more), mmap.PAGESIZE):
            more[offset] = 1
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    touch(pages)
    partial = ready.with_name(f"partial.{os.getpid()}")
    partial.write_text(str(minor))
    partial.rename(f"{ready}.{os.getpid()}")


if __name__ == "__main__":
    main()
