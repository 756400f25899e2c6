"""What the stop itself writes between livedump's copies and the instant, byte by byte.

stop_machine() keeps running while everything else stands still: its threads use their stacks, count
themselves in and keep the watchdogs quiet. Those bytes, and no others, may differ in the image.
"""

from __future__ import annotations

from collections.abc import Iterator

from drgn import cast, sizeof
from drgn.helpers.linux.module import find_module, module_percpu_region
from drgn.helpers.linux.percpu import per_cpu

from tools.oracle.read.core import PAGE, Cpu
from tools.oracle.read.devices import Bytes
from tools.oracle.read.kernel import MODULE, Kernel

#: Function whose frames, and all below, belong to the stop.
_STOPPER = "cpu_stopper_thread"
_STACK_BYTES = 4 * PAGE
_WORD = 8
#: Per-CPU variables that a CPU writes while it waits in stop_machine(): touch_nmi_watchdog() with
#: both of its watchdogs, and RCU's "I am quiescent". The flag of the hard lockup's is taken back by
#: perf's NMIs only: without them, the first stop after boot alone changes it.
_WAITING = (
    "watchdog_report_ts",
    "watchdog_touch_ts",
    "watchdog_nmi_touch",  # until 6.4
    "watchdog_hardlockup_touched",  # since 6.5
    "context_tracking.state",
)


def footprint(kernel: Kernel) -> list[Bytes]:
    """All of it."""
    found = [*_acknowledgements(kernel), *_waiting(kernel), *_module_percpu(kernel)]
    for cpu in kernel.core.cpus:
        found += _stack(kernel, cpu)
    return found


def _stack(kernel: Kernel, cpu: Cpu) -> Iterator[Bytes]:
    """The stack of a CPU that takes part: from its end to the frame of its thread's function."""
    start = cpu.rsp & -_STACK_BYTES
    slot = _return_slot(kernel, cpu.rsp, start + _STACK_BYTES)
    for address in range(start, slot, PAGE):
        physical = kernel.by_address[address] * PAGE
        end = physical + min(PAGE, slot - address)
        yield Bytes(physical, end, f"the stop: stack below {_STOPPER}")


def _return_slot(kernel: Kernel, rsp: int, top: int) -> int:
    """Where on the stack the return address into the thread's function is.

    :raises LookupError: it is not there: the CPU runs something else
    """
    symbol = kernel.program.symbol(_STOPPER)
    for slot in range(rsp, top, _WORD):
        value = kernel.program.read_u64(slot)
        if symbol.address <= value < symbol.address + symbol.size:
            return slot
    raise LookupError(f"no return into {_STOPPER} on the stack at {rsp:#x}")


def _acknowledgements(kernel: Kernel) -> Iterator[Bytes]:
    """The counter by which the CPUs leave stop_machine(), on the stack of its caller."""
    argument = per_cpu(kernel.program["cpu_stopper"], 0).stop_work.arg
    counter = cast("struct multi_stop_data *", argument).thread_ack
    address = counter.address_
    assert address is not None
    physical = kernel.physical(address)
    yield Bytes(physical, physical + 4, "the stop: thread_ack of stop_machine()")


def _module_percpu(kernel: Kernel) -> Iterator[Bytes]:
    """livedump's own per-CPU variables: it counts in them."""
    offset, size = module_percpu_region(find_module(kernel.program, MODULE))
    offsets = kernel.program["__per_cpu_offset"]
    for cpu in range(len(kernel.percpu_units) if size else 0):
        # 7.3's per-CPU symbols are addresses of the kernel's image: the sum wraps.
        start = kernel.physical((offsets[cpu].value_() + offset) & (1 << 64) - 1)
        yield Bytes(start, start + size, "livedump's per-CPU variables")


def _waiting(kernel: Kernel) -> Iterator[Bytes]:
    for name in _WAITING:
        variable, _, member = name.partition(".")
        if variable not in kernel.program:
            continue
        for cpu in range(len(kernel.percpu_units)):
            place = per_cpu(kernel.program[variable], cpu)
            place = place.member_(member) if member else place
            assert place.address_ is not None
            start = place.address_ - kernel.direct_map.start
            yield Bytes(start, start + sizeof(place), f"the stop: per-CPU {name}")
