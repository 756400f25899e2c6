"""``python -m tools.bench``: boot a machine for each row, print the table, keep the samples."""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, run

BENCH = BUILD / "bench"


def measure(kernel: str, memory: str, samples: int) -> dict[str, Any]:
    """One row: a boot, *samples* pairs of stops in it.

    :raises VmError: the machine or the sampling failed
    """
    row_file = BENCH / "row.json"
    row_file.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", "tools.bench.guest", str(row_file), str(samples)]
    result = run(VmConfig(kernel=kernel, memory=memory, timeout_s=900, name="bench"), command)
    if result.status:
        raise VmError(f"sampling on {kernel} with {memory} failed ({result.status})")
    row: dict[str, Any] = json.loads(row_file.read_text())
    row["accelerator"] = result.accelerator
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    """Medians in ms, and the ratio of the two medians: what to compare between machines."""
    shown = Table("kernel", "RAM GiB", "CPUs", "empty ms", "eager ms", "eager/empty", "ms/GiB")
    for row in rows:
        empty = statistics.median(row["empty_stop_ns"])
        eager = statistics.median(row["eager_stop_ns"])
        shown.add_row(
            row["kernel"],
            f"{row['ram_gib']:.2f}",
            str(row["cpus"]),
            f"{empty / 1e6:.2f}",
            f"{eager / 1e6:.1f}",
            f"{eager / empty:.0f}",
            f"{eager / 1e6 / row['ram_gib']:.1f}",
        )
    return shown


@click.command()
@click.option("--kernel", default="6.1", show_default=True)
@click.option("--memory", "sizes", multiple=True, default=("1G", "2G", "4G"), show_default=True)
@click.option("--samples", default=15, show_default=True, help="Pairs of stops in each boot.")
def main(kernel: str, sizes: tuple[str, ...], samples: int) -> None:
    """Downtime of strategy eager against an empty stop, interleaved in one boot per size."""
    BENCH.mkdir(parents=True, exist_ok=True)
    try:
        rows = [measure(kernel, memory, samples) for memory in sizes]
    except VmError as error:
        click.echo(f"bench: error: {error}", err=True)
        sys.exit(1)
    (BENCH / "downtime.json").write_text(json.dumps(rows, indent=1) + "\n")
    Console().print(table(rows))
    click.echo(f"medians of {samples}; samples in {BENCH / 'downtime.json'}")


if __name__ == "__main__":
    main()
