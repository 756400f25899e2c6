"""Quantiles of Student's t."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist


@lru_cache(maxsize=4096)
def two_sided(alpha: float, freedom: float) -> float:
    """What the size of t exceeds in a share *alpha* of cases (Hill 1970, algorithm 396).

    :param alpha: above 0, below 1
    :param freedom: degrees of freedom, 1 or 2 or more
    """
    if freedom == 1:
        return 1 / math.tan(alpha * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (alpha * (2 - alpha)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    x = d * alpha
    y = x ** (2 / freedom)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(alpha / 2)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        return math.sqrt(freedom * math.expm1(a * y * y))
    tail = (freedom + 6) / (freedom * y) - 0.089 * d - 0.822
    part = (1 / (tail * (freedom + 2) * 3) + 0.5 / (freedom + 4)) * y - 1
    return math.sqrt(freedom * (part * (freedom + 1) / (freedom + 2) + 1 / y))
