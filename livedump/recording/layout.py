"""The mirror of the enums in ``bpf/``; tests/unit/recording/test_layout.py compares the two."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from livedump.kinds import Kind
from livedump.recording.buckets import BUCKETS

COMM_BYTES = 16

#: Of ``struct ld_cell``'s ``what``: the kind is multiplied by this.
CELL_KINDS = 2048

#: LD_BATCH: so many single events of a kind a CPU hands over at once.
BATCH = 64

#: LD_SLOW_NS: faults that take so long take turns of their own in having their stack taken.
SLOW_NS = 1 << 20

#: LD_SPILLED: this bit of a stack's number says that it is in the map ``spilled``.
SPILLED = 1 << 30


class Loss(IntEnum):
    """enum ld_loss: what can get lost inside the programs."""

    STACK = 0
    STACKS_FULL = 1
    TASKS_FULL = 2
    PAGES_FULL = 3
    INFLIGHT_FULL = 4
    NO_EXIT = 5
    NO_ENTRY = 6
    EVENTS_FULL = 7
    SLICES_FULL = 8
    RING_FULL = 9
    USER_STACK = 10


class Counter(IntEnum):
    """enum ld_counter: what is merely counted."""

    USER_EVENTS = 0
    KERNEL_EVENTS = 1
    KERNEL_WRITE_PROTECT = 2
    KERNEL_NOT_PRESENT = 3
    KERNEL_USER_ADDRESS = 4
    FAULT_RETRY = 5
    FAULT_MAJOR = 6
    FAULT_ERROR = 7
    COW_SAVED = 8
    COW_ALREADY = 9
    COW_LOST = 10
    COW_RELEASING = 11
    COW_OTHER = 12


class StopSite(IntEnum):
    """enum ld_stop_site: which function was called."""

    STOP_MACHINE = 0
    STOP_MACHINE_CPUSLOCKED = 1


#: ``(kind, name)`` of each counter in the table ``counters``.
COUNTER_NAMES = {
    Counter.USER_EVENTS: ("user", "events"),
    Counter.KERNEL_EVENTS: ("kernel", "events"),
    Counter.KERNEL_WRITE_PROTECT: ("kernel", "write_protect"),
    Counter.KERNEL_NOT_PRESENT: ("kernel", "not_present"),
    Counter.KERNEL_USER_ADDRESS: ("kernel", "user_address"),
    Counter.FAULT_RETRY: ("user", "retry"),
    Counter.FAULT_MAJOR: ("user", "major"),
    Counter.FAULT_ERROR: ("user", "error"),
    Counter.COW_SAVED: ("cow", "saved"),
    Counter.COW_ALREADY: ("cow", "already"),
    Counter.COW_LOST: ("cow", "lost"),
    Counter.COW_RELEASING: ("cow", "releasing"),
    Counter.COW_OTHER: ("cow", "other_outcome"),
}

#: Losses in words, as the table ``losses`` has them in column ``what``.
LOSS_NAMES = {
    Loss.STACK: "no stack",
    Loss.STACKS_FULL: "stack table full",
    Loss.TASKS_FULL: "task table full",
    Loss.PAGES_FULL: "page table full",
    Loss.INFLIGHT_FULL: "entry table full",
    Loss.NO_EXIT: "entry without exit",
    Loss.NO_ENTRY: "exit without entry",
    Loss.EVENTS_FULL: "event table full",
    Loss.SLICES_FULL: "slice table full",
    Loss.RING_FULL: "ring buffer full",
    Loss.USER_STACK: "no user stack",
}

#: The event is counted, but under no stack.
WITHOUT_STACK = frozenset({Loss.STACK, Loss.STACKS_FULL, Loss.USER_STACK})

#: The event is counted, but a table does not list its task, its page or its time.
UNLISTED = frozenset({Loss.TASKS_FULL, Loss.PAGES_FULL, Loss.SLICES_FULL})

#: The event is counted, but is no row of the table ``events``.
NO_EVENT = frozenset({Loss.RING_FULL})


@dataclass(frozen=True, slots=True)
class What:
    """A ``what`` of ``struct ld_cell``: of three things, one."""

    kind: Kind
    bucket: int | None = None
    loss: Loss | None = None

    @property
    def untimed(self) -> bool:
        """An event that is counted only."""
        return self.bucket is None and self.loss is None


def cell_what(what: int) -> What:
    """Take ``what`` of ``struct ld_cell`` apart.

    :raises ValueError: it is none
    """
    number, rest = divmod(what, CELL_KINDS)
    kind = Kind(number)
    if rest < BUCKETS:
        return What(kind, bucket=rest)
    if rest == BUCKETS + len(Loss):
        return What(kind)
    return What(kind, loss=Loss(rest - BUCKETS))
