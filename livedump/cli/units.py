"""Sizes and times as people write them."""

from __future__ import annotations

import re

import click

_SIZES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_TIMES_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000}


def parse_size(text: str) -> int:
    """``512M``, ``1.5GiB``, ``65536`` -> bytes.

    :raises click.BadParameter: it is none
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is no size like 512M or 2G")
    return int(float(found[1]) * (1 << _SIZES[found[2]]))


def parse_duration_ms(text: str) -> int:
    """``90``, ``90s``, ``10m``, ``1h``, ``500ms`` -> milliseconds.

    :raises click.BadParameter: it is none, or more than the ABI's 32 bits
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is no time like 90s or 10m")
    milliseconds = int(float(found[1]) * _TIMES_MS[found[2]])
    if milliseconds >= 1 << 32:
        raise click.BadParameter(f"{text!r} is longer than 49 days")
    return milliseconds
