"""The mirror of ``kmod/uapi/livedump.h``, which is the only definition of the ABI.

Naming: ``enum livedump_state`` is :class:`State`, ``LIVEDUMP_STATE_IDLE`` is ``State.IDLE``,
``#define LIVEDUMP_X`` is ``X``, ``struct livedump_report`` is :class:`Report`.
tests/unit/test_abi.py parses the header and fails on every name, value or offset that differs.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

from livedump.errors import AbiError

ABI = 4

GENL_NAME = "livedump"
GENL_VERSION = 2
GENL_GROUP = "events"

IMAGE_PATH = "/proc/livedump"

NOTE_NAME = "LIVEDUMP"
NOTE_TYPE = 0x4C44

F_PERSIST = 1
F_NOT_ZEROED = 2


class Cmd(IntEnum):
    """enum livedump_cmd"""

    UNSPEC = 0
    STATUS = 1
    SNAPSHOT = 2
    RELEASE = 3
    LOST = 4
    EVENT = 5


class Attr(IntEnum):
    """enum livedump_attr"""

    UNSPEC = 0
    PAD = 1
    STATE = 2
    STRATEGY = 3
    FLAGS = 4
    OWNER_FD = 5
    OWNER_PID = 6
    POOL_BYTES = 7
    MAX_HOLD_MS = 8
    REPORT = 9
    ERROR = 10
    EVENT = 11
    REASON = 12
    LOST_PFN = 13
    REFUSAL = 14
    STEP = 15
    MACHINE = 16
    DEFAULT_POOL = 17


class State(IntEnum):
    """enum livedump_state"""

    IDLE = 0
    PREPARED = 1
    HOLDING = 2
    RELEASING = 3


class Step(IntEnum):
    """enum livedump_step"""

    NONE = 0
    RESERVE = 1
    HOOKS = 2
    SURVEY = 3
    PLAN = 4
    STOP = 5


class Refusal(IntEnum):
    """enum livedump_refusal"""

    NONE = 0
    XEN_PV = 1
    ENCRYPTED = 2
    PREEMPT_RT = 3
    SANITIZER = 4
    CONFIG = 5
    DEBUG_PAGEALLOC = 6
    CPA_DEBUG = 7
    NOHZ_FULL = 8
    PERCPU_PAGES = 9
    TSC = 10
    KVM_GUEST = 11
    HUGETLB_VMEMMAP = 12
    TRACED = 13
    SLEEPING = 14
    BUSY = 15
    STRATEGY = 16
    OWNER = 17
    UNLOADING = 18
    POOL_TOO_LARGE = 19
    POOL_TOO_SMALL = 20
    MEMORY = 21
    RAM = 22
    HOOK = 23
    TRACEPOINT = 24
    CHANGING = 25
    STOP = 26
    CANCELLED = 27


class Strategy(IntEnum):
    """enum livedump_strategy"""

    NONE = 0
    EAGER = 1
    LAZY = 2


class Event(IntEnum):
    """enum livedump_event"""

    SNAPSHOT = 0
    POOL_LOW = 1
    LOST = 2
    RELEASE = 3
    FAILED = 4


class Reason(IntEnum):
    """enum livedump_reason"""

    NONE = 0
    REQUEST = 1
    OWNER = 2
    TIMEOUT = 3
    SYSTEM = 4
    FAILED = 5


class Verdict(IntEnum):
    """enum livedump_verdict"""

    PENDING = 0
    COMPLETE = 1
    LOST = 2
    UNPROVEN = 3


class Outcome(IntEnum):
    """enum livedump_outcome"""

    SAVED = 0
    ALREADY = 1
    LOST = 2
    RELEASING = 3


class Leaf(IntEnum):
    """enum livedump_leaf"""

    LEAF_4K = 0
    LEAF_2M = 1
    LEAF_1G = 2


_LEAVES = ctypes.c_uint64 * len(Leaf)


class Report(ctypes.LittleEndianStructure):
    """struct livedump_report: the receipt of a snapshot. Times in ns, pages of 4 KiB."""

    _pack_ = 1
    _fields_ = [
        ("abi", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("strategy", ctypes.c_uint32),
        ("verdict", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("instant_realtime_ns", ctypes.c_uint64),
        ("instant_boottime_ns", ctypes.c_uint64),
        ("instant_monotonic_ns", ctypes.c_uint64),
        ("prepare_ns", ctypes.c_uint64),
        ("reserve_ns", ctypes.c_uint64),
        ("hooks_ns", ctypes.c_uint64),
        ("survey_ns", ctypes.c_uint64),
        ("plan_ns", ctypes.c_uint64),
        ("rendezvous_ns", ctypes.c_uint64),
        ("save_ns", ctypes.c_uint64),
        ("protect_ns", ctypes.c_uint64),
        ("flush_ns", ctypes.c_uint64),
        ("recopy_ns", ctypes.c_uint64),
        ("stop_ns", ctypes.c_uint64),
        ("stops_ns", ctypes.c_uint64),
        ("release_ns", ctypes.c_uint64),
        ("attempts", ctypes.c_uint64),
        ("nmis", ctypes.c_uint64),
        ("nmis_late", ctypes.c_uint64),
        ("nmis_running", ctypes.c_uint64),
        ("recopies", ctypes.c_uint64),
        ("recopied", ctypes.c_uint64),
        ("entries_protected", ctypes.c_uint64),
        ("entries_by_level", _LEAVES),
        ("entries_armed", ctypes.c_uint64),
        ("entries_closed", ctypes.c_uint64),
        ("entries_restored", ctypes.c_uint64),
        ("entries_late", ctypes.c_uint64),
        ("marks_cleared", ctypes.c_uint64),
        ("changes_logged", ctypes.c_uint64),
        ("demotions", ctypes.c_uint64),
        ("tables_left", ctypes.c_uint64),
        ("leaves_before", _LEAVES),
        ("leaves_held", _LEAVES),
        ("leaves_after", _LEAVES),
        ("pages_ram", ctypes.c_uint64),
        ("pages_saved_stop", ctypes.c_uint64),
        ("pages_saved_fault", ctypes.c_uint64),
        ("pages_saved_hook", ctypes.c_uint64),
        ("pages_in_place", ctypes.c_uint64),
        ("pages_own", ctypes.c_uint64),
        ("pages_unreadable", ctypes.c_uint64),
        ("pages_lost", ctypes.c_uint64),
        ("pages_vanished", ctypes.c_uint64),
        ("pages_counted", ctypes.c_uint64),
        ("pages_live", ctypes.c_uint64),
        ("pages_unguarded", ctypes.c_uint64),
        ("faults", ctypes.c_uint64),
        ("faults_already", ctypes.c_uint64),
        ("fault_demote_ns", ctypes.c_uint64),
        ("fault_copy_ns", ctypes.c_uint64),
        ("fault_total_ns", ctypes.c_uint64),
        ("fault_max_ns", ctypes.c_uint64),
        ("trace_skipped", ctypes.c_uint64),
        ("hooks_missed", ctypes.c_uint64),
        ("mappings_unseen", ctypes.c_uint64),
        ("pool_pages", ctypes.c_uint64),
        ("pool_used", ctypes.c_uint64),
    ]


REPORT_BYTES = ctypes.sizeof(Report)
FIELDS = tuple(name for name, *_ in Report._fields_)

#: A report as plain values: int for each field, list of int for the arrays.
ReportDict = dict[str, Any]


def report_to_dict(report: Report) -> ReportDict:
    """*report* as ``{field: int}``, arrays as lists."""
    values: ReportDict = {}
    for name in FIELDS:
        value = getattr(report, name)
        values[name] = list(value) if isinstance(value, ctypes.Array) else int(value)
    return values


def report_from_dict(values: ReportDict) -> Report:
    """The inverse of :func:`report_to_dict`; fields that *values* lacks are zero.

    :raises AbiError: *values* has a field that the report does not have
    """
    report = Report(abi=ABI, size=REPORT_BYTES)
    for name, value in values.items():
        if name not in FIELDS:
            raise AbiError(f"a report has no field {name!r}", step="build report")
        setattr(report, name, _LEAVES(*value) if isinstance(value, list) else value)
    return report


def report_from_bytes(data: bytes) -> Report:
    """Decode a report as it comes from the kernel or from an image.

    :raises AbiError: another ABI version, or too short
    """
    step = "decode report"
    if len(data) < 8:
        raise AbiError(f"{len(data)} bytes are too short for a report", step=step)
    version = int.from_bytes(data[0:4], "little")
    size = int.from_bytes(data[4:8], "little")
    if version != ABI or size != REPORT_BYTES or len(data) < REPORT_BYTES:
        raise AbiError(
            f"the report has ABI {version} and {size} bytes ({len(data)} present), "
            f"this client expects ABI {ABI} and {REPORT_BYTES} bytes",
            step=step,
            remedy="Install module and client from the same livedump version",
        )
    return Report.from_buffer_copy(data[:REPORT_BYTES])


def empty_report() -> ReportDict:
    """The report of a module that has taken no snapshot yet: all zeros but abi and size."""
    return report_to_dict(Report(abi=ABI, size=REPORT_BYTES))
