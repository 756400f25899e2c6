"""A made-up recording with something of everything; the same numbers every time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from livedump.recording import store
from livedump.recording.buckets import bounds
from livedump.recording.schema import Row
from tests.unit.buckets import bucket_of

START_NS = 1_000_000_000_000
SLICE_NS = 100_000_000
INSTANT_NS = START_NS + 2_000_000_000

ENTRY = "entry_SYSCALL_64_after_hwframe;do_syscall_64"
HANDLER = "asm_exc_page_fault;exc_page_fault;livedump_probe [livedump]"

COW_STACKS = {
    f"{ENTRY};__x64_sys_write;ksys_write;vfs_write;ext4_file_write_iter;memcpy;{HANDLER}": 410,
    f"{ENTRY};__x64_sys_clone;kernel_clone;copy_process;dup_mm;copy_page_range;{HANDLER}": 365,
    f"{ENTRY};__x64_sys_clone;kernel_clone;copy_process;kmem_cache_alloc;{HANDLER}": 240,
    f"{ENTRY};__x64_sys_mmap;do_mmap;mmap_region;vm_area_alloc;kmem_cache_alloc;{HANDLER}": 180,
    f"{ENTRY};__x64_sys_sendto;udp_sendmsg;__alloc_skb;kmalloc_reserve;{HANDLER}": 122,
    f"asm_sysvec_apic_timer_interrupt;__irq_exit_rcu;rcu_core;kmem_cache_free;{HANDLER}": 33,
}


def meta() -> dict[str, Any]:
    """meta.json's content, without what recording.write() adds."""
    return {
        "recording_id": "11111111-2222-4333-8444-555555555555",
        "labels": {"build": "412"},
        "host": "sample",
        "machine_id": "0123456789abcdef0123456789abcdef",
        "boot_id": "00000000-1111-2222-3333-444444444444",
        "kernel": {"release": "6.1.0-56-amd64", "version": "#1 SMP", "machine": "x86_64"},
        "cpus": 2,
        "memory_bytes": 2 << 30,
        "clocksource": "tsc",
        "clocks": {
            "start": {"realtime_ns": 1_795_454_305 * 10**9, "monotonic_ns": START_NS},
            "end": {"realtime_ns": 1_795_454_317 * 10**9, "monotonic_ns": START_NS + 12 * 10**9},
        },
        "ended_by": "command",
        "questions": ["user", "kernel", "cow", "stop", "snapshot"],
        "probes": [
            {
                "name": "user_latency",
                "question": "user",
                "attach": "kprobe+kretprobe",
                "point": "handle_mm_fault",
                "why": "the handlers above it are noinstr or blacklisted",
            },
            {
                "name": "cow",
                "question": "cow",
                "attach": "tracepoint",
                "point": "livedump:livedump_fault",
                "why": "the module's own faults, with its own time stamps",
            },
        ],
        "absent": [],
        "unmeasured": ["skipped events"],
        "slice_ns": SLICE_NS,
        "triggers": [],
        "losses_total": 7,
        "options": {},
        "command": {"argv": ["./load", "--evil=</script><script>alert(1)</script>"], "status": 0},
        "versions": {"livedump": "0.1.0", "bcc": "0.26.0"},
    }


