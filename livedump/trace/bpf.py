"""The BPF programs: compile, attach, read. The only module that imports bcc.

BCC rewrites map calls and tracepoint structures only in the main file, so the C files are joined
into one text (each under a ``#line`` of its own) instead of including each other; options are
``-D`` flags.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from livedump.trace import stale
from livedump.trace.buckets import BUCKETS
from livedump.trace.data import (
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
from livedump.trace.errors import TraceError
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
from livedump.trace.probes import TRACEFS, Attach, Plan, Probe

STEP = "load BPF programs"

EVERYBODY = Filter()

#: Map sizes that can be set, as ``-D`` names in bpf/common.h.
LIMITS = {
    "stacks": "LD_MAX_STACKS",
    "spilled": "LD_MAX_SPILLED",
    "folds": "LD_MAX_FOLDS",
    "tasks": "LD_MAX_TASKS",
    "inflight": "LD_MAX_INFLIGHT",
    "pages": "LD_MAX_PAGES",
    "events": "LD_MAX_EVENTS",
}

#: Kretprobe instances for handle_mm_fault: one for each fault that sleeps at the same time. More
#: than BCC's default makes it use tracefs, where the kernel shows how many returns it missed.
MAXACTIVE = 1024

_SOURCES = {
    "user": "user_fault.c",
    "kernel": "kernel_fault.c",
    "cow": "cow_fault.c",
    "stop": "stop_machine.c",
    "snapshot": "snapshot.c",
}

#: Need -> program for the entry and for the return.
_KPROBES = {
    "user_latency": ("ld_user_fault_entry", "ld_user_fault_return", MAXACTIVE),
    "stop_machine": ("ld_stop_machine_entry", "ld_stop_machine_return", 0),
    "stop_machine_cpuslocked": ("ld_stop_cpuslocked_entry", "ld_stop_cpuslocked_return", 0),
}

#: The kernel's list of probes made through tracefs: name, hits, misses.
KPROBE_PROFILE = TRACEFS[0] / "kprobe_profile"

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

#: Newer kernel headers have attributes that BCC's clang does not know.
_QUIET = ("-Wno-ignored-attributes", "-Wno-duplicate-decl-specifier")


class Programs(Protocol):
    """What the recorder needs of loaded programs; tests bring a fake."""

    def begin(self) -> None:
        """Start to count."""

    def end(self) -> None:
        """Stop to count, everything at the same moment."""

    def read(self) -> RawData:
        """All maps, after :meth:`end`."""

    def close(self) -> None:
        """Detach and free everything. Safe to repeat."""


def source_dir() -> Path:
    """The folder of the C files: the checkout's, else the installed one.

    :raises TraceError: neither is there
    """
    places = (
        Path(__file__).resolve().parents[2] / "bpf",
        Path(sys.prefix) / "share" / "livedump" / "bpf",
        Path("/usr/local/share/livedump/bpf"),
        Path("/usr/share/livedump/bpf"),
    )
    for place in places:
        if (place / "common.h").is_file():
            return place
    raise TraceError(
        f"the BPF programs are not in {places[0]} nor in {places[1]}",
        step=STEP,
        remedy="Run from a checkout, or repeat `make install`",
    )


def program_text(questions: Sequence[str], source: Path) -> str:
    """One text with the programs for *questions*; compiler messages keep file and line."""
    names = ["common.h", *(_SOURCES[question] for question in questions)]
    return "".join(f'#line 1 "{name}"\n{(source / name).read_text()}\n' for name in names)


def compiler_flags(
    plan: Plan, limits: Mapping[str, int], source: Path, chosen: Filter = EVERYBODY
) -> list[str]:
    """Flags for :func:`program_text`.

    :param limits: entries of maps by name, see :data:`LIMITS`
    """
    flags = [f"-I{source}", *_QUIET, *chosen.flags()]
    flags += [f"-D{LIMITS[name]}={int(size)}" for name, size in sorted(limits.items())]
    if plan.get("user_count"):
        flags.append("-DLD_HAVE_PAGE_FAULT_USER")
    latency = plan.get("user_latency")
    if latency and latency.point == "__handle_mm_fault":
        flags.append("-DLD_FAULT_WITHOUT_REGS")
    return flags


def import_bcc() -> Any:
    """The module bcc (late: it takes 5 s in an emulated guest).

    :raises TraceError: it is missing, or is the PyPI package of that name
    """
    remedy = "apt-get install python3-bpfcc, and a venv of /usr/bin/python3 --system-site-packages"
    try:
        import bcc
    except ImportError as error:
        raise TraceError(f"cannot import bcc: {error}", step=STEP, remedy=remedy) from error
    if not hasattr(bcc, "BPF"):
        raise TraceError(
            f"{bcc.__file__} is not the BPF Compiler Collection but a PyPI package of that name",
            step=STEP,
            remedy=f"pip uninstall bcc; {remedy}",
        )
    return bcc


def check_machine() -> None:
    """Raise :class:`TraceError` for what would only fail obscurely later."""
    if os.geteuid() != 0:
        raise TraceError("not root", step=STEP, remedy="Run as root, e.g. with sudo")
    release = os.uname().release
    headers = Path("/lib/modules") / release / "build"
    remedy = f"apt-get install linux-headers-{release}"
    if not (headers / "include").is_dir():
        raise TraceError(f"no kernel headers at {headers}", step=STEP, remedy=remedy)
    whole = headers / "include" / "linux" / "kconfig.h"
    if not whole.exists() and not (headers.parent / "source").is_dir():
        # Debian's headers are two folders, and BCC finds the second by this link only.
        raise TraceError(f"no link {headers.parent / 'source'}", step=STEP, remedy=remedy)


def load(
    plan: Plan, limits: Mapping[str, int] | None = None, chosen: Filter = EVERYBODY
) -> BccPrograms:
    """Compile and attach everything in *plan*; nothing is counted before :meth:`BccPrograms.begin`.

    :param chosen: whose faults are counted
    :raises TraceError: with the point that could not be attached
    """
    check_machine()
    bcc = import_bcc()
    source = source_dir()
    flags = compiler_flags(plan, limits or {}, source, chosen)
    try:
        bpf = bcc.BPF(text=program_text(plan.questions, source).encode(), cflags=flags)
    except Exception as error:  # bcc raises nothing more precise
        raise TraceError(
            f"{_first_line(error)} (the compiler's or verifier's own words are above)",
            step=STEP,
            remedy="See `livedump doctor`",
        ) from error
    programs = BccPrograms(bpf, plan)
    programs.choose(chosen)
    stale.remove_kprobe_events(TRACEFS[0])
    try:
        for probe in plan.probes:
            if probe.attach is Attach.KPROBE_PAIR:
                _attach_pair(bpf, probe)
        programs.ask_kernel()
    except BaseException:
        programs.close()
        raise
    return programs


def bcc_version() -> str:
    """Version of bcc, which must have been imported before."""
    return str(getattr(sys.modules.get("bcc"), "__version__", ""))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _attach_pair(bpf: Any, probe: Probe) -> None:
    """The return first, so that no entry is counted whose return cannot be."""
    entry, exit_, maxactive = _KPROBES[probe.name]
    try:
        bpf.attach_kretprobe(
            event=probe.point.encode(), fn_name=exit_.encode(), maxactive=maxactive
        )
        bpf.attach_kprobe(event=probe.point.encode(), fn_name=entry.encode())
    except Exception as error:  # bcc raises nothing more precise
        raise TraceError(
            f"cannot attach to {probe.point}: {_first_line(error)}",
            step="attach BPF programs",
            remedy="See `livedump doctor` (kernel lockdown forbids kprobes)",
        ) from error


class BccPrograms:
    """Programs that are loaded and attached (see :class:`Programs`)."""

    def __init__(self, bpf: Any, plan: Plan) -> None:
        self._bpf = bpf
        self._plan = plan
        self._losses_kernel: list[LossRow] = []
        self._unmeasured: list[str] = []

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
            self._unmeasured.append(UNCOUNTED_SKIPS)
            return
        try:
            self._set_window(0)
        finally:
            self._bpf.detach_kprobe(event=REFUSING)
        if not recursion_misses(self._bpf.funcs[REFUSED].fd):
            self._unmeasured.append(UNCOUNTED_SKIPS)

    def begin(self) -> None:
        """Start to count."""
        self._set_window(1)

    def end(self) -> None:
        """Stop to count, everything at the same moment."""
        self._set_window(0)
        self._losses_kernel = [*self._skipped(), *self._missed_returns()]
        self._unmeasured = list(dict.fromkeys(self._unmeasured))

    def read(self) -> RawData:
        """All maps, after :meth:`end`."""
        bpf = self._bpf
        questions = self._plan.questions
        data = RawData()
        data.histograms = self._histograms()
        stacks: dict[int, tuple[int, ...]] = {}
        for key, value in _items(bpf[b"folds"]):
            number = int(key.stack)
            if number not in stacks:
                stacks[number] = self._walk(number)
            data.stacks.append(
                StackRow(
                    kind_name(key.kind),
                    _comm(key.comm),
                    stacks[number],
                    int(value.count),
                    int(value.stalled_ns),
                )
            )
        data.tasks = [
            TaskRow(
                kind_name(key.kind),
                int(key.pid),
                _comm(key.comm),
                int(value.count),
                int(value.stalled_ns),
            )
            for key, value in _items(bpf[b"tasks"])
        ]
        for counter in Counter:
            kind, name = COUNTER_NAMES[counter]
            if kind in questions:
                data.counters[(kind, name)] = _sum_percpu(bpf[b"counters"], counter)
        if "user" in questions:
            data.counters[("user", "unfinished")] = sum(1 for _ in _items(bpf[b"inflight"]))
        if "cow" in questions:
            data.pages = [
                PageRow(int(getattr(key, "value", key)), int(value.count), int(value.stalled_ns))
                for key, value in _items(bpf[b"pages"])
            ]
        if "stop" in questions:
            data.stops = [_stop(value) for _, value in _items(bpf[b"stops"])]
        if "snapshot" in questions:
            data.snapshots = [_snapshot(k, v) for k, v in _items(bpf[b"snapshots"])]
            data.releases = [_release(k, v) for k, v in _items(bpf[b"releases"])]
        data.losses = [*self._losses_maps(), *self._losses_kernel]
        data.unmeasured = list(self._unmeasured)
        return data

    def close(self) -> None:
        """Detach and free everything. Safe to repeat."""
        self._bpf.cleanup()

    def _set_window(self, value: int) -> None:
        window = self._bpf[b"window"]
        window[ctypes.c_int(0)] = ctypes.c_uint64(value)

    def _walk(self, number: int) -> tuple[int, ...]:
        if number < 0:
            return ()
        table = self._bpf[b"spilled" if number & SPILLED else b"stacks"]
        return tuple(int(address) for address in table.walk(number & ~SPILLED))

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

    def _losses_maps(self) -> Iterator[LossRow]:
        for kind in Kind:
            for loss in Loss:
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
                self._unmeasured.append(UNREAD_SKIPS)
            elif misses:
                yield LossRow(name.decode(), "program skipped: another one was running", misses)

    def _missed_returns(self) -> list[LossRow]:
        """Returns that were missed for want of a kretprobe instance."""
        if self._plan.get("user_latency") is None:
            return []  # the others are rare, and BCC makes them where the kernel lists none
        found = missed_returns(KPROBE_PROFILE, os.getpid())
        if found is None:
            self._unmeasured.append(UNREAD_RETURNS)
        return found or []


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
        items = list(table.items())
    yield from items


def _sum_percpu(table: Any, index: int) -> int:
    return sum(int(value) for value in table[ctypes.c_int(index)])


def _comm(raw: bytes) -> str:
    return bytes(raw).split(b"\0")[0].decode("utf-8", "replace")


def _stop(value: Any) -> StopEvent:
    return StopEvent(
        start_monotonic_ns=int(value.start_ns),
        duration_ns=int(value.duration_ns),
        pid=int(value.pid),
        comm=_comm(value.comm),
        site=StopSite(value.site).name.lower(),
        nested=bool(value.nested),
        function=int(value.fn),
    )


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
