"""The flight recorder: a slowdown is injected, the moment is on disk, the recorder is killed.

Before test_dump.py by its name, which is the last one to write to the disk.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from livedump import trace
from livedump.dump import open_image
from tests.guest.test_trace import command

SLOW = "ldslow"
MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15
_MIB = 1 << 20

#: Faults of 4 KiB; then faults that clear 2 MiB each, which is the slowdown. At its end: how many.
LOAD = """
import json
from tests.guest.test_condition import MADV_HUGEPAGE, MADV_NOHUGEPAGE, SLOW, touch
open("/proc/self/comm", "w").write(SLOW)
touch(MADV_NOHUGEPAGE, 4096, 2.0)
print(json.dumps(touch(MADV_HUGEPAGE, 2 << 20, 6.0)), flush=True)
""".replace(
    "import sys, time", "import json, sys, time"
)


def touch(advice: int, step: int, seconds: float) -> int:
    """First touches of memory for so long, one each *step*; how many."""
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with mmap.mmap(-1, 64 * _MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(advice)
            for offset in range(0, 64 * _MIB, step):
                memory[offset] = 1
                done += 1
                if step == mmap.PAGESIZE:
                    time.sleep(0.001)
                if time.monotonic() > end:
                    break
    return done


def test_degraded_moment_is_dumped_and_a_killed_recorder_keeps_all(tmp_path: Path) -> None:
    folder, ready, disk = tmp_path / "r", tmp_path / "ready", os.environ["LIVEDUMP_DISK"]
    recorder = subprocess.Popen(
        [
            *command("record", "-o", str(folder), "--kind", "user,cow,stop"),
            *("--comm", SLOW, "--snapshot-when", "p50(user)>300us for 1s"),
            *("--dump", disk, "--ready-file", str(ready)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not ready.exists():
            assert recorder.poll() is None, recorder.stderr and recorder.stderr.read()
            time.sleep(0.2)
        begun_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        load = subprocess.run([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, check=True)
        assert json.loads(load.stdout) > 50
        fired = _await_dump(folder, recorder.pid)
    finally:
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
    assert fired["condition"] == "p50(user)>300us for 1s"
    assert fired["value"] > 300_000
    assert fired["done"]["verdict"] == "complete", fired
    # Not before the slowdown, which begins 2 s after the load does.
    assert fired["done"]["instant_monotonic_ns"] - begun_ns > 2.9e9
    with open_image(disk) as image:
        assert image.report["instant_monotonic_ns"] == fired["done"]["instant_monotonic_ns"]

    found = trace.read(folder)
    assert found.meta["ended_by"] == "killed"
    assert found.meta["triggers"] == [fired]
    assert [row["verdict"] for row in found.tables["snapshots"]] == [1]
    [user] = [row for row in found.tables["tasks"] if row["kind"] == "user"]
    assert user["comm"] == SLOW
    done = subprocess.run(command("report", str(folder)), capture_output=True, text=True)
    assert "the recorder was killed" in done.stdout
    assert f"p50(user)>300us for 1s: {disk}, complete" in " ".join(done.stdout.split())


def _await_dump(folder: Path, pid: int) -> dict[str, Any]:
    """What the trigger has done, by the next checkpoint."""
    file = folder.with_name(f".{folder.name}.recording-{pid}") / "checkpoint.json"
    for _ in range(600):
        time.sleep(0.2)
        triggers = json.loads(file.read_text())["meta"]["triggers"]
        if triggers and (triggers[0]["done"] or triggers[0]["error"]):
            return dict(triggers[0])
    raise AssertionError(f"the trigger has not finished: {triggers}")
