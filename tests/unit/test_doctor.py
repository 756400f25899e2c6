"""The doctor on fake machines: a good one, and one broken in each way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from livedump import abi, doctor, kmod
from livedump import machine as machines
from livedump import refusals
from livedump.control import Control, Status
from livedump.doctor import FAIL, OK, WARN, Check
from livedump.errors import ControlError
from livedump.machine import Distribution, Machine
from livedump.selftest.record import Identity, Record
from tests.unit.fakes import FakeModule

KMOD = Path(__file__).parents[2] / "kmod"
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
        for number, name in enumerate((*doctor.SYMBOLS, *HOOKS_6_1))
        if name not in without
    )


#: One of each group, as kernels have them.
HOOKS_6_1 = (
    "__change_page_attr_set_clr",
    "__text_poke",
    "vmap_small_pages_range_noflush",
    "vmap_range_noflush",
    "page_add_anon_rmap",
    "page_add_new_anon_rmap",
    "page_add_file_rmap",
    "remap_pfn_range",
)
HOOKS_6_12 = (
    *HOOKS_6_1[:4],
    "folio_add_anon_rmap_ptes",
    "folio_add_new_anon_rmap",
    "folio_add_file_rmap_ptes",
    "remap_pfn_range",
)


def not_reachable() -> Control:
    """No test asks the module of the machine that it runs on."""
    raise ControlError("not permitted", step="reach module")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian 12 host where everything is fine."""
    root = tmp_path
    put(root, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
    put(root, "sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    put(root, "sys/module/module/parameters/sig_enforce", "N\n")
    put(root, f"lib/modules/{RELEASE}/updates/dkms/livedump.ko")
    put(root, f"lib/modules/{RELEASE}/build/Makefile")
    put(root, "proc/kallsyms", symbols())
    put(root, "proc/sys/kernel/kptr_restrict", "1\n")
    put(root, "sys/kernel/tracing/events/exceptions/page_fault_kernel/id", "1")
    put(root, f"boot/config-{RELEASE}", CONFIG)
    put(root, "proc/cmdline", "root=/dev/vda1 quiet\n")
    put(root, "proc/cpuinfo", "flags\t\t: fpu tsc vmx\n")
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
        control=not_reachable,
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


@pytest.mark.parametrize(
    ("release", "how"),
    [
        (RELEASE, "series 6.1 is tested on Debian 12 in full"),
        ("6.12.9-amd64", "6.12 is tested on Debian 12 in short, Debian 13 in full"),
        ("6.12.9+deb13-cloud-amd64", "Debian 13 in full, its cloud flavour in short"),
        ("7.3.4+deb13-amd64", "7.3 is tested on Debian 13 in short"),
    ],
)
def test_how_its_series_is_tested(machine: Machine, release: str, how: str) -> None:
    assert find(replace(machine, release=release), "kernel").message.endswith(how)


def test_build_options_beside_the_modules(machine: Machine) -> None:
    """Where Debian has them since 7.1."""
    (machine.root / f"boot/config-{RELEASE}").rename(machine.root / f"lib/modules/{RELEASE}/config")
    assert find(machine, "options").status == OK


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
    ("kernel", lambda m: replace(m, release="6.18.2-1-arch"), WARN, "never tested", "virtual"),
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
        file("proc/kallsyms", re.sub(r"(?m)^\w+", "0" * 16, symbols())),
        WARN,
        "only zeros .kptr_restrict is 1",
        "kptr_restrict=1",
    ),
    (
        "symbols",
        file("proc/kallsyms", symbols("page_add_anon_rmap")),
        FAIL,
        "no page_add_anon_rmap or folio_add_anon_rmap_ptes$",
        "6.12",
    ),
    ("options", without(CONFIG_FILE), WARN, "cannot tell", "loaded"),
    ("options", file(CONFIG_FILE, ""), FAIL, "without CONFIG_KPROBES", "Debian"),
    (
        "init_on_alloc",
        file("proc/cmdline", "init_on_alloc=1 quiet init_on_alloc=0"),
        WARN,
        "off",
        "init_on_alloc=1",
    ),
    (
        "memory",
        file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1048576 kB\n"),
        WARN,
        "1.0 GiB available",
        "--pool",
    ),
    ("selftest", without("var/lib/livedump/selftest.json"), WARN, "not run", "livedump selftest"),
    ("selftest", file("proc/cpuinfo", "flags\t\t: fpu tsc ibt\n"), WARN, "not run", "selftest"),
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


KVM_IN_USE = "kvm_intel 380928 4 - Live 0x0\nkvm 1130496 1 kvm_intel, Live 0x0\n"

#: refusal -> machines that are refused for it, and a word of why
REFUSED: dict[str, list[tuple[Break, str]]] = {
    "xen_pv": [(file("sys/hypervisor/type", "xen\n"), "Xen PV")],
    "encrypted": [
        (file("dev/sev-guest", ""), "encrypted"),
        (file("proc/cpuinfo", "flags\t\t: fpu tsc hypervisor tdx_guest\n"), "encrypted"),
    ],
    "preempt_rt": [
        (file(CONFIG_FILE, CONFIG + "CONFIG_PREEMPT_RT=y\n"), "PREEMPT_RT"),
        (file("sys/kernel/realtime", "1\n"), "PREEMPT_RT"),
    ],
    "sanitizer": [
        (file(CONFIG_FILE, CONFIG + f"CONFIG_{name}=y\n"), f"with CONFIG_{name}")
        for name in ("KASAN", "KMSAN", "KCOV", "GCC_PLUGIN_STACKLEAK", "KSTACK_ERASE")
    ],
    "config": [
        (file(CONFIG_FILE, CONFIG.replace("CONFIG_VMAP_STACK=y", "")), "without CONFIG_VMAP_STACK")
    ],
    "debug_pagealloc": [
        (file("proc/cmdline", "debug_pagealloc=on"), "is on"),
        (
            file(
                CONFIG_FILE,
                CONFIG + "CONFIG_DEBUG_PAGEALLOC=y\nCONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT=y\n",
            ),
            "is on",
        ),
    ],
    "cpa_debug": [(file(CONFIG_FILE, CONFIG + "CONFIG_CPA_DEBUG=y\n"), "with CONFIG_CPA_DEBUG")],
    "nohz_full": [
        (file("proc/cmdline", "nohz_full=1-3"), "CPUs 1-3"),
        (file("sys/devices/system/cpu/nohz_full", "2-7\n"), "CPUs 2-7"),
    ],
    "percpu_pages": [(file("proc/cmdline", "quiet percpu_alloc=page"), "vmalloc")],
    "tsc": [(file("proc/cpuinfo", "flags\t\t: fpu vmx\n"), "time stamp counter")],
    "kvm_guest": [
        (file("sys/kernel/debug/kvm/4711-12/pf_taken", ""), "1 virtual machines"),
        (file("proc/modules", KVM_IN_USE), "cannot tell .*kvm_intel is in use"),
    ],
    "hugetlb_vmemmap": [(file("proc/sys/vm/hugetlb_optimize_vmemmap", "1\n"), "is on")],
}


def ready(machine: Machine, refusal: str) -> Machine:
    """Whatever else a refusal needs to be found."""
    if refusal == "debug_pagealloc":
        put(machine.root, CONFIG_FILE, CONFIG + "CONFIG_DEBUG_PAGEALLOC=y\n")
    return machine


@pytest.mark.parametrize(
    ("refusal", "change", "words"),
    [(refusal, *case) for refusal, cases in REFUSED.items() for case in cases],
)
def test_refused_machines(machine: Machine, refusal: str, change: Break, words: str) -> None:
    check = find(change(ready(machine, refusal)), refusal)
    assert check.status == (WARN if "cannot tell" in words else FAIL), check
    assert re.search(words, check.message), check
    assert check.remedy == refusals.REMEDIES[refusal]
    assert not [check for check in doctor.run(machine) if check.name == "machine"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/modules", "kvm_amd 204800 0 - Live 0x0\nkvm 1130496 1 kvm_amd, Live 0x0\n"),
        ("sys/kernel/debug/kvm/pf_taken", "0\n"),
        ("proc/sys/vm/hugetlb_optimize_vmemmap", "0\n"),
        ("proc/cmdline", "percpu_alloc=embed debug_pagealloc=on"),
        (CONFIG_FILE, CONFIG + "CONFIG_DEBUG_PAGEALLOC=y\n"),
        ("sys/devices/system/cpu/nohz_full", "  (null)\n"),
    ],
)
def test_machines_that_are_not_refused(machine: Machine, name: str, text: str) -> None:
    """kvm that is loaded, debugging that could be on, and the like."""
    put(machine.root, name, text)
    assert find(machine, "machine").status == OK


