"""What tracing costs: first touches of pages, a compiler and a small web server, under each tracer,
in one boot.

``python -m tools.bench.tracing FILE ROUNDS``, see :mod:`livedump.trace.overhead`.
"""

from __future__ import annotations

import contextlib
import json
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from livedump.trace import overhead
from tools.load import web

PAGES = 4000

#: A realistic load: a compiler at work on a file like many, from start to end. Its CPU time is
#: taken: a clock that counts instructions jumps to the next timer while it waits for a file.
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
COMPILES = 2
REQUESTS = 100

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
    return {
        "touch_ns": overhead.first_touches(PAGES, rounds),
        "compile_ns": cpu_times([*COMPILE, str(source)], COMPILES),
        "request_ns": [web.requests(port, REQUESTS) for _ in range(rounds)],
    }


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
        yield


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
