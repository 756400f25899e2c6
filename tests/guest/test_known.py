"""Counts are exactly right where the kernel makes them exact, and peers agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from livedump.recording import store
from livedump.recording.store import Recording
from tests.guest.test_trace import command
from tools.guest.kernel import IS_7, SKIPS_UNCOUNTED

PAGES = 1500

#: Runs what follows where the kernel seems to have no BTF: nothing of livedump may need it.
_HIDE_BTF = 'mount -t tmpfs none /sys/kernel/btf; exec "$@"'
WITHOUT_BTF = ("unshare", "--mount", "sh", "-ec", _HIDE_BTF, "sh")

#: enum vm_fault_reason: the fault is to be repeated, or has failed. The kernel counts neither.
NOT_COUNTED = 0x400 | 0x873


class Known:
    """The loads, recorded fault by fault, while perf counts, too.

    :ivar recorder: its process
    :ivar spans: what the loads say, see tools/guest/load/known.py
    :ivar pgfault: /proc/vmstat before and after them
    :ivar perf: faults of the loads' processes by the mode they came from, by perf
    """

    def __init__(self, folder: Path) -> None:
        counts = folder / "perf.csv"
        points = ",".join(f"exceptions:page_fault_{mode}" for mode in ("user", "kernel"))
        perf = ["perf", "stat", "-x,", "-o", str(counts), "-e", points]
        assert Path("/sys/kernel/btf/vmlinux").exists()
        with subprocess.Popen(
            [
                *WITHOUT_BTF,
                *command("record", "-o", str(folder / "r"), "--kind", "user,kernel"),
                *("--events", "--user-stacks"),
                *("--", *perf, "--", sys.executable, "-m", "tools.guest.load.known", str(PAGES)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        ) as recorder:
            printed, _ = recorder.communicate(timeout=300)
        assert recorder.returncode == 0
        self.recorder = recorder.pid
        found = json.loads(printed)
        self.spans: list[dict[str, Any]] = found["spans"]
        self.pgfault: list[dict[str, int]] = found["pgfault"]
        self.recording: Recording = store.read(folder / "r")
        lines = [line for line in counts.read_text().splitlines() if "page_fault_" in line]
        rows = [line.split(",") for line in lines]
        self.perf = {row[2].rpartition("_")[2]: int(row[0]) for row in rows}
        columns = ["time_monotonic_ns", "kind", "pid", "address", "detail", "latency_ns", "weight"]
        self.events: list[dict[str, Any]] = (
            self.recording.columns("events").select(columns).to_pylist()
        )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Recorded once."""
    return Known(tmp_path_factory.mktemp("known"))


def skipped(known: Known) -> int:
    """Faults that went by while the recorder read tables: a kernel that preempts tasks in its own
    code may run others meanwhile, and runs no program for them (docs/kernels.md)."""
    rows = known.recording.tables["losses"]
    probes = ("ld_user_fault_entry", "ld_user_fault_return")
    counted: int = sum(row["count"] for row in rows if row["probe"] in probes)
    return counted + uncounted(known)


def uncounted(known: Known) -> int:
    """The same, at most, where the kernel does not count them."""
    return len(known.events) // 50 if SKIPS_UNCOUNTED else 0


