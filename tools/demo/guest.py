"""The demo inside the machine: load, recording, snapshot, dump, release.

Writes what it saw to build/demo/guest.json. Its stdout is for :mod:`tools.demo.steps`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from livedump.control import Control
from livedump.dump import open_image
from livedump.session import Session
from tools.demo.steps import report
from tools.guest import modules, witness
from tools.paths import BUILD

DEMO = BUILD / "demo"
READY = Path("/tmp/livedump-recording")
BEFORE_S, AFTER_S = 4.0, 3.0
PLAIN_COPIES = 40


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """livedump and the witness, writing; both unload at the end."""
    report("load the module")
    with modules.modules(modules.WITNESS):
        with witness.writing():
            yield
        report("unload the module")


@contextlib.contextmanager
def recording() -> Iterator[subprocess.Popen[bytes]]:
    """`livedump-trace record` around the mixed load; both run while the block does."""
    report("compile and attach BPF programs")
    READY.unlink(missing_ok=True)
    load = [sys.executable, "-m", "tools.guest.load"]
    recorder = subprocess.Popen(
        ["livedump-trace", "record", "--force", "-o", str(DEMO / "recording")]
        + ["--kind", "user,kernel,cow,stop", "--ready-file", str(READY), "--", *load],
        stdout=sys.stderr,
    )
    try:
        while not READY.exists():
            if recorder.poll() is not None:
                raise SystemExit(f"livedump-trace record failed ({recorder.returncode})")
            time.sleep(0.2)
        yield recorder
        report("end the recording")
        _end_load(recorder.pid)
        if recorder.wait(timeout=240):
            raise SystemExit(f"livedump-trace record failed ({recorder.returncode})")
    finally:
        if recorder.poll() is None:
            recorder.terminate()  # it ends the load and detaches its probes
            try:
                recorder.wait(timeout=60)
            except subprocess.TimeoutExpired:
                recorder.kill()
                recorder.wait()


def _end_load(recorder: int) -> None:
    """SIGTERM to the load, the recorder's only child: the recording ends with it."""
    children = Path(f"/proc/{recorder}/task/{recorder}/children").read_text().split()
    for pid in map(int, children):
        os.kill(pid, signal.SIGTERM)


def snapshot() -> dict[str, Any]:
    """Take the snapshot in the middle of the load, dump it to the disk, release it."""
    disk = os.environ["LIVEDUMP_DISK"]
    plain = sum(witness.torn_rows(witness.live_values()) for _ in range(PLAIN_COPIES))
    report("take the snapshot")
    witness.forget()
    with Session() as session:
        tasks = witness.tasks()
        result = session.dump(
            disk, progress=lambda done, total: report("dump the image", done, total)
        )
        report("release")
    with open_image(disk) as image:
        torn = witness.torn_rows(witness.image_values(image))
        size = image.layout.end
    with Control() as control:
        final = control.status()
    return {
        "image_bytes": size,
        "dump": result.to_dict(),
        "final": final.to_dict(),
        "tasks": tasks,
        "witness_torn": torn,
        "witness_torn_plain_copy": plain,
    }


def main() -> None:
    """All of it; exits 0 only if every step worked."""
    with loaded():
        with recording():
            report("run the load")
            time.sleep(BEFORE_S)
            seen = snapshot()
            report("run the load on")
            time.sleep(AFTER_S)
    (DEMO / "guest.json").write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main()
