"""What a copy-on-write fault costs inside one boot, against a bare copy and a plain write.

``python -m tools.bench.fault FILE ROUNDS``. In a machine that counts instructions (-icount) the
cycles are instructions.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from livedump.session import Session
from tools.bench import module
from tools.bench.guest import PHASES, lazy_sample
from tools.bench.rows import POOL_BYTES, Row

BLOCKS = 32
STOPS = 7


def to_cycles(clock: module.Clock, value_ns: int) -> int:
    """Of the counter, which livedump has turned into ns."""
    return round(value_ns * clock.tsc_khz / 1e6)


def sort_touches(
    found: dict[str, Any], prefix: str, touches: list[module.Touch], clock: module.Clock
) -> None:
    """Add those that livedump handled to the lists of *found*; count the others."""
    for touch in touches:
        if not touch.total_ns:
            found["without_fault"] = found.get("without_fault", 0) + 1
            continue
        name = f"{prefix}_first" if touch.page == 0 else f"{prefix}_next"
        values = {
            "write": touch.cycles,
            "demote": to_cycles(clock, touch.demote_ns),
            "copy": to_cycles(clock, touch.copy_ns),
            "handler": to_cycles(clock, touch.total_ns),
        }
        for key, value in values.items():
            found.setdefault(f"{name}_{key}", []).append(value)


def take_round(found: dict[str, Any], clock: module.Clock) -> None:
    """Plain writes, bare copies, and writes while a snapshot is held."""
    found.setdefault("plain_write", []).extend(touch.cycles for touch in module.touch())
    found.setdefault("bare_copy", []).extend(module.copy())
    with Session(strategy="lazy", pool_bytes=POOL_BYTES):
        touches = module.touch()
    sort_touches(found, "fault", touches, clock)


def stops(found: dict[str, Any]) -> None:
    """Empty and lazy stops: where instructions are counted, free of the host's noise."""
    for _ in range(STOPS):
        empty = module.empty_stop()
        lazy = lazy_sample(Row(2))
        for phase, value in empty._asdict().items():
            found.setdefault(f"empty_{phase}", []).append(value)
        found.setdefault("lazy_stop_ns", []).append(lazy["stop_ns"])
        for phase in (*PHASES, "recopied"):
            found.setdefault(f"lazy_{phase}", []).append(lazy[phase])
        found["entries_by_level"] = lazy["entries_by_level"]


def main() -> None:
    """Warm up with a round that is thrown away, then sample."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with module.loaded():
        module.control(f"blocks {BLOCKS}")
        clock = module.clock()
        cycles: dict[str, Any] = {}
        take_round({}, clock)
        for _ in range(rounds):
            take_round(cycles, clock)
        found: dict[str, Any] = {
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "clock": clock._asdict(),
            "cycles": cycles,
            "stop": {},
        }
        stops(found["stop"])
        target.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
