"""Intervals at any level, and what many of them say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: A change counts as one when chance would show it this rarely.
ALPHA = 0.01

#: No p-value is told more exactly.
LEAST_P = 1e-12

TOO_SHORT = "too short to tell"
TOO_FEW = "too few to tell"
NEEDS_RUNS = "replicates needed"
NOT_IN_ALL = "not in every run"


class TooLittle(Exception):
    """Nothing can be said; why, in words."""


@dataclass(frozen=True)
class Span:
    """Where a change lies, (B - A) / A, for any level.

    :ivar change: the best guess; infinite where A has none
    :ivar bounds: level -> the interval that misses the change in that share of cases; the lower
        the level, the wider
    """

    change: float
    bounds: Callable[[float], tuple[float, float]]

    @property
    def interval(self) -> tuple[float, float]:
        """At :data:`ALPHA`."""
        return self.bounds(ALPHA)

    def p(self, limit: float) -> float:
        """The lowest level at which the interval leaves *limit* out; 1 above :data:`ALPHA`."""

        def left_out(level: float) -> bool:
            low, high = self.bounds(level)
            return limit < low or limit > high  # a bound that is no number leaves nothing out

        if not left_out(ALPHA):
            return 1.0
        low, high = math.log(LEAST_P), math.log(ALPHA)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (low, middle) if left_out(math.exp(middle)) else (middle, high)
        return math.exp(high)


def of_logs(low: float, high: float) -> tuple[float, float]:
    """Bounds of a ratio's logarithm as bounds of a change."""
    return _of_log(low), _of_log(high)


def _of_log(end: float) -> float:
    return math.inf if end == math.inf else math.expm1(min(end, 700))


def benjamini_hochberg(ps: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which are found: of them, a share *alpha* is chance at most (Benjamini, Hochberg 1995).

    Where nothing changed at all, anything is found in a share *alpha* of cases.
    """
    bars = [p <= alpha * rank / len(ps) for rank, p in enumerate(sorted(ps), 1)]
    found = max((rank for rank, below in enumerate(bars, 1) if below), default=0)
    return [p <= alpha * found / len(ps) for p in ps]


def holm(ps: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which are found: any of these is chance in a share *alpha* of cases at most (Holm 1979)."""
    found = 0
    for p in sorted(ps):
        if p > alpha / (len(ps) - found):
            break
        found += 1
    return [p in sorted(ps)[:found] for p in ps]
