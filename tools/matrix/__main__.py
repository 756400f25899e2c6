"""``python -m tools.matrix``: the guest tests marked `smoke`, on machine after machine."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, run
from tools.vm.config import Disk
from tools.vm.lines import LineSink
from tools.vm.machines import Machine, every, pairwise

MATRIX = BUILD / "matrix"
_TIMEOUT_S = 1500.0  # one CPU, emulated, beside other machines: ten minutes and more
_CLOSING = re.compile(r"=+ (.*(?:passed|failed|error).*) in .*=+")


def run_one(machine: Machine) -> dict[str, Any]:
    """Boot it, run the tests; what came of it. The output is in build/matrix/NAME.log."""
    lines: list[str] = []
    config = VmConfig(
        kernel=machine.kernel,
        la57=machine.la57,
        cpus=machine.cpus,
        append=machine.kernel_args,
        disks=(Disk(MATRIX / "disk.img", 3 << 30),),
        timeout_s=_TIMEOUT_S,
        name=f"matrix-{machine.name}",
    )
    command = [str(PYTHON), "-m", "pytest", "tests/guest", "-m", "smoke"]
    started = time.monotonic()
    try:
        sink = LineSink(lines.append)
        status, error = run(config, command, sink, sink).status, ""
    except VmError as failure:
        status, error = failure.exit_status, str(failure)
    (MATRIX / f"{machine.name}.log").write_text("\n".join([*lines, error]) + "\n")
    said = [match[1] for line in lines if (match := _CLOSING.search(line))]
    return {
        **machine.__dict__,
        "name": machine.name,
        "preempt": machine.preempt,
        "status": status,
        "tests": said[-1] if said else (error.splitlines() or ["no test ran"])[0],
        "seconds": round(time.monotonic() - started, 1),
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """One row a machine."""
    shown = Table("kernel", "levels", "pti", "preempt", "CPUs", "result", "tests", "s")
    for row in rows:
        shown.add_row(
            row["kernel"],
            "5" if row["la57"] else "4",
            "on" if row["pti"] else "off",
            row["preempt"],
            str(row["cpus"]),
            "ok" if row["status"] == 0 else f"FAILED ({row['status']})",
            row["tests"],
            f"{row['seconds']:.0f}",
        )
    return shown


@click.command()
@click.option("--full", is_flag=True, help="All combinations instead of all pairs of values.")
@click.option("--list", "only_list", is_flag=True, help="Only print the machines' names.")
@click.option("--only", help="Machines whose name contains this.")
def main(full: bool, only_list: bool, only: str | None) -> None:
    """Run the guest tests marked `smoke` on a matrix of machines; exit status 1 if any failed."""
    machines = [m for m in (every() if full else pairwise()) if not only or only in m.name]
    if only_list or not machines:
        for machine in machines:
            click.echo(machine.name)
        sys.exit(0 if machines else 1)
    MATRIX.mkdir(parents=True, exist_ok=True)
    rows = []
    for machine in machines:
        rows.append(run_one(machine))
        (MATRIX / "matrix.json").write_text(json.dumps(rows, indent=1) + "\n")
        click.echo(f"{machine.name}: {rows[-1]['tests']} (status {rows[-1]['status']})")
    Console().print(table(rows))
    failed = sum(row["status"] != 0 for row in rows)
    click.echo(f"matrix: {len(rows) - failed} of {len(rows)} machines passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
