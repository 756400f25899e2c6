"""Stacks that changed, between one or more recordings of A and those of B."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from livedump.analysis import stacks
from livedump.analysis.alike import measured
from livedump.kinds import UNTIMED, kind_order
from livedump.recording.store import Recording

#: Stacks are sampled: what rests on fewer than this is wrong by a third, or more, by chance.
FEW_SAMPLES = 10

Sides = tuple[Sequence[Recording], Sequence[Recording]]

_RATES = ("rate", "stalled")


def stack_changes(
    sides: Sides, kinds: Sequence[str], limit: int, by: str | None
) -> dict[str, list[dict[str, Any]]]:
    """Kind -> stacks that changed most, none without a change, over all recordings of a side.

    What was not measured is None; ``few``: they rest on few samples.

    :param kinds: only these; empty: all
    :param by: sort by the change of ``count`` or ``stalled``; default: of what was measured
    """
    sums: dict[str, dict[str, list[int]]] = {}
    for side, recordings in enumerate(sides):
        for row in (row for recording in recordings for row in stacks.rows(recording, kinds)):
            of_stack = sums.setdefault(row["kind"], {}).setdefault(row["stack"], [0] * 6)
            for place, column in enumerate(("count", "stalled_ns", "samples")):
                of_stack[2 * place + side] += int(row[column])
    found = {}
    for kind in sorted(sums, key=kind_order):
        lasted = [
            _seconds(side) if all(_took_stacks(each, kind) for each in side) else None
            for side in sides
        ]
        timed = kind not in UNTIMED
        rows = [_stack_change(stack, values, lasted, timed) for stack, values in sums[kind].items()]
        changed = [row for row in rows if any(row[f"{n}_a"] != row[f"{n}_b"] for n in _RATES)]
        found[kind] = _most_changed(changed, limit, by)
    return found


def _took_stacks(recording: Recording, kind: str) -> bool:
    return measured(recording, kind) and recording.meta["options"].get("stacks") != "none"


def _stack_change(
    stack: str, values: list[int], lasted: Sequence[float | None], timed: bool
) -> dict[str, Any]:
    """From counts, stalled time and samples, each of A and of B. What was not measured is None.

    :param lasted: seconds; None: that recording has no stacks of the kind
    """
    counts, stalled, samples = values[:2], values[2:4], values[4:]
    return {
        "stack": stack,
        "rate_a": _per_second(counts[0], lasted[0]),
        "rate_b": _per_second(counts[1], lasted[1]),
        "stalled_a": _per_second(stalled[0], lasted[0]) if timed else None,
        "stalled_b": _per_second(stalled[1], lasted[1]) if timed else None,
        "samples_a": samples[0],
        "samples_b": samples[1],
        "few": sum(samples) < FEW_SAMPLES and sum(samples) < sum(counts),
    }


def _per_second(number: int, lasted: float | None) -> float | None:
    return None if lasted is None else number / lasted


def _most_changed(rows: list[dict[str, Any]], limit: int, by: str | None) -> list[dict[str, Any]]:
    """By default of time stalled, where that was measured: a stack that got slower matters at the
    same rate, too, and what only became more frequent has stalled for longer."""
    timed = any(row["stalled_a"] or row["stalled_b"] for row in rows)
    name = "stalled" if timed and by != "count" else "rate"

    def change(row: dict[str, Any]) -> float:
        before, after = (float(row[f"{name}_{side}"] or 0) for side in "ab")
        return abs(after - before)

    return sorted(rows, key=lambda row: (-change(row), row["stack"]))[:limit]


def diff_tree(sides: Sides, kind: str) -> dict[str, Any]:
    """A flame graph of B with A's weights beside: ``{n, w: [count, stalled_ns], a: [...], c}``.

    A's weights are scaled to B's duration, so that equal rates are equal weights. Frames that only
    A has weigh nothing in B, and stay in the tree.
    """
    before, after = ([stacks.tree(each, kind) for each in side] for side in sides)
    scale = _seconds(sides[1]) / _seconds(sides[0])
    root = _merged(before, after, scale)
    left = [(root, before, after)]  # a stack may be deeper than Python calls functions
    while left:
        frame, a, b = left.pop()
        names = dict.fromkeys(name for node in (*b, *a) for name in node.children)
        pairs = [(_below(a, name), _below(b, name)) for name in names]
        if pairs:
            frame["c"] = [_merged(*pair, scale) for pair in pairs]
            left += [(child, *pair) for child, pair in zip(frame["c"], pairs, strict=True)]
    return root


def _merged(a: list[stacks.Node], b: list[stacks.Node], scale: float) -> dict[str, Any]:
    """One frame of all trees that have it, without those below."""
    return {
        "n": (b or a)[0].name,
        "w": [sum(node.count for node in b), sum(node.stalled_ns for node in b)],
        "a": [sum(node.count for node in a) * scale, sum(node.stalled_ns for node in a) * scale],
    }


def _below(nodes: Iterable[stacks.Node], name: str) -> list[stacks.Node]:
    return [node.children[name] for node in nodes if name in node.children]


def _seconds(recordings: Iterable[Recording]) -> float:
    """How long they lasted, together."""
    return sum(recording.lasted_ns for recording in recordings) / 1e9
