"""``python -m livedump.selftest.load FOLDER SECONDS``: forks, file writes, allocation churn.

In a process of its own, which dies with its parent. Its memory and files are bounded, and written
over and over: each page is copied once, so the pool need not be large.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FILES = 16
_FILE_BYTES = 256 << 10
_CHURN_BYTES = 4 << 20
_PAUSE_S = 0.002


def fork_once() -> None:
    """A child that writes to what it shares with us, and ends."""
    pid = os.fork()
    if not pid:
        block = bytearray(1 << 18)
        block[::4096] = b"\x01" * len(block[::4096])
        os._exit(0)
    os.waitpid(pid, 0)


def write_file(folder: Path, number: int) -> None:
    """Make, rename or rewrite one of a few files; each changes inodes and directory entries."""
    path = folder / str(number % _FILES)
    path.write_bytes(os.urandom(4096) * (_FILE_BYTES // 4096))
    if number % 3 == 0:
        path.rename(path.with_suffix(".old"))


def churn() -> None:
    """Take pages from the kernel, write to each, and give them back."""
    with mmap.mmap(-1, _CHURN_BYTES) as area:
        for offset in range(0, _CHURN_BYTES, 4096):
            area[offset] = 1


def run(folder: Path, seconds: float) -> int:
    """All of it in turns, for so long; how many turns were made."""
    deadline = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < deadline:
        fork_once()
        write_file(folder, turns)
        churn()
        turns += 1
        time.sleep(_PAUSE_S)
    return turns


def main() -> int:
    """Called by :class:`livedump.selftest.host.Host`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    run(Path(sys.argv[1]), float(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
