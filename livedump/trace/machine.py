"""Where and with what a recording is made."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import livedump
from livedump.text import storable
from livedump.trace.probe import loader

#: Clocks are read so often; the time that was least interrupted counts.
_TRIES = 16


def clocks(monotonic_ns: int | None = None) -> dict[str, int]:
    """What the three clocks say at one instant, ns; as exact as reading them is quick.

    :param monotonic_ns: the instant, not long ago; None: now
    """
    _, before, realtime, boottime, after = min(_read_clocks() for _ in range(_TRIES))
    now = (before + after) // 2
    past = 0 if monotonic_ns is None else now - monotonic_ns
    return {
        "realtime_ns": realtime - past,
        "monotonic_ns": now - past,
        "boottime_ns": boottime - past,
    }


def _read_clocks() -> tuple[int, int, int, int, int]:
    """How long it took, then: monotonic before, realtime, boottime, monotonic after."""
    read = time.clock_gettime_ns
    before = read(time.CLOCK_MONOTONIC)
    realtime, boottime = read(time.CLOCK_REALTIME), read(time.CLOCK_BOOTTIME)
    after = read(time.CLOCK_MONOTONIC)
    return after - before, before, realtime, boottime, after


def machine() -> dict[str, Any]:
    """Where the recording is made."""
    uname = platform.uname()
    return {
        "host": storable(uname.node),
        "machine_id": _text("/etc/machine-id"),
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "kernel": {
            "release": uname.release,
            "version": uname.version,
            "machine": uname.machine,
        },
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def versions() -> dict[str, str]:
    """Of what the recording was made with."""
    return {
        "livedump": livedump.__version__,
        "python": platform.python_version(),
        "bcc": loader.bcc_version(),
        "pyarrow": version("pyarrow"),
    }


def _text(path: str) -> str:
    """A small file's content, empty when it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
