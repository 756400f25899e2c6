"""BPF programs of every attach type that livedump allows run before, in and after the hold.

They see page faults from inside, and idle tasks; so they also tell where those tasks are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from livedump import abi
from livedump.dump import open_image
from livedump.session import Session
from tests.guest.test_snapshot import POOL, fault_events
from tools.guest import witness
from tools.guest.program import Load

#: What is gated by bpf_prog_active, so that a program never runs inside another one's fault.
HITS = ("fault tracepoint", "switch tracepoint", "kprobe", "kretprobe", "perf event")
PROGRAM = r"""
#include <uapi/linux/ptrace.h>
#include <uapi/linux/bpf_perf_event.h>

BPF_ARRAY(hits, u64, 8);
BPF_HASH(pages, u64, u64, 4096);
BPF_HASH(idle, u32, u64, 64);
BPF_PERF_OUTPUT(events);

static inline void hit(int kind)
{
    u64 *count = hits.lookup(&kind);

    if (count)
        lock_xadd(count, 1);
}

TRACEPOINT_PROBE(exceptions, page_fault_kernel)
{
    u64 page = args->address >> 12, now = bpf_ktime_get_ns();

    hit(0);
    pages.update(&page, &now);
    return 0;
}

TRACEPOINT_PROBE(sched, sched_switch)
{
    u32 cpu = bpf_get_smp_processor_id();
    u64 task = bpf_get_current_task();

    hit(1);
    if (args->prev_pid == 0)
        idle.update(&cpu, &task);
    return 0;
}

int kprobe__vfs_write(struct pt_regs *ctx)
{
    u64 now = bpf_ktime_get_ns();

    hit(2);
    events.perf_submit(ctx, &now, sizeof(now));
    return 0;
}

int kretprobe__vfs_write(struct pt_regs *ctx)
{
    hit(3);
    return 0;
}

int on_sample(struct bpf_perf_event_data *ctx)
{
    hit(4);
    return 0;
}
"""

KPF_PGTABLE = 1 << 26
SECONDS = 3.0


@pytest.fixture(scope="module")
def bpf() -> Iterator[Any]:
    """All of it, attached."""
    from bcc import BPF, PerfSWConfig, PerfType

    program = BPF(text=PROGRAM.encode())
    program.attach_perf_event(
        ev_type=PerfType.SOFTWARE,
        ev_config=PerfSWConfig.CPU_CLOCK,
        fn_name=b"on_sample",
        sample_freq=49,
    )
    program[b"events"].open_perf_buffer(lambda *_event: None, page_cnt=64)
    yield program
    program.cleanup()


def counts(bpf: Any) -> dict[str, int]:
    """How often each ran."""
    return {name: int(bpf[b"hits"][index].value) for index, name in enumerate(HITS)}


def is_page_table(pfn: int) -> bool:
    """What /proc/kpageflags says of the page now."""
    with open("/proc/kpageflags", "rb") as file:
        file.seek(pfn * 8)
        return bool(int.from_bytes(file.read(8), "little") & KPF_PGTABLE)


def test_programs_run_throughout(bpf: Any, load: Load, strategy: str) -> None:
    witness.poke_all(0xB4)
    load.wait(1)
    with fault_events() as events, Session(pool_bytes=POOL, strategy=strategy) as session:
        before, until = counts(bpf), time.monotonic() + SECONDS
        witness.poke_all(0xAF)
        while time.monotonic() < until:
            bpf.perf_buffer_poll(timeout=100)
        ran = {name: now - before[name] for name, now in counts(bpf).items()}
        with open_image(abi.IMAGE_PATH) as image:
            held = witness.image_values(image)
            last = image.ram[-1]
        report = session.status().report
    assert min(ran.values()) > 10, ran
    assert {value for row in held.values() for value in row} == {0xB4}
    assert report["pages_lost"] == report["hooks_missed"] == 0

    saved = {event["pfn"] for event in events}
    assert sum(map(is_page_table, saved)) > 10, "hardly a page table was written: proves nothing"
    # Entry code writes there before a fault could be handled: never protected, so none saved it.
    idle = {cpu.value: task.value for cpu, task in bpf[b"idle"].items()}
    base, end = last.vaddr - last.paddr, last.vaddr + last.mem_bytes
    # The first CPU's is in the kernel's image.
    tasks = {(task - base) // witness.PAGE for task in idle.values() if base <= task < end}
    assert tasks and not tasks & saved, idle