@pytest.mark.smoke
def test_nothing_is_lost(known: Known) -> None:
    """Else the other tests prove nothing. But for what our own programs fault on in looking for
    stacks in user space: neither they nor perf see that."""
    own = ("exceptions:page_fault_kernel", "ld_user_fault_entry", "ld_user_fault_return")
    lost = [
        row
        for row in known.recording.tables["losses"]
        if "stack" not in row["what"] and row["probe"] not in own
    ]
    assert sum(row["count"] for row in lost) <= 2, lost
    counted = skipped(known) - uncounted(known)
    assert counted <= (len(known.events) // 200 if IS_7 else 2)


@pytest.mark.smoke
def test_every_page_faults_exactly_once(known: Known) -> None:
    assert Counter(span["load"] for span in known.spans) == {
        "anonymous": 1,
        "private_file": 1,
        "shared": 2,
        "forked": 3,
        "received": 1,
        "sent": 1,
        "churned": 1,
    }
    missing = 0
    for span in known.spans:
        inside = [
            event
            for event in known.events
            if event["pid"] == span["pid"]
            and event["kind"] == span["kind"]
            and span["start"] <= event["address"] < span["end"]
            and not event["detail"] & NOT_COUNTED
        ]
        pages = Counter(event["address"] >> 12 for event in inside)
        missing += span["faults"] - len(pages)
        assert 0 <= span["faults"] - len(pages) <= skipped(known), span
        assert span["faults"] == (0 if span["load"] in ("churned", "sent") else PAGES)
        # Seen once: the kernel itself took a second fault for a page of shared memory.
        assert len(inside) <= PAGES + (2 if span["load"] == "shared" else 0), span
        assert all(event["latency_ns"] for event in inside)
    assert missing <= skipped(known)


@pytest.mark.smoke
def test_a_process_has_the_faults_that_getrusage_says(known: Known) -> None:
    """Those of the whole life of each child, from user mode and from within the kernel."""
    children = [span for span in known.spans if span["minor"] is not None]
    assert len(children) == 5
    for span in children:
        counted = [
            event
            for event in known.events
            if event["pid"] == span["pid"]
            and event["kind"] in ("user", "uaccess")
            and not event["detail"] & NOT_COUNTED
        ]
        missing = span["minor"] + span["major"] - len(counted)
        assert 0 <= missing <= skipped(known), span
        if span["load"] == "churned":
            assert len(counted) < PAGES, "kernel objects were taken for user memory"


@pytest.mark.smoke
def test_sampled_stacks_stand_for_the_others(known: Known) -> None:
    """In a burst most are not taken; what stands for what is told, and comes to the exact sums of
    count and time. Single events say for how many they stood when they came: not for those after
    the last one of each burst."""
    timed = Counter[str]()
    for row in known.recording.tables["histograms"]:
        timed[row["kind"]] += row["count"]
    stacks = [row for row in known.recording.tables["stacks"] if row["kind"] == "user"]
    count, samples = (sum(row[what] for row in stacks) for what in ("count", "samples"))
    [stalled_ns] = [
        row["count"]
        for row in known.recording.tables["counters"]
        if (row["kind"], row["name"]) == ("user", "sum_ns")
    ]
    weights = [event["weight"] for event in known.events if event["kind"] == "user"]
    spans = [span for span in known.spans if span["kind"] == "user"]
    burst = [
        event["weight"]
        for event in known.events
        for span in spans
        if event["pid"] == span["pid"] and span["start"] <= event["address"] < span["end"]
    ]
    lost = sum(row["count"] for row in known.recording.tables["losses"])
    assert abs(count - timed["user"]) <= lost
    assert sum(row["stalled_ns"] for row in stacks) == pytest.approx(stalled_ns, rel=0.02)
    assert abs(sum(weight > 0 for weight in weights) - samples) <= lost
    assert 0.8 * timed["user"] < sum(weights) <= timed["user"] + lost
    assert sum(burst) > 6 * PAGES / 2 and sum(weight > 0 for weight in burst) < len(burst) / 2


@pytest.mark.smoke
def test_stacks_begin_in_user_space(known: Known) -> None:
    """Python is built without frame pointers, and what has ended by the next look has no names."""
    own = [
        row
        for row in known.recording.tables["stacks"]
        if row["kind"] == "user" and row["comm"].startswith("python")
    ]
    assert own
    parts: Counter[str] = Counter()
    for row in own:
        user, entry, _kernel = row["stack"].partition("asm_exc_page_fault")
        parts["all"] += row["count"] if entry else 0
        parts["user"] += row["count"] if entry and user else 0
        parts["named"] += row["count"] if "[python3" in user or ".so" in user else 0
    assert parts["user"] > 0.99 * parts["all"], parts
    assert parts["named"] > 0.2 * parts["all"], parts


@pytest.mark.smoke
@pytest.mark.parametrize("mode", ["user", "kernel"])
def test_perf_counts_the_same(known: Known, mode: str) -> None:
    """The tracepoint's count of all processes that perf followed: ours does not hide it. No fault
    of theirs fails, so there is one of handle_mm_fault()'s for each from user mode.

    These are the load, its children, a helper of pyroute2's, and ldconfig, which ctypes asks for a
    library. perf begins to count in exec(), a fault or two after the process has its new name.
    """
    rows = known.recording.tables["tasks"]
    perf = min(row["pid"] for row in rows if row["comm"] == "perf")
    own = sum(
        row["count"]
        for row in rows
        if row["kind"] == mode
        and row["comm"].startswith(("python", "ldconfig"))
        and row["pid"] not in (known.recorder, perf, os.getpid())
    )
    assert known.perf[mode] > (7 if mode == "user" else 1) * PAGES
    assert -uncounted(known) <= own - known.perf[mode] <= 5


@pytest.mark.smoke
def test_vmstat_counts_the_same(known: Known) -> None:
    """Of all processes, while the loads ran. What has to be repeated was counted once a time until
    6.3, and reading the count takes a few."""
    before, after = known.pgfault
    inside = [
        event
        for event in known.events
        if event["kind"] != "kernel"
        and before["monotonic_ns"] < event["time_monotonic_ns"] <= after["monotonic_ns"]
    ]
    repeated = sum(bool(event["detail"] & 0x400) for event in inside)
    counted = after["count"] - before["count"]
    assert counted > 8 * PAGES
    assert -20 - uncounted(known) <= len(inside) - counted <= repeated + 20
