"""Values that a table's columns may have: readers rely on them, whoever wrote the file.

What is read is looked at; what is not, by the statistics in the Parquet file's footer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from livedump.recording.meta import lasted_ns
from livedump.recording.schema import FLOAT, TABLES, Column, columns

#: Slices may lie so far behind the end of the recording: a minute, unless slices are others than
#: usual. What is in them is the last that programs did.
LATE_SLICES = 600


def problem(name: str, found: Any, meta: Mapping[str, Any]) -> str:
    """What is wrong with a value of a table; empty: nothing.

    :param found: the table, or some columns or rows of it, as pyarrow has them; or the file, of
        whose columns all are there
    :raises pyarrow.ArrowException: a file without statistics cannot be read
    """
    rules = _rules(name, meta)
    parts = _of_footer(found, rules) if hasattr(found, "metadata") else _of_data(found, rules)
    for column, nulls, ends in parts:
        rule = rules[column]
        if nulls and not rule.null:
            return f"column {column} has null"
        low, high = ends
        if low is not None and rule.least is not None and not rule.least <= low:
            return f"column {column} has {low}"
        if high is not None and rule.most is not None and not high <= rule.most:
            return f"column {column} has {high}"
    return "" if hasattr(found, "metadata") else _apart(name, found)


def _apart(name: str, found: Any) -> str:
    """Columns that are null in different rows; empty: none."""
    for group in TABLES[name].together:
        kept = [column for column in group if column in found.schema.names]
        masks = [found.column(column).is_null() for column in kept]
        for column, mask in zip(kept, masks, strict=True):
            if not mask.equals(masks[0]):
                return f"column {column} has null where {kept[0]} has not, or the other way round"
    return ""


@cache
def _fixed(name: str) -> dict[str, Column]:
    """Of the columns that have any rule."""
    return {n: about for n, about in columns(name).items() if about.bounded or not about.null}


def _rules(name: str, meta: Mapping[str, Any]) -> Mapping[str, Column]:
    rules = _fixed(name)
    if "slice" not in rules:
        return rules
    slices = lasted_ns(meta) // int(meta["slice_ns"])
    return {**rules, "slice": replace(rules["slice"], most=slices + LATE_SLICES)}


#: Column, how many of its values are null, the least and the greatest one; None: not known.
_Part = tuple[str, int, tuple[Any, Any]]


def _of_data(found: Any, rules: Mapping[str, Column]) -> Iterator[_Part]:
    """Of a table or batch."""
    for column in found.schema.names if found.num_rows else ():
        if column in rules:
            yield _part(column, found.column(column), rules[column])


def _part(column: str, values: Any, rule: Column) -> _Part:
    from pyarrow import compute

    if not rule.bounded:
        return column, values.null_count, (None, None)
    if rule.type == FLOAT and compute.any(compute.is_nan(values)).as_py():
        return column, values.null_count, (float("nan"), None)
    ends = compute.min_max(values).as_py()
    return column, values.null_count, (ends["min"], ends["max"])


def _of_footer(file: Any, rules: Mapping[str, Column]) -> Iterator[_Part]:
    """Of each part of a file."""
    footer = file.metadata
    paths = [footer.schema.column(place).path for place in range(footer.num_columns)]
    places = [(place, path) for place, path in enumerate(paths) if path in rules]
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if not group.num_rows:
            continue
        for place, column in places:
            chunk = group.column(place)
            yield _of_chunk(column, chunk, rules[column]) or _part(
                column, file.read_row_group(number, [column])[column], rules[column]
            )


def _of_chunk(column: str, chunk: Any, rule: Column) -> _Part | None:
    """By its statistics; None: they do not tell."""
    known = chunk.statistics
    if known is None or not known.has_null_count:
        return None
    nulls = known.null_count
    if not rule.bounded or nulls == chunk.num_values:
        return column, nulls, (None, None)
    return (column, nulls, (known.min, known.max)) if known.has_min_max else None
