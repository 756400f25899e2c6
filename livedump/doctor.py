"""Checks of everything a snapshot needs, each with what to do about it.

Every check looks below :attr:`livedump.machine.Machine.root`, so that tests can feed it fake trees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from livedump import lockdown, refusals
from livedump.control import Status
from livedump.errors import LivedumpError, ModuleError, SelfTestError
from livedump.kmod import find_module, is_signed, signer
from livedump.machine import MIN_FREE_BYTES, Finding, Machine, default_pool_bytes, findings
from livedump.selftest.record import Identity, Record
from livedump.tested import TESTED, tested_with
from livedump.units import format_bytes

OK = "ok"
WARN = "warn"
FAIL = "fail"

_CAPABILITIES = {12: "CAP_NET_ADMIN", 17: "CAP_SYS_RAWIO", 21: "CAP_SYS_ADMIN"}
_CAP_SYS_MODULE = 16

#: Unexported symbols that the module cannot do without (kmod/compat.c);
#: tests/unit/test_doctor.py compares.
SYMBOLS = (
    "kallsyms_lookup_name",
    "init_mm",
    "_text",
    "_sdata",
    "_end",
    "cpa_lock",
    "set_memory_rw",
    "idle_task",
    "get_online_mems",
    "put_online_mems",
    "find_vm_area",
    "put_task_stack",
    "vmcoreinfo_data",
    "vmcoreinfo_size",
    "pcpu_base_addr",
    "pcpu_unit_size",
    "__per_cpu_end",
    "arch_task_struct_size",
    "pcpu_unit_offsets",
)

#: Functions that it hooks, by group (kmod/hooks/table.c): they are called differently in different
#: kernels, one of each group is enough.
HOOKS: Mapping[str, tuple[str, ...]] = {
    "ATTRIBUTES": ("__change_page_attr_set_clr",),
    "TEXT": ("__text_poke",),
    "VMAP_PAGES": ("vmap_small_pages_range_noflush",),
    "VMAP_RANGE": ("vmap_range_noflush",),
    "RMAP_ANON": ("page_add_anon_rmap", "folio_add_anon_rmap_ptes"),
    "RMAP_NEW_ANON": ("page_add_new_anon_rmap", "folio_add_new_anon_rmap"),
    "RMAP_FILE": (
        "page_add_file_rmap",
        "folio_add_file_rmap_range",
        "folio_add_file_rmap_ptes",
    ),
    "PFNMAP": ("remap_pfn_range",),
}

#: What symbols and probes need; the module itself refuses kernels without, see livedump/machine.py
#: for what it refuses at a snapshot.
_CONFIG_WANTED = ("KPROBES", "KALLSYMS_ALL", "TRACEPOINTS")


@dataclass(frozen=True)
class Check:
    """One prerequisite: ``status`` is ``"ok"``, ``"warn"`` or ``"fail"``."""

    name: str
    status: str
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """As plain values, for ``--json``."""
        return asdict(self)


def run(machine: Machine | None = None) -> list[Check]:
    """All checks, in the order in which problems are best solved."""
    machine = machine or Machine()
    return [check for function in CHECKS for check in function(machine)]


def check_architecture(machine: Machine) -> Iterator[Check]:
    """Only x86-64 is supported."""
    if machine.arch == "x86_64":
        yield Check("architecture", OK, "x86_64")
    else:
        yield Check("architecture", FAIL, f"{machine.arch}, only x86_64 is supported")


_SERIES = ", ".join(dict.fromkeys(row.tried for row in TESTED))


def check_kernel(machine: Machine) -> Iterator[Check]:
    """Whether anybody has tried this series; what it lacks, if anything, others find."""
    if rows := tested_with(machine.release):
        how = [f"Debian {row.userland} {'in full' if row.full else 'in short'}" for row in rows]
        message = f"{machine.release}: series {rows[0].tried} is tested on {', '.join(how)}"
        if "-cloud-" in machine.release:
            message += ", its cloud flavour in short"
        yield Check("kernel", OK, message)
    else:
        yield Check(
            "kernel",
            WARN,
            f"{machine.release}: never tested with this series",
            f"Try it in a virtual machine first, or use one of {_SERIES}; livedump selftest",
        )


def check_privileges(machine: Machine) -> Iterator[Check]:
    """Root, and the capabilities that containers like to take away."""
    remedy = "Run as root, outside of containers (sudo livedump ...)"
    if machine.euid != 0:
        yield Check("privileges", FAIL, f"running as user {machine.euid}, not root", remedy)
        return
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", machine.read("proc/self/status") or "", re.M)
    effective = int(found.group(1), 16) if found else 0
    missing = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        yield Check("privileges", FAIL, f"root, but without {', '.join(missing)}", remedy)
    elif not effective >> _CAP_SYS_MODULE & 1:
        yield Check("privileges", WARN, "root, but without CAP_SYS_MODULE: cannot load", remedy)
    else:
        yield Check("privileges", OK, "root with all capabilities needed")


def check_lockdown(machine: Machine) -> Iterator[Check]:
    """Kernel lockdown forbids reading kernel memory or loading unsigned modules."""
    text = machine.read(lockdown.PATH)
    if text is None:
        yield _unknown_lockdown(machine)
        return
    mode = lockdown.mode(text)
    if mode == lockdown.NONE:
        yield Check("lockdown", OK, "off")
    elif mode == lockdown.INTEGRITY:
        yield Check(
            "lockdown",
            WARN,
            "integrity: unsigned modules are refused",
            "Sign the module with an enrolled key (mokutil), or turn off Secure Boot",
        )
    else:
        yield Check(
            "lockdown",
            FAIL,
            f"{mode}: kernel memory must not be read",
            lockdown.REMEDY,
        )


def _unknown_lockdown(machine: Machine) -> Check:
    folder = Path(lockdown.PATH).parent
    if machine.path(lockdown.PATH).exists():
        why, remedy = f"/{lockdown.PATH} is not readable", "Run as root, outside of containers"
    elif machine.path(f"{folder}/lsm").exists():
        return Check("lockdown", OK, "not in this kernel")
    else:
        why, remedy = "securityfs is not mounted", f"mount -t securityfs securityfs /{folder}"
    return Check("lockdown", WARN, f"cannot tell: {why}", remedy)


def _secure_boot(machine: Machine) -> bool:
    for file in machine.path("sys/firmware/efi/efivars").glob("SecureBoot-*"):
        try:
            return file.read_bytes()[-1:] == b"\x01"
        except OSError:
            return False
    return False


def check_signature(machine: Machine) -> Iterator[Check]:
    """Whether the kernel insists on signed modules."""
    enforced = (machine.read("sys/module/module/parameters/sig_enforce") or "").strip() == "Y"
    if enforced:
        yield _check_signature(machine)
    elif _secure_boot(machine):
        yield Check(
            "signature",
            WARN,
            "Secure Boot is on: it may lock the kernel down",
            "If loading is refused, sign the module with an enrolled key (mokutil)",
        )
    else:
        yield Check("signature", OK, "not enforced")


#: In /proc/keys: a certificate's name, and its serial number or key.
_KEY = re.compile(r"asymmetri +(.*): [0-9a-f]+: X509\.")
_DKMS_KEY = "var/lib/dkms/mok.pub"


def _check_key(machine: Machine, text: str, name: str) -> Check:
    """Whether the kernel has the key that the module is signed with."""
    keys = _KEY.findall(machine.read("proc/keys") or "")
    if not keys or not name:
        return Check("signature", OK, f"{text}, ours has one")
    # The kernel's name of a certificate: its organisation, if it has one, before its own.
    if any(key == name or key.endswith(f": {name}") for key in keys):
        return Check("signature", OK, f"{text}, ours is by {name!r}, which this kernel knows")
    text += f", and this kernel does not know the key of {name!r}, which has signed ours"
    key = machine.root / _DKMS_KEY
    if key.exists() and name.encode() in key.read_bytes():
        return Check("signature", FAIL, text, f"mokutil --import /{_DKMS_KEY}, and reboot")
    # What an authority has issued may be enrolled by its own name, which is not looked at.
    return Check("signature", WARN, text, "If loading is refused: mokutil --import KEY.der, reboot")


def _check_signature(machine: Machine) -> Check:
    """Where the kernel takes signed modules only."""
    text, remedy = (
        "module signatures are enforced",
        "Sign the module with an enrolled key (mokutil)",
    )
    try:
        module = find_module(
            machine.module_path, release=machine.release, root=machine.root, environ=machine.environ
        )
        if is_signed(module.path):
            return _check_key(machine, text, signer(module.path))
    except ValueError as error:
        return Check("signature", WARN, f"{text}: {error}", "Install zstd, or look by modinfo")
    except (ModuleError, OSError):
        pass
    return Check("signature", FAIL, text, remedy)


def check_module(machine: Machine) -> Iterator[Check]:
    """The module: loaded, or there for this kernel."""
    if machine.loaded:
        yield Check("module", OK, "loaded")
        return
    try:
        module = find_module(
            machine.module_path, release=machine.release, root=machine.root, environ=machine.environ
        )
    except ModuleError as error:
        yield Check("module", FAIL, error.cause, error.remedy)
        return
    if module.release and module.release != machine.release:
        yield Check(
            "module",
            FAIL,
            f"{module.path} was built for {module.release}, this is {machine.release}",
            "Build it for this kernel: make kmod, or: dkms autoinstall",
        )
    else:
        yield Check("module", OK, f"{module.path} ({module.origin}), not loaded")


def check_headers(machine: Machine) -> Iterator[Check]:
    """Kernel headers: the module is built with them, BCC compiles against them."""
    build = machine.path(f"lib/modules/{machine.release}/build")
    if (build / "Makefile").exists() or (build / "include").is_dir():
        yield Check("headers", OK, str(build))
    else:
        yield Check(
            "headers",
            WARN,
            f"no {build}: the module cannot be built, livedump-trace cannot run",
            f"apt-get install linux-headers-{machine.release}",
        )


def check_bcc(machine: Machine) -> Iterator[Check]:
    """BCC is Debian's python3-bpfcc; PyPI's `bcc` is a crystal-lattice tool."""
    remedy = "apt-get install python3-bpfcc; use a venv of /usr/bin/python3 --system-site-packages"
    origin = machine.origin("bcc")
    if origin is None:
        yield Check("bcc", WARN, "not installed: livedump-trace cannot record", remedy)
        return
    folder = Path(origin).parent
    if not (folder / "libbcc.py").exists():
        other = machine.distribution("bcc")
        what = f" {other.version} ({other.summary})" if other else ""
        yield Check(
            "bcc",
            FAIL,
            f"{folder} is the wrong package: PyPI's bcc{what} is not the BPF Compiler Collection",
            f"pip uninstall bcc; {remedy}",
        )
        return
    yield Check("bcc", OK, str(folder))


def check_symbols(machine: Machine) -> Iterator[Check]:
    """kallsyms: the module looks up unexported symbols, symbolizers need addresses."""
    text = machine.read("proc/kallsyms")
    if not text:
        yield Check("symbols", FAIL, "no /proc/kallsyms", "Use a kernel with CONFIG_KALLSYMS=y")
        return
    lines = (line.split() for line in text.splitlines())
    known = {parts[2]: parts[0] for parts in lines if len(parts) >= 3}
    missing = [
        " or ".join(names)
        for names in (*((name,) for name in SYMBOLS), *HOOKS.values())
        if known.keys().isdisjoint(names)
    ]
    if missing:
        yield Check(
            "symbols",
            FAIL,
            f"kallsyms has no {', '.join(missing)}",
            f"Use a kernel with CONFIG_KALLSYMS_ALL=y of a tested series ({_SERIES})",
        )
    elif not any(int(address, 16) for address in known.values()):
        restrict = (machine.read("proc/sys/kernel/kptr_restrict") or "?").strip()
        yield Check(
            "symbols",
            WARN,
            f"kallsyms shows only zeros (kptr_restrict is {restrict}): stacks have no names",
            "sysctl kernel.kptr_restrict=1, and run as root",
        )
    else:
        yield Check("symbols", OK, f"all {len(SYMBOLS) + len(HOOKS)} found")


def check_tracepoint(machine: Machine) -> Iterator[Check]:
    """The tracepoint that the module's probe sits on."""
    name = "events/exceptions/page_fault_kernel"
    places = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
    if any(machine.path(f"{place}/{name}").is_dir() for place in places):
        yield Check("tracepoint", OK, "exceptions:page_fault_kernel")
    elif not any(machine.path(f"{place}/events").is_dir() for place in places):
        yield Check(
            "tracepoint",
            WARN,
            "tracefs is not mounted: cannot tell, livedump-trace needs it",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        )
    else:
        yield Check(
            "tracepoint",
            FAIL,
            "the kernel has no tracepoint exceptions:page_fault_kernel",
            f"Use a kernel with CONFIG_TRACEPOINTS=y of a tested series ({_SERIES})",
        )


