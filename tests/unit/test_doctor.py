"""The doctor on fake machines: a good one, and one broken in each way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from livedump import doctor
from livedump.doctor import FAIL, OK, WARN, Check, Distribution, Machine
from livedump.selftest.record import Identity, Record

RELEASE = "6.1.0-56-amd64"
CONFIG = """\
CONFIG_KPROBES=y
CONFIG_KALLSYMS_ALL=y
CONFIG_TRACEPOINTS=y
CONFIG_VMAP_STACK=y
CONFIG_SPARSEMEM_VMEMMAP=y
CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y
# CONFIG_DEBUG_PAGEALLOC is not set
# CONFIG_PREEMPT_RT is not set
"""


def put(root: Path, name: str, text: str = "") -> None:
    """Write a file below *root*."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def symbols(*without: str) -> str:
    return "".join(
        f"ffffffff8100{number:04x} T {name}\n"
        for number, name in enumerate(doctor.SYMBOLS)
        if name not in without
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian 12 host where everything is fine."""
    root = tmp_path
    put(root, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
    put(root, "sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    put(root, "sys/module/module/parameters/sig_enforce", "N\n")
    put(root, f"lib/modules/{RELEASE}/updates/dkms/livedump.ko")
    put(root, f"lib/modules/{RELEASE}/build/Makefile")
    put(root, "sys/kernel/btf/vmlinux")
    put(root, "proc/kallsyms", symbols())
    put(root, "proc/sys/kernel/kptr_restrict", "1\n")
    put(root, "sys/kernel/tracing/events/exceptions/page_fault_kernel/id", "1")
    put(root, f"boot/config-{RELEASE}", CONFIG)
    put(root, "proc/cmdline", "root=/dev/vda1 quiet\n")
    put(root, "proc/cpuinfo", "flags\t\t: fpu vmx\n")
    put(root, "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n")
    put(root, "py/bcc/__init__.py")
    put(root, "py/bcc/libbcc.py")
    Record(root).save(Identity.of(root, RELEASE), {"passed": True, "when": "today"})
    origins = {"bcc": str(root / "py/bcc/__init__.py"), "drgn": "/py/drgn/__init__.py"}
    return Machine(
        root=root,
        release=RELEASE,
        arch="x86_64",
        euid=0,
        environ={},
        which=lambda name: f"/usr/bin/{name}",
        distribution=lambda name: None,
        origin=origins.get,
    )


def find(machine: Machine, name: str) -> Check:
    """The check of that name."""
    (check,) = [check for check in doctor.run(machine) if check.name == name]
    return check


def test_a_good_machine(machine: Machine) -> None:
    bad = [check for check in doctor.run(machine) if check.status != OK]
    assert bad == []


def test_every_problem_has_a_remedy(tmp_path: Path) -> None:
    """A machine with nothing at all: no check crashes, all but the hopeless say what to do."""
    empty = Machine(
        root=tmp_path,
        release=RELEASE,
        arch="riscv64",
        euid=1000,
        environ={},
        which=lambda name: None,
        origin=lambda name: None,
    )
    problems = [check for check in doctor.run(empty) if check.status != OK]
    assert len(problems) >= 10
    silent = {check.name for check in problems if not check.remedy}
    assert silent <= {"architecture", "memory"}


Break = Callable[[Machine], Machine]


def file(name: str, text: str) -> Break:
    """A machine with that file."""

    def change(machine: Machine) -> Machine:
        put(machine.root, name, text)
        return machine

    return change


def without(name: str) -> Break:
    """A machine without that file."""

    def change(machine: Machine) -> Machine:
        (machine.root / name).unlink()
        return machine

    return change


def secure_boot(machine: Machine) -> Machine:
    path = machine.root / "sys/firmware/efi/efivars/SecureBoot-8be4df61"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x06\0\0\0\x01")
    return machine


def wrong_module(machine: Machine) -> Machine:
    path = machine.root / f"lib/modules/{RELEASE}/updates/dkms/livedump.ko"
    path.write_bytes(b"\x7fELF" + bytes(64) + b"\0vermagic=6.12.1 SMP\0")
    return machine


def crystal_bcc(machine: Machine) -> Machine:
    put(machine.root, "pypi/bcc/__init__.py", "raise SystemExit('must not be executed')")
    origin = str(machine.root / "pypi/bcc/__init__.py")
    crystal = Distribution("bcc", "1.0", "body-centred cubic lattices")
    return replace(machine, origin=lambda name: origin, distribution=lambda name: crystal)


CONFIG_FILE = f"boot/config-{RELEASE}"

CASES: list[tuple[str, Break, str, str, str]] = [
    ("architecture", lambda m: replace(m, arch="aarch64"), FAIL, "only x86_64", ""),
    ("privileges", lambda m: replace(m, euid=1000), FAIL, "not root", "sudo"),
    (
        "privileges",
        file("proc/self/status", "CapEff:\t0000000000200000\n"),
        FAIL,
        "without CAP_NET_ADMIN, CAP_SYS_RAWIO",
        "containers",
    ),
    (
        "privileges",
        file("proc/self/status", "CapEff:\t000001fffffeffff\n"),
        WARN,
        "CAP_SYS_MODULE",
        "root",
    ),
    (
        "lockdown",
        file("sys/kernel/security/lockdown", "none [integrity] confidentiality"),
        WARN,
        "unsigned modules",
        "mokutil",
    ),
    (
        "lockdown",
        file("sys/kernel/security/lockdown", "none integrity [confidentiality]"),
        FAIL,
        "confidentiality",
        "lockdown=none",
    ),
    (
        "lockdown",
        without("sys/kernel/security/lockdown"),
        WARN,
        "cannot tell: securityfs is not mounted",
        "mount -t securityfs",
    ),
    (
        "signature",
        file("sys/module/module/parameters/sig_enforce", "Y\n"),
        FAIL,
        "enforced",
        "mokutil",
    ),
    ("signature", secure_boot, WARN, "Secure Boot", "sign"),
    (
        "module",
        without(f"lib/modules/{RELEASE}/updates/dkms/livedump.ko"),
        FAIL,
        "no livedump.ko",
        "make install",
    ),
    ("module", wrong_module, FAIL, "built for 6.12.1", "make kmod"),
    (
        "headers",
        without(f"lib/modules/{RELEASE}/build/Makefile"),
        WARN,
        "cannot be built",
        f"apt-get install linux-headers-{RELEASE}",
    ),
    ("btf", without("sys/kernel/btf/vmlinux"), WARN, "no /sys/.*works without", "BTF"),
    ("bcc", crystal_bcc, FAIL, "wrong package.*lattices", "pip uninstall bcc"),
    ("bcc", lambda m: replace(m, origin=lambda n: None), WARN, "not installed", "python3-bpfcc"),
    ("symbols", file("proc/kallsyms", ""), FAIL, "no /proc/kallsyms", "KALLSYMS"),
    (
        "symbols",
        file("proc/kallsyms", symbols("init_mm", "vmcoreinfo_data")),
        FAIL,
        "no init_mm, vmcoreinfo_data",
        "KALLSYMS_ALL",
    ),
    (
        "symbols",
        file("proc/kallsyms", "".join(f"0000000000000000 T {n}\n" for n in doctor.SYMBOLS)),
        WARN,
        "only zeros .kptr_restrict is 1",
        "kptr_restrict=1",
    ),
    ("config", without(CONFIG_FILE), WARN, "cannot tell", "loaded"),
    ("config", file(CONFIG_FILE, ""), FAIL, "without CONFIG_KPROBES", "Debian"),
    (
        "config",
        file(CONFIG_FILE, CONFIG + "CONFIG_PREEMPT_RT=y\n"),
        FAIL,
        "with CONFIG_PREEMPT_RT",
        "Debian",
    ),
    (
        "config",
        file(CONFIG_FILE, CONFIG + "CONFIG_DEBUG_PAGEALLOC=y\n"),
        FAIL,
        "with CONFIG_DEBUG_PAGEALLOC",
        "Debian",
    ),
    (
        "init_on_alloc",
        file("proc/cmdline", "init_on_alloc=1 quiet init_on_alloc=0"),
        WARN,
        "off",
        "init_on_alloc=1",
    ),
    ("hypervisor", file("sys/hypervisor/type", "xen\n"), FAIL, "Xen PV", "HVM"),
    ("hypervisor", file("dev/sev-guest", ""), FAIL, "encrypted", "SEV"),
    ("nohz_full", file("proc/cmdline", "nohz_full=1-3"), FAIL, "CPUs 1-3", "nohz_full="),
    (
        "nohz_full",
        file("sys/devices/system/cpu/nohz_full", "2-7\n"),
        FAIL,
        "CPUs 2-7",
        "nohz_full=",
    ),
    (
        "memory",
        file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1048576 kB\n"),
        WARN,
        "1.0 GiB available",
        "--pool",
    ),
    ("selftest", without("var/lib/livedump/selftest.json"), WARN, "not run", "livedump selftest"),
    ("selftest", file("proc/cpuinfo", "flags\t\t: fpu ibt\n"), WARN, "not run", "selftest"),
    ("crash", lambda m: replace(m, which=lambda n: None), WARN, "not installed", "apt-get"),
    ("drgn", lambda m: replace(m, origin=lambda n: None), WARN, "not installed", "pip"),
]


@pytest.mark.parametrize(("name", "change", "status", "message", "remedy"), CASES)
def test_broken_machines(
    machine: Machine, name: str, change: Break, status: str, message: str, remedy: str
) -> None:
    check = find(change(machine), name)
    assert check.status == status, check
    assert re.search(message, check.message), check
    assert remedy in check.remedy, check


def test_lockdown_that_is_not_there(machine: Machine) -> None:
    """No such file: a kernel without lockdown, if securityfs is mounted."""
    without("sys/kernel/security/lockdown")(machine)
    assert find(machine, "lockdown").status == WARN
    assert find(file("sys/kernel/security/lsm", "capability")(machine), "lockdown").status == OK
    (machine.root / "sys/kernel/security/lockdown").mkdir()  # not readable, even for root
    check = find(machine, "lockdown")
    assert check.status == WARN and "not readable" in check.message


KMOD = Path(__file__).parents[2] / "kmod"


def symbols_of(compat: str, hooks: str) -> list[str]:
    """The kernel symbols that the module's sources insist on."""
    return [
        *re.findall(r'\bprobe_address\("(\w+)"', compat),
        *re.findall(r'\brequired\("(\w+)"', compat),
        *re.findall(r'\bsymbol_name = "(\w+)"', hooks),
    ]


def test_symbols_are_those_of_the_module() -> None:
    wanted = symbols_of((KMOD / "compat.c").read_text(), (KMOD / "hooks" / "hooks.c").read_text())
    assert len(wanted) >= 15
    assert sorted(doctor.SYMBOLS) == sorted(wanted)


def test_the_symbols_of_a_source() -> None:
    """What the comparison above would miss, it could not find."""
    compat = 'x = probe_address("a");\nif (required("b", &b) ||\n    required("c", &c))\n'
    compat += 'static int required(const char *name)\n{ lookup("optional"); }'
    assert symbols_of(compat, '.kp.symbol_name = "d",\n') == ["a", "b", "c", "d"]


def test_no_other_file_looks_up_symbols() -> None:
    users = {
        path.name
        for path in KMOD.rglob("*.c")
        if re.search(r"\b(symbol_name|kallsyms_lookup_name|required\()", path.read_text())
    }
    # Of user.c one name of each kind must exist: which, differs between kernels.
    assert users == {"compat.c", "hooks.c", "user.c"}


def test_pool_as_in_the_module() -> None:
    source = (KMOD / "session.c").read_text()
    sizes = re.findall(r"^#define (MIN_\w+_BYTES)\s+SZ_(\d+)M$", source, re.M)
    assert {name: int(size) << 20 for name, size in sizes} == {
        "MIN_POOL_BYTES": doctor.MIN_POOL_BYTES,
        "MIN_FREE_BYTES": doctor.MIN_FREE_BYTES,
    }
    assert re.findall(r"ram / (\d+), MIN_POOL_BYTES", source) == [str(doctor.POOL_DIVISOR)]


def test_tracepoint(machine: Machine) -> None:
    event = machine.root / "sys/kernel/tracing/events/exceptions"
    (event / "page_fault_kernel").rename(event / "page_fault_user")
    (event / "page_fault_user/id").unlink()
    assert find(machine, "tracepoint").status == FAIL
    event.rename(machine.root / "moved")
    (machine.root / "sys/kernel/tracing/events").rmdir()
    assert find(machine, "tracepoint").status == WARN


def test_loaded_module_needs_no_file(machine: Machine) -> None:
    without(f"lib/modules/{RELEASE}/updates/dkms/livedump.ko")(machine)
    (machine.root / "sys/module/livedump").mkdir()
    assert find(machine, "module") == Check("module", OK, "loaded")


def test_signed_module_is_fine_when_enforced(machine: Machine) -> None:
    file("sys/module/module/parameters/sig_enforce", "Y\n")(machine)
    path = machine.root / f"lib/modules/{RELEASE}/updates/dkms/livedump.ko"
    path.write_bytes(b"\x7fELF" + bytes(100) + b"~Module signature appended~\n")
    assert find(machine, "signature").status == OK


def test_guest_of_a_known_hypervisor(machine: Machine) -> None:
    file("proc/cpuinfo", "flags\t\t: fpu hypervisor\n")(machine)
    file("sys/class/dmi/id/sys_vendor", "QEMU\n")(machine)
    assert find(machine, "hypervisor").message == "a guest of QEMU"
    file("sys/hypervisor/type", "xen\n")(machine)
    file("sys/hypervisor/guest_type", "PVH\n")(machine)
    assert find(machine, "hypervisor").status == OK


def test_this_machine() -> None:
    """No check fails to run on a real machine."""
    names = [check.name for check in doctor.run()]
    assert len(names) == len(set(names)) >= 17
