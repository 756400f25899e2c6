"""What tracing costs: first touches of pages, a compiler and a small web server, under each tracer,
in one boot.

``python -m tools.bench.tracing FILE ROUNDS``, see :mod:`livedump.trace.bench`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import resource
import select
import shutil
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

from livedump.trace import bench
from livedump.trace.probe.options import Options
from tools.bench.summary import MISSING
from tools.guest.load import web

PAGES = 4000

#: A realistic load: a compiler at work on a file like many, from start to end.
SOURCE = "\n".join(
    [
        "#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>",
        *(
            f"double f{n}(double x) {{ return x > {n} ? sqrt(x) * {n} : x + {n}; }}"
            for n in range(30)
        ),
    ]
)
COMPILE = ("/usr/bin/gcc", "-O2", "-c", "-o", "/compiled.o", "/compiled.c")
REQUESTS = 100

#: Compiles, for each asked for.
COMPILES = 2

#: Rounds of a load: so many times as many under a tracer, as recorders work in turns.
MORE_TOUCHES, MORE_REQUESTS, MORE_COMPILES = 16, 6, 6

#: Until a recorder has taken in and written what a load has left it.
SETTLE_S = 3.0

#: For so long a recorder's own turns are watched while nothing happens.
IDLE_S = 11.0

#: Ours, by the names in tables; all see every fault.
OURS = {
    "livedump" if mode == "default" else f"livedump {mode}": options
    for mode, options in bench.MODES.items()
}
#: With room for all of it, what perf loses costs it nothing; and not enabled before it is asked to.
_PERF = (
    *("perf", "record", "-a", "-c", "1", "-m", "16384", "-D", "-1"),
    *("-e", "exceptions:page_fault_user/call-graph=fp/"),
)
PEERS = {
    "perf record": _PERF,
    # With the end of each fault, as `livedump events` has it.
    "perf record, latencies": (*_PERF, "-e", "probe:handle_mm_fault__return"),
    "funclatency": ("funclatency-bpfcc", "handle_mm_fault"),
}
_READY_S = 180

#: perf looks through all folders of modules before it begins, minutes over a guest's file system.
_WITHOUT_MODULES = (
    *("unshare", "--mount", "sh", "-ec"),
    *('mount -t tmpfs none /lib/modules; exec "$@"', "sh"),
)

#: What a tracer says on stderr.
SAID = Path("/tmp/bench-tracer")

#: By tracer, what perf has kept of everything that happened under it, see :func:`perf_kept`.
KEPT: dict[str, dict[str, int]] = {}

#: Who records now, by process; ours is a thread of this one.
_recorder: int | None = None


def compiler_in(root: Path) -> None:
    """All that :data:`COMPILE` needs, into a root directory of its own, which is in memory. A clock
    that counts instructions jumps to the next timer while a file is waited for: a compiler over 9p
    took 7 s for 0.4 s of work, and a recorder had its turns for all of them.

    :raises subprocess.CalledProcessError: there is no compiler
    """
    (root / "tmp").mkdir()
    (root / "compiled.c").write_text(SOURCE)
    programs = [COMPILE[0]]
    for name in ("cc1", "as"):
        path = _said(COMPILE[0], f"-print-prog-name={name}").strip()
        programs.append(shutil.which(path) or path)
    libraries = re.findall(r"(/\S+) \(0x", _said("ldd", *programs))
    headers = re.findall(r"/usr\S+", _said(COMPILE[0], "-O2", "-M", str(root / "compiled.c")))
    for name in {*programs, *libraries, *headers}:
        copy = root / name.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, copy)


def _said(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def cpu_times(command: Sequence[str], root: Path, rounds: int) -> list[float]:
    """Nanoseconds of CPU time that a command takes, each time, its children's included. What a
    tracer takes beside it is not in it.

    :param root: its root directory
    :raises subprocess.CalledProcessError: it fails
    """
    found = []
    for _ in range(rounds):
        begun = _spent()
        subprocess.run(command, check=True, preexec_fn=partial(_enter, root))
        found.append(1e9 * (_spent() - begun))
    return found


def _enter(root: Path) -> None:
    os.chroot(root)
    os.chdir("/")


def _spent() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(rounds: int, root: Path, server: web.Server) -> dict[str, list[float]]:
    """All loads, under whatever runs now: CPU time of each round, without what the recorder takes.

    :param root: see :func:`compiler_in`
    :returns: ``touch_ns``, ``request_ns``, ``compile_ns``; ``NAME_extra_ns``, CPU time of the
        recorder for one of these, besides ``idle_share``, what it takes while nothing happens
    """

    def touches(rounds: int) -> list[float]:
        return bench.first_touches(PAGES, rounds, "thread_time_ns")

    def requests(rounds: int) -> list[float]:
        return [web.requests(server, REQUESTS) for _ in range(rounds)]

    more = (MORE_TOUCHES, MORE_REQUESTS, MORE_COMPILES) if _recorder else (1, 1, 1)
    idle = _idle_share()
    compiles = partial(cpu_times, COMPILE, root)
    return {
        **with_recorder("touch", touches, rounds * more[0], PAGES, idle),
        **with_recorder("request", requests, rounds * more[1], REQUESTS, idle),
        **with_recorder("compile", compiles, COMPILES * more[2], 1, idle),
        "idle_share": [idle],
    }


def with_recorder(
    name: str, work: Callable[[int], list[float]], rounds: int, parts: int, idle: float
) -> dict[str, list[float]]:
    """See :func:`load`.

    :param work: rounds -> nanoseconds of each part, of each round
    :param parts: of a round
    :param idle: share of the CPU that the recorder takes anyway
    """
    begun, used = time.monotonic_ns(), recorder_ns()
    found = work(rounds)
    if _recorder:
        time.sleep(SETTLE_S)
    extra = recorder_ns() - used - idle * (time.monotonic_ns() - begun)
    return {f"{name}_ns": found, f"{name}_extra_ns": [max(0.0, extra) / len(found) / parts]}


def _idle_share() -> float:
    """Of the CPU, what the recorder takes while nothing happens."""
    if not _recorder:
        return 0.0
    time.sleep(SETTLE_S)
    begun, used = time.monotonic_ns(), recorder_ns()
    time.sleep(IDLE_S)
    return (recorder_ns() - used) / (time.monotonic_ns() - begun)


def recorder_ns() -> int:
    """CPU time of who records now, but for this thread's; 0 where nobody does."""
    spent = 0
    for thread in Path(f"/proc/{_recorder}/task").glob("*") if _recorder else ():
        with contextlib.suppress(OSError):  # it has ended
            if int(thread.name) != threading.get_native_id():
                spent += int((thread / "schedstat").read_text().split()[0])
    return spent


