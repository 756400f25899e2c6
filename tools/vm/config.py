"""What a machine is made of, and boot flags, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tools.vm.machines import FULL

#: On every kernel command line. Later options win, so users' own come after these.
KERNEL_ARGS = (
    "loglevel=7",  # after virtme-ng's "quiet loglevel=1"
    "oops=panic",  # with virtme-ng's panic=-1: a broken guest ends at once
    "printk.devkmsg=on",  # do not drop what tests write to the log
    "tsc=reliable",  # an emulated CPU lacks constant_tsc; else the clock source is the slow HPET
)

#: Modules that udev's coldplug would load and nobody needs (measured: 5 s of 15 under emulation).
MODULE_BLACKLIST = (
    # virtualisation inside the guest, power
    *("kvm", "kvm_amd", "kvm_intel", "ccp", "powernow_k8", "acpi_cpufreq", "button"),
    # checksums and ciphers in assembler
    *("aesni_intel", "crc32_pclmul", "crct10dif_pclmul", "ghash_clmulni_intel"),
    *("sha1_ssse3", "sha256_ssse3", "sha512_ssse3"),
    # disks and optical drives that the machine type brings along
    *("ahci", "sg", "sr_mod", "floppy"),
    # input, graphics, sound, buses
    *(
        "bochs",
        "drm",
        "evdev",
        "psmouse",
        "serio_raw",
        "pcspkr",
        "snd_pcsp",
        "i2c_i801",
    ),
    # watchdogs and other chips
    *("iTCO_wdt", "i6300esb", "lpc_ich", "qemu_fw_cfg"),
)

#: QEMU's emulated CPU. `max` has 5-level page tables; without ERMS the kernel clears and copies by
#: 8 bytes where TCG emulates each step of a string instruction (docs/decisions/026).
EMULATED_CPU = "max,erms=off"
#: QEMU's CPU model by accelerator.
CPU_MODEL = {"kvm": "host", "tcg": EMULATED_CPU, "tcg-single": EMULATED_CPU}
ACCELERATOR = {"kvm": "kvm", "tcg": "tcg,thread=multi", "tcg-single": "tcg,thread=single"}

#: Options for QEMU beside those of virtme-ng.
QEMU_ARGS = ("-nodefaults", "-no-user-config")

#: A host that takes free pages, and empties them.
BALLOON = ("-device", "virtio-balloon-pci,free-page-reporting=on")

#: Seconds after which a guest that has not started CMD never will.
NOT_READY_SECONDS = 150.0

#: Seconds a probe boot under KVM may take before we believe that it never ends.
KVM_PROBE_SECONDS = 20.0


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """``"4G"`` -> 4294967296. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if not match:
        raise ValueError(f"{text!r} is no size: write 512M or 4G")
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Disk:
    """A raw virtio-blk disk. With a size, `path` is made anew: sparse and all zeros."""

    path: Path
    size_bytes: int | None = None


@dataclass(frozen=True)
class VmConfig:
    """One machine. Everything has a default; `kernel` is a series or an exact release."""

    kernel: str = FULL
    memory: str = "2G"
    cpus: int = 2
    la57: bool = True
    disks: tuple[Disk, ...] = ()
    append: tuple[str, ...] = ()
    timeout_s: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    qemu_args: tuple[str, ...] = ()  # after all others
    build_kmod: bool = True
    test_kmod: bool = False  # the module's test build (kmod/test.h)
    accelerator: str | None = None  # "kvm", "tcg"; None: what a probe boot proves
    name: str | None = None  # folder below build/vm; None: the series


@dataclass(frozen=True)
class VmResult:
    """What a run came to. `status` is CMD's exit status."""

    status: int
    kernel_log: Path
    seconds_to_ready: float
    accelerator: str
    release: str
