"""Tables (rich) of what was measured, and of the targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from livedump.trace.bench import overheads
from tools.bench import summary


def _ms(values: Sequence[float]) -> str:
    return f"{statistics.median(values) / 1e6:.2f} ({min(values) / 1e6:.2f})"


def _busy(pressure: float | None) -> str:
    return "?" if pressure is None else f"{pressure:.0%}"


def downtime(rows: Sequence[dict[str, Any]], unit: str = "ms") -> Table:
    """Medians and minima of the stops, and their ratios."""
    stops = (f"{name} (min)" for name in ("empty", "lazy", "eager"))
    shown = Table("row", "n", *stops, title=f"Downtime, {unit}: medians")
    for column in ("lazy/empty", "of min", "eager/lazy", "of min", "host busy"):
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(
            row["name"],
            str(len(row["empty_stop_ns"])),
            *(_ms(row[f"{name}_stop_ns"]) for name in ("empty", "lazy", "eager")),
            f"{summary.ratio(row, 'lazy', 'empty'):.2f}",
            f"{summary.min_ratio(row, 'lazy', 'empty'):.1f}",
            f"{summary.ratio(row, 'eager', 'lazy'):.1f}",
            f"{summary.min_ratio(row, 'eager', 'lazy'):.1f}",
            _busy(row["host_pressure"]),
        )
    return shown


def profile(rows: Sequence[dict[str, Any]], unit: str = "ms") -> Table:
    """Where the time of a stop goes: medians of the phases."""
    shown = Table("row", "stop", *summary.PHASES, title=f"Profile of the stop, {unit}")
    for row in rows:
        for name in summary.STRATEGIES:
            found = summary.phases(row, name)
            values = (f"{found[p] / 1e6:.3f}" if p in found else "" for p in summary.PHASES)
            shown.add_row(row["name"], name, *values)
    return shown


def faults(found: dict[str, Any]) -> Table:
    """A fault in time and in instructions."""
    shown = Table("cost", "ns", "instructions", title="A copy-on-write fault, medians")
    time = summary.fault_costs(found["time"])
    scale = 1e6 / found["time"]["clock"]["tsc_khz"]
    count = summary.fault_costs(found["instructions"])
    for name in time._fields:
        ns, instructions = getattr(time, name) * scale, getattr(count, name)
        shown.add_row(name.replace("_", " "), f"{ns:,.0f}", f"{instructions:,.0f}")
    ratios = (f"{costs.handler_copy:.2f}" for costs in (time, count))
    shown.add_row("next handler / bare copy", *ratios)
    return shown


def slowdown(found: dict[str, Any]) -> Table:
    """Rates of loads. A slowdown within the spread of the free phases is none that was measured;
    the share of the time that livedump's handler took bounds it from below."""
    columns = ("load", "steps/s free", "(min - max)", "held", "slowdown", "first second", "handler")
    shown = Table(*columns, title="While a snapshot is held")
    for name in ("process", "file", "network"):
        load, seconds = found[name], found["phase_seconds"]
        free, held = ([sum(phase) / seconds for phase in load[kind]] for kind in ("free", "held"))
        share = statistics.median(load["fault_total_ns"]) / 1e9 / seconds
        shown.add_row(
            name,
            f"{statistics.median(free):.1f}",
            f"{min(free):.1f} - {max(free):.1f}",
            f"{statistics.median(held):.1f}",
            f"{summary.slowdown(load):.2f}",
            f"{summary.slowdown(load, slice(1)):.2f}",
            f"{share:.2%}",
        )
    return shown


def hooks(found: dict[str, Any]) -> Table:
    """First touches by what the module is doing."""
    title = "First touch of a page, instructions of one CPU: medians"
    shown = Table("page", *(state.replace("_", " ") for state in found["states"]), title=title)
    for what in summary.TOUCHED:
        costs = summary.hooks_costs(found, what)
        shown.add_row(what, *(f"{value:,.0f}" for value in costs.values()))
    return shown


def preparation(found: dict[str, Any]) -> Table:
    """By RAM: the whole, and its steps."""
    title = "Preparation of an idle machine, pool of 64 MiB, ms: medians"
    shown = Table("unit", "GiB", *found["time"][0]["prepare_ns"], title=title)
    for unit in ("time", "instructions"):
        for row in found[unit]:
            steps = (statistics.median(samples) / 1e6 for samples in row["prepare_ns"].values())
            shown.add_row(unit, str(row["ram_gib"]), *(f"{ms:,.1f}" for ms in steps))
    return shown


def tracing(found: dict[str, Any]) -> Table:
    """What tracers cost."""
    columns = (
        *("tracer", "touch", "+ recorder", "to none", "compiler", "web"),
        *("idle, %", "drift"),
    )
    shown = Table(
        *columns, title="Under a tracer, instructions of one CPU, the recorder's included"
    )
    costs = summary.tracing_costs(found)
    runs = {row["tracer"]: row for row in found["runs"]}
    for touch, *others in zip(*(overheads(costs, what) for what in summary.TRACED), strict=True):
        shown.add_row(
            touch.tracer,
            f"{statistics.median(runs[touch.tracer]['touch_ns']):,.0f}",
            f"{touch.median_ns:,.0f}",
            *(f"{each.ratio:.3f}" for each in (touch, *others)),
            f"{100 * runs[touch.tracer]['idle_share'][0]:.1f}",
            f"{max(each.drift for each in (touch, *others)):.2f}",
        )
    return shown


def targets(checks: Sequence[summary.Check]) -> Table:
    """Which targets are met."""
    shown = Table("target", "wanted", "measured", "", title="Targets")
    verdicts = {True: "met", False: "MISSED", None: "not proven"}
    for check in checks:
        verdict = verdicts[check.met] + (f": {check.note}" if check.note else "")
        shown.add_row(check.name, check.target, f"{check.value:.2f}", verdict)
    return shown
