"""Downtime samples inside one boot, interleaved: an empty stop, strategy eager, strategy lazy.

``python -m tools.bench.guest FILE SAMPLES ROW`` writes the row to FILE, anew after each round.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from livedump import receipt
from livedump.session import Session
from tools.bench import module, summary
from tools.bench.rows import BY_NAME, Row

PHASES = tuple(f"{name}_ns" for name in summary.PHASES)
#: Fields of the report that are kept of every sample beside the phases.
COUNTS = (
    "prepare_ns",
    "stops_ns",
    "entries_protected",
    "entries_by_level",
    "entries_armed",
    "entries_closed",
    "recopied",
    "attempts",
    "nmis",
)
#: Fields that say what was covered, kept of the last sample.
COVERED = ("pages_ram", "pages_own", "pages_unreadable", "pages_live", "pages_saved_stop")


def empty_sample(_row: Row) -> dict[str, Any]:
    """An empty stop: its time, and the phases it has."""
    return module.empty_stop()._asdict()


def snapshot_sample(strategy: str, row: Row) -> dict[str, Any]:
    """A snapshot that is released at once: the report's times and counts.

    :raises RuntimeError: something was lost, so that the sample is none
    """
    with Session(strategy=strategy, pool_bytes=row.pool_bytes) as session:
        assert session.taken
        report = session.taken.report
        final = session.release().report
    if any(final[name] for name in receipt.LOST) or final["tables_left"]:
        raise RuntimeError(f"{strategy}: pages lost, or tables left: {final}")
    sample = {name: report[name] for name in ("stop_ns", *PHASES[:-1], *COUNTS, *COVERED)}
    sample["exit_ns"] = sample["stop_ns"] - sum(sample[name] for name in PHASES[:-1])
    sample["release_ns"] = final["release_ns"]
    return sample


def eager_sample(row: Row) -> dict[str, Any]:
    """Strategy eager."""
    return snapshot_sample("eager", row)


def lazy_sample(row: Row) -> dict[str, Any]:
    """Strategy lazy."""
    return snapshot_sample("lazy", row)


SAMPLERS: dict[str, Callable[[Row], dict[str, Any]]] = {
    "empty": empty_sample,
    "eager": eager_sample,
    "lazy": lazy_sample,
}


def add_sample(result: dict[str, Any], name: str, sample: dict[str, Any]) -> None:
    """Sort one sample into the row."""
    result.setdefault(f"{name}_stop_ns", []).append(sample.pop("stop_ns"))
    covered = {key: sample.pop(key) for key in COVERED if key in sample}
    if covered:
        result.setdefault("covered", {})[name] = covered
    for key, value in sample.items():
        result.setdefault("phases", {}).setdefault(name, {}).setdefault(key, []).append(value)


def take_round(result: dict[str, Any], row: Row, number: int) -> None:
    """One sample of each, beginning with another one each time."""
    names = list(SAMPLERS)
    first = number % len(names)
    for name in names[first:] + names[:first]:
        add_sample(result, name, SAMPLERS[name](row))


@contextlib.contextmanager
def surroundings(row: Row) -> Iterator[None]:
    """The threads and the vmalloc memory that the row asks for."""
    module.control(f"vmalloc {row.vmalloc_gib << 10}")
    if not row.extra_threads:
        yield
        return
    command = [sys.executable, "-m", "tools.bench.threads", str(row.extra_threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the threads did not start")
        yield
        process.stdin.close()


def describe(row: Row) -> dict[str, Any]:
    """What the machine is, as seen from inside."""
    return {
        "name": row.name,
        "kernel": platform.release(),
        "module": Path("/sys/module/livedump/srcversion").read_text().strip(),
        "ram_gib": row.ram_gib,
        "cpus": os.cpu_count(),
        "threads": sum(1 for _ in Path("/proc").glob("[0-9]*/task/*")),
        "vmalloc_gib": row.vmalloc_gib,
        "clock": module.clock()._asdict(),
    }


def main() -> None:
    """Warm up with a round that is thrown away, then sample."""
    target, count, row = Path(sys.argv[1]), int(sys.argv[2]), BY_NAME[sys.argv[3]]
    with module.loaded(), surroundings(row):
        take_round({}, row, 0)
        result = describe(row)
        for number in range(count):
            take_round(result, row, number)
            print(f"bench: {row.name}: {number + 1} of {count}", file=sys.stderr, flush=True)
            target.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
