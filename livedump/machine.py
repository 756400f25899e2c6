"""What a machine is like, and why the module would take no snapshot of it.

Everything is read below :attr:`Machine.root`, so that tests can feed it fake trees.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from livedump.control import Control, Controller

#: As in kmod/session.c: the default pool is this part of RAM, at least so large, and so much must
#: stay free beside it.
POOL_DIVISOR = 4
MIN_POOL_BYTES = 64 << 20
MIN_FREE_BYTES = 64 << 20

_SANITIZERS = ("KASAN", "KMSAN", "KCOV", "GCC_PLUGIN_STACKLEAK", "KSTACK_ERASE")
_WANTED = ("VMAP_STACK", "SPARSEMEM_VMEMMAP")
_TRUE = ("1", "y", "Y", "on")


@dataclass(frozen=True)
class Distribution:
    """An installed Python distribution, looked at without importing it."""

    name: str
    version: str
    summary: str


def installed_distribution(name: str) -> Distribution | None:
    """The distribution *name* that pip would see, None when there is none."""
    import importlib.metadata  # slow

    try:
        data = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Distribution(name, data["Version"] or "", data["Summary"] or "")


def module_origin(name: str) -> str | None:
    """Where ``import name`` would come from, without importing it; None when nowhere."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None else None


@dataclass(frozen=True)
class Machine:
    """What can be looked at; every part can be replaced by tests."""

    root: Path = Path("/")
    release: str = field(default_factory=platform.release)
    arch: str = field(default_factory=platform.machine)
    euid: int = field(default_factory=os.geteuid)
    module_path: str | None = None
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    which: Callable[[str], str | None] = shutil.which
    distribution: Callable[[str], Distribution | None] = installed_distribution
    origin: Callable[[str], str | None] = module_origin
    control: Callable[[], Controller] = Control

    def path(self, name: str) -> Path:
        """*name* (absolute, without the slash) below the root."""
        return self.root / name

    def read(self, name: str) -> str | None:
        """The file's text, None when it is missing or not readable."""
        try:
            return self.path(name).read_text(errors="replace")
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """What is in a folder, nothing when it is missing or not readable."""
        try:
            return os.listdir(self.path(folder))
        except OSError:
            return []

    @property
    def loaded(self) -> bool:
        """The module is loaded."""
        return self.path("sys/module/livedump").is_dir()

    @cached_property
    def config(self) -> dict[str, str] | None:
        """The running kernel's build options, None when not to be found."""
        modules = f"lib/modules/{self.release}"
        # Debian's 7.1 and later have it beside the modules.
        places = (f"boot/config-{self.release}", f"{modules}/config", f"{modules}/build/.config")
        text = next((text for text in map(self.read, places) if text is not None), None)
        if text is None:
            return None
        return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))

    def has(self, option: str) -> bool:
        """The kernel is known to be built with that option."""
        return (self.config or {}).get(option) == "y"

    def parameter(self, name: str) -> str:
        """The last value of a parameter of the kernel's command line, empty without one."""
        text = self.read("proc/cmdline") or ""
        found = re.findall(rf"(?:^|\s){re.escape(name)}=(\S+)", text)
        return str(found[-1]) if found else ""

    def cpu_flags(self) -> list[str]:
        """The first CPU's flags, none when they are not to be found."""
        flags = re.search(r"^flags\s*:(.*)$", self.read("proc/cpuinfo") or "", re.MULTILINE)
        return flags.group(1).split() if flags else []

    def memory(self) -> dict[str, int]:
        """/proc/meminfo in bytes."""
        text = self.read("proc/meminfo") or ""
        found = re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
        return {key: int(kib) << 10 for key, kib in found}