def test_debugfs_knows_better_than_the_count_of_users(machine: Machine) -> None:
    """QEMU may have kvm open without a virtual machine."""
    put(machine.root, "proc/modules", KVM_IN_USE)
    put(machine.root, "sys/kernel/debug/kvm/pf_taken")
    assert find(machine, "machine").status == OK


def refusals_of_machines() -> set[str]:
    """Those that the header lists for the machine, not for a request."""
    header = (KMOD / "uapi/livedump.h").read_text()
    part = header.partition("/* this machine or kernel")[2].partition("/* this request */")[0]
    return {name.lower() for name in re.findall(r"LIVEDUMP_REFUSAL_(\w+)", part)}


def test_all_refusals_of_a_machine_are_looked_for() -> None:
    """But what only the module can see."""
    names = refusals_of_machines()
    assert names - {"traced", "sleeping"} == set(machines.LOOKS) == set(REFUSED)
    assert names < {refusal.name.lower() for refusal in abi.Refusal}


def test_sanitizers_and_options_as_in_the_module() -> None:
    source = (KMOD / "compat.c").read_text()
    function = source.partition("u32 ld_machine_refusal(")[2]
    named = set(re.findall(r"IS_ENABLED\(CONFIG_(\w+)\)", function))
    own = {*machines._SANITIZERS, *machines._WANTED}
    assert named == own | {"PREEMPT_RT", "CPA_DEBUG"}


