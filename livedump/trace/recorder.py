"""Record around a command, for a time, or until told to stop."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import livedump
from livedump.trace import bpf, recording, stale
from livedump.trace.buckets import bounds
from livedump.trace.data import RawData, ReleaseEvent, SnapshotEvent, as_row
from livedump.trace.errors import CommandError, TraceError
from livedump.trace.filters import Filter
from livedump.trace.layout import QUESTIONS
from livedump.trace.probes import Plan, resolve
from livedump.trace.symbols import Symbols

#: How long a command may take to end after it was asked to, seconds.
GRACE_S = 5.0

STACK_LOST = "[stack lost]"


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    :param output: folder to be made
    :param questions: of :data:`livedump.trace.layout.QUESTIONS`
    :param explicit: questions that must not be left out
    :param command: to run; the recording ends with it
    :param duration_s: how long to record without a command; None: until told to stop
    :param ready_file: created when everything is attached
    :param limits: entries of maps by name, see :data:`livedump.trace.bpf.LIMITS`
    :param chosen: whose faults
    """

    output: Path
    questions: tuple[str, ...] = QUESTIONS
    explicit: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()
    duration_s: float | None = None
    ready_file: Path | None = None
    force: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    chosen: Filter = bpf.EVERYBODY


@dataclass(frozen=True)
class RecordResult:
    """What was recorded.

    :param status: the command's exit status, as a shell would give it; 0 without a command
    :param ended_by: ``command``, ``duration`` or ``interrupt``
    """

    output: Path
    status: int
    ended_by: str
    meta: dict[str, Any]


