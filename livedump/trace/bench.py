"""What recording costs: a load under each kind of recording, and under none right before and after
it, so that a drift of the machine is seen."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from livedump.trace.errors import TraceError
from livedump.trace.probe.options import Options, Stacks
from livedump.trace.recorder import RecordConfig, Recorder

#: Ways to record page faults, cheapest first.
MODES: Mapping[str, Options] = {
    "counts": Options(stacks=Stacks.NONE),
    "default": Options(),
    "all stacks": Options(stacks=Stacks.ALL),
    "events": Options(events=True, stacks=Stacks.ALL),
}

NONE = "none"

#: So many faults may be lost: what was under way when recording began has no entry.
MOST_LOST = 10

#: A load: name of what is measured -> nanoseconds, once for each round.
Load = Callable[[], Mapping[str, list[float]]]

#: Something under which a load runs.
Tracer = tuple[str, Callable[[], AbstractContextManager[None]]]

_STEP = "measure what recording costs"

#: In a process of its own. One assignment touches all pages, in a loop of C.
_TOUCH = """
import mmap, sys, time
pages, rounds = map(int, sys.argv[1:3])
now = getattr(time, sys.argv[3])
ones = bytes(pages)
for _ in range(rounds):
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, pages * mmap.PAGESIZE, flags=flags) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        begun = now()
        memory[:: mmap.PAGESIZE] = ones
        print((now() - begun) / pages)
"""


class Overhead(NamedTuple):
    """What a tracer makes of a load.

    :ivar median_ns: under the tracer
    :ivar ratio: to the mean of the medians under none, right before and after
    :ivar drift: the larger of these two to the other
    """

    tracer: str
    median_ns: float
    ratio: float
    drift: float


def first_touches(pages: int, rounds: int, clock: str = "perf_counter_ns") -> list[float]:
    """Nanoseconds for the first touch of a small page, of each round.

    :param clock: a function of :mod:`time`; ``thread_time_ns`` leaves out who else is on the CPU
    :raises TraceError: there is no memory for so many
    """
    command = [sys.executable, "-c", _TOUCH, str(pages), str(rounds), clock]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
        raise TraceError(f"cannot touch {pages:,} pages: {said}", step=_STEP)
    return [float(line) for line in done.stdout.split()]


def durations(command: Sequence[str], rounds: int) -> list[float]:
    """Nanoseconds that a command takes, each time; its output is thrown away.

    :raises TraceError: it cannot be run, or fails
    """
    found = []
    for _ in range(rounds):
        begun = time.monotonic_ns()
        try:
            status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        except OSError as error:
            raise TraceError(f"{command[0]}: {error.strerror}", step=_STEP) from error
        found.append(float(time.monotonic_ns() - begun))
        if status:
            raise TraceError(f"{command[0]} failed ({status})", step=_STEP)
    return found


@contextmanager
def recorded(
    options: Options, make: Callable[[RecordConfig], Recorder] = Recorder
) -> Iterator[None]:
    """Record page faults while the block runs, into a folder that is thrown away.

    :raises livedump.errors.LivedumpError: it cannot be recorded; or more than some faults were
        lost: then what it cost proves nothing
    """
    with tempfile.TemporaryDirectory(prefix="livedump-overhead-") as folder:
        config = RecordConfig(Path(folder) / "r", ("user",), options=options)
        with make(config) as recorder:
            recorder.start()
            yield
            meta = recorder.finish(ended_by="duration")
        if (lost := meta["events_lost"] + meta["rows_lost"]) > MOST_LOST:
            raise TraceError(f"{lost:,} faults were lost: what it cost proves nothing", step=_STEP)


def measure(
    load: Load, tracers: Iterable[Tracer], tell: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Run the load under each tracer, and under none before and after each.

    :param tell: what is about to be measured
    :returns: one row for each run, in their order: ``tracer`` and what the load has measured
    """
    tell(NONE)
    load()  # what is read from a disk the first time
    rows: list[dict[str, Any]] = [{"tracer": NONE, **load()}]
    for name, tracer in tracers:
        tell(name)
        with tracer():
            rows.append({"tracer": name, **load()})
        tell(NONE)
        rows.append({"tracer": NONE, **load()})
    return rows


def overheads(rows: Sequence[Mapping[str, Any]], what: str) -> list[Overhead]:
    """Of each tracer, in their order.

    :param rows: of :func:`measure`
    :param what: the measure
    """
    result = []
    for before, run, after in zip(rows[::2], rows[1::2], rows[2::2], strict=False):
        alone = [statistics.median(each[what]) for each in (before, after)]
        median = statistics.median(run[what])
        ratio = median / statistics.mean(alone)
        result.append(Overhead(run["tracer"], median, ratio, max(alone) / min(alone)))
    return result
