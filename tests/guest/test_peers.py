"""Other tracers watch the same process at the same time, and count the same.

Each is one that its users would have taken for the job: bpftrace, and BCC's funclatency and
stackcount. For perf see test_known.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump.recording import store
from tests.guest.test_trace import command
from tools.guest.load.known import pgfault, private, touch

PAGES = 3000
#: Seconds until a tracer has compiled its programs, beside two others.
READY_S = 240

BPFTRACE = """
tracepoint:exceptions:page_fault_user /pid == PID/ { @events = count(); }
kprobe:handle_mm_fault /pid == PID/ { @calls = count(); }
"""


def load() -> None:
    """In a process of its own: wait for a line, touch, say what getrusage() counted, and again."""
    memory = private(PAGES)
    print("waiting", flush=True)
    sys.stdin.readline()
    before = resource.getrusage(resource.RUSAGE_SELF)
    touch(memory, 1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    sys.stdout.write(f"{after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt}\n")
    sys.stdout.flush()
    sys.stdin.readline()


@contextlib.contextmanager
def tracer(argv: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs while the block does, which interrupts it when it wants its counts."""
    with said.open("w") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def await_attached(process: subprocess.Popen[bytes], said: Path, ready: str) -> None:
    """Wait for it."""
    end = time.monotonic() + READY_S
    while ready not in said.read_text():
        assert process.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.2)


class Counts:
    """What each has counted for the process.

    :ivar rusage: by the kernel itself, while it touched its pages
    :ivar vmstat: by the kernel, of all processes, meanwhile
    """

    def __init__(self, folder: Path) -> None:
        code = "from tests.guest.test_peers import load; load()"
        with subprocess.Popen(
            [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin and process.stdout
            assert process.stdout.readline() == "waiting\n"
            self._record(folder, process)

    def _record(self, folder: Path, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        pid = str(process.pid)
        program = BPFTRACE.replace("PID", pid)
        bcc = [sys.executable, "-u"]
        peers = {
            "bpftrace": (["bpftrace", "-f", "json", "-e", program], "attached_probes"),
            "funclatency": (
                [*bcc, "/usr/sbin/funclatency-bpfcc", "-p", pid, "handle_mm_fault"],
                "Hit Ctrl-C",
            ),
            "stackcount": (
                [*bcc, "/usr/sbin/stackcount-bpfcc", "-p", pid, "t:exceptions:page_fault_user"],
                "Hit Ctrl-C",
            ),
        }
        ready, own = folder / "ready", folder / "r"
        record = command("record", "-o", str(own), "-p", pid, "--kind", "user", "--no-stacks")
        with contextlib.ExitStack() as stack:
            running = {
                name: stack.enter_context(tracer(argv, folder / name))
                for name, (argv, _) in peers.items()
            }
            running["livedump"] = stack.enter_context(
                tracer([*record, "--ready-file", str(ready)], folder / "livedump")
            )
            for name, (_, said) in peers.items():
                await_attached(running[name], folder / name, said)
            end = time.monotonic() + READY_S
            while not ready.exists():
                said = (folder / "livedump").read_text()
                assert running["livedump"].poll() is None and time.monotonic() < end, said
                time.sleep(0.2)
            before = pgfault()["count"]
            print("go", file=process.stdin, flush=True)
            self.rusage = int(process.stdout.readline())
            self.vmstat = pgfault()["count"] - before
            for each in running.values():
                each.send_signal(signal.SIGINT)
            status = {name: each.wait(120) for name, each in running.items()}
            assert status["livedump"] == 0, status
            print("end", file=process.stdin, flush=True)
        self.said = {name: (folder / name).read_text() for name in peers}
        self.recording = store.read(own)

    @property
    def latencies(self) -> int:
        """Ours: calls of handle_mm_fault() that were timed."""
        kinds = ("user", "uaccess", "gup")
        rows = self.recording.tables["histograms"]
        return int(sum(row["count"] for row in rows if row["kind"] in kinds))

    @property
    def events(self) -> int:
        """Ours: exceptions from user mode."""
        rows = self.recording.tables["counters"]
        return int(sum(row["count"] for row in rows if row["name"] == "events"))


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """Counted once."""
    return Counts(tmp_path_factory.mktemp("peers"))


def test_nothing_was_lost(counts: Counts) -> None:
    """With five programs on the same function."""
    assert counts.recording.meta["losses_total"] == 0


def test_kernel_counts_the_same(counts: Counts) -> None:
    assert counts.rusage >= PAGES
    tasks = sum(row["count"] for row in counts.recording.tables["tasks"])
    assert 0 <= tasks - counts.rusage <= 5  # those of print() itself
    # Of all processes; test_known.py has those, too.
    assert counts.rusage <= counts.vmstat


def test_bpftrace_counts_the_same(counts: Counts) -> None:
    lines = [json.loads(line) for line in counts.said["bpftrace"].splitlines() if line[:1] == "{"]
    found = {key: n for line in lines if line["type"] == "map" for key, n in line["data"].items()}
    assert found == {"@events": counts.events, "@calls": counts.latencies}


def test_funclatency_counts_the_same(counts: Counts) -> None:
    rows = re.findall(r"^ *\d+ -> \d+ +: (\d+) +\|", counts.said["funclatency"], re.MULTILINE)
    assert sum(map(int, rows)) == counts.latencies


def test_stackcount_counts_the_same(counts: Counts) -> None:
    rows = re.findall(r"^    (\d+)$", counts.said["stackcount"], re.MULTILINE)
    assert sum(map(int, rows)) == counts.events
