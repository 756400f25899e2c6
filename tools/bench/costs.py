"""fault.json: the boots that measure faults, and what their numbers say."""

from __future__ import annotations

import json
import statistics
from typing import Any

from rich.table import Table

from tools.bench.downtime import BENCH
from tools.paths import PYTHON
from tools.vm import VmConfig, VmError, run

_TIMEOUT_S = 900.0
#: One instruction is one nanosecond of the guest's clocks; no two virtual CPUs at once.
ICOUNT = ("-icount", "shift=0,sleep=off")

Costs = dict[str, Any]


def _boot(kind: str, **options: Any) -> Costs:
    file = BENCH / "costs.json"
    file.unlink(missing_ok=True)
    config = VmConfig(timeout_s=_TIMEOUT_S, name="bench", **options)
    result = run(config, [str(PYTHON), "-m", "tools.bench.fault", str(file), kind])
    if result.status:
        raise VmError(f"measuring {kind} failed ({result.status})")
    found: Costs = json.loads(file.read_text())
    return {**found, "accelerator": result.accelerator}


def measure() -> Costs:
    """Three boots: by time, by instructions, under load.

    :raises VmError: one of them failed
    """
    return {
        "time": _boot("costs"),
        "instructions": _boot("costs", cpus=1, accelerator="tcg-single", qemu_args=ICOUNT),
        "slowdown": _boot("slowdown"),
    }


def summary(costs: Costs) -> dict[str, float]:
    """Medians, in cycles or instructions: of a copy, and of a fault's handler and whole write."""
    cycles_per_ns: float = costs["tsc_khz"] / 1e6

    def handler(kind: str) -> float:
        means = [r[kind]["fault_total_ns"] / r[kind]["faults"] for r in costs["rounds"]]
        return float(statistics.median(means)) * cycles_per_ns

    def write(kind: str) -> float:
        return float(statistics.median(c for r in costs["rounds"] for c in r[kind]["write_cycles"]))

    return {
        "copy": statistics.median(costs["copy_cycles"]),
        "loop_1000": statistics.median(costs["loop_1000_cycles"]),
        "plain_write": statistics.median(costs["plain_write_cycles"]),
        "handler": handler("near"),
        "write": write("near"),
        "first_handler": handler("first"),
        "first_write": write("first"),
    }


_MEANING = {
    "copy": "copy_page() of 4 KiB, bare",
    "loop_1000": "a loop of 1,000 instructions",
    "plain_write": "a write while nothing is held",
    "handler": "our handler, page of a region that is split",
    "write": "the write that faults there, all in all",
    "first_handler": "our handler, first write to 2 MiB",
    "first_write": "the write that faults there, all in all",
}


def table(costs: Costs) -> Table:
    """By time and by instructions, with the ratio to a bare copy."""
    ways = {way: summary(costs[way]) for way in ("time", "instructions")}
    shown = Table("what", "ns", "x copy", "instructions", "x copy")
    per_ns = costs["time"]["tsc_khz"] / 1e6
    for name, meaning in _MEANING.items():
        time, count = ways["time"], ways["instructions"]
        shown.add_row(
            meaning,
            f"{time[name] / per_ns:,.0f}",
            f"{time[name] / time['copy']:.1f}",
            f"{count[name]:,.0f}",
            f"{count[name] / count['copy']:.1f}",
        )
    return shown


def slowdown_table(costs: Costs) -> Table:
    """Rates of the loads without and with a held snapshot."""
    shown = Table("load", "free steps/s", "held steps/s", "slowdown")
    for name, row in costs["slowdown"].items():
        if isinstance(row, dict):
            shown.add_row(
                name,
                f"{statistics.median(row['free_per_s']):.1f}",
                f"{statistics.median(row['held_per_s']):.1f}",
                f"{row['slowdown']:.2f}",
            )
    return shown


def targets(costs: Costs) -> list[tuple[str, float, bool]]:
    """What was wanted, what was measured, whether it is met."""
    count = summary(costs["instructions"])
    value = count["handler"] / count["copy"]
    return [("handler's instructions over a copy's, at most 3", value, value <= 3)]


def write(costs: Costs) -> None:
    """build/bench/fault.json"""
    (BENCH / "fault.json").write_text(json.dumps(costs, indent=1) + "\n")
