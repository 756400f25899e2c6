"""livedump-trace around a load with known counts. BPF is compiled at most twice a boot."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from livedump import analysis, trace
from livedump.recording import store
from livedump.recording.store import Recording
from livedump.tested import is_of
from livedump.trace.names import STACK_LOST
from livedump.trace.probe import missed
from livedump.trace.probe.options import Options, Stacks
from tests.guest.faults import TOUCHER
from tools.guest.kernel import SKIPS_UNCOUNTED

PAGES = 5000

#: Faults of the toucher's own: its Python and its stack.
SLACK = 100

KPROBE_EVENTS = Path("/sys/kernel/debug/tracing/kprobe_events")

#: Whether a kernel counts what bpf_prog_active skips: a fact, to compare with what it answers.
COUNTS_SKIPS = not is_of(platform.release(), "6.1")


class Run:
    """One recording with what its command printed."""

    def __init__(self, folder: Path, status: int, printed: dict[str, Any]) -> None:
        self.recording: Recording = store.read(folder)
        self.summary = analysis.summarize(self.recording)
        self.folder = folder
        self.status = status
        self.printed = printed

    def table(self, name: str, **where: object) -> list[dict[str, Any]]:
        """Rows of a table that have all these values."""
        rows = self.recording.tables[name]
        return [row for row in rows if all(row[key] == value for key, value in where.items())]


def command(*arguments: str) -> list[str]:
    """livedump-trace, whether it is installed or not."""
    return [sys.executable, "-c", "from livedump.cli.trace.main import main; main()", *arguments]


def leave_behind() -> None:
    """A probe of a recorder that was killed; test_nothing_stays_attached finds it gone."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    text = f"r1024:kprobes/r_handle_mm_fault_bcc_{dead.pid} handle_mm_fault\n"
    fd = os.open(KPROBE_EVENTS, os.O_WRONLY | os.O_APPEND)
    os.write(fd, text.encode())
    os.close(fd)
    assert str(dead.pid) in KPROBE_EVENTS.read_text()


@pytest.fixture(scope="session")
def run(artefacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The known load, recorded once; the recording is kept for the host's tests."""
    leave_behind()
    run = record(tmp_path_factory.mktemp("trace") / "recording")
    # Its event may be among those that are skipped, and nobody is told.
    while SKIPS_UNCOUNTED and not run.summary.receipts:
        run = record(tmp_path_factory.mktemp("trace") / "recording")
    kept = artefacts / "recording"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run.folder, kept)
    return run