def tables() -> dict[str, list[Row]]:
    """Rows of every table."""
    chance = random.Random(2012)
    values = {
        "user": [int(chance.lognormvariate(9.2, 0.8)) for _ in range(6000)],
        "cow": [int(chance.lognormvariate(7.9, 0.5)) for _ in range(1350)],
        "cow_demote": [int(chance.lognormvariate(6.2, 1.0)) for _ in range(1350)],
        "cow_copy": [int(chance.lognormvariate(6.9, 0.4)) for _ in range(1340)],
        "stop": [64_900_000],
    }
    counters: list[Row] = [
        {"kind": "user", "name": "events", "count": 6010},
        {"kind": "cow", "name": "saved", "count": 1340},
        {"kind": "cow", "name": "already", "count": 10},
    ]
    histograms: list[Row] = []
    for kind, numbers in values.items():
        counts: dict[int, int] = {}
        for number in numbers:
            counts[bucket_of(number)] = counts.get(bucket_of(number), 0) + 1
        for bucket, count in sorted(counts.items()):
            low, high = bounds(bucket)
            histograms.append(
                {"kind": kind, "bucket_low_ns": low, "bucket_high_ns": high, "count": count}
            )
        counters.append({"kind": kind, "name": "sum_ns", "count": sum(numbers)})
        counters.append({"kind": kind, "name": "max_ns", "count": max(numbers)})
    stacks: list[Row] = [
        {
            "kind": "cow",
            "comm": comm,
            "stack": stack,
            "samples": count // 2 + shift,
            "count": count // 2 + shift,
            "stalled_ns": (count // 2 + shift) * 2900,
            "count_error": 0.0,
            "stalled_error_ns": 0.0,
        }
        for stack, count in COW_STACKS.items()
        for shift, comm in enumerate(("fio;1", "stress-ng"))
    ]
    user = "asm_exc_page_fault;exc_page_fault;do_user_addr_fault"
    stacks.append(
        {
            "kind": "user",
            "comm": "fio;1",
            "stack": user,
            "samples": 3000,
            "count": 6000,
            "stalled_ns": 70_000_000,
            "count_error": 77.0,
            "stalled_error_ns": 1_200_000.0,
        }
    )
    kernel = f"{ENTRY};ksys_read;vfs_read;_copy_to_user;asm_exc_page_fault;exc_page_fault"
    stacks.append(
        {
            "kind": "kernel",
            "comm": "fio;1",
            "stack": kernel,
            "samples": 90,
            "count": 90,
            "stalled_ns": 0,
            "count_error": 0.0,
            "stalled_error_ns": 0.0,
        }
    )
    return {
        "histograms": histograms,
        "stacks": stacks,
        "tasks": [
            {
                "kind": "user",
                "pid": 100,
                "comm": "fio;1",
                "cgroup": "/load.slice",
                "count": 6010,
                "stalled_ns": 70_000_000,
            },
            {
                "kind": "cow",
                "pid": 101,
                "comm": "stress-ng",
                "cgroup": "/",
                "count": 675,
                "stalled_ns": 1_957_500,
            },
        ],
        "cpus": [
            {"kind": "user", "cpu": 0, "count": 4000, "stalled_ns": 50_000_000},
            {"kind": "user", "cpu": 1, "count": 2000, "stalled_ns": 20_000_000},
            {"kind": "kernel", "cpu": 1, "count": 90, "stalled_ns": None},
        ],
        "pages": [
            {
                "pfn": 0x1234 + i,
                "count": 3 - i,
                "stalled_ns": 9000 - 3000 * i,
                "was": None,
                "name": None,
            }
            for i in range(3)
        ],
        "stops": [
            {
                "start_monotonic_ns": INSTANT_NS - 64_000_000,
                "duration_ns": 64_900_000,
                "pid": 77,
                "comm": "livedump",
                "site": "stop_machine",
                "nested": False,
                "symbol": "livedump_stop [livedump]",
                "cpu": 1,
                "cgroup": "/",
                "stack": "ksys_write;livedump_snapshot;stop_machine",
            },
            {
                "start_monotonic_ns": INSTANT_NS - 63_990_000,
                "duration_ns": 64_880_000,
                "pid": 77,
                "comm": "livedump",
                "site": "stop_machine_cpuslocked",
                "nested": True,
                "symbol": "livedump_stop [livedump]",
                "cpu": 1,
                "cgroup": "/",
                "stack": "ksys_write;livedump_snapshot;stop_machine",
            },
        ],
        "snapshots": [
            {
                "snapshot_monotonic_ns": INSTANT_NS + 1_000_000,
                "pid": 77,
                "comm": "livedump",
                "instant_monotonic_ns": INSTANT_NS,
                "prepare_ns": 310_000_000,
                "rendezvous_ns": 400_000,
                "save_ns": 9_200_000,
                "protect_ns": 54_000_000,
                "flush_ns": 300_000,
                "recopy_ns": 500_000,
                "stop_ns": 65_100_000,
                "entries_protected": 520_941,
                "strategy": 1,
                "attempts": 1,
                "release_monotonic_ns": INSTANT_NS + 6_000_000_000,
                "release_ns": 180_000_000,
                "entries_restored": 519_591,
                "faults": 1357,
                "pages_lost": 0,
                "trace_skipped": 2,
                "reason": 1,
                "verdict": 1,
            }
        ],
        "counters": counters,
        "losses": [{"probe": "cow", "what": "no stack", "count": 7}],
        "loss_slices": [
            {"slice": 21, "start_ns": 21 * SLICE_NS, "probe": "cow", "what": "no stack", "count": 7}
        ],
        "slices": _over_time(histograms, chance),
        "stack_slices": _stacks_over_time(stacks),
    }


#: When faults happened: user faults all the time, our own while the snapshot was held.
_SPANS = {"user": (0, 120), "cow": (20, 80), "cow_demote": (20, 80), "cow_copy": (20, 80)}


def _over_time(histograms: list[Row], chance: random.Random) -> list[Row]:
    """The histograms' faults, each in a slice of its kind's span."""
    found: dict[tuple[int, str, int, int], int] = {}
    for row in histograms:
        first, end = _SPANS.get(row["kind"], (20, 21))
        for _ in range(row["count"]):
            slice_ = chance.randrange(first, end)
            key = (slice_, row["kind"], row["bucket_low_ns"], row["bucket_high_ns"])
            found[key] = found.get(key, 0) + 1
    return [
        {
            "slice": slice_,
            "start_ns": slice_ * SLICE_NS,
            "kind": kind,
            "bucket_low_ns": low,
            "bucket_high_ns": high,
            "count": count,
            "stalled_ns": count * (low + high - 1) // 2,
        }
        for (slice_, kind, low, high), count in sorted(found.items())
    ]


def _stacks_over_time(stacks: list[Row]) -> list[Row]:
    """Each stack in two slices of its kind's span."""
    found = []
    for number, row in enumerate(stacks):
        first, end = _SPANS.get(row["kind"], (0, 120))
        half = {name: row[name] // 2 for name in ("samples", "count", "stalled_ns")}
        rest = {name: row[name] - half[name] for name in half}
        for part, slice_ in ((half, first + number), (rest, end - 1)):
            found.append({**row, **part, "slice": slice_, "start_ns": slice_ * SLICE_NS})
    return found


def write(path: Path) -> Path:
    """Write the sample as a recording; returns *path*."""
    store.write(path, meta(), tables())
    return path