def clocks() -> dict[str, int]:
    """The three clocks, ns, read together."""
    return {
        "realtime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }


class Recorder:
    """Programs attached between :meth:`start` and :meth:`finish`; as a context manager it always
    detaches.

    :param load: makes the programs of a plan; tests bring a fake
    """

    def __init__(
        self,
        config: RecordConfig,
        *,
        load: Callable[[Plan, Mapping[str, int], Filter], bpf.Programs] = bpf.load,
        plan: Plan | None = None,
    ) -> None:
        self.config = config
        self._load = load
        self._plan = plan
        self._programs: bpf.Programs | None = None
        self._start: dict[str, int] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def plan(self) -> Plan:
        """What is recorded, and what could not be."""
        if self._plan is None:
            self._plan = resolve(self.config.questions, explicit=self.config.explicit)
        return self._plan

    def start(self) -> None:
        """Attach everything and begin to count. Takes a minute in an emulated guest.

        What a killed recorder left behind is removed before, and a ready file first of all: as long
        as it is there, something is attached.

        :raises livedump.errors.LivedumpError: nothing stays attached then
        """
        self._remove_ready_file()
        check_command(self.config.command)
        self.config.chosen.check()
        recording.check_output(self.config.output, force=self.config.force)
        stale.remove_partials(self.config.output.parent)
        self._programs = self._load(self.plan, self.config.limits, self.config.chosen)
        self._programs.begin()
        self._start = clocks()
        if self.config.ready_file is not None:
            self.config.ready_file.touch()

    def finish(self, *, ended_by: str, command_status: int | None = None) -> dict[str, Any]:
        """Stop to count, write the recording, detach. Returns meta.json's content.

        :param command_status: of the configured command, as a shell would give it
        :raises livedump.trace.RecordingError: it could not be written
        """
        if self._programs is None:
            raise TraceError("not started", step="record")
        self._programs.end()
        end = clocks()
        data = self._programs.read()
        symbols = Symbols()
        self.close()
        rows = tables(data, symbols)
        meta = {
            **machine(),
            "clocks": {"start": self._start, "end": end},
            "ended_by": ended_by,
            "questions": list(self.plan.questions),
            "probes": [probe.to_dict() for probe in self.plan.probes],
            "absent": [absent.to_dict() for absent in self.plan.absent],
            "unmeasured": unmeasured(data, symbols),
            **recording.count_losses(rows["losses"]),
            "options": {
                "questions": list(self.config.questions),
                "duration_s": self.config.duration_s,
                "limits": dict(self.config.limits),
                "filter": self.config.chosen.to_dict(),
            },
            "command": (
                {"argv": list(self.config.command), "status": command_status}
                if self.config.command
                else None
            ),
            "versions": versions(),
        }
        recording.write(self.config.output, meta, rows, force=self.config.force)
        return meta

    def close(self) -> None:
        """Detach everything. Safe to repeat."""
        if self._programs is not None:
            self._programs.close()
            self._programs = None

    def _remove_ready_file(self) -> None:
        """One of an earlier recording would call this one ready."""
        if self.config.ready_file is None:
            return
        try:
            self.config.ready_file.unlink(missing_ok=True)
        except OSError as error:
            raise TraceError(
                f"{self.config.ready_file}: {error.strerror}", step="remove old ready file"
            ) from error


def record(
    config: RecordConfig,
    stop: threading.Event,
    on_ready: Callable[[Plan], None] = lambda plan: None,
    *,
    recorder: Recorder | None = None,
) -> RecordResult:
    """Record as *config* says, until the command or the time is over or *stop* is set.

    :param stop: set by a signal handler; what was recorded until then is written
    :param on_ready: called when everything is attached, before the command starts
    :raises livedump.errors.LivedumpError: nothing was recorded
    """
    with recorder if recorder is not None else Recorder(config) as active:
        active.start()
        if stop.is_set():
            raise TraceError("interrupted before the probes were attached", step="record")
        on_ready(active.plan)
        status: int | None = None
        if config.command:
            status = run_command(config.command, stop)
            ended_by = "interrupt" if stop.is_set() else "command"
        else:
            ended_by = "interrupt" if stop.wait(config.duration_s) else "duration"
        meta = active.finish(ended_by=ended_by, command_status=status)
    return RecordResult(config.output, status or 0, ended_by, meta)


def check_command(command: tuple[str, ...]) -> None:
    """Raise :class:`CommandError` when *command* cannot be found: before compiling, not after."""
    if command and shutil.which(command[0]) is None:
        exists = os.path.exists(command[0])
        raise CommandError(
            f"{command[0]}: {'not executable' if exists else 'command not found'}",
            step="run command",
            status=126 if exists else 127,
        )


def run_command(command: tuple[str, ...], stop: threading.Event) -> int:
    """Run *command* to its end; once *stop* is set, ask it to end, then make it.

    :returns: exit status, 128 + n after signal n
    """
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", step="run command") from error
    over = threading.Event()

    def wait() -> None:
        child.wait()
        over.set()
        stop_or_over.set()

    stop_or_over = threading.Event()
    threading.Thread(target=wait, daemon=True).start()
    while not stop_or_over.wait(0.1):
        if stop.is_set():
            _end(child, over)
            break
    over.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end(child: subprocess.Popen[bytes], over: threading.Event) -> None:
    """It may have got Ctrl-C from the terminal itself: give it time before SIGTERM and SIGKILL."""
    if not over.wait(1.0):
        child.terminate()
    if not over.wait(GRACE_S):
        child.kill()


def machine() -> dict[str, Any]:
    """Where the recording is made."""
    uname = platform.uname()
    return {
        "host": uname.node,
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "kernel": {
            "release": uname.release,
            "version": uname.version,
            "machine": uname.machine,
        },
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def versions() -> dict[str, str]:
    """Of what the recording was made with."""
    import pyarrow

    return {
        "livedump": livedump.__version__,
        "python": platform.python_version(),
        "bcc": bpf.bcc_version(),
        "pyarrow": pyarrow.__version__,
    }


def unmeasured(data: RawData, symbols: Symbols) -> list[str]:
    """Losses that cannot be counted here, in words."""
    found = list(data.unmeasured)
    if symbols.hidden:
        found.append("the kernel hides its symbols (kernel.kptr_restrict): stacks have no names")
    return found


def tables(data: RawData, symbols: Symbols) -> dict[str, list[recording.Row]]:
    """The rows of each table of :data:`livedump.trace.recording.TABLES`."""
    histograms = []
    counters = [
        {"kind": kind, "name": name, "count": count}
        for (kind, name), count in sorted(data.counters.items())
    ]
    for kind, histogram in data.histograms.items():
        for bucket, count in sorted(histogram.slots.items()):
            low, high = bounds(bucket)
            histograms.append(
                {
                    "kind": kind,
                    "bucket_low_ns": low,
                    "bucket_high_ns": min(high, (1 << 64) - 1),
                    "count": count,
                }
            )
        counters.append({"kind": kind, "name": "sum_ns", "count": histogram.sum_ns})
        counters.append({"kind": kind, "name": "max_ns", "count": histogram.max_ns})
    return {
        "histograms": histograms,
        "stacks": _stacks(data, symbols),
        "tasks": [as_row(row) for row in sorted(data.tasks, key=lambda r: -r.count)],
        "pages": [as_row(row) for row in sorted(data.pages, key=lambda r: (-r.count, r.pfn))],
        "stops": [
            {
                "start_monotonic_ns": stop.start_monotonic_ns,
                "duration_ns": stop.duration_ns,
                "pid": stop.pid,
                "comm": stop.comm,
                "site": stop.site,
                "nested": stop.nested,
                "symbol": symbols.name(stop.function),
            }
            for stop in sorted(data.stops, key=lambda s: s.start_monotonic_ns)
        ],
        "snapshots": pair_snapshots(data.snapshots, data.releases),
        "counters": counters,
        "losses": [as_row(row) for row in data.losses],
    }


def _stacks(data: RawData, symbols: Symbols) -> list[recording.Row]:
    """Rows of stacks; what differs only in offsets is added up."""
    totals: dict[tuple[str, str, str], list[int]] = {}
    names: dict[tuple[int, ...], str] = {}
    for row in data.stacks:
        if row.addresses not in names:
            names[row.addresses] = symbols.fold(row.addresses) if row.addresses else STACK_LOST
        total = totals.setdefault((row.kind, row.comm, names[row.addresses]), [0, 0])
        total[0] += row.count
        total[1] += row.stalled_ns
    return [
        {"kind": kind, "comm": comm, "stack": stack, "count": count, "stalled_ns": stalled_ns}
        for (kind, comm, stack), (count, stalled_ns) in sorted(
            totals.items(), key=lambda item: (item[0][0], -item[1][0], item[0])
        )
    ]


def pair_snapshots(
    snapshots: list[SnapshotEvent], releases: list[ReleaseEvent]
) -> list[recording.Row]:
    """One row for each snapshot with its release; a half outside the recording is null."""
    rows: list[recording.Row] = []
    events: list[SnapshotEvent | ReleaseEvent] = [*snapshots, *releases]
    held: recording.Row | None = None
    for event in sorted(events, key=lambda item: item.time_monotonic_ns):
        if isinstance(event, SnapshotEvent):
            held = {
                "snapshot_monotonic_ns": event.time_monotonic_ns,
                "pid": event.pid,
                "comm": event.comm,
                **event.report,
            }
            rows.append(held)
            continue
        if held is None:
            held = {}
            rows.append(held)
        held.update({"release_monotonic_ns": event.time_monotonic_ns, **event.report})
        held = None
    return rows


def _text(path: str) -> str:
    """A small file's content, empty when it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
