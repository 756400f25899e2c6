"""In the guest: a call from before the hooks, a suspend, a reboot. Prints what it saw, as JSON."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from livedump.control import Control, Status
from livedump.errors import ControlError
from livedump.session import Session
from tools.guest import modules

POOL = 64 << 20
ASLEEP = Path("/proc/livedump_mapper/asleep")
_RESTART = 0x01234567
#: Never sleeps, but lets others run.
_HOG = ("nice", "-n", "19", "sh", "-c", "while :; do :; done")
_SNAPSHOT = ("livedump", "snapshot", "--pool", "64M")


def status() -> Status:
    """Of the module, now."""
    with Control() as control:
        return control.status()


def asleep() -> subprocess.Popen[bytes]:
    """A process that sleeps in memremap_pages(), until 0 is written."""
    sleeper = subprocess.Popen(["sh", "-c", f"echo 1 > {ASLEEP}"], stderr=subprocess.DEVNULL)
    stack = Path(f"/proc/{sleeper.pid}/stack")
    while "memremap_pages" not in stack.read_text():
        assert sleeper.poll() is None
    return sleeper


def calls_from_before() -> dict[str, Any]:
    """Longer than a snapshot waits; and until the next, which waits for it."""
    hogs = [subprocess.Popen(_HOG) for _ in range(os.cpu_count() or 1)]
    sleeper = asleep()
    try:
        Session(pool_bytes=POOL).__enter__()
        refused = "nothing"
    except ControlError as error:
        refused = str(error)
    with subprocess.Popen(_SNAPSHOT, stdout=subprocess.DEVNULL) as two:
        while status().step != "hooks":
            assert two.poll() is None
        time.sleep(2)
        during = status().step
        ASLEEP.write_text("0")
    for process in (*hogs, sleeper):
        process.kill()
        process.wait()
    return {"refused": refused, "during": during, "then": status().state}


def suspend() -> dict[str, Any]:
    """As far as user space is frozen, and back: a snapshot is held at first."""
    Path("/sys/power/pm_test").write_text("freezer")
    Path("/sys/power/state").write_text("freeze")
    after = status()
    subprocess.run(_SNAPSHOT, check=True, stdout=subprocess.DEVNULL)
    return {
        "state": after.state,
        "reason": after.reason,
        "verdict": after.verdict,
        "again": status().state,
    }


def main() -> None:
    """One after the other; the last holds a snapshot."""
    for module in (modules.LIVEDUMP, "livedump_mapper"):
        modules.insert(module)
    print(json.dumps({"calls": calls_from_before(), "suspend": suspend()}), flush=True)
    os.sync()
    ctypes.CDLL(None).reboot(_RESTART)


if __name__ == "__main__":
    main()
