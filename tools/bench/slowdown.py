"""How much slower a load gets while a snapshot is held: alternating phases in one boot.

``python -m tools.bench.slowdown FILE ROUNDS``. One generator at a time, without a pause between its
steps; a phase is counted second by second, because first writes come first.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from livedump.session import Session
from tools.bench import module
from tools.guest.load import network
from tools.guest.load.mixed import files, processes

PHASE_SECONDS = 5
SETTLE_SECONDS = 1.0
POOL_BYTES = 512 << 20

LOADS = {"process": processes, "file": files, "network": network.exchange}


def count_steps(load: Iterator[None]) -> list[int]:
    """Steps in each second of a phase."""
    begin = time.monotonic()
    counts = [0] * PHASE_SECONDS
    while (second := int(time.monotonic() - begin)) < PHASE_SECONDS:
        next(load)
        counts[second] += 1
    return counts


def alternate(load: Iterator[None], rounds: int) -> dict[str, list[Any]]:
    """Phases without and with a held snapshot, and the faults of the latter."""
    found: dict[str, list[Any]] = {"free": [], "held": [], "faults": [], "fault_total_ns": []}
    count_steps(load)
    for _ in range(rounds):
        found["free"].append(count_steps(load))
        with Session(strategy="lazy", pool_bytes=POOL_BYTES) as session:
            found["held"].append(count_steps(load))
            report = session.status().report
        if report["pages_lost"]:
            raise RuntimeError("the pool is too small for this load")
        for key in ("faults", "fault_total_ns"):
            found[key].append(report[key])
        time.sleep(SETTLE_SECONDS)
    return found


def main() -> None:
    """All loads, one after the other."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    found: dict[str, Any] = {"kernel": platform.release(), "phase_seconds": PHASE_SECONDS}
    with module.loaded(), network.namespace(), network.server():
        for name, load in LOADS.items():
            found[name] = alternate(load(), rounds)
            print(f"bench: slowdown: {name} done", file=sys.stderr, flush=True)
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
