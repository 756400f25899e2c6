"""A load with known counts, for tests of tracing: ``python -m tests.guest.faults PAGES``.

Touches PAGES pages under the name :data:`TOUCHER`, stops the machine by taking its second CPU, if
it has one, down, holds a snapshot while others write, and prints what it did as JSON.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
import time
from pathlib import Path

from livedump.abi import ReportDict
from livedump.control import Control
from livedump.session import Session
from tools.guest import witness

TOUCHER = "ldtouch"
POOL = 256 << 20

Numbers = dict[str, int]

_COMM = Path("/proc/self/comm")
_CPU = Path("/sys/devices/system/cpu/cpu1/online")


def touch(pages: int) -> int:
    """First touches of so many private pages; returns getrusage's minor faults for them."""
    before = _COMM.read_text()
    size = pages * mmap.PAGESIZE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        _COMM.write_text(TOUCHER)
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1
        minor = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start
        _COMM.write_text(before.strip())
    return minor


def hold(seconds: float) -> tuple[Numbers, Numbers]:
    """Hold a snapshot while pages are written and processes forked.

    :returns: its report right after the stop, and after release
    """
    with Session(pool_bytes=POOL) as session:
        assert session.taken
        taken = numbers(session.taken.report)
        witness.poke_all(0x5A)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
    with Control() as control:
        return taken, numbers(control.status().report)


def numbers(report: ReportDict) -> Numbers:
    """A report without its lists."""
    return {name: value for name, value in report.items() if isinstance(value, int)}


def main() -> None:
    """Do everything once."""
    pages = int(sys.argv[1])
    minor = touch(pages)
    if _CPU.exists():
        _CPU.write_text("0")
        _CPU.write_text("1")
    taken, released = hold(2.0)
    did = {"pid": os.getpid(), "minor": minor, "taken": taken, "released": released}
    print(json.dumps(did))


if __name__ == "__main__":
    main()
