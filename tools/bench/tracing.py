"""What tracing costs: first touches of pages under each tracer, in one boot.

``python -m tools.bench.tracing FILE ROUNDS``. Before and after each tracer the same is measured
with none, so that a drift of the host is seen.
"""

from __future__ import annotations

import contextlib
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.paths import BUILD, ROOT

PAGES = 4000
SOURCE = ROOT / "tools" / "bench" / "touch.c"
PROGRAM = BUILD / "bench" / "touch"

#: A realistic load: a compiler at work on a file of this repository's, from start to end.
COMPILE = ("gcc", "-O2", "-c", "-o", "/dev/null", str(SOURCE))
COMPILES = 4

RECORD = ("record", "--kind", "user")
#: The tracers, each as livedump-trace's arguments or as a command of its own. All see every fault.
OURS = {
    "livedump counts": (*RECORD, "--no-stacks"),
    "livedump": RECORD,
    "livedump all stacks": (*RECORD, "--all-stacks"),
    "livedump events": (*RECORD, "--events", "--all-stacks"),
}
PEERS = {
    "perf record": ("perf", "record", "-a", "-g", "-c", "1", "-e", "exceptions:page_fault_user"),
    "funclatency": ("funclatency-bpfcc", "handle_mm_fault"),
}
NONE = "none"
_READY_S = 180

#: What a tracer says on stderr.
SAID = Path("/tmp/bench-tracer")


def build() -> None:
    """The program, by gcc."""
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(PROGRAM), str(SOURCE)], check=True)


def touches(rounds: int) -> list[float]:
    """Nanoseconds of a first touch, of each round."""
    done = subprocess.run(
        [str(PROGRAM), str(PAGES), str(rounds)], stdout=subprocess.PIPE, text=True, check=True
    )
    return [int(line) / PAGES for line in done.stdout.split()]


def compiles() -> list[int]:
    """Nanoseconds that a compiler took, each time."""
    found = []
    for _ in range(COMPILES):
        begun = time.monotonic_ns()
        subprocess.run(COMPILE, check=True)
        found.append(time.monotonic_ns() - begun)
    return found


@contextlib.contextmanager
def ours(arguments: Sequence[str]) -> Iterator[None]:
    """livedump-trace, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        code = "from livedump.cli.trace import main; main()"
        command = [sys.executable, "-c", code, *arguments]
        command += ["-o", f"{folder}/r", "--ready-file", str(ready)]
        with _process(command) as process:
            _await(process, ready.exists)
            yield
        meta = json.loads(Path(folder, "r", "meta.json").read_text())
        if lost := meta["events_lost"] + meta["rows_lost"]:
            raise RuntimeError(f"{arguments}: {lost} events were lost: what it cost proves nothing")


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


def _await(process: subprocess.Popen[bytes], ready: Any) -> None:
    end = time.monotonic() + _READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} is not ready: {SAID.read_text()}")
        time.sleep(0.1)


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """Both loads, under whatever runs now."""
    found = {"touch_ns": touches(rounds), "compile_ns": [float(ns) for ns in compiles()]}
    print(f"bench: tracing: {name} done", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Every tracer, one after the other."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    build()
    touches(rounds)  # warm up
    compiles()
    runs: list[dict[str, Any]] = [{"tracer": NONE, **measure(NONE, rounds)}]
    for name, command in {**OURS, **PEERS}.items():
        with ours(command) if name in OURS else peer(command):
            runs.append({"tracer": name, **measure(name, rounds)})
        time.sleep(2)
        runs.append({"tracer": NONE, **measure(NONE, rounds)})
    found = {"kernel": platform.release(), "pages": PAGES, "runs": runs}
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
