"""Where and with what a recording is made."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import livedump
from livedump.trace.probe import loader


def clocks() -> dict[str, int]:
    """The three clocks, ns, read together."""
    return {
        "realtime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }


def machine() -> dict[str, Any]:
    """Where the recording is made."""
    uname = platform.uname()
    return {
        "host": uname.node,
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
