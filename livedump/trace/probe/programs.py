"""Reading what the BPF programs have counted, while they run and at the end. No module of bcc is
imported here: what :mod:`livedump.trace.probe.loader` has loaded is handed in."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from livedump import syscalls
from livedump.kinds import Kind, kind_name
from livedump.recording.journal import EVENT_BYTES
from livedump.recording.layout import (
    COMM_BYTES,
    COUNTER_NAMES,
    LOSS_NAMES,
    SPILLED,
    Counter,
    Loss,
    StopSite,
)
from livedump.recording.rows import (
    CpuRow,
    Drained,
    Histogram,
    LossRow,
    PageRow,
    RawData,
    ReleaseEvent,
    SnapshotEvent,
    StackRow,
    StopEvent,
    TaskRow,
)
from livedump.sums import add_up
from livedump.syscalls import syscall
from livedump.trace.probe.cgroups import Cgroups
from livedump.trace.probe.filters import Filter
from livedump.trace.probe.hashmap import HashMap
from livedump.trace.probe.missed import Missed
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Plan

#: How long a program may be on its way into a time slice that is over: a virtual CPU may not run
#: for so long.
MARGIN_NS = 200_000_000

#: struct ld_cell and struct ld_sum: slice, cpu, what; count, stalled_ns.
CELL_KEY, CELL_VALUE = struct.Struct("<IHH"), struct.Struct("<QQ")

#: struct ld_stack_key and struct ld_fold: slice, kind, stack, user, pid, slow, comm; count,
#: stalled_ns, samples, spread, stalled_spread.
FOLD_KEY, FOLD_VALUE = struct.Struct(f"<IIiiII{COMM_BYTES}s"), struct.Struct("<QQQQQ")

#: The square of the unit of stalled_spread, in ns.
_SPREAD_UNIT = 1 << 20

#: Events that are handed over at once: a load may make them faster than we take them.
MOST_EVENTS = 200_000

#: Processes whose symbols are kept.
SYMBOL_CACHES = 64

#: Later than any time slice.
NO_SLICE = 1 << 32

#: Command of membarrier(2).
_MEMBARRIER_GLOBAL = 1


class HistogramPart(NamedTuple):
    """struct ld_hist, one CPU's."""

    faults: int
    sum_ns: int
    max_ns: int
    slots: Sequence[int]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> HistogramPart:
        """From the structure's numbers."""
        faults, sum_ns, max_ns = numbers[:3]
        return cls(faults, sum_ns, max_ns, numbers[3:])


class Programs(Protocol):
    """What the recorder needs of loaded programs; tests bring a fake."""

    def begin(self) -> int:
        """Start to count; CLOCK_MONOTONIC, ns, at which the first time slice begins."""

    def end(self) -> int:
        """Stop to count, everything at the same moment: CLOCK_MONOTONIC, ns."""

    def now(self) -> int:
        """The time slice of this moment; after :meth:`end`, of that one."""

    def drain(self) -> Drained:
        """Take out the time slices that are over; after :meth:`end`, all."""

    def losses(self) -> list[LossRow]:
        """What was lost so far, as far as no time slice has it."""

    def events(self, keep: Callable[[bytes], None]) -> None:
        """Hand over the single faults that have come since: one ``struct ld_event`` behind the
        other, in parts; after :meth:`end`, all."""

    def addresses(self, stack: int) -> tuple[int, ...]:
        """Of a stack with this number, innermost first; none: it was lost."""

    def read(self) -> RawData:
        """The totals: since :meth:`begin`, up to now."""

    def close(self) -> None:
        """Detach and free everything. Safe to repeat."""


