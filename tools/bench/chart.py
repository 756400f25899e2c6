"""The chart: downtime against RAM as one SVG file without a script, both axes logarithmic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tools.bench.summary import STRATEGIES

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 110, 50, 60
COLORS = {"empty": "#777777", "eager": "#c0392b", "lazy": "#1f6fb2"}

Scale = Callable[[float], float]


def log_scale(low: float, high: float, begin: float, end: float) -> Scale:
    """Map low..high to begin..end by logarithm."""
    span = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / span


def decades(values: Sequence[float]) -> list[float]:
    """Powers of ten that enclose the values."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    return [10.0**power for power in range(low, high + 1)]


def text(x: float, y: float, words: str, more: str = "") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> str:
    """A line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" {more}/>'
    )


def axes(sizes: Iterable[int], ticks: Iterable[float], x: Scale, y: Scale) -> Iterable[str]:
    """Grid and labels."""
    for tick in ticks:
        yield line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "#dddddd")
        yield text(LEFT - 8, y(tick) + 4, f"{tick:g}", 'text-anchor="end"')
    for size in sizes:
        yield text(x(size), HEIGHT - BOTTOM + 22, str(size), 'text-anchor="middle"')
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "RAM, GiB", 'text-anchor="middle"')
    yield text(LEFT - 40, TOP - 14, "stop, ms")


def series(rows: Sequence[dict[str, Any]], name: str, x: Scale, y: Scale) -> Iterable[str]:
    """A line through the medians; from minimum to maximum a thin one."""
    color, points = COLORS[name], []
    for row in rows:
        values = [value / 1e6 for value in row[f"{name}_stop_ns"]]
        at = x(row["ram_gib"])
        points.append((at, y(statistics.median(values))))
        yield line(at, y(min(values)), at, y(max(values)), color, 'stroke-opacity="0.5"')
        yield f'<circle cx="{at:.1f}" cy="{points[-1][1]:.1f}" r="4" fill="{color}"/>'
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
    yield text(points[-1][0] + 10, points[-1][1] + 4, name, f'fill="{color}"')


def svg(rows: Sequence[dict[str, Any]]) -> str:
    """The chart of the rows that differ by size only; empty when there is none."""
    plain = sorted((row for row in rows if row["name"] == f"{row['ram_gib']}g"), key=_ram)
    if not plain:
        return ""
    values = [
        value / 1e6 for row in plain for name in STRATEGIES for value in row[f"{name}_stop_ns"]
    ]
    ticks = decades(values)
    sizes = [row["ram_gib"] for row in plain]
    x = log_scale(min(sizes), max(max(sizes), 2 * min(sizes)), LEFT + 20, WIDTH - RIGHT - 20)
    y = log_scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [*axes(sizes, ticks, x, y)]
    for name in STRATEGIES:
        parts += series(plain, name, x, y)
    title = text(LEFT, 20, f"Downtime, {plain[0]['kernel']}: medians, minimum to maximum")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, title, *parts, "</svg>\n"])


def _ram(row: dict[str, Any]) -> int:
    return int(row["ram_gib"])
