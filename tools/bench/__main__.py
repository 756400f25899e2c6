"""``python -m tools.bench``: measure, show tables, keep the samples in build/bench/."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from tools.bench import chart, costs, downtime
from tools.bench.downtime import BENCH, MACHINES
from tools.vm import VmError

Targets = list[tuple[str, float, bool]]


def measure_downtime(console: Console, only: str | None, samples: int) -> Targets:
    """A boot for each machine whose name contains *only*."""
    rows: list[downtime.Row] = []
    for machine in MACHINES:
        if only and only not in machine.name:
            continue
        rows.append(downtime.measure(machine, samples))
        downtime.write(rows)
    console.print(downtime.table(rows))
    console.print(downtime.profile(rows))
    chart.write(rows, BENCH / "downtime.html")
    return downtime.targets(rows)


def measure_faults(console: Console) -> Targets:
    """Three boots."""
    found = costs.measure()
    costs.write(found)
    console.print(costs.table(found))
    console.print(costs.slowdown_table(found))
    return costs.targets(found)


@click.command()
@click.option("--only", type=click.Choice(["downtime", "fault"]), help="One of the two parts.")
@click.option("--machine", help="Downtime of machines whose name contains this, e.g. '8G'.")
@click.option("--samples", default=15, show_default=True, help="Of each kind in each boot.")
def main(only: str | None, machine: str | None, samples: int) -> None:
    """What the stop, a fault and a held snapshot cost; targets are shown, not enforced."""
    BENCH.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    found: Targets = []
    try:
        if only != "fault":
            found += measure_downtime(console, machine, samples)
        if only != "downtime":
            found += measure_faults(console)
    except VmError as error:
        click.echo(f"bench: error: {error}", err=True)
        sys.exit(1)
    for text, value, met in found:
        click.echo(f"{'met   ' if met else 'MISSED'} {value:6.2f}  {text}")
    click.echo(f"medians of {samples} samples a kind; all samples are in {BENCH}")


if __name__ == "__main__":
    main()
