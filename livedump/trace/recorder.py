"""Record around a command, for a time, or until told to stop."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from livedump.kinds import QUESTIONS
from livedump.recording import recover, store
from livedump.recording.errors import RecordingError
from livedump.recording.layout import BATCH
from livedump.recording.losses import count_losses
from livedump.recording.rows import RawData, as_row
from livedump.recording.to_rows import journal_tables, tables
from livedump.trace.checkpoint import Checkpoints, Content
from livedump.trace.errors import CommandError, TraceError
from livedump.trace.machine import clocks, machine, versions
from livedump.trace.names import Names
from livedump.trace.probe import loader
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Plan, resolve
from livedump.trace.probe.programs import Programs
from livedump.trace.pump import Pump, Watcher
from livedump.trace.symbols import Symbols
from livedump.trace.timeline import Timeline
from livedump.trace.trigger import Trigger

#: How long a command may take to end after it was asked to, seconds.
GRACE_S = 5.0


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    :param output: folder to be made
    :param questions: of :data:`livedump.recording.layout.QUESTIONS`
    :param explicit: questions that must not be left out
    :param command: to run; the recording ends with it
    :param duration_s: how long to record without a command; None: until told to stop
    :param ready_file: created when everything is attached
    :param options: whose faults, and what is kept of them
    :param labels: the user's own, kept with the recording
    """

    output: Path
    questions: tuple[str, ...] = QUESTIONS
    explicit: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()
    duration_s: float | None = None
    ready_file: Path | None = None
    force: bool = False
    options: Options = Options()
    labels: Mapping[str, str] = field(default_factory=dict)


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


