"""Downtime samples inside one boot, interleaved: an empty stop, then a snapshot."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from livedump import kmod
from livedump.session import Session
from tools import witness

PHASES = ("rendezvous_ns", "save_ns", "protect_ns", "flush_ns")


def sample(count: int) -> dict[str, Any]:
    """*count* pairs of samples; the first snapshot, which splits large pages, is left out."""
    row: dict[str, Any] = {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "threads": sum(1 for _ in Path("/proc").glob("[0-9]*/task/*")),
        "empty_stop_ns": [],
        "eager_stop_ns": [],
        **{f"eager_{phase}": [] for phase in PHASES},
    }
    with Session():
        pass
    for _ in range(count):
        row["empty_stop_ns"].append(witness.empty_stop_ns())
        with Session() as session:
            assert session.taken
            report = session.taken.report
        row["eager_stop_ns"].append(report["stop_ns"])
        for phase in PHASES:
            row[f"eager_{phase}"].append(report[phase])
        row["ram_gib"] = round(report["pages_ram"] / (1 << 18), 2)
        row["entries"] = report["entries_protected"]
    return row


def main() -> None:
    """Load, sample, unload; the row goes to the file that is our argument."""
    kmod.load(kmod.find_module())
    witness.insert("livedump_witness", os.environ["LIVEDUMP_KO"])
    try:
        row = sample(int(sys.argv[2]))
    finally:
        witness.remove("livedump_witness")
        kmod.unload()
    Path(sys.argv[1]).write_text(json.dumps(row))


if __name__ == "__main__":
    main()
