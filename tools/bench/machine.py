"""Boots the machines and brings back what a module of this package found inside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tools.bench.rows import Row
from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, config, run

BENCH = BUILD / "bench"

#: One instruction is one cycle of the time stamp counter, 1 ns; needs a single thread of QEMU's.
ICOUNT_ARGS = ("-icount", "shift=0,sleep=off")
ICOUNT = "icount"


def measure(vm: VmConfig, script: str, *arguments: str) -> dict[str, Any]:
    """Run ``tools.bench.SCRIPT FILE ARGUMENTS`` in a machine; what it wrote to FILE.

    :raises VmError: the machine or the script failed
    """
    found = BENCH / f"{vm.name}.json"
    found.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", f"tools.bench.{script}", str(found), *arguments]
    result = run(vm, command)
    if result.status:
        raise VmError(f"{script} on {vm.kernel} with {vm.memory} failed ({result.status})")
    rows: dict[str, Any] = json.loads(found.read_text())
    found.unlink()
    return {**rows, "accelerator": result.accelerator}


def private_modules() -> dict[str, Any]:
    """With $LIVEDUMP_KO on the host, modules from there instead of those of this checkout."""
    folder = os.environ.get("LIVEDUMP_KO")
    if not folder:
        return {}
    return {"build_kmod": False, "env": {"LIVEDUMP_KO": str(Path(folder).resolve())}}


def downtime(kernel: str, row: Row, samples: int) -> dict[str, Any]:
    """One row of downtime.json, with the host's load before and after."""
    vm = VmConfig(
        kernel=kernel,
        memory=f"{row.ram_gib}G",
        cpus=row.cpus,
        timeout_s=row.timeout_s,
        name=f"bench-{row.name}",
        **private_modules(),
    )
    load = [os.getloadavg()[0]]
    found = measure(vm, "guest", str(samples), row.name)
    return {**found, "host_load": [*load, os.getloadavg()[0]], "host_cpus": os.cpu_count()}


def _counting() -> None:
    """Let tools.vm know the accelerator that -icount needs."""
    config.ACCELERATOR.setdefault(ICOUNT, "tcg,thread=single")
    config.CPU_MODEL.setdefault(ICOUNT, config.CPU_MODEL["tcg"])


def fault_time(kernel: str, rounds: int) -> dict[str, Any]:
    """Costs of faults in time."""
    vm = VmConfig(kernel=kernel, timeout_s=600, name="bench-fault", **private_modules())
    return measure(vm, "fault", str(rounds))


def fault_instructions(kernel: str, rounds: int) -> dict[str, Any]:
    """The same in instructions: one CPU, and a clock that counts what it does."""
    _counting()
    vm = VmConfig(
        kernel=kernel,
        cpus=1,
        timeout_s=900,
        name="bench-icount",
        accelerator=ICOUNT,
        qemu_args=ICOUNT_ARGS,
        **private_modules(),
    )
    return measure(vm, "fault", str(rounds))


def slowdown(kernel: str, rounds: int) -> dict[str, Any]:
    """A load's rates with and without a held snapshot."""
    vm = VmConfig(kernel=kernel, timeout_s=900, name="bench-slowdown", **private_modules())
    return measure(vm, "slowdown", str(rounds))