class Asked:
    """A module that is loaded and tells its status."""

    def __init__(self, **values: object) -> None:
        self.now = Status(state="idle", **values)  # type: ignore[arg-type]

    def control(self, machine: Machine) -> Machine:
        """*machine*, with it."""
        (machine.root / "sys/module/livedump").mkdir(parents=True, exist_ok=True)
        module = FakeModule(machine.root / "image")
        module.now = self.now
        return replace(machine, control=module.control)


@pytest.mark.parametrize("name", sorted(refusals_of_machines()))
def test_a_module_that_is_loaded_is_asked(machine: Machine, name: str) -> None:
    check = find(Asked(machine=name).control(machine), name)
    assert check.status == FAIL and check.message == f"the module refuses it ({name})"
    assert check.remedy == refusals.REMEDIES[name]


def test_the_module_s_word_counts(machine: Machine) -> None:
    """It knows best; what we find only explains it."""
    put(machine.root, "proc/cmdline", "nohz_full=1-3")
    assert find(Asked().control(machine), "machine").status == OK
    check = find(Asked(machine="nohz_full").control(machine), "nohz_full")
    assert check.message == "the module refuses it (nohz_full): CPUs 1-3 run without a tick"


def test_a_module_that_does_not_answer_is_no_excuse(machine: Machine) -> None:
    (machine.root / "sys/module/livedump").mkdir(parents=True)
    put(machine.root, "proc/cmdline", "nohz_full=1-3")
    assert find(machine, "nohz_full").status == FAIL


def test_the_default_pool_is_the_module_s(machine: Machine) -> None:
    assert "default pool takes 2.0 GiB" in find(machine, "memory").message
    asked = Asked(default_pool=7 << 30).control(machine)
    check = find(asked, "memory")
    assert check.status == WARN and "default pool takes 7.0 GiB" in check.message
    assert check.remedy == refusals.REMEDIES["pool_too_large"]


def test_lockdown_that_is_not_there(machine: Machine) -> None:
    """No such file: a kernel without lockdown, if securityfs is mounted."""
    without("sys/kernel/security/lockdown")(machine)
    assert find(machine, "lockdown").status == WARN
    assert find(file("sys/kernel/security/lsm", "capability")(machine), "lockdown").status == OK
    (machine.root / "sys/kernel/security/lockdown").mkdir()  # not readable, even for root
    check = find(machine, "lockdown")
    assert check.status == WARN and "not readable" in check.message


def symbols_of(compat: str) -> list[str]:
    """The kernel symbols that kmod/compat.c insists on."""
    return [
        *re.findall(r'\bprobe_address\("(\w+)"', compat),
        *re.findall(r'\brequired\("(\w+)"', compat),
    ]


def hooks_of(table: str) -> dict[str, tuple[str, ...]]:
    """Group -> functions of kmod/hooks/table.c, those that may be missing left out."""
    found: dict[str, tuple[str, ...]] = {}
    for name, group in re.findall(r'\b(?:CALL|ENTRY)\("(\w+)",\s*(\w+)', table):
        if group != "OPTIONAL":
            found[group] = (*found.get(group, ()), name)
    return found


def test_symbols_are_those_of_the_module() -> None:
    wanted = symbols_of((KMOD / "compat.c").read_text())
    assert len(wanted) >= 15
    assert sorted(doctor.SYMBOLS) == sorted(wanted)


def test_hooks_are_those_of_the_module() -> None:
    assert doctor.HOOKS == hooks_of((KMOD / "hooks/table.c").read_text())
    groups = (KMOD / "hooks/hook.h").read_text().partition("enum ld_hook_group {")[2]
    names = re.findall(r"\bLD_HOOK_(\w+),", groups.partition("__LD_HOOK_GROUPS")[0])
    assert list(doctor.HOOKS) == names


def test_the_symbols_of_a_source() -> None:
    """What the comparisons above would miss, they could not find."""
    compat = 'x = probe_address("a");\nif (required("b", &b) ||\n    required("c", &c))\n'
    compat += 'static int required(const char *name)\n{ lookup("optional"); }'
    assert symbols_of(compat) == ["a", "b", "c"]
    table = 'CALL("a", X, f),\nENTRY("b",\n\tX, f),\nCALL("c", OPTIONAL, f, .provoke = p),\n'
    assert hooks_of(table + 'ENTRY("d", Y, f),\nINSTEAD("e", f),\n') == {
        "X": ("a", "b"),
        "Y": ("d",),
    }