def check_machine(machine: Machine) -> Iterator[Check]:
    """What the module refuses a snapshot for: it is asked, or looked for where it cannot be."""
    found = list(findings(machine))
    status = _ask(machine)
    if status is not None:
        yield _asked(status, found)
        return
    for item in found:
        severity = FAIL if item.certain else WARN
        yield Check(item.refusal, severity, item.words, refusals.remedy(item.refusal))
    if not found:
        yield Check("machine", OK, "nothing found that a snapshot would be refused for")


def _ask(machine: Machine) -> Status | None:
    """The module's status, None where it is not loaded or does not tell us."""
    if not machine.loaded:
        return None
    try:
        with machine.control() as control:
            return control.status()
    except LivedumpError:
        return None


def _asked(status: Status, found: list[Finding]) -> Check:
    name = status.machine
    if name == "none":
        return Check("machine", OK, "the module refuses nothing about it")
    words = next((f": {item.words}" for item in found if item.refusal == name), "")
    return Check(name, FAIL, f"the module refuses it ({name}){words}", refusals.remedy(name))


def check_options(machine: Machine) -> Iterator[Check]:
    """Build options without which the module cannot find its way."""
    config = machine.config
    if config is None:
        yield Check(
            "options",
            WARN,
            f"no /boot/config-{machine.release}: cannot tell what the kernel has",
            "The module checks again when it is loaded, and at each snapshot",
        )
        return
    missing = [f"CONFIG_{name}" for name in _CONFIG_WANTED if config.get(name) != "y"]
    if missing:
        yield Check(
            "options",
            FAIL,
            f"the kernel was built without {', '.join(missing)}",
            "Use a stock Debian kernel",
        )
    else:
        yield Check("options", OK, "all build options as needed")


