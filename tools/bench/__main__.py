"""``python -m tools.bench``: boot the machines, keep the samples, print tables and targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tools.bench import chart, machine, report, summary
from tools.bench.machine import BENCH
from tools.bench.rows import BY_NAME, Row
from tools.vm import VmError
from tools.vm.machines import FULL

DOWNTIME = BENCH / "downtime.json"
FAULT = BENCH / "fault.json"
HOOKS = BENCH / "hooks.json"
PREPARATION = BENCH / "preparation.json"
TRACING = BENCH / "tracing.json"
INSTRUCTIONS = BENCH / "downtime-instructions.json"  # as DOWNTIME, one CPU, no noise
CHART = BENCH / "downtime.svg"

#: Instructions hardly vary. An odd number: where another task ran before the stop's caller did, a
#: median of an even one may be of nothing that was seen.
COUNTED_SAMPLES = 5


def load_rows(path: Path) -> list[dict[str, Any]]:
    """What former runs have measured."""
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def merge(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with a new one in place of an older one of the same kernel; in the order of ROWS."""
    kept = [old for old in rows if (old["kernel"], old["name"]) != (row["kernel"], row["name"])]
    order = list(BY_NAME)
    return sorted([*kept, row], key=lambda each: (each["kernel"], order.index(each["name"])))


def run_rows(
    measure: Callable[[str, Row, int], dict[str, Any]],
    target: Path,
    kernel: str,
    rows: Iterable[Row],
    samples: int,
) -> list[str]:
    """Measure row by row; each is kept as soon as it is there. The errors of those that failed."""
    errors = []
    for row in rows:
        try:
            found = measure(kernel, row, samples)
        except VmError as error:
            errors.append(f"{row.name}: {error}")
            continue
        target.write_text(json.dumps(merge(load_rows(target), found), indent=1) + "\n")
    return errors


def run_one(
    measure: Callable[[str, int], dict[str, Any]], target: Path, kernel: str, rounds: int
) -> list[str]:
    """Measure what is no row, and keep it. The error, if it failed."""
    try:
        found = measure(kernel, rounds)
    except VmError as error:
        return [f"{target.stem}: {error}"]
    target.write_text(json.dumps(found, indent=1) + "\n")
    return []


def fault(kernel: str, rounds: int) -> dict[str, Any]:
    """Faults, and what they do to a load."""
    return {
        "time": machine.fault_time(kernel, rounds),
        "instructions": machine.fault_instructions(kernel, 2),
        "slowdown": machine.slowdown(kernel, rounds),
    }


def show(console: Console) -> None:
    """Print all that is kept, this run's and former ones'."""
    checks = []
    if rows := load_rows(DOWNTIME):
        console.print(report.downtime(rows), report.profile(rows))
        checks += summary.downtime_checks(rows)
        CHART.write_text(chart.svg(rows))
    if counted := load_rows(INSTRUCTIONS):
        unit = "millions of instructions of 1 CPU"
        console.print(report.downtime(counted, unit), report.profile(counted, unit))
    if FAULT.exists():
        found = json.loads(FAULT.read_text())
        console.print(report.faults(found), report.slowdown(found["slowdown"]))
        checks.append(summary.fault_check(found["instructions"]))
    if HOOKS.exists():
        found = json.loads(HOOKS.read_text())
        console.print(report.hooks(found))
        checks += summary.hooks_checks(found)
    if PREPARATION.exists():
        found = json.loads(PREPARATION.read_text())
        console.print(report.preparation(found))
        checks += summary.preparation_checks(found)
    if TRACING.exists():
        found = json.loads(TRACING.read_text())
        console.print(report.tracing(found))
        checks += summary.tracing_checks(found)
    console.print(report.targets(checks))


@click.command()
@click.option("--kernel", default=FULL, show_default=True)
@click.option(
    "--only",
    type=click.Choice(
        ["downtime", "instructions", "preparation", "fault", "hooks", "tracing", "show"]
    ),
    help="Part of it.",
)
@click.option(
    "--row",
    "names",
    multiple=True,
    type=click.Choice(list(BY_NAME)),
    default=tuple(BY_NAME),
    help="A machine for downtime; repeatable. Default: all.",
)
@click.option("--samples", default=15, show_default=True, help="Of each stop, in each boot.")
@click.option("--rounds", default=5, show_default=True, help="Of faults, and of each load.")
@click.option("--erms", is_flag=True, help="Tracing on a CPU with ERMS (docs/decisions/026).")
def main(
    kernel: str, only: str | None, names: tuple[str, ...], samples: int, rounds: int, erms: bool
) -> None:
    """Downtime of both strategies against an empty stop; how long a snapshot is prepared; costs of
    faults; slowdown while held; what hooks cost while nothing is; what tracing costs.

    Samples are kept in build/bench/, row by row: rows that are not measured again stay. With
    $LIVEDUMP_KO, modules from that folder are measured.

    \b
    Example:
      python -m tools.bench --only downtime --row 1g --row 8g --samples 5
    """
    BENCH.mkdir(parents=True, exist_ok=True)
    errors = []
    if only in (None, "downtime"):
        rows = [BY_NAME[name] for name in names]
        errors += run_rows(machine.downtime, DOWNTIME, kernel, rows, samples)
    if only in (None, "instructions"):
        sizes = [BY_NAME[name] for name in names if BY_NAME[name].cpus == 2]
        errors += run_rows(
            machine.downtime_instructions, INSTRUCTIONS, kernel, sizes, COUNTED_SAMPLES
        )
    if only in (None, "preparation"):
        errors += run_one(machine.preparation, PREPARATION, kernel, rounds)
    if only in (None, "fault"):
        errors += run_one(fault, FAULT, kernel, rounds)
    if only in (None, "hooks"):
        errors += run_one(machine.hooks, HOOKS, kernel, rounds)
    if only in (None, "tracing"):
        errors += run_one(partial(machine.tracing, erms=erms), TRACING, kernel, 3 * rounds)
    show(Console())
    for error in errors:
        click.echo(f"bench: error: {error}", err=True)
    click.echo(f"samples and chart: {BENCH}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
