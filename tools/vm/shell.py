"""An interactive root shell in a machine."""

from __future__ import annotations

import os

from tools.vm import bytecode, kernels
from tools.vm.accel import choose
from tools.vm.command import guest_command, qemu_command
from tools.vm.config import VmConfig
from tools.vm.machine import (
    build_kmod,
    claim_folder,
    guest_environment,
    make_disks,
    note,
    probe_boot,
    qemu,
    write_inputs,
)


def shell(config: VmConfig) -> None:
    """Boot a machine whose console is our terminal; returns when the machine is gone."""
    kernel = kernels.fetch(kernels.resolve(config.kernel))
    if config.build_kmod:
        build_kmod(kernel, config.test_kmod)
    accelerator, reason = choose(config.accelerator, probe_boot)
    note(f"Linux {kernel.release}, {accelerator}: {reason}")
    with claim_folder(config.name or f"shell-{config.kernel}") as run_dir:
        bytecode.ensure()
        make_disks(config)
        env = {
            **guest_environment(config, kernel),
            "TERM": os.environ.get("TERM", "vt100"),
        }
        write_inputs(run_dir, env, ["bash", "--norc", "-i"])
        starter = run_dir / "shell.sh"
        starter.write_text("#!/bin/bash\n" + guest_command(run_dir) + "\n")
        starter.chmod(0o755)
        command = qemu_command(config, kernel, run_dir, accelerator, script=False)
        with qemu(command, None, None, None) as process:
            process.wait()