def check_init_on_alloc(machine: Machine) -> Iterator[Check]:
    """With init_on_alloc off, pages that DMA reuses change without a fault."""
    value = machine.parameter("init_on_alloc")
    enabled = value in ("1", "y", "on") if value else machine.has("INIT_ON_ALLOC_DEFAULT_ON")
    if enabled:
        yield Check("init_on_alloc", OK, "on")
    else:
        yield Check(
            "init_on_alloc",
            WARN,
            "off: free pages that devices write to while a snapshot is held are not saved",
            "Boot with init_on_alloc=1",
        )


def _hypervisor(machine: Machine) -> str:
    kind = (machine.read("sys/hypervisor/type") or "").strip()
    if kind:
        return kind
    if "hypervisor" not in machine.cpu_flags():
        return "none"
    name = (machine.read("sys/class/dmi/id/sys_vendor") or "").strip()
    return name or "unknown"


def check_hypervisor(machine: Machine) -> Iterator[Check]:
    """What it runs on, to be told in reports; which ones are refused: see :func:`check_machine`."""
    name = _hypervisor(machine)
    yield Check("hypervisor", OK, "bare metal" if name == "none" else f"a guest of {name}")


def check_memory(machine: Machine) -> Iterator[Check]:
    """Memory for the module's default pool of copies."""
    memory = machine.memory()
    total, free = memory.get("MemTotal"), memory.get("MemAvailable")
    if not total or free is None:
        yield Check("memory", WARN, "cannot read /proc/meminfo")
        return
    status = _ask(machine)
    asked = status.default_pool if status else 0
    pool = asked or default_pool_bytes(total)
    message = f"{format_bytes(free)} available, the default pool takes {format_bytes(pool)}"
    if free < pool + MIN_FREE_BYTES:
        yield Check("memory", WARN, message, refusals.remedy("pool_too_large"))
    else:
        yield Check("memory", OK, message)


