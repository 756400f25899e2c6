"""Boots the machines and brings back what a module of this package found inside."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.bench.rows import Row
from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, config, run

BENCH = BUILD / "bench"

#: RAM of the machines on which preparation is measured.
PREPARED_GIB = (2, 8, 16)

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


def waited_s() -> float | None:
    """For how long some task of the host waited for a CPU since its boot; None if it cannot say."""
    pressure = Path("/proc/pressure/cpu")
    if not pressure.exists():
        return None
    return int(pressure.read_text().splitlines()[0].rpartition("=")[2]) / 1e6


def downtime(kernel: str, row: Row, samples: int) -> dict[str, Any]:
    """One row of downtime.json. ``host_pressure`` is the share of the run in which some task of the
    host waited for a CPU, None if unknown."""
    vm = VmConfig(
        kernel=kernel,
        memory=f"{row.ram_gib}G",
        cpus=row.cpus,
        timeout_s=row.timeout_s,
        name=f"bench-{row.name}",
        **private_modules(),
    )
    begin, waited = time.monotonic(), waited_s()
    found = measure(vm, "guest", str(samples), row.name)
    seconds, after = time.monotonic() - begin, waited_s()
    pressure = None if waited is None or after is None else round((after - waited) / seconds, 2)
    return {**found, "host_pressure": pressure, "host_cpus": os.cpu_count()}


def counting(vm: VmConfig) -> VmConfig:
    """The same machine with one CPU and a clock that counts its instructions: what it measures, no
    noise of the host disturbs. With a second CPU 6.1 does not boot: it hangs where that starts.
    """
    config.ACCELERATOR.setdefault(ICOUNT, "tcg,thread=single")
    config.CPU_MODEL.setdefault(ICOUNT, config.CPU_MODEL["tcg"])
    return replace(
        vm,
        cpus=1,
        accelerator=ICOUNT,
        qemu_args=(*vm.qemu_args, *ICOUNT_ARGS),
        name=f"{vm.name}-icount",
    )


def downtime_instructions(kernel: str, row: Row, samples: int) -> dict[str, Any]:
    """The same row in instructions instead of ns, of one CPU."""
    vm = VmConfig(
        kernel=kernel,
        memory=f"{row.ram_gib}G",
        cpus=row.cpus,
        timeout_s=2 * row.timeout_s,
        name=f"bench-{row.name}",
        **private_modules(),
    )
    return {**measure(counting(vm), "guest", str(samples), row.name), "host_pressure": None}


def fault_time(kernel: str, rounds: int) -> dict[str, Any]:
    """Costs of faults in time."""
    vm = VmConfig(kernel=kernel, timeout_s=600, name="bench-fault", **private_modules())
    return measure(vm, "fault", str(rounds))


def fault_instructions(kernel: str, rounds: int) -> dict[str, Any]:
    """The same in instructions, of one CPU."""
    vm = VmConfig(kernel=kernel, timeout_s=900, name="bench-fault", **private_modules())
    return measure(counting(vm), "fault", str(rounds))


def hooks(kernel: str, rounds: int) -> dict[str, Any]:
    """What hooks cost while nothing is held, in instructions of one CPU."""
    vm = VmConfig(kernel=kernel, timeout_s=900, name="bench-hooks", **private_modules())
    return measure(counting(vm), "hooks", str(rounds))


def preparation(kernel: str, rounds: int) -> dict[str, Any]:
    """How long a snapshot is prepared, by the machine's RAM: in time, and in instructions."""
    found: dict[str, Any] = {"time": [], "instructions": []}
    for gib in PREPARED_GIB:
        name = f"bench-preparation-{gib}g"
        memory = f"{gib}G"
        vm = VmConfig(kernel=kernel, memory=memory, timeout_s=900, name=name, **private_modules())
        for unit, machine in (("time", vm), ("instructions", counting(vm))):
            found[unit].append({**measure(machine, "preparation", str(rounds)), "ram_gib": gib})
    return found


def slowdown(kernel: str, rounds: int) -> dict[str, Any]:
    """A load's rates with and without a held snapshot."""
    vm = VmConfig(kernel=kernel, timeout_s=900, name="bench-slowdown", **private_modules())
    return measure(vm, "slowdown", str(rounds))


def tracing(kernel: str, rounds: int, erms: bool = False) -> dict[str, Any]:
    """What tracers cost, in instructions of one CPU: those of what reads them included, and no
    noise of the host, which comes to more than they do.

    :param erms: the kernel clears pages by ``rep stosb``, each byte of which counts as one
    """
    vm = VmConfig(
        kernel=kernel,
        timeout_s=3600,
        name="bench-tracing",
        qemu_args=("-cpu", "max") if erms else (),
        **private_modules(),
    )
    return {**measure(counting(vm), "tracing", str(rounds)), "erms": erms}