def record(folder: Path) -> Run:
    """Record the known load."""
    ready = folder.with_name("ready")
    done = subprocess.run(
        command("record", "-o", str(folder), "--json", "--ready-file", str(ready))
        + ["--events", "--all-stacks", "--"]
        + [sys.executable, "-m", "tests.guest.faults", str(PAGES)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert ready.exists()
    loaded, recorded = (json.loads(line) for line in done.stdout.splitlines())
    assert recorded["status"] == done.returncode == 0
    assert recorded["ended_by"] == "command"
    return Run(folder, done.returncode, loaded)


@pytest.mark.smoke
def test_every_first_touch_is_counted(run: Run) -> None:
    """As getrusage does, and each has a latency."""
    [row] = run.table("tasks", kind="user", comm=TOUCHER)
    assert row["pid"] == run.printed["pid"]
    assert PAGES <= run.printed["minor"] <= PAGES + SLACK
    assert PAGES <= row["count"] <= PAGES + SLACK
    [latency] = [one for one in run.summary.latencies if one.kind == "user"]
    timed = sum(r["count"] for r in run.table("stacks", kind="user", comm=TOUCHER))
    assert latency.count >= timed >= PAGES
    assert 0 < latency.percentiles_ns["p50"] <= latency.max_ns


@pytest.mark.smoke
def test_cpus_come_to_the_totals(run: Run) -> None:
    sums: Counter[str] = Counter()
    for row in run.table("cpus"):
        sums[row["kind"]] += row["count"]
    known = {one.kind: one.count for one in run.summary.latencies}
    assert sums == {**known, "kernel": run.summary.counters["kernel"]["events"]}


@pytest.mark.smoke
def test_receipt_and_bpf_measure_the_same_stop(run: Run) -> None:
    [receipt] = run.summary.receipts
    assert receipt.stop, "BPF saw no stop"
    assert "[livedump]" in receipt.stop["symbol"]
    own = run.printed["taken"]
    for name in ("stop_ns", "save_ns", "protect_ns", "entries_protected", "instant_monotonic_ns"):
        assert receipt.snapshot[name] == own[name], name
    # BPF's probes are inside the module's clock, and around what the stop does.
    done_ns = sum(own[f"{phase}_ns"] for phase in ("save", "protect", "flush", "recopy"))
    assert done_ns <= receipt.stop["duration_ns"] <= own["stop_ns"] * 1.001 + 10_000
    assert receipt.snapshot["pages_lost"] == 0
    assert receipt.snapshot["trace_skipped"] == run.printed["released"]["trace_skipped"]
    assert receipt.snapshot["release_ns"] > 0


@pytest.mark.smoke
def test_cow_faults_are_all_seen_or_accounted_for(run: Run) -> None:
    check = run.summary.cow_check
    assert check and check["seen"] > 100
    # Maps are protected, too: what the recorder's programs fault on while they run is none of
    # theirs to see. The module counts those inside of its own event; the kernel counts programs
    # that it skips, but 6.1 not all; perf drops an event that comes while it handles another.
    lost = sum(row["count"] for row in run.table("losses") if "livedump_fault" in row["probe"])
    lost += check["not_traced_by_module"]
    assert 0 <= check["unseen"] <= lost + check["module"] // 10, check
    stacks = run.table("stacks", kind="cow")
    assert sum(row["count"] for row in stacks) == check["seen"]
    assert sum(row["count"] for row in run.table("pages")) == check["seen"]
    assert any("copy_process" in row["stack"] for row in stacks)


def test_stop_of_cpu_hotplug_is_timed(run: Run) -> None:
    stops = run.table("stops", symbol="take_cpu_down", nested=False)
    assert len(stops) == 1
    assert 0 < stops[0]["duration_ns"] < 10**9
    assert stops[0]["stack"].endswith("stop_machine_cpuslocked"), stops
    [flame] = [row for row in run.table("stacks", kind="stop") if row["stack"] == stops[0]["stack"]]
    assert flame["stalled_ns"] >= stops[0]["duration_ns"]


def test_kernel_faults_have_stacks(run: Run) -> None:
    counted = run.summary.counters["kernel"]
    assert counted["events"] == sum(row["count"] for row in run.table("stacks", kind="kernel"))
    assert counted["write_protect"] >= run.summary.cow_check["seen"] if run.summary.cow_check else 0


@pytest.mark.smoke
def test_slices_come_to_the_totals(run: Run) -> None:
    """What was taken out slice by slice while recording went on is what was counted in all."""
    over = analysis.over_time(run.recording)
    totals: Counter[str] = Counter()
    for row in run.table("histograms"):
        totals[row["kind"]] += row["count"]
    totals["kernel"] = run.summary.counters["kernel"]["events"]
    assert {kind: sum(over.counts(kind)) for kind in over.heat} == totals
    assert over.steps > 20
    lost: Counter[tuple[str, str]] = Counter()
    for row in run.table("loss_slices"):
        lost[row["probe"], row["what"]] += row["count"]
    assert lost == {(row["probe"], row["what"]): row["count"] for row in run.table("losses")}
    held = [row for row in over.heat["cow"].cells]
    [receipt] = run.summary.receipts
    start_ns = run.recording.meta["clocks"]["start"]["monotonic_ns"]
    since_ns = receipt.snapshot["instant_monotonic_ns"] - start_ns
    assert min(cell[0] for cell in held) >= since_ns // over.step_ns - 1


@pytest.mark.smoke
def test_wall_time_is_the_module_s_own(run: Run) -> None:
    """Clocks in meta.json are of one instant each: the stop's time of day is as in the receipt."""
    start = run.recording.meta["clocks"]["start"]
    [row] = run.recording.tables["snapshots"]
    said = start["realtime_ns"] + row["instant_monotonic_ns"] - start["monotonic_ns"]
    assert abs(said - run.printed["taken"]["instant_realtime_ns"]) <= 100_000


@pytest.mark.smoke
def test_every_fault_is_an_event(run: Run) -> None:
    table = run.recording.columns("events")
    assert not run.table("losses", what="ring buffer full")
    rows = table.select(["kind", "pid", "latency_ns", "weight", "stack", "address"]).to_pylist()
    kinds = Counter(row["kind"] for row in rows)
    for latency in run.summary.latencies:
        if latency.kind in ("user", "uaccess", "gup", "cow"):
            assert kinds[latency.kind] == latency.count
    assert kinds["kernel"] == run.summary.counters["kernel"]["events"]
    assert all(row["weight"] == 1 for row in rows)
    own = [row for row in rows if row["kind"] == "user" and row["pid"] == run.printed["pid"]]
    assert len({row["address"] >> 12 for row in own}) >= PAGES
    assert max(row["latency_ns"] for row in own) > 0
    assert sum("do_user_addr_fault" in (row["stack"] or "") for row in own) > len(own) * 0.9


def test_losses_of_the_recorder_itself(run: Run) -> None:
    """Nothing may be lost for want of room in so short a recording."""
    assert not [row for row in run.table("losses") if "full" in row["what"]]


@pytest.mark.smoke
def test_what_cannot_be_counted_is_said(run: Run) -> None:
    expected = [] if COUNTS_SKIPS else [missed.UNCOUNTED_SKIPS]
    assert run.recording.meta["unmeasured"] == expected


@pytest.mark.smoke
def test_hardly_a_stack_is_lost(run: Run) -> None:
    """There is room for stacks with the same hash value."""
    stacks = sum(row["count"] for row in run.table("stacks"))
    assert run.recording.meta["stacks_lost"] <= stacks // 1000


def test_report_command(run: Run) -> None:
    done = subprocess.run(
        command("report", str(run.folder), "--json", "--kind", "cow"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [row["kind"] for row in json.loads(done.stdout)["latencies"]] == ["cow"]
    lines = analysis.folded_lines(run.recording, kinds=("cow",))
    assert lines
    assert all(line.rpartition(" ")[2].isdigit() and ";" in line for line in lines)


def test_nothing_stays_attached(run: Run) -> None:
    assert "_bcc_" not in KPROBE_EVENTS.read_text()


def test_full_tables_are_counted_as_losses(tmp_path: Path) -> None:
    """With hardly any room, everything is still counted, and what is missing is in the losses.

    Two load at once: with one place for what is under way, one of them has to go elsewhere.
    """
    code = "from tools.guest.load.known import private, touch; touch(private(3000), 1)"
    touch = shlex.join([sys.executable, "-c", code])
    config = trace.RecordConfig(
        output=tmp_path / "small",
        questions=("user",),
        command=("sh", "-c", f"{touch} & {touch} & true; true; wait"),
        options=Options(
            limits={"folds": 1, "tasks": 1, "stacks": 1, "inflight": 1, "ring": 1},
            stacks=Stacks.ALL,
            events=True,
        ),
    )
    result = trace.record(config, threading.Event())
    assert result.status == 0
    recording = store.read(config.output)
    lost: Counter[str] = Counter()
    for row in recording.tables["losses"]:
        lost[row["what"]] += row["count"]
    assert lost["task table full"] > 0
    assert lost["stack table full"] > 0
    in_tasks = sum(row["count"] for row in recording.tables["tasks"])
    names = ("retry", "error")
    undone = sum(r["count"] for r in recording.tables["counters"] if r["name"] in names)
    events = {row["name"]: row["count"] for row in recording.tables["counters"]}["events"]
    kinds = ("user", "uaccess", "gup")  # major faults are among these
    timed = sum(r["count"] for r in recording.tables["histograms"] if r["kind"] in kinds)
    assert events > 0
    stacks = recording.tables["stacks"]
    assert sum(row["count"] for row in stacks) == timed
    named = sum(row["count"] for row in stacks if STACK_LOST not in row["stack"])
    assert named <= timed - lost["stack table full"]
    assert in_tasks + lost["task table full"] == timed - undone
    assert timed > 6000 and not lost["entry table full"]
    kept = recording.columns("events", ["kind"]).num_rows
    assert lost["ring buffer full"] > 64 and kept > 64
    assert kept + lost["ring buffer full"] == timed
    assert result.meta["losses_total"] == sum(lost.values())
    assert result.meta["stacks_lost"] == lost["stack table full"] + lost["no stack"]
    assert os.listdir(tmp_path) == ["small"]


def test_bench_measures_its_own_cost() -> None:
    done = subprocess.run(
        command("bench", "--mode", "counts", "--rounds", "3", "--pages", "1000", "--json"),
        stdout=subprocess.PIPE,
        timeout=200,
        check=True,
    )
    [counts] = json.loads(done.stdout)["overheads"]
    assert counts["tracer"] == "counts"
    assert counts["median_ns"] > 100 and counts["ratio"] > 0
