"""Rows with the same key, added up."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TypeVar

K = TypeVar("K")
N = TypeVar("N", int, float)


def add_up(
    items: Iterable[tuple[K, Sequence[N]]], into: dict[K, list[N]] | None = None
) -> dict[K, list[N]]:
    """Key -> sums of its values, place by place; keys in the order in which they came.

    :param into: sums so far, which are added to
    """
    totals: dict[K, list[N]] = {} if into is None else into
    for key, values in items:
        sums = totals.get(key)
        totals[key] = list(values) if sums is None else list(map(operator.add, sums, values))
    return totals
