"""Sizes, times and rates, as people write and read them."""

from __future__ import annotations

import math
import re

_SIZES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}

#: Units of a time that somebody has to wait for, as milliseconds.
TIMES_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000}

_NS_UNITS = ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def ns_unit(value_ns: int) -> tuple[int, str]:
    """The largest unit that is not more than the value: how many ns, and its name."""
    return next((unit for unit in _NS_UNITS if value_ns >= unit[0]), _NS_UNITS[-1])


def format_ns(value_ns: int) -> str:
    """``64_700_000`` -> ``"64.7 ms"``."""
    scale, unit = ns_unit(value_ns)
    return f"{value_ns} ns" if scale == 1 else f"{value_ns / scale:.1f} {unit}"


def format_bytes(value_bytes: int) -> str:
    """``2147483648`` -> ``"2.0 GiB"``."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value_bytes >= 1 << shift:
            return f"{value_bytes / (1 << shift):.1f} {unit}"
    return f"{value_bytes} B"


def format_rate(number: float | None) -> str:
    """``1,234.5``, and what is rare with three digits: only nothing is 0. None: a dash."""
    if number is None:
        return "-"
    if not number:
        return "0"
    return f"{number:,.1f}" if number >= 1 else f"{number:.{2 - math.floor(math.log10(number))}f}"


def parse_size(text: str) -> int:
    """``512M``, ``1.5GiB``, ``65536`` -> bytes.

    :raises ValueError: it is none
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no size like 512M or 2G")
    return int(float(found[1]) * (1 << _SIZES[found[2]]))


def parse_duration_ms(text: str) -> int:
    """``90``, ``90s``, ``10m``, ``1h``, ``500ms`` -> milliseconds.

    :raises ValueError: it is none, or more than the ABI's 32 bits
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no time like 90s or 10m")
    milliseconds = int(float(found[1]) * TIMES_MS[found[2]])
    if milliseconds >= 1 << 32:
        raise ValueError(f"{text!r} is longer than 49 days")
    return milliseconds
