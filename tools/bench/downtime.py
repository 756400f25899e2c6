"""Downtime: the rows, and a boot for each."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, run

BENCH = BUILD / "bench"
STRATEGIES = ("eager", "lazy")
_TIMEOUT_S = 1500.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """A row before it is measured.

    :ivar threads: so many more threads sleep in the guest
    :ivar vmalloc_mib: so much memory is mapped by vmalloc() in 4 KiB pages
    """

    memory: str
    cpus: int = 2
    threads: int = 0
    vmalloc_mib: int = 0
    kernel: str = "6.1"

    @property
    def name(self) -> str:
        """What sets the row apart."""
        extra = f", {self.threads} threads" if self.threads else ""
        extra += f", {self.vmalloc_mib >> 10} GiB vmalloc" if self.vmalloc_mib else ""
        return f"{self.memory}, {self.cpus} CPUs{extra}"


MACHINES = (
    *(Machine(memory) for memory in ("1G", "2G", "4G", "8G", "16G")),
    Machine("4G", threads=5000),
    Machine("8G", vmalloc_mib=2048),
    Machine("4G", cpus=4),
)


def measure(machine: Machine, samples: int) -> Row:
    """Boot it and sample; the row.

    :raises VmError: the machine or the sampling failed
    """
    file = BENCH / "row.json"
    file.unlink(missing_ok=True)
    options = [str(file), str(samples), str(machine.threads), str(machine.vmalloc_mib)]
    config = VmConfig(
        kernel=machine.kernel,
        memory=machine.memory,
        cpus=machine.cpus,
        timeout_s=_TIMEOUT_S,
        name="bench",
    )
    result = run(config, [str(PYTHON), "-m", "tools.bench.guest", *options])
    if result.status:
        raise VmError(f"sampling on {machine.name} failed ({result.status})")
    row: Row = json.loads(file.read_text())
    return {"name": machine.name, **row, "accelerator": result.accelerator}


def median_ns(row: Row, name: str) -> float:
    """The median of a list of samples."""
    return float(statistics.median(row[name]))


def ratio(row: Row, above: str, below: str) -> float:
    """Median over median."""
    return median_ns(row, f"{above}_stop_ns") / median_ns(row, f"{below}_stop_ns")


def table(rows: list[Row]) -> Table:
    """Medians in ms and their ratios: what to compare between machines."""
    shown = Table(
        "machine", "empty ms", "eager ms", "lazy ms", "lazy/empty", "eager/lazy", "entries"
    )
    for row in rows:
        shown.add_row(
            row["name"],
            *(f"{median_ns(row, f'{kind}_stop_ns') / 1e6:.2f}" for kind in ("empty", *STRATEGIES)),
            f"{ratio(row, 'lazy', 'empty'):.1f}",
            f"{ratio(row, 'eager', 'lazy'):.0f}",
            f"{row['lazy_entries']:,}",
        )
    return shown


def profile(rows: list[Row]) -> Table:
    """Where the time of a lazy stop goes: medians in us."""
    phases = ("rendezvous", "save", "protect", "flush", "recopy", "exit")
    shown = Table("machine", *(f"{phase} us" for phase in phases), "copies")
    for row in rows:
        shown.add_row(
            row["name"],
            *(f"{median_ns(row, f'lazy_{phase}_ns') / 1e3:.0f}" for phase in phases),
            f"{statistics.median(row['lazy_recopied']):.0f}",
        )
    return shown


def targets(rows: list[Row]) -> list[tuple[str, float, bool]]:
    """What was wanted, what was measured, whether it is met."""
    found = [
        (f"lazy/empty at {row['name']}, at most 3", ratio(row, "lazy", "empty"), 3.0, True)
        for row in rows
    ]
    by_name = {row["name"]: row for row in rows}
    small, large = by_name.get("1G, 2 CPUs"), by_name.get("16G, 2 CPUs")
    if small and large:
        growth = ratio(large, "lazy", "empty") / ratio(small, "lazy", "empty")
        found.append(("lazy/empty at 16G over that at 1G, at most 1.3", growth, 1.3, True))
    if middle := by_name.get("8G, 2 CPUs"):
        found.append(("eager/lazy at 8G, at least 50", ratio(middle, "eager", "lazy"), 50.0, False))
    return [
        (text, value, value <= limit if below else value >= limit)
        for text, value, limit, below in found
    ]


def write(rows: list[Row]) -> Path:
    """build/bench/downtime.json, anew after each row."""
    file = BENCH / "downtime.json"
    file.write_text(json.dumps(rows, indent=1) + "\n")
    return file
