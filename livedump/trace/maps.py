"""Reading what the BPF programs have counted, while they run and at the end. No module of bcc is
imported here: what :mod:`livedump.trace.bpf` has loaded is handed in."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from livedump.sums import add_up
from livedump.trace.buckets import BUCKETS
from livedump.trace.cgroups import Cgroups
from livedump.trace.data import (
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
from livedump.trace.filters import Filter
from livedump.trace.layout import (
    COMM_BYTES,
    COUNTER_NAMES,
    LOSS_NAMES,
    SPILLED,
    Counter,
    Kind,
    Loss,
    StopSite,
    kind_name,
)
from livedump.trace.options import Options
from livedump.trace.probes import TRACEFS, Plan

#: The kernel's list of probes made through tracefs: name, hits, misses.
KPROBE_PROFILE = TRACEFS[0] / "kprobe_profile"

#: How long a program may be on its way into a time slice that is over: a virtual CPU may not run
#: for so long.
MARGIN_NS = 200_000_000

#: Events that are handed over at once: a load may make them faster than we take them.
MOST_EVENTS = 200_000

#: Processes whose symbols are kept.
SYMBOL_CACHES = 64

#: Later than any time slice.
NO_SLICE = 1 << 32

#: Runs inside bpf(BPF_MAP_UPDATE_ELEM) on an array, where the kernel holds bpf_prog_active and
#: therefore refuses every program of ours.
REFUSING = b"array_map_update_elem"
REFUSED = b"ld_refused"

UNCOUNTED_SKIPS = (
    "this kernel does not count the events that it skips while another BPF program runs on the "
    "same CPU"
)
UNREAD_SKIPS = "the kernel's count of the events that a program skipped cannot be read"
UNREAD_RETURNS = (
    "the kernel's kprobe_profile does not tell how many returns of page faults it missed"
)


class Programs(Protocol):
    """What the recorder needs of loaded programs; tests bring a fake."""

    def begin(self) -> int:
        """Start to count; CLOCK_MONOTONIC, ns, at which the first time slice begins."""

    def end(self) -> None:
        """Stop to count, everything at the same moment."""

    def now(self) -> int:
        """The time slice of this moment; after :meth:`end`, of that one."""

    def drain(self) -> Drained:
        """Take out the time slices that are over; after :meth:`end`, all."""

    def losses(self) -> list[LossRow]:
        """What was lost so far, as far as no time slice has it."""

    def events(self, keep: Callable[[bytes], None]) -> None:
        """Hand over the single faults that have come since, each as ``struct ld_event``."""

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
        self._unmeasured: dict[str, None] = {}
        self._walked: dict[int, tuple[int, ...]] = {}
        self._user: dict[tuple[int, int], tuple[str, ...]] = {}
        self._cgroups = Cgroups()
        self._keep: Callable[[bytes], None] | None = None
        self._handed = 0
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
            padded = chosen.comm.encode().ljust(COMM_BYTES, b"\0")
            names[ctypes.c_int(0)] = names.Leaf.from_buffer_copy(padded)
        if chosen.cgroup is not None:
            self._bpf[b"wanted_cgroup"][ctypes.c_int(0)] = str(chosen.cgroup)

    def ask_kernel(self) -> None:
        """Find out whether this kernel counts the events that it skips.

        The field is in fdinfo of kernels that count only other types of program in it, so that it
        takes an event that must be skipped (since "bpf: Count missed stats in trace_call_bpf").
        """
        try:
            self._bpf.attach_kprobe(event=REFUSING, fn_name=REFUSED)
        except Exception:  # bcc raises nothing more precise; not known means not counted
            self._unmeasured[UNCOUNTED_SKIPS] = None
            return
        try:
            self._set_window(0)
        finally:
            self._bpf.detach_kprobe(event=REFUSING)
        if not recursion_misses(self._bpf.funcs[REFUSED].fd):
            self._unmeasured[UNCOUNTED_SKIPS] = None

    def begin(self) -> int:
        """See :class:`Programs`."""
        self._before = Tally({(row.probe, row.what): row.count for row in self.losses()})
        self._start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._set_window(self._start_ns)
        return self._start_ns

    def end(self) -> None:
        """See :class:`Programs`."""
        self._set_window(0)
        self._end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._final = self.losses()

    @property
    def _ended(self) -> bool:
        return bool(self._end_ns)

    def now(self) -> int:
        """See :class:`Programs`."""
        now_ns = self._end_ns or time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return (now_ns - self._start_ns) // self._options.slice_ns

    def drain(self) -> Drained:
        """See :class:`Programs`.

        The last slices that are over are left for the next time: a program may be on its way into
        them. Nothing is removed before everything was read.
        """
        current = self.now()
        margin = max(1, -(-MARGIN_NS // self._options.slice_ns))
        before = NO_SLICE if self._ended else current - margin
        cells, folds = self._old(b"cells", before), self._old(b"folds", before)
        found = Drained(last=current if self._ended else before - 1)
        for key, value in cells:
            # A program that met the end of recording between two looks has a slice of its own.
            cell = (min(int(key.slice), current), int(key.what))
            found.cells[cell] = found.cells.get(cell, 0) + _number(value)
        found.stacks = [
            StackRow(
                min(int(key.slice), current),
                kind_name(key.kind),
                _comm(key.comm),
                self.addresses(int(key.stack)),
                int(value.samples),
                int(value.count),
                int(value.stalled_ns),
                self._user_names(int(key.user), int(key.pid)),
            )
            for key, value in folds
        ]
        self._remove(b"cells", cells)
        self._remove(b"folds", folds)
        return found

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
        now = Tally(
            {
                (row.probe, row.what): row.count
                for row in (*self._skipped(), *self._missed_returns(), *self._without_slice())
            }
        )
        return [LossRow(*key, count) for key, count in (now - self._before).items()]

    def _without_slice(self) -> Iterator[LossRow]:
        """What had no room in the map that knows about time cannot be in it."""
        for kind in Kind:
            count = _sum_percpu(self._bpf[b"losses"], kind * len(Loss) + Loss.SLICES_FULL)
            if count:
                yield LossRow(kind_name(kind), LOSS_NAMES[Loss.SLICES_FULL], count)

    def events(self, keep: Callable[[bytes], None]) -> None:
        """See :class:`Programs`. At most :data:`MOST_EVENTS`, unless they have ended."""
        self._keep, self._handed = keep, 0
        self._bpf.ring_buffer_consume()

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
        self._handed += 1
        # A negative number makes libbpf stop, after this one.
        return -1 if self._handed >= MOST_EVENTS and not self._ended else 0

    def read(self) -> RawData:
        """See :class:`Programs`."""
        bpf = self._bpf
        questions = self._plan.questions
        data = RawData()
        data.histograms = self._histograms()
        data.cpus = [*self._cpus()]
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
        data.unmeasured = list(self._unmeasured)
        return data

    def close(self) -> None:
        """Detach and free everything. Safe to repeat."""
        self._bpf.cleanup()

    def _set_window(self, value: int) -> None:
        window = self._bpf[b"window"]
        window[ctypes.c_int(0)] = ctypes.c_uint64(value)

    def _old(self, name: bytes, before: int) -> list[tuple[Any, Any]]:
        """Entries of earlier slices: nobody adds to these any more."""
        table = self._bpf[name]
        _keep_buffers(table)
        return [item for item in _items(table) if item[0].slice < before]

    def _remove(self, name: bytes, items: list[tuple[Any, Any]]) -> None:
        if not items:
            return
        table = self._bpf[name]
        keys = (table.Key * len(items))(*(key for key, _ in items))
        try:
            table.items_delete_batch(keys)
        except Exception:  # bcc raises nothing more precise; one by one always works
            for key in keys:
                with contextlib.suppress(KeyError):
                    del table[key]

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

    def _histograms(self) -> dict[str, Histogram]:
        histograms = {}
        for kind in Kind:
            slots = [0] * BUCKETS
            count = sum_ns = max_ns = 0
            for part in self._bpf[b"hists"][ctypes.c_int(kind)]:
                if not part.count:
                    continue
                count += int(part.count)
                sum_ns += int(part.sum_ns)
                max_ns = max(max_ns, int(part.max_ns))
                slots = [mine + theirs for mine, theirs in zip(slots, part.slots, strict=True)]
            if count:
                histograms[kind_name(kind)] = Histogram(
                    {i: n for i, n in enumerate(slots) if n}, sum_ns, max_ns
                )
        return histograms

    def _cpus(self) -> Iterator[CpuRow]:
        """By CPU; faults of the kernel are counted only."""
        for kind in Kind:
            for cpu, part in enumerate(self._bpf[b"hists"][ctypes.c_int(kind)]):
                if part.count:
                    yield CpuRow(kind_name(kind), cpu, *map(int, (part.count, part.sum_ns)))
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

    def _skipped(self) -> Iterator[LossRow]:
        """Runs that the kernel refused because another program was running on that CPU."""
        for name, function in self._bpf.funcs.items():
            if name == REFUSED:
                continue
            misses = recursion_misses(function.fd)
            if misses is None:
                self._unmeasured[UNREAD_SKIPS] = None
            elif misses:
                yield LossRow(_point(name), "program skipped: another one was running", misses)

    def _missed_returns(self) -> list[LossRow]:
        """Returns that were missed for want of a kretprobe instance."""
        if self._plan.get("user_latency") is None:
            return []  # the others are rare, and BCC makes them where the kernel lists none
        found = missed_returns(KPROBE_PROFILE, os.getpid())
        if found is None:
            self._unmeasured[UNREAD_RETURNS] = None
        return found or []


def _point(function: bytes) -> str:
    """``tracepoint__livedump__livedump_fault``, bcc's name for a program, is
    ``livedump:livedump_fault``."""
    name = function.decode()
    for prefix in ("tracepoint__", "raw_tracepoint__"):
        if name.startswith(prefix):
            return name.removeprefix(prefix).replace("__", ":", 1)
    return name


def recursion_misses(fd: int) -> int | None:
    """How often the kernel refused to run a program; None when it does not tell."""
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    except OSError:
        return None
    misses = re.search(r"^recursion_misses:\s+(\d+)$", text, re.MULTILINE)
    return int(misses[1]) if misses else None


def missed_returns(profile: Path, pid: int) -> list[LossRow] | None:
    """Misses of the probes that BCC made through tracefs for a process.

    :param profile: see :data:`KPROBE_PROFILE`
    :returns: None when it cannot be read, or lists none of them
    """
    try:
        lines = [line.split() for line in profile.read_text().splitlines()]
    except OSError:
        return None
    tail = f"_bcc_{pid}"
    own = [fields for fields in lines if len(fields) == 3 and fields[0].endswith(tail)]
    if not own:
        return None
    return [
        LossRow(
            name.removesuffix(tail).removeprefix("r_").removeprefix("p_"),
            "kprobe missed by the kernel",
            int(misses),
        )
        for name, _hits, misses in own
        if int(misses)
    ]


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


def _keep_buffers(table: Any) -> None:
    """Let bcc read a map, which has to be read twice a second, into the same memory each time: to
    clear room for the largest number of entries is half of what that costs. What was read is valid
    until the next time. Without this method of its own, bcc does as ever."""
    if "_alloc_keys_values" in vars(table) or not hasattr(table, "_alloc_keys_values"):
        return
    buffers = table._alloc_keys_values(alloc_k=True, alloc_v=True)
    table._alloc_keys_values = lambda **_wanted: buffers


def _number(value: Any) -> int:
    """A plain number: an int from bcc's batches, a ctypes object from its loops."""
    return value if type(value) is int else int(value.value)


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
