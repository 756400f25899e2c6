"""What tracing costs: first touches of pages, a compiler and a small web server, under each tracer,
in one boot.

``python -m tools.bench.tracing FILE ROUNDS``, see :mod:`livedump.trace.overhead`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from livedump.trace import overhead
from tools.load import web

PAGES = 4000

#: A realistic load: a compiler at work on a file like many, from start to end. Its CPU time is
#: taken: a clock that counts instructions jumps to the next timer while it waits for a file.
#: The recorder's turns go by that clock, so that its share of the CPU is what it takes a second.
SOURCE = "\n".join(
    [
        "#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>",
        *(
            f"double f{n}(double x) {{ return x > {n} ? sqrt(x) * {n} : x + {n}; }}"
            for n in range(30)
        ),
    ]
)
COMPILE = ("gcc", "-O2", "-x", "c", "-c", "-o", "/dev/null")
REQUESTS = 100

#: Under a tracer each load goes on for so long, at least: recorders work in turns.
SPAN_NS = 2_500_000_000

#: Ours, by the names in tables; all see every fault.
OURS = {
    "livedump" if mode == "default" else f"livedump {mode}": options
    for mode, options in overhead.MODES.items()
}
#: With room for all of it: what perf loses costs it nothing.
_PERF = (
    *("perf", "record", "-a", "-c", "1", "-m", "16384"),
    *("-e", "exceptions:page_fault_user/call-graph=fp/"),
)
PEERS = {
    "perf record": _PERF,
    # With the end of each fault, as `livedump events` has it.
    "perf record, latencies": (*_PERF, "-e", "probe:handle_mm_fault__return"),
    "funclatency": ("funclatency-bpfcc", "handle_mm_fault"),
}
_READY_S = 180

#: What a tracer says on stderr.
SAID = Path("/tmp/bench-tracer")

#: Processes that record; in ours it is a thread that does.
_recorders = {os.getpid()}


def cpu_times(command: Sequence[str], rounds: int) -> list[float]:
    """Nanoseconds of CPU time that a command takes, each time, its children's included. What a
    tracer takes beside it is not in it.

    :raises subprocess.CalledProcessError: it fails
    """
    found = []
    for _ in range(rounds):
        begun = _spent()
        subprocess.run(command, check=True)
        found.append(1e9 * (_spent() - begun))
    return found


def _spent() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(rounds: int, source: Path, port: int) -> dict[str, list[float]]:
    """All loads, under whatever runs now."""

    def requests(rounds: int) -> list[float]:
        return [web.requests(port, REQUESTS) for _ in range(rounds)]

    return {
        **with_recorder("touch", partial(overhead.first_touches, PAGES), rounds),
        **with_recorder("compile", partial(cpu_times, [*COMPILE, str(source)]), 2),
        **with_recorder("request", requests, rounds),
    }


def with_recorder(
    name: str, work: Callable[[int], list[float]], rounds: int
) -> dict[str, list[float]]:
    """A load on one CPU that it has to share with the recorder.

    :param work: rounds -> nanoseconds of each
    :returns: ``NAME_ns`` of each round, and ``NAME_share`` of the CPU that the recorder took
    """
    begun, used = time.monotonic_ns(), recorders_ns()
    found = work(rounds)
    while used is not None and time.monotonic_ns() - begun < SPAN_NS:
        found += work(rounds)
    share = 0.0
    if used is not None:
        share = ((recorders_ns() or used) - used) / (time.monotonic_ns() - begun)
    return {f"{name}_ns": found, f"{name}_share": [share]}


def recorders_ns() -> int | None:
    """CPU time of all that record now; None: nobody does."""
    threads = [
        thread
        for process in _recorders
        for thread in Path(f"/proc/{process}/task").iterdir()
        if int(thread.name) != threading.get_native_id()
    ]
    spent = [int((thread / "schedstat").read_text().split()[0]) for thread in threads]
    return sum(spent) if spent else None


@contextlib.contextmanager
def peer(command: Sequence[str]) -> Iterator[None]:
    """Another tracer, until the block ends."""
    if command[0] == "perf":
        command = (*command, "-o", "/tmp/bench.perf.data")
    before = _attached()
    with _process(command) as process:
        # perf has its events at once; BCC compiles first, and then there is a probe more.
        _await(process, lambda: command[0] == "perf" or _attached() != before)
        time.sleep(3)
        _recorders.add(process.pid)
        try:
            yield
        finally:
            _recorders.remove(process.pid)


def _attached() -> str:
    return Path("/sys/kernel/debug/kprobes/list").read_text()


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Ended by Ctrl-C when the block is; it must have lived until then."""
    with SAID.open("w") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
    try:
        yield process
        if process.poll() is not None:
            raise RuntimeError(f"{command} has ended early: {SAID.read_text()}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if "lost" in (words := SAID.read_text()).lower():
        _tell(f"events were lost, what follows is too cheap: {' '.join(words.split())}")


def _await(process: subprocess.Popen[bytes], ready: Any) -> None:
    end = time.monotonic() + _READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} is not ready: {SAID.read_text()}")
        time.sleep(0.1)


@contextlib.contextmanager
def perf_probe() -> Iterator[None]:
    """What perf has to be given before it sees a function's end; costs nothing until it does."""
    subprocess.run(["perf", "probe", "-q", "-a", "handle_mm_fault%return"], check=True)
    try:
        yield
    finally:
        subprocess.run(["perf", "probe", "-q", "-d", "probe:handle_mm_fault*"], check=True)


def tracers() -> Iterator[overhead.Tracer]:
    """All of them."""
    for name, options in OURS.items():
        yield name, partial(overhead.recorded, options)
    for name, command in PEERS.items():
        yield name, partial(peer, command)


def main() -> None:
    """Every tracer, one after the other."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with (
        tempfile.TemporaryDirectory() as folder,
        web.server(Path(folder)) as port,
        perf_probe(),
    ):
        source = Path(folder) / "compiled.c"
        source.write_text(SOURCE)
        runs: list[dict[str, Any]] = overhead.measure(
            partial(load, rounds, source, port), tracers(), _tell
        )
    found = {"kernel": platform.release(), "pages": PAGES, "runs": runs}
    target.write_text(json.dumps(found))


def _tell(tracer: str) -> None:
    print(f"bench: tracing: {tracer}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