@pytest.mark.parametrize("hooks", [HOOKS_6_1, HOOKS_6_12], ids=["6.1", "6.12"])
def test_one_function_of_a_group_is_enough(machine: Machine, hooks: tuple[str, ...]) -> None:
    names = (*doctor.SYMBOLS, *hooks)
    put(machine.root, "proc/kallsyms", "".join(f"ffffffff81000000 T {n}\n" for n in names))
    assert find(machine, "symbols") == Check("symbols", OK, "all 27 found")


def test_no_other_file_looks_up_symbols() -> None:
    built = re.findall(r"\b([\w/]+)\.o\b", (KMOD / "Kbuild").read_text())
    paths = [KMOD / f"{name}.c" for name in built if (KMOD / f"{name}.c").exists()]
    assert len(paths) > 20
    users = {
        path.name
        for path in paths
        if re.search(r"\b(symbol_name|kallsyms_lookup_name|required\()", path.read_text())
    }
    assert users == {"compat.c", "hooks.c"}  # of table.c


def test_pool_as_in_the_module() -> None:
    source = (KMOD / "session.c").read_text()
    sizes = re.findall(r"^#define (MIN_\w+_BYTES)\s+SZ_(\d+)M$", source, re.M)
    assert {name: int(size) << 20 for name, size in sizes} == {
        "MIN_POOL_BYTES": machines.MIN_POOL_BYTES,
        "MIN_FREE_BYTES": machines.MIN_FREE_BYTES,
    }
    divisors = re.findall(r"ram_bytes / (\d+), MIN_POOL_BYTES", source)
    assert divisors == [str(machines.POOL_DIVISOR)]


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
    path.rename(path.with_suffix(".ko.xz"))
    unreadable = find(machine, "signature")
    assert unreadable.status == WARN and "cannot be decompressed" in unreadable.message


def signed_by(name: str) -> bytes:
    """A module with what the kernel's sign-file appends, as far as it is read."""
    message = b"\x06\x03\x55\x04\x03\x0c" + bytes([len(name)]) + name.encode() + bytes(40)
    appended = message + bytes(8) + len(message).to_bytes(4, "big") + kmod._SIGNED
    return b"\x7fELF" + bytes(100) + b"\x06\x03\x55\x04\x03\x0c\x03not" + bytes(9) + appended


KEYS = """\
0a I------  1 perm 1f030000  0  0 keyring   .platform: 2
0b I------  1 perm 1f030000  0  0 asymmetri Debian Secure Boot CA: 6cce: X509.rsa bb419ea1 []
0c I------  1 perm 1f010000  0  0 asymmetri My house: DKMS key: 01ab: X509.rsa 01abcdef []
"""


@pytest.mark.parametrize(
    ("name", "keys", "status", "words"),
    [
        ("DKMS key", KEYS, OK, "by 'DKMS key', which this kernel knows"),
        ("Debian Secure Boot CA", KEYS, OK, "which this kernel knows"),
        ("key", KEYS, WARN, "does not know the key of 'key'"),
        ("DKMS key", "", OK, "ours has one"),  # nothing to compare with
    ],
)
def test_the_key_of_the_signature(
    machine: Machine, name: str, keys: str, status: str, words: str
) -> None:
    file("sys/module/module/parameters/sig_enforce", "Y\n")(machine)
    file("proc/keys", keys)(machine)
    (machine.root / f"lib/modules/{RELEASE}/updates/dkms/livedump.ko").write_bytes(signed_by(name))
    check = find(machine, "signature")
    assert (check.status, words in check.message) == (status, True), check
    assert status == OK or "mokutil --import KEY.der" in check.remedy
    file("var/lib/dkms/mok.pub", f"DER, {name}")(machine)
    check = find(machine, "signature")
    if status != OK:
        assert check.status == FAIL and "--import /var/lib/dkms/mok.pub" in check.remedy


def test_guest_of_a_known_hypervisor(machine: Machine) -> None:
    file("proc/cpuinfo", "flags\t\t: fpu tsc hypervisor\n")(machine)
    file("sys/class/dmi/id/sys_vendor", "QEMU\n")(machine)
    assert find(machine, "hypervisor").message == "a guest of QEMU"
    file("sys/hypervisor/type", "xen\n")(machine)
    file("sys/hypervisor/guest_type", "PVH\n")(machine)
    assert find(machine, "hypervisor").message == "a guest of xen"
    assert find(machine, "machine").status == OK


def test_this_machine() -> None:
    """No check fails to run on a real machine."""
    names = [check.name for check in doctor.run()]
    assert len(names) == len(set(names)) >= 17
