"""Rows with the same key, added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

K = TypeVar("K")


def add_up(
    items: Iterable[tuple[K, Sequence[int]]], into: dict[K, list[int]] | None = None
) -> dict[K, list[int]]:
    """Key -> sums of its values, place by place; keys in the order in which they came.

    :param into: sums so far, which are added to
    """
    totals: dict[K, list[int]] = {} if into is None else into
    for key, values in items:
        sums = totals.setdefault(key, [0] * len(values))
        for place, value in enumerate(values):
            sums[place] += value
    return totals
