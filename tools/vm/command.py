"""From a VmConfig to QEMU's command line, by way of virtme-ng.

virtme-ng makes the initramfs, the 9p exports, the script ports and the kernel command line. We ask
it for all that (`--dry-run --show-command`) and start QEMU ourselves, because we must own the
process, to end it exactly, and because virtme-ng sends the kernel's console and CMD's stderr to the
same place.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.paths import BUILD, ROOT, VENV
from tools.vm.bytecode import PYCACHE
from tools.vm.config import (
    ACCELERATOR,
    CPU_MODEL,
    KERNEL_ARGS,
    MODULE_BLACKLIST,
    QEMU_ARGS,
    VmConfig,
)
from tools.vm.errors import VmError
from tools.vm.kernels import Kernel, find_tool

#: Trees that the guest mounts once more, with caching: tag, path.
CACHED_TREES = (
    ("livedump.usr", Path("/usr")),
    ("livedump.venv", VENV),
    ("livedump.pycache", PYCACHE),
)

GUEST_INIT = ROOT / "tools" / "vm" / "init.sh"
GUEST_SCRIPT = ROOT / "tools" / "vm" / "guest.sh"


def guest_command(run_dir: Path) -> str:
    """The shell command that starts CMD in the guest."""
    return shlex.join(
        ["exec", "bash", str(GUEST_SCRIPT), str(run_dir), str(VENV), str(PYCACHE), str(ROOT)]
    )


def virtme_command(config: VmConfig, kernel: Kernel, run_dir: Path, script: bool) -> list[str]:
    """The virtme-run command that prints QEMU's command line for this machine."""
    blacklist = "modprobe.blacklist=" + ",".join(MODULE_BLACKLIST)
    kernel_args = [*KERNEL_ARGS, blacklist, *config.append]
    return [
        str(VENV / "bin" / "virtme-run"),
        *(
            "--mods",
            "auto",
            "--kimg",
            str(kernel.image),
            "--save-initramfs",
            f"{run_dir}/initramfs",
        ),
        # The accelerator is our choice (tools.vm.accel); bookworm's virtiofsd does not fit.
        *("--disable-kvm", "--force-9p"),
        *("--name", "livedump", "--memory", config.memory, "--cpus", str(config.cpus)),
        *("--rwdir", str(BUILD), "--cwd", str(ROOT)),
        *(
            ["--script-sh", guest_command(run_dir), "--show-boot-console"]
            if script
            else ["--shell", f"{run_dir}/shell.sh"]
        ),
        *(f"--kopt={arg}" for arg in kernel_args),
        *("--dry-run", "--show-command"),
    ]


def quote(value: object) -> str:
    """A value inside one of QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def _disks(config: VmConfig) -> Iterator[str]:
    for index, disk in enumerate(config.disks):
        # cache=unsafe: the host's page cache is good enough, for the file never outlives the host.
        yield from (
            "-drive",
            f"if=none,id=disk{index},format=raw,cache=unsafe,file={quote(disk.path.absolute())}",
            "-device",
            f"virtio-blk-pci,drive=disk{index}",
        )


def _shares() -> Iterator[str]:
    for index, (tag, path) in enumerate(CACHED_TREES):
        yield from (
            "-fsdev",
            f"local,id=tree{index},path={quote(path)},security_model=none,readonly=on,"
            "multidevs=remap",
            "-device",
            f"virtio-9p-pci,fsdev=tree{index},mount_tag={tag}",
        )


def redirect(qemu: Sequence[str], files: dict[str, Path]) -> list[str]:
    """Let the file chardevs named in `files` write there instead of where virtme-ng meant to."""
    missing = set(files)
    result = []
    for arg in qemu:
        if (match := re.match(r"file,(?:.*,)?id=(\w+)", arg)) and match[1] in files:
            missing.discard(match[1])
            arg = f"file,id={match[1]},path={quote(files[match[1]])}"
        result.append(arg)
    if missing:
        raise VmError(f"virtme-ng's command line lacks the chardev {', '.join(sorted(missing))}")
    return result


def insert_init(qemu: Sequence[str]) -> list[str]:
    """Let our init.sh run first and start virtme-ng's init itself."""
    changed = [
        (
            re.sub(r" init=(\S+)", rf" livedump_init=\1 init={GUEST_INIT}", arg)
            if arg.startswith("virtme_hostname=")
            else arg
        )
        for arg in qemu
    ]
    if changed == list(qemu):
        raise VmError("virtme-ng's command line lacks init=")
    return changed


def qemu_command(
    config: VmConfig,
    kernel: Kernel,
    run_dir: Path,
    accelerator: str,
    script: bool = True,
) -> list[str]:
    """QEMU's argv for this machine; writes the initramfs into `run_dir`.

    With `script`, CMD runs by guest.sh; without, virtme-ng's interactive shell on the terminal.
    """
    find_tool("qemu-system-x86_64", "qemu-system-x86")
    (run_dir / "initramfs").unlink(missing_ok=True)
    made = subprocess.run(
        virtme_command(config, kernel, run_dir, script),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode or not made.stdout.strip():
        raise VmError(f"virtme-ng failed: {made.stderr.strip() or made.stdout.strip()}")
    log = run_dir / "kernel.log"
    files = {"console": log, "ret": run_dir / "ret"} if script else {"dmesg": log}
    la57 = "" if config.la57 else ",la57=off"
    return [
        *redirect(insert_init(shlex.split(made.stdout)), files),
        *QEMU_ARGS,
        *("-accel", ACCELERATOR[accelerator], "-cpu", CPU_MODEL[accelerator] + la57),
        *_shares(),
        *_disks(config),
        *config.qemu_args,
    ]