@contextlib.contextmanager
def recording_by(process: int) -> Iterator[None]:
    """Says who records, while the block runs."""
    global _recorder
    _recorder = process
    try:
        yield
    finally:
        _recorder = None


@contextlib.contextmanager
def own(options: Options) -> Iterator[None]:
    """Ours, until the block ends."""
    with bench.recorded(options), recording_by(os.getpid()):
        yield


@contextlib.contextmanager
def bcc(command: Sequence[str]) -> Iterator[None]:
    """A tool of bcc's, until the block ends: it compiles first, and then there is a probe more."""
    before = _attached()
    with _process(command) as process:
        _await(process, lambda: _attached() != before)
        with recording_by(process.pid):
            yield


@contextlib.contextmanager
def perf(name: str, command: Sequence[str]) -> Iterator[None]:
    """perf, until the block ends; what it has kept is in :data:`KEPT` then. It reads about modules
    and processes first, for many seconds, in which it sees nothing: it is enabled after that."""
    with tempfile.TemporaryDirectory() as folder:
        control, done = Path(folder) / "control", Path(folder) / "done"
        data = Path(folder) / "perf.data"
        with (
            _fifo(control) as orders,
            _fifo(done) as answers,
            _process(
                (*_WITHOUT_MODULES, *command, "-o", str(data), f"--control=fifo:{control},{done}")
            ) as process,
        ):
            os.write(orders, b"enable\n")
            _await(process, lambda: bool(select.select([answers], [], [], 0)[0]))
            with recording_by(process.pid):
                yield
        report = ("perf", "report", "--stats", "-i", str(data))
        KEPT[name] = perf_kept(subprocess.run(report, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def _fifo(path: Path) -> Iterator[int]:
    """A new pipe with a name, open for both ends."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    try:
        yield pipe
    finally:
        os.close(pipe)


def perf_kept(stats: str) -> dict[str, int]:
    """From ``perf report --stats``: samples of each event, and how often perf says that some are
    missing (``LOST``, ``LOST_SAMPLES``, ``THROTTLE``; each may stand for many).

    :raises ValueError: it is something else
    """
    total, *events = re.split(
        r"^(\S+) stats:$", stats.partition("Aggregated stats:")[2], flags=re.M
    )
    if not events:
        raise ValueError(f"not perf's statistics: {stats[:200]!r}")
    missing = re.findall(r"(?:LOST\w*|(?<!UN)THROTTLE) events:\s+(\d+)", total)
    samples = (re.search(r"SAMPLE events:\s+(\d+)", text) for text in events[1::2])
    counts = [int(found[1]) if found else 0 for found in samples]
    return {**dict(zip(events[::2], counts, strict=True)), MISSING: sum(map(int, missing))}


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


@contextlib.contextmanager
def perf_probe() -> Iterator[None]:
    """What perf has to be given before it sees a function's end; costs nothing until it does."""
    subprocess.run(["perf", "probe", "-q", "-a", "handle_mm_fault%return"], check=True)
    try:
        yield
    finally:
        subprocess.run(["perf", "probe", "-q", "-d", "probe:handle_mm_fault*"], check=True)


def tracers() -> Iterator[bench.Tracer]:
    """All of them."""
    for name, options in OURS.items():
        yield name, partial(own, options)
    for name, command in PEERS.items():
        yield name, partial(perf, name, command) if command[0] == "perf" else partial(bcc, command)


def main() -> None:
    """Every tracer, one after the other."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as root,
        web.server(Path(folder)) as server,
        perf_probe(),
    ):
        compiler_in(Path(root))
        runs: list[dict[str, Any]] = bench.measure(
            partial(load, rounds, Path(root), server), tracers(), _tell
        )
    found = {"kernel": platform.release(), "pages": PAGES, "runs": runs, "kept": KEPT}
    target.write_text(json.dumps(found))


def _tell(tracer: str) -> None:
    print(f"bench: tracing: {tracer}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
