"""In the guest: pages that the balloon takes while a snapshot is held, and what the image says.

Prints ``inflate`` when the host is to begin, then a line of JSON.
"""

from __future__ import annotations

import json
import mmap
import time

from livedump import abi
from livedump.dump import Image, open_image
from livedump.session import Session

PAGE = mmap.PAGESIZE
STAMP = b"\xb5" * PAGE
STAMPED = 64 << 20
#: Pages of what the host takes, nearly.
ENOUGH = (96 << 20) // PAGE
_PATIENCE_S = 120.0


def stamp() -> mmap.mmap:
    """Memory that the image must have as it was; once freed, the host is the first to get it."""
    mapped = mmap.mmap(-1, STAMPED)
    for _ in range(STAMPED // PAGE):
        mapped.write(STAMP)
    return mapped


def stamped(image: Image) -> int:
    """Pages of the image that bear the stamp."""
    found = 0
    for ram in image.ram:
        for at in range(ram.paddr, ram.paddr + ram.mem_bytes, 1 << 20):
            data = image.read(at, min(1 << 20, ram.paddr + ram.mem_bytes - at))
            found += sum(data[i : i + PAGE] == STAMP for i in range(0, len(data), PAGE))
    return found


def main() -> None:
    """One snapshot: count, let the host take pages, count again."""
    mapped = stamp()
    with Session(pool_bytes=320 << 20) as session, open_image(abi.IMAGE_PATH) as image:
        before = stamped(image)
        mapped.close()
        print("inflate", flush=True)
        end = time.monotonic() + _PATIENCE_S
        while session.status().report["pages_saved_hook"] < ENOUGH and time.monotonic() < end:
            time.sleep(0.5)
        after = stamped(image)
        final = session.release()
    found = {"before": before, "after": after, "verdict": final.verdict}
    print(json.dumps({**found, "saved": final.report["pages_saved_hook"]}))


if __name__ == "__main__":
    main()
