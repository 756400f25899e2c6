"""The deny-list for kernel logs: each entry bites, a healthy boot does not."""

from __future__ import annotations

import pytest

from tools.vm.log import COMPLAINTS, cause_of_death, excerpt, scan

#: At least one real line for each entry of COMPLAINTS.
SAMPLES = [
    ("BUG", "BUG: kernel NULL pointer dereference, address: 0000000000000000"),
    ("BUG", "BUG: scheduling while atomic: swapper/0/0/0x00000002"),
    ("BUG", "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [python3:512]"),
    ("BUG", "BUG kmalloc-64 (Tainted: G    B      OE     ): Poison overwritten"),
    ("BUG", "kernel BUG at mm/slub.c:435!"),
    ("WARNING", "WARNING: CPU: 0 PID: 77 at arch/x86/mm/fault.c:1234 f+0x1/0x2"),
    ("Oops", "Oops: 0003 [#1] PREEMPT SMP PTI"),
    (
        "general protection",
        "general protection fault, probably for non-canonical address 0xdead",
    ),
    (
        "general protection",
        "traps: cat[91] general protection fault ip:7f10 sp:7ffe error:0",
    ),
    ("double fault", "traps: PANIC: double fault, error_code: 0x0"),
    (
        "machine check",
        "mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 5: be00000000800400",
    ),
    ("panic", "Kernel panic - not syncing: Attempted to kill init!"),
    ("hung task", "INFO: task kworker/0:1:9 blocked for more than 120 seconds."),
    ("lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("RCU stall", "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    ("RCU stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    (
        "RCU stall",
        "rcu: rcu_preempt kthread timer wakeup didn't happen, starved for 5252 jiffies!",
    ),
    (
        "lock debugging",
        "WARNING-free line: possible circular locking dependency detected",
    ),
    (
        "bad page table",
        "mm/pgtable-generic.c:50: bad pmd 00000000a1b2c3d4(8000000012345063)",
    ),
    (
        "corruption",
        "list_add corruption. next->prev should be prev (ffff88), but was 0",
    ),
    ("sanitizer", "UBSAN: array-index-out-of-bounds in kmod/cow.c:77:9"),
    ("use count", "refcount_t: underflow; use-after-free."),
    ("unsafe module end", "livedump_pool still has 3 objects on module exit"),
    ("MSR", "unchecked MSR access error: WRMSR to 0x38f (tried to write 0x0f)"),
    ("IRQ", 'irq 11: nobody cared (try booting with the "irqpoll" option)'),
]

HEALTHY = """\
[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)
[    0.000000] Command line: loglevel=7 oops=panic panic=-1 printk.devkmsg=on tsc=reliable
[    0.012000] Spectre V2 : Mitigation: Retpolines
[    1.252442] AMD-Vi: AMD IOMMUv2 functionality not available on this system - This is not a bug.
[    1.190286] virtme initramfs: initramfs does not have module crypto-hmac(sha256)
[    2.458578] Invalid ELF header magic: != ELF
[    2.257425] virtio-fs: tag <ROOTFS> not found
[    3.725365] virtme-ng-init: Failed to create directory or subvolume "/tmp/.X11-unix"
[    9.812000] livedump: loading out-of-tree module taints kernel.
[    9.812100] livedump: module verification failed: signature and/or required key missing
[   12.000000] livedump: snapshot held, downtime 4200 us, 0 lost pages
[   14.000000] sysrq: Show State
[   14.261827] reboot: Power down
"""


@pytest.mark.parametrize("name, line", SAMPLES)
def test_each_sample_bites(name: str, line: str) -> None:
    assert scan([f"[   12.345678] {line}"]) == [f"{name}: [   12.345678] {line}"]


def test_every_entry_has_a_sample() -> None:
    assert {complaint.name for complaint in COMPLAINTS} == {name for name, _ in SAMPLES}


def test_healthy_boot_is_clean() -> None:
    assert scan(HEALTHY.splitlines()) == []


def test_cause_of_death() -> None:
    log = [
        *HEALTHY.splitlines(),
        "[    9.9] Kernel panic - not syncing: Fatal exception",
    ]
    assert cause_of_death(log) == "Kernel panic - not syncing: Fatal exception"
    assert cause_of_death(HEALTHY.splitlines()) is None


def test_excerpt_starts_at_the_first_bad_line() -> None:
    log = ["fine"] * 100 + ["Oops: 0003", "RIP: 0010:f+0x1"]
    assert excerpt(log) == ["Oops: 0003", "RIP: 0010:f+0x1"]
    assert excerpt(["fine"] * 100) == ["fine"] * 40