class BccPrograms:
    """Programs that are loaded and attached (see :class:`Programs`)."""

    def __init__(self, bpf: Any, plan: Plan, options: Options) -> None:
        self._bpf = bpf
        self._plan = plan
        self._options = options
        self._start_ns = 0
        self._end_ns = 0
        self._ended = False  # and no program is on its way any more
        self._missed = Missed(bpf, plan)
        self._walked: dict[int, tuple[int, ...]] = {}
        self._user: dict[tuple[int, int], tuple[str, ...]] = {}
        self._cgroups = Cgroups()
        self._hash_maps: dict[bytes, HashMap] = {}
        self._full = [0, 0]  # cells without room, at the last drains
        self._keep: Callable[[bytes], None] | None = None
        self._handed = 0
        self._kinds_left = [*Kind]  # whose batches were not taken yet
        self._before: Tally[tuple[str, str]] = Tally()
        self._final: list[LossRow] | None = None
        if options.events:
            bpf[b"ring"].open_ring_buffer(self._event)

    def choose(self, chosen: Filter) -> None:
        """Tell the programs whose faults to count."""
        for pid in chosen.pids:
            self._bpf[b"wanted_pids"][ctypes.c_uint32(pid)] = ctypes.c_uint32(1)
        if chosen.comm is not None:
            names = self._bpf[b"wanted_comm"]
            padded = os.fsencode(chosen.comm).ljust(COMM_BYTES, b"\0")
            names[ctypes.c_int(0)] = names.Leaf.from_buffer_copy(padded)
        if chosen.cgroup is not None:
            self._bpf[b"wanted_cgroup"][ctypes.c_int(0)] = str(chosen.cgroup)

    def ask_kernel(self) -> None:
        """Find out what it counts; before :meth:`begin`."""
        self._missed.ask(partial(self._set_window, 0))

    def begin(self) -> int:
        """See :class:`Programs`."""
        self._before = Tally({(row.probe, row.what): row.count for row in self.losses()})
        self._start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._set_window(self._start_ns)
        return self._start_ns

    def end(self) -> int:
        """See :class:`Programs`."""
        self._set_window(0)
        self._end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        # The kernel goes on counting what it skips; programs on their way may still lose something.
        missed = self._missed.rows()
        await_programs()
        self._final = self._since_begin([*missed, *self._without_slice()])
        self._ended = True
        return self._end_ns

    def now(self) -> int:
        """See :class:`Programs`."""
        now_ns = self._end_ns or time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return (now_ns - self._start_ns) // self._options.slice_ns

    def drain(self) -> Drained:
        """See :class:`Programs`.

        The last slices that are over are left for the next time: a program may be on its way into
        them. Nothing is removed before everything was read.
        """
        ended, current = self._ended, self.now()
        margin = max(1, -(-MARGIN_NS // self._options.slice_ns))
        before = NO_SLICE if ended else current - margin
        cells, cell_keys = self._entries_before(b"cells", CELL_KEY, CELL_VALUE, before)
        folds, fold_keys = self._entries_before(b"folds", FOLD_KEY, FOLD_VALUE, before)
        found = Drained(last=current if ended else before - 1, full=self._slices_full())
        # A program that met the end of recording between two looks has a slice of its own.
        for (slice_, _cpu, what), (count, stalled_ns) in cells:
            cell = (min(slice_, current), what)
            found.cells[cell] = found.cells.get(cell, 0) + count
            if stalled_ns:
                found.stalled[cell] = found.stalled.get(cell, 0) + stalled_ns
        found.stacks = [self._stack_row(fold, current) for fold in folds]
        self._hash_map(b"cells").delete(cell_keys)
        self._hash_map(b"folds").delete(fold_keys)
        return found

    def _slices_full(self) -> bool:
        """Whether cells had no room since the drain before the last one: what was left then, as a
        program may have been on its way into it, is handed over now."""
        lost = sum(row.count for row in self._without_slice())
        before, self._full = self._full[0], [self._full[1], lost]
        return lost > before

    def _stack_row(self, fold: tuple[Any, Any], last: int) -> StackRow:
        """Of a struct ld_stack_key and its struct ld_fold."""
        (slice_, kind, stack, user, pid, slow, comm), sums = fold
        count, stalled_ns, samples, spread, stalled_spread = sums
        return StackRow(
            slice=min(slice_, last),
            kind=kind_name(kind),
            comm=_comm(comm),
            addresses=self.addresses(stack),
            samples=samples,
            count=count,
            stalled_ns=stalled_ns,
            user=self._user_names(user, pid),
            slow=bool(slow),
            variance=spread,
            stalled_variance=stalled_spread * _SPREAD_UNIT,
        )

    def _user_names(self, stack: int, pid: int) -> tuple[str, ...]:
        """Functions of a process, while it lives: its files' symbols are looked up there. A process
        that has become another program since gets wrong names."""
        if stack < 0:
            return ()
        if (stack, pid) not in self._user:
            self._forget_dead()
            self._user[(stack, pid)] = tuple(
                self._bpf.sym(address, pid, show_module=True).decode("utf-8", "replace")
                for address in self._walk(b"user_stacks", b"user_spilled", stack)
            )
        return self._user[(stack, pid)]

    def _forget_dead(self) -> None:
        """bcc keeps the symbols of every process that it was asked about."""
        caches = getattr(type(self._bpf), "_sym_caches", {})
        if len(caches) < SYMBOL_CACHES:
            return
        for pid in [pid for pid in caches if pid > 0 and not Path(f"/proc/{pid}").exists()]:
            del caches[pid]
        self._user = {key: names for key, names in self._user.items() if key[1] in caches}

    def losses(self) -> list[LossRow]:
        """See :class:`Programs`. The kernel counts from attaching on, and after the end, too."""
        if self._final is not None:
            return self._final
        return self._since_begin([*self._missed.rows(), *self._without_slice()])

    def _since_begin(self, rows: list[LossRow]) -> list[LossRow]:
        now = Tally({(row.probe, row.what): row.count for row in rows})
        return [LossRow(*key, count) for key, count in (now - self._before).items()]

    def _without_slice(self) -> Iterator[LossRow]:
        """What had no room in the map that knows about time cannot be in it."""
        for kind in Kind:
            count = _sum_percpu(self._bpf[b"losses"], kind * len(Loss) + Loss.SLICES_FULL)
            if count:
                yield LossRow(kind_name(kind), LOSS_NAMES[Loss.SLICES_FULL], count)

    def events(self, keep: Callable[[bytes], None]) -> None:
        """See :class:`Programs`. No more after :data:`MOST_EVENTS`, unless they have ended: then
        what CPUs have not handed over yet follows, too."""
        self._keep, self._handed = keep, 0
        self._bpf.ring_buffer_consume()
        if self._ended:
            self._take_batches(keep)

    def _take_batches(self, keep: Callable[[bytes], None]) -> None:
        """Once: the pump may be in its round when recording ends, and has a last one after that."""
        while self._kinds_left:
            for batch in self._bpf[b"batches"][ctypes.c_int(self._kinds_left[-1])]:
                keep(bytes(batch.events)[: batch.count * EVENT_BYTES])
            self._kinds_left.pop()

    def addresses(self, stack: int) -> tuple[int, ...]:
        """See :class:`Programs`. A stack stays where it is until the programs are unloaded."""
        if stack < 0:
            return ()
        if stack not in self._walked:
            self._walked[stack] = self._walk(b"stacks", b"spilled", stack)
        return self._walked[stack]

    def _walk(self, first: bytes, spilled: bytes, stack: int) -> tuple[int, ...]:
        """A stack is in the second map where another one has its place in the first."""
        table = self._bpf[spilled if stack & SPILLED else first]
        try:
            return tuple(map(int, table.walk(stack & ~SPILLED)))
        except KeyError:
            return ()

    def _event(self, _context: object, data: int, size: int) -> int:
        if self._keep:
            self._keep(ctypes.string_at(data, size))
        self._handed += size // EVENT_BYTES
        # A negative number makes libbpf stop, after these.
        return -1 if self._handed >= MOST_EVENTS and not self._ended else 0

    def read(self) -> RawData:
        """See :class:`Programs`."""
        bpf = self._bpf
        questions = self._plan.questions
        data = RawData()
        parts = self._histogram_parts()
        data.histograms = histograms(parts)
        data.cpus = [*self._cpus(parts)]
        data.tasks = self._tasks()
        for counter in Counter:
            kind, name = COUNTER_NAMES[counter]
            if kind in questions:
                data.counters[(kind, name)] = _sum_percpu(bpf[b"counters"], counter)
        if "user" in questions and self._ended:
            data.counters[("user", "unfinished")] = self._unfinished()
        if "cow" in questions:
            data.pages = [
                PageRow(_number(key), int(value.count), int(value.stalled_ns))
                for key, value in _items(bpf[b"pages"])
            ]
        if "stop" in questions:
            data.stops = self._stops()
        if "snapshot" in questions:
            data.snapshots = [_snapshot(k, v) for k, v in _items(bpf[b"snapshots"])]
            data.releases = [_release(k, v) for k, v in _items(bpf[b"releases"])]
        data.losses = [*self._losses_maps(), *self.losses()]
        data.unmeasured = self._missed.unmeasured
        return data

    def close(self) -> None:
        """Detach and free everything. Safe to repeat."""
        self._bpf.cleanup()

    def _set_window(self, value: int) -> None:
        window = self._bpf[b"window"]
        window[ctypes.c_int(0)] = ctypes.c_uint64(value)

    def _hash_map(self, name: bytes) -> HashMap:
        if name not in self._hash_maps:
            table = self._bpf[name]
            sizes = ctypes.sizeof(table.Key), ctypes.sizeof(table.Leaf)
            self._hash_maps[name] = HashMap(table.map_fd, *sizes, table.max_entries)
        return self._hash_maps[name]

    def _entries_before(
        self, name: bytes, key: struct.Struct, value: struct.Struct, before: int
    ) -> tuple[list[tuple[Any, Any]], bytes]:
        """Entries of earlier slices, to which nobody adds any more, and their keys as they are
        there."""
        keys, values = self._hash_map(name).read()
        items, raw = [], bytearray()
        pairs = zip(key.iter_unpack(keys), value.iter_unpack(values), strict=True)
        for place, pair in enumerate(pairs):
            if pair[0][0] < before:
                items.append(pair)
                raw += keys[place * key.size : (place + 1) * key.size]
        return items, bytes(raw)

    def _unfinished(self) -> int:
        """Faults that were under way at the end, or whose end was missed."""
        places = [entry for _, entry in _items(self._bpf[b"inflight"]) if entry.task]
        return len(places) + sum(1 for _ in _items(self._bpf[b"crowded"]))

    def _tasks(self) -> list[TaskRow]:
        """Those of the map before those that each CPU still keeps for itself: while recording goes
        on, what moves meanwhile is missed, not doubled. What a CPU keeps may change while it is
        copied: for a killed recorder, a few faults may be under another task."""
        found = list(_items(self._bpf[b"tasks"]))
        for kind in Kind:
            own = self._bpf[b"tallies"][ctypes.c_int(kind)]
            found += [(tally.key, tally.sum) for tally in own]
        tasks = [
            ((kind_name(key.kind), int(key.pid), _comm(key.comm)), value)
            for key, value in found
            if value.count or value.stalled_ns
        ]
        sums = add_up((task, (int(value.count), int(value.stalled_ns))) for task, value in tasks)
        last = {task: int(value.cgroup) for task, value in tasks}
        cgroups = self._cgroups.names(last.values())
        return [
            TaskRow(*task, count, stalled_ns, cgroups[last[task]])
            for task, (count, stalled_ns) in sums.items()
        ]

    def _stops(self) -> list[StopEvent]:
        values = [value for _, value in _items(self._bpf[b"stops"])]
        cgroups = self._cgroups.names(int(value.cgroup) for value in values)
        return [
            StopEvent(
                start_monotonic_ns=int(value.start_ns),
                duration_ns=int(value.duration_ns),
                pid=int(value.pid),
                comm=_comm(value.comm),
                site=StopSite(value.site).name.lower(),
                nested=bool(value.nested),
                function=int(value.fn),
                cpu=int(value.cpu),
                cgroup=cgroups[int(value.cgroup)],
                addresses=self.addresses(int(value.stack)),
            )
            for value in values
        ]

    def _histogram_parts(self) -> dict[Kind, list[HistogramPart]]:
        """The histograms of each CPU."""
        return {
            kind: [HistogramPart.of(cpu) for cpu in _numbers_percpu(self._bpf[b"hists"], kind)]
            for kind in Kind
        }

    def _cpus(self, parts: Mapping[Kind, Sequence[HistogramPart]]) -> Iterator[CpuRow]:
        """By CPU; faults of the kernel are counted only."""
        for kind, cpus in parts.items():
            for cpu, part in enumerate(cpus):
                if part.faults:
                    yield CpuRow(kind_name(kind), cpu, part.faults, part.sum_ns)
        counted = self._bpf[b"counters"][ctypes.c_int(Counter.KERNEL_EVENTS)]
        for cpu, count in enumerate(counted):
            if count:
                yield CpuRow(kind_name(Kind.KERNEL), cpu, int(count), None)

    def _losses_maps(self) -> Iterator[LossRow]:
        for kind in Kind:
            for loss in set(Loss) - {Loss.SLICES_FULL}:
                count = _sum_percpu(self._bpf[b"losses"], kind * len(Loss) + loss)
                if count:
                    yield LossRow(kind_name(kind), LOSS_NAMES[loss], count)


def await_programs() -> None:
    """Until every program that runs now has ended: they run inside RCU's read side, and the system
    call waits for a grace period. Where it cannot (nohz_full), a moment is waited for."""
    try:
        syscall(syscalls.MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0)
    except OSError:
        time.sleep(MARGIN_NS / 1e9)


def histograms(parts: Mapping[Kind, Sequence[HistogramPart]]) -> dict[str, Histogram]:
    """The CPUs' parts added up; kinds of which there is something."""
    found = {}
    for kind, cpus in parts.items():
        used = [part for part in cpus if part.faults]
        if used:
            slots = map(sum, zip(*(part.slots for part in used), strict=True))
            found[kind_name(kind)] = Histogram(
                {bucket: count for bucket, count in enumerate(slots) if count},
                sum(part.sum_ns for part in used),
                max(part.max_ns for part in used),
            )
    return found


def _items(table: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a hash map, in few system calls where the kernel can."""
    try:
        items = list(table.items_lookup_batch())
    except Exception:  # bcc raises nothing more precise; one by one always works
        items = []
        for key in list(table.keys()):
            with contextlib.suppress(KeyError):  # gone meanwhile
                items.append((key, table[key]))
    yield from items


def _number(value: Any) -> int:
    """A plain number: an int from bcc's batches, a ctypes object from its loops."""
    return value if type(value) is int else int(value.value)


def _numbers_percpu(table: Any, index: int) -> list[memoryview]:
    """Of each CPU, a value that is nothing but u64."""
    cpus = table[ctypes.c_int(index)]
    numbers = memoryview(bytes(cpus)).cast("Q")
    size = len(numbers) // len(cpus)
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]


def _sum_percpu(table: Any, index: int) -> int:
    return sum(int(value) for value in table[ctypes.c_int(index)])


def _comm(raw: bytes) -> str:
    return bytes(raw).split(b"\0")[0].decode("utf-8", "replace")


_SNAPSHOT_FIELDS = (
    "instant_monotonic_ns",
    "prepare_ns",
    "rendezvous_ns",
    "save_ns",
    "protect_ns",
    "flush_ns",
    "recopy_ns",
    "stop_ns",
    "entries_protected",
    "strategy",
    "attempts",
)
_RELEASE_FIELDS = (
    "release_ns",
    "entries_restored",
    "faults",
    "pages_lost",
    "trace_skipped",
    "reason",
    "verdict",
)


def _snapshot(key: Any, value: Any) -> SnapshotEvent:
    return SnapshotEvent(
        time_monotonic_ns=int(key.time_ns),
        pid=int(key.task) >> 32,
        comm=_comm(value.comm),
        report={name: int(getattr(value, name)) for name in _SNAPSHOT_FIELDS},
    )


def _release(key: Any, value: Any) -> ReleaseEvent:
    return ReleaseEvent(
        time_monotonic_ns=int(key.time_ns),
        report={name: int(getattr(value, name)) for name in _RELEASE_FIELDS},
    )