class Recorder:
    """Programs attached between :meth:`start` and :meth:`finish`; as a context manager it always
    detaches.

    :param load: makes the programs of a plan; tests bring a fake
    :param watchers: are told while recording goes on
    :param trigger: is one of them; recording ends when what it has begun is done
    :param tell: something went wrong, in words, while recording goes on
    :ivar timeline: what happened when, so far
    """

    def __init__(
        self,
        config: RecordConfig,
        *,
        load: Callable[[Plan, Options], Programs] = loader.load,
        plan: Plan | None = None,
        watchers: tuple[Watcher, ...] = (),
        trigger: Trigger | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config = config
        self.timeline = Timeline(config.options.slice_ns)
        self._load = load
        self._plan = plan
        self._trigger = trigger
        self._tell = tell
        self._names: Names | None = None
        self._watchers = (*watchers, trigger.watch) if trigger else watchers
        self._programs: Programs | None = None
        self._pump: Pump | None = None
        self._checkpoints: Checkpoints | None = None
        self._worth = False
        self._id = str(uuid.uuid4())
        self._start: dict[str, int] = {}
        self._end: dict[str, int] = {}  # once it is over

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
        self.config.options.chosen.check()
        store.check_output(self.config.output, force=self.config.force)
        recover.check_output(self.config.output, force=self.config.force)
        recover.remove_partials(self.config.output.parent)
        self._programs = self._load(self.plan, self.config.options)
        self._names = Names()
        self._checkpoints = Checkpoints(
            self.config.output,
            self._killed,
            names=self._names,
            events=self.config.options.events,
            force=self.config.force,
        )
        self._pump = Pump(
            self._programs,
            self.timeline,
            keeper=self._checkpoints.journal,
            events=self.config.options.events,
            watchers=(*self._watchers, self._checkpoints.watch),
            tell=self._tell,
        )
        self._start = clocks(self._programs.begin())
        self._pump.start()
        if self.config.ready_file is not None:
            self.config.ready_file.touch()

    def finish(self, *, ended_by: str, command_status: int | None = None) -> dict[str, Any]:
        """Stop to count, write the recording, detach. Returns meta.json's content.

        :param command_status: of the configured command, as a shell would give it
        :raises livedump.recording.errors.RecordingError: it could not be written; what was
            recorded is kept for :func:`livedump.recording.recover.recover`
        """
        if self._programs is None or self._pump is None or self._checkpoints is None:
            raise TraceError("not started", step="record")
        if self._trigger:
            self._trigger.close()
        self._end = clocks(self._programs.end())
        self._pump.finish()
        kept = self._checkpoints
        kept.end()
        content = meta, rows, names = self._content(ended_by, command_status)
        self._detach()
        try:
            store.write(
                self.config.output,
                meta,
                {**rows, **journal_tables(kept.folder, self.config.options.slice_ns, names)},
                force=self.config.force,
            )
        except RecordingError as error:
            kept.write(content)
            if not kept.exists:
                raise
            raise RecordingError(
                f"{error.cause}; what was recorded is in {kept.folder}",
                step=error.step,
                remedy=f"When that is mended: livedump-trace report {self.config.output}",
            ) from error
        self._worth = False  # it is in the recording
        return meta

    def keep(self) -> None:
        """From now on what was recorded is kept, however this ends: see
        :func:`livedump.recording.recover.recover`."""
        self._worth = True

    def close(self) -> None:
        """Detach everything. Safe to repeat."""
        self._detach()
        if self._checkpoints is not None:
            self._checkpoints.close(remove=not self._worth)
            self._checkpoints = None

    def _detach(self) -> None:
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        if self._programs is not None:
            self._programs.close()
            self._programs = None

    def _killed(self) -> Content:
        """What there is so far: a checkpoint's content."""
        return self._content("killed", None)

    def _content(self, ended_by: str, command_status: int | None) -> Content:
        assert self._programs and self._pump and self._checkpoints and self._names is not None
        end = self._end or clocks()
        data = self._programs.read()
        kept = self._checkpoints.journal
        data.losses += kept.losses()
        rows = tables(data, kept.stacks, self._names)
        meta = {
            "recording_id": self._id,
            **machine(),
            "labels": dict(self.config.labels),
            "clocks": {"start": self._start, "end": end},
            "ended_by": ended_by,
            "questions": list(self.plan.questions),
            "probes": [probe.to_dict() for probe in self.plan.probes],
            "absent": [absent.to_dict() for absent in self.plan.absent],
            "unmeasured": unmeasured(
                data,
                self._names.symbols,
                self._pump.errors,
                batches_lost=ended_by == "killed" and self.config.options.events,
                unscaled=self._pump.unscaled,
            ),
            "slice_ns": self.config.options.slice_ns,
            **count_losses([as_row(row) for row in data.losses]),
            "options": {
                "questions": list(self.config.questions),
                "duration_s": self.config.duration_s,
                "limits": dict(self.config.options.limits),
                "filter": self.config.options.chosen.to_dict(),
                "events": self.config.options.events,
                "stacks": self.config.options.stacks.value,
                "user_stacks": self.config.options.user_stacks,
            },
            "command": (
                {"argv": list(self.config.command), "status": command_status}
                if self.config.command
                else None
            ),
            "triggers": [fired.to_dict() for fired in self._trigger.fired] if self._trigger else [],
            "versions": versions(),
        }
        return meta, rows, self._event_stacks()

    def _event_stacks(self) -> dict[int, str]:
        """Names of the stacks of events, by number."""
        assert self._programs and self._checkpoints and self._names is not None
        return {
            number: self._names[(self._programs.addresses(number), ())]
            for number in self._checkpoints.journal.event_stacks()
        }

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
        active.keep()
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


def unmeasured(
    data: RawData,
    symbols: Symbols,
    errors: list[str],
    *,
    batches_lost: bool = False,
    unscaled: bool = False,
) -> list[str]:
    """Losses that cannot be counted here, in words.

    :param errors: what went wrong while recording went on
    :param unscaled: see :attr:`livedump.trace.pump.Pump.unscaled`
    :param batches_lost: nobody took the single events that were not handed over yet
    """
    found = list(data.unmeasured)
    found += [f"the recorder failed to {error}" for error in errors]
    if batches_lost:
        found.append(
            f"single events that each CPU still kept (up to {BATCH - 1} of a kind) or that came "
            "after the recorder's last look: they went with it"
        )
    if unscaled:
        found.append(
            "while the table of time slices was full: what sampled stacks stand for is not exact "
            "there, not even all together"
        )
    if symbols.hidden:
        found.append("the kernel hides its symbols (kernel.kptr_restrict): stacks have no names")
    return found