def default_pool_bytes(ram_bytes: int) -> int:
    """The module's default for copies of pages; see default_pool() in kmod/session.c."""
    return max(ram_bytes // POOL_DIVISOR, MIN_POOL_BYTES)


@dataclass(frozen=True)
class Finding:
    """The module would refuse this machine, or may do so.

    :ivar refusal: enum livedump_refusal in lower case, see :mod:`livedump.refusals`
    :ivar certain: False when it cannot be told from here
    """

    refusal: str
    words: str
    certain: bool = True


def _xen_pv(machine: Machine) -> str:
    if (machine.read("sys/hypervisor/type") or "").strip() != "xen":
        return ""
    guest = (machine.read("sys/hypervisor/guest_type") or "").strip()
    return "a Xen PV guest" if guest in ("PV", "") else ""


def _encrypted(machine: Machine) -> str:
    devices = any(machine.path(f"dev/{name}").exists() for name in ("sev-guest", "tdx_guest"))
    return "a guest with encrypted memory" if devices or "tdx_guest" in machine.cpu_flags() else ""


def _preempt_rt(machine: Machine) -> str:
    running = (machine.read("sys/kernel/realtime") or "").strip() == "1"
    return "a PREEMPT_RT kernel" if running or machine.has("PREEMPT_RT") else ""


def _built(what: str, names: list[str]) -> str:
    options = ", ".join(f"CONFIG_{name}" for name in names)
    return f"the kernel was built {what} {options}" if names else ""


def _sanitizer(machine: Machine) -> str:
    return _built("with", [name for name in _SANITIZERS if machine.has(name)])


def _config(machine: Machine) -> str:
    if machine.config is None:
        return ""
    return _built("without", [name for name in _WANTED if not machine.has(name)])


def _debug_pagealloc(machine: Machine) -> str:
    if machine.config is not None and not machine.has("DEBUG_PAGEALLOC"):
        return ""
    default = "on" if machine.has("DEBUG_PAGEALLOC_ENABLE_DEFAULT") else "off"
    on = (machine.parameter("debug_pagealloc") or default) in _TRUE
    return "debug_pagealloc is on" if on else ""


def _cpa_debug(machine: Machine) -> str:
    return _built("with", ["CPA_DEBUG"] if machine.has("CPA_DEBUG") else [])


def _nohz_full(machine: Machine) -> str:
    cpus = (machine.read("sys/devices/system/cpu/nohz_full") or "").strip()
    if cpus in ("", "(null)"):
        cpus = machine.parameter("nohz_full")
    return f"CPUs {cpus} run without a tick" if cpus else ""


def _percpu_pages(machine: Machine) -> str:
    return (
        "per-CPU memory is in vmalloc space" if machine.parameter("percpu_alloc") == "page" else ""
    )


def _tsc(machine: Machine) -> str:
    flags = machine.cpu_flags()
    return "the CPU has no time stamp counter" if flags and "tsc" not in flags else ""


def _hugetlb_vmemmap(machine: Machine) -> str:
    value = (machine.read("proc/sys/vm/hugetlb_optimize_vmemmap") or "0").strip()
    return "vm.hugetlb_optimize_vmemmap is on" if value != "0" else ""


def _kvm_guest(machine: Machine) -> Finding | str:
    """debugfs has a folder PID-FD for each virtual machine; without it, kvm's users are known."""
    if machine.names("sys/kernel/debug"):
        names = machine.names("sys/kernel/debug/kvm")
        count = sum(bool(re.fullmatch(r"\d+-\d+", name)) for name in names)
        return f"{count} virtual machines run on it" if count else ""
    users = re.findall(
        r"^(kvm_amd|kvm_intel) \d+ ([1-9]\d*) ", machine.read("proc/modules") or "", re.MULTILINE
    )
    words = "cannot tell whether a virtual machine runs: {} is in use, debugfs is not readable"
    return Finding("kvm_guest", words.format(users[0][0]), certain=False) if users else ""


#: How to find, without the module, what it refuses a machine for; in its order. What is not here
#: only the module itself can see.
LOOKS: Mapping[str, Callable[[Machine], Finding | str]] = {
    "xen_pv": _xen_pv,
    "encrypted": _encrypted,
    "preempt_rt": _preempt_rt,
    "sanitizer": _sanitizer,
    "config": _config,
    "debug_pagealloc": _debug_pagealloc,
    "cpa_debug": _cpa_debug,
    "nohz_full": _nohz_full,
    "percpu_pages": _percpu_pages,
    "tsc": _tsc,
    "kvm_guest": _kvm_guest,
    "hugetlb_vmemmap": _hugetlb_vmemmap,
}


def findings(machine: Machine) -> Iterator[Finding]:
    """Everything that the module would refuse *machine* for, found without it."""
    for refusal, look in LOOKS.items():
        found = look(machine)
        if isinstance(found, Finding):
            yield found
        elif found:
            yield Finding(refusal, found)
