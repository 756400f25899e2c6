"""The flight recorder: a slowdown is injected, the moment is on disk, the recorder is killed.

Before test_dump.py by its name, which is the last one to write to the disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from livedump.conditions import format_value
from livedump.dump import open_image
from livedump.recording.layout import BATCH
from livedump.recording.recover import open_recording
from tests.guest.test_trace import command
from tools.guest.load.requests import NAME

CONDITION = "p50(user)>300us for 1s"
#: Seconds of small pages; then of large ones, each cleared when it is touched: the slowdown.
FAST_S, SLOW_S = 2, 6


def serve(seconds: float, *options: str) -> int:
    """Requests served."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.guest.load.requests", str(seconds), *options],
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(json.loads(done.stdout)["requests"])


def test_degraded_moment_is_dumped_and_a_killed_recorder_keeps_the_rest(tmp_path: Path) -> None:
    folder, ready, disk = tmp_path / "r", tmp_path / "ready", os.environ["LIVEDUMP_DISK"]
    recorder = subprocess.Popen(
        [
            *command("record", "-o", str(folder), "--kind", "user,cow,stop"),
            *("--events", "--comm", NAME, "--snapshot-when", CONDITION),
            *("--dump", disk, "--ready-file", str(ready)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not ready.exists():
            assert recorder.poll() is None, recorder.stderr and recorder.stderr.read()
            time.sleep(0.2)
        assert serve(FAST_S) > 50
        slow_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert serve(SLOW_S, "--huge") > 50
        fired = _await_dump(folder, recorder.pid)
    finally:
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
    assert fired["condition"] == CONDITION
    assert fired["value"] > 300_000
    assert fired["done"]["verdict"] == "complete", fired
    assert fired["done"]["instant_monotonic_ns"] - slow_ns > 0.9e9
    with open_image(disk) as image:
        assert image.report["instant_monotonic_ns"] == fired["done"]["instant_monotonic_ns"]

    found = open_recording(folder)
    assert found.meta["ended_by"] == "killed"
    assert found.meta["triggers"] == [fired]
    assert [row["verdict"] for row in found.tables["snapshots"]] == [1]
    assert {row["comm"] for row in found.tables["tasks"] if row["kind"] == "user"} == {NAME}
    # What CPUs have not handed over is gone; the loads have been over for some rounds.
    counts = found.columns("slices", ["kind", "count"]).to_pylist()
    counted = sum(row["count"] for row in counts if row["kind"] == "user")
    events = found.columns("events", ["kind"])["kind"].to_pylist().count("user")
    assert events > 1000
    assert 0 <= counted - events <= (BATCH - 1) * (os.cpu_count() or 1)
    assert "single events that each CPU still kept" in " ".join(found.meta["unmeasured"])
    done = subprocess.run(command("report", str(folder)), capture_output=True, text=True)
    assert "the recorder was killed" in done.stdout
    told = f"{CONDITION} ({format_value('p50', fired['value'])}): {disk}, complete"
    assert told in " ".join(done.stdout.split())


def _await_dump(folder: Path, pid: int) -> dict[str, Any]:
    """What the trigger has done, by the next checkpoint."""
    file = folder.with_name(f".{folder.name}.recording-{pid}") / "checkpoint.json"
    for _ in range(1500):  # beside other work on the host it took more than two minutes
        time.sleep(0.2)
        triggers = json.loads(file.read_text())["meta"]["triggers"]
        if triggers and (triggers[0]["done"] or triggers[0]["error"]):
            return dict(triggers[0])
    raise AssertionError(f"the trigger has not finished: {triggers}")
