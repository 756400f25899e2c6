"""What the BPF programs hand over, before it has names and a place on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Of a stack: addresses of the kernel and functions of user space, innermost first.
Place = tuple[tuple[int, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies of one kind.

    :param slots: bucket (see :mod:`livedump.recording.buckets`) -> count
    """

    slots: dict[int, int]
    sum_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True)
class StackRow:
    """Faults with the same kernel stack in one time slice.

    :param slice: number of the slice since recording began
    :param addresses: innermost first, empty when the stack was lost
    :param samples: how often the stack was taken
    :param count: faults that it stands for, *stalled_ns* likewise
    :param user: functions of user space, innermost first; empty when these were not asked for
    :param slow: of faults that took :data:`livedump.recording.layout.SLOW_NS`, or of the others
    :param variance: of *count*, which is an estimate where some stacks were not taken; 0: exact
    :param stalled_variance: of *stalled_ns*, in ns squared
    """

    slice: int
    kind: str
    comm: str
    addresses: tuple[int, ...]
    samples: int
    count: int
    stalled_ns: int
    user: tuple[str, ...] = ()
    slow: bool = False
    variance: int = 0
    stalled_variance: int = 0


@dataclass
class Drained:
    """What has been taken out of the programs while they run: of slices that are over.

    :param last: the last slice that is over; -1: none
    :param cells: (slice, what) -> count; *what* as in :func:`livedump.recording.layout.cell_what`
    :param stalled: of cells that are timed, (slice, what) -> ns
    :param full: some cells had no room: nothing here need be all
    """

    last: int = -1
    cells: dict[tuple[int, int], int] = field(default_factory=dict)
    stacks: list[StackRow] = field(default_factory=list)
    stalled: dict[tuple[int, int], int] = field(default_factory=dict)
    full: bool = False


@dataclass(frozen=True, slots=True)
class TaskRow:
    """Faults of one process (pid is user space's).

    :param cgroup: one that it was seen in, empty when that is not known
    """

    kind: str
    pid: int
    comm: str
    count: int
    stalled_ns: int
    cgroup: str = ""


@dataclass(frozen=True, slots=True)
class CpuRow:
    """Faults of a kind on one CPU.

    :param stalled_ns: None where they are not timed
    """

    kind: str
    cpu: int
    count: int
    stalled_ns: int | None


@dataclass(frozen=True, slots=True)
class PageRow:
    """Copy-on-write faults of one page."""

    pfn: int
    count: int
    stalled_ns: int


@dataclass(frozen=True, slots=True)
class StopEvent:
    """One call of stop_machine(); *nested* when it was made by another one that is recorded too.

    :param addresses: the caller's stack, innermost first; empty when it was lost, not asked for, or
        in the call that this one is nested in
    """

    start_monotonic_ns: int
    duration_ns: int
    pid: int
    comm: str
    site: str
    nested: bool
    function: int
    cpu: int = 0
    cgroup: str = ""
    addresses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotEvent:
    """livedump_snapshot: field names of struct livedump_report."""

    time_monotonic_ns: int
    pid: int
    comm: str
    report: dict[str, int]


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    """livedump_release: field names of struct livedump_report."""

    time_monotonic_ns: int
    report: dict[str, int]


@dataclass(frozen=True, slots=True)
class LossRow:
    """Something that was not recorded, and how often."""

    probe: str
    what: str
    count: int


@dataclass
class RawData:
    """Totals of one recording.

    :param unmeasured: losses that cannot be counted here, in words
    """

    histograms: dict[str, Histogram] = field(default_factory=dict)
    tasks: list[TaskRow] = field(default_factory=list)
    cpus: list[CpuRow] = field(default_factory=list)
    pages: list[PageRow] = field(default_factory=list)
    stops: list[StopEvent] = field(default_factory=list)
    snapshots: list[SnapshotEvent] = field(default_factory=list)
    releases: list[ReleaseEvent] = field(default_factory=list)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)
    losses: list[LossRow] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)


def as_row(item: TaskRow | CpuRow | PageRow | LossRow) -> dict[str, Any]:
    """Field -> value; dataclasses.asdict() copies deeply, which is slow for many thousand rows."""
    return {name: getattr(item, name) for name in item.__slots__}