def check_selftest(machine: Machine) -> Iterator[Check]:
    """Whether `livedump selftest` has passed with this kernel, module and CPU."""
    remedy = "Run: livedump selftest"
    try:
        path = find_module(
            machine.module_path, release=machine.release, root=machine.root, environ=machine.environ
        ).path
    except ModuleError:
        path = None
    try:
        found = Record(machine.root).find(Identity.of(machine.root, machine.release, path))
    except SelfTestError as error:
        yield Check("selftest", WARN, f"cannot tell: {error.cause}", error.remedy)
        return
    if found is None:
        yield Check("selftest", WARN, "not run with this kernel, module and CPU", remedy)
    elif not found.get("passed"):
        why = "; ".join(map(str, found.get("problems", []))) or "no reason is kept"
        yield Check("selftest", FAIL, f"failed on {found.get('when')}: {why}", remedy)
    else:
        ran = [name for name, value in found.get("exercised", {}).items() if value]
        message = f"passed on {found.get('when')}"
        yield Check("selftest", OK, f"{message}; exercised: {', '.join(ran) or 'nothing special'}")


def check_tools(machine: Machine) -> Iterator[Check]:
    """crash and drgn open dumps; they may live on another machine."""
    if machine.which("crash"):
        yield Check("crash", OK, str(machine.which("crash")))
    else:
        yield Check("crash", WARN, "not installed: needed to open dumps", "apt-get install crash")
    if machine.origin("drgn"):
        yield Check("drgn", OK, str(machine.origin("drgn")))
    else:
        yield Check("drgn", WARN, "not installed: needed to open dumps", "pip install drgn")


CHECKS: tuple[Callable[[Machine], Iterator[Check]], ...] = (
    check_architecture,
    check_kernel,
    check_privileges,
    check_lockdown,
    check_signature,
    check_module,
    check_headers,
    check_bcc,
    check_symbols,
    check_tracepoint,
    check_options,
    check_machine,
    check_init_on_alloc,
    check_hypervisor,
    check_memory,
    check_selftest,
    check_tools,
)
