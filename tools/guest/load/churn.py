"""A load that rewrites much memory of the kernel's own: page cache of a tmpfs.

tools.guest.load alone changes too little of a gigabyte within one drain. Files are made before the
instant, so that their pages hold something then; they are overwritten by write(2), truncated and
made anew, so that pages are freed, zeroed and used for something else.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from livedump.control import Control
from livedump.errors import ControlError

FILE_BYTES = 1 << 20
PAUSE_S = 0.01
LOOK_S = 0.2


def fill(number: int) -> bytes:
    """A megabyte; every page of it differs from that of another round."""
    page = number.to_bytes(8, "little") * 512
    return page * (FILE_BYTES // len(page))


def rewrite(path: Path, number: int) -> None:
    """Overwrite in place, or every third time make the file anew."""
    if number % 3 == 0:
        path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, fill(number), 0)
    finally:
        os.close(fd)


def rewrite_mapped(path: Path, number: int) -> None:
    """Store into every page through a shared mapping that is made for it and goes away again."""
    fd = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(fd, FILE_BYTES) as mapped:
            for offset in range(0, FILE_BYTES, mmap.PAGESIZE):
                mapped[offset] = number & 0xFF
    finally:
        os.close(fd)


def is_held() -> bool:
    """A snapshot is; without the module there is none."""
    try:
        with Control() as control:
            return control.status().state == "holding"
    except ControlError:
        return False


def free_while_held(paths: list[Path], number: int) -> None:
    """Remove all files and drop the page cache when a snapshot is held; else have them.

    The kernel tells the host of pages that stay free for two seconds.
    """
    held = is_held()
    if held and paths[0].exists():
        for path in paths:
            path.unlink()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    elif not held and not paths[0].exists():
        for index, path in enumerate(paths):
            rewrite(path, number + index)
    time.sleep(LOOK_S)


def rewrite_next(paths: list[Path], number: int) -> None:
    """One of them, in turn."""
    rewrite(paths[number % len(paths)], number)
    time.sleep(PAUSE_S)


def rewrite_next_mapped(paths: list[Path], number: int) -> None:
    """The same through a mapping."""
    rewrite_mapped(paths[number % len(paths)], number)
    time.sleep(PAUSE_S)


STEPS: dict[str, Callable[[list[Path], int], None]] = {
    "": rewrite_next,
    "maps": rewrite_next_mapped,
    "frees": free_while_held,
}


def main() -> None:
    """``churn MIB [maps|frees]``: write so many files, say `ready`, do one step after another."""
    files, step = int(sys.argv[1]), STEPS["".join(sys.argv[2:])]
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    with tempfile.TemporaryDirectory(prefix="oracle-churn-", dir="/tmp") as folder:
        paths = [Path(folder) / str(index) for index in range(files)]
        for index, path in enumerate(paths):
            rewrite(path, index + 1)
        print("ready", flush=True)
        for number in count(files + 1):
            if stop:
                break
            step(paths, number)


if __name__ == "__main__":
    main()
